package ml_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/ml"
)

func run(t *testing.T, op string, since int, attrs graph.Attrs, in ...*tensor.Tensor) ([]*tensor.Tensor, error) {
	t.Helper()
	var tab ops.Table
	if err := ml.Register(&tab); err != nil {
		t.Fatal(err)
	}
	g := graph.New("g")
	var vals []*graph.Value
	for _, x := range in {
		vals = append(vals, g.AddInput("x", graph.TypeOf(x)))
	}
	n := g.Add(graph.OpID{Domain: ml.Domain, Name: op, Since: since}, attrs, vals, 1, "y")
	if err := ops.InferNode(&tab, n); err != nil {
		return nil, err
	}
	return ops.Eval(context.Background(), &tab, n, in)
}

// TestCases holds every row's cases to the results written beside them.
func TestCases(t *testing.T) {
	for _, row := range ml.Rows() {
		if row.Doc == "" || len(row.Cases) == 0 {
			t.Errorf("%s lacks its text or its cases", row.ID)
		}
		for _, c := range row.Cases {
			if c.Want == nil {
				continue
			}
			got, err := run(t, row.ID.Name, row.ID.Since, c.Attrs, c.In...)
			if err != nil {
				t.Errorf("%s, %s: %v", row.ID, c.Name, err)
				continue
			}
			for i, w := range c.Want {
				if w.DType.IsContainer() {
					if g, w := text(got[i]), text(w); g != w {
						t.Errorf("%s, %s: %s, want %s", row.ID, c.Name, g, w)
					}
					continue
				}
				for j := range max(w.Len(), got[i].Len()) {
					if w.DType == tensor.String && got[i].Strings[j] != w.Strings[j] || w.DType != tensor.String && got[i].At(j) != w.At(j) {
						t.Errorf("%s, %s: element %d differs", row.ID, c.Name, j)
					}
				}
			}
		}
	}
}

// text prints a sequence or a map.
func text(t *tensor.Tensor) string {
	g := graph.New("g")
	g.AddOutput(g.AddConst("c", t))
	return g.String()
}

// TestBroken: files that lie about themselves end as errors.
func TestBroken(t *testing.T) {
	x := tensor.From([]float32{1, 2}, 1, 2)
	stump := func() graph.Attrs {
		return graph.Attrs{"nodes_treeids": []int64{0, 0, 0}, "nodes_nodeids": []int64{0, 1, 2}, "nodes_modes": []string{"BRANCH_LEQ", "LEAF", "LEAF"},
			"nodes_featureids": []int64{0, 0, 0}, "nodes_values": []float32{5, 0, 0}, "nodes_truenodeids": []int64{1, 0, 0}, "nodes_falsenodeids": []int64{2, 0, 0},
			"target_treeids": []int64{0}, "target_nodeids": []int64{1}, "target_ids": []int64{0}, "target_weights": []float32{1}}
	}
	for want, change := range map[string]func(a graph.Attrs){
		"circle":             func(a graph.Attrs) { a["nodes_truenodeids"] = []int64{0, 0, 0} },
		"not both there":     func(a graph.Attrs) { a["nodes_truenodeids"] = []int64{7, 0, 0} },
		"feature 9 of 2":     func(a graph.Attrs) { a["nodes_featureids"] = []int64{9, 0, 0} },
		"the mode \"NEAR\"":  func(a graph.Attrs) { a["nodes_modes"] = []string{"NEAR", "LEAF", "LEAF"} },
		"listed twice":       func(a graph.Attrs) { a["nodes_nodeids"] = []int64{0, 1, 1} },
		"nodes_values has 1": func(a graph.Attrs) { a["nodes_values"] = []float32{5} },
		"target 3 of 1":      func(a graph.Attrs) { a["target_ids"] = []int64{3} },
		"n_targets is":       func(a graph.Attrs) { a["n_targets"] = int64(1) << 60 },
	} {
		a := stump()
		change(a)
		if _, err := run(t, "TreeEnsembleRegressor", 3, a, x); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
