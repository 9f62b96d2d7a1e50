package microsoft

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
)

func table(t *testing.T) *ops.Table {
	tab := &ops.Table{}
	if err := onnx.Register(tab); err != nil {
		t.Fatal(err)
	}
	if err := Register(tab); err != nil {
		t.Fatal(err)
	}
	return tab
}

func node(t *testing.T, tab *ops.Table, op graph.OpID, a graph.Attrs, nOut int, in []*tensor.Tensor) (*graph.Graph, error) {
	t.Helper()
	g := graph.New("g")
	args := make([]*graph.Value, len(in))
	for i, x := range in {
		if x != nil {
			args[i] = g.AddConst("x", x)
		}
	}
	n := g.Add(op, a, args, max(nOut, 1), "y")
	n.TrimIn()
	for _, v := range n.Out {
		g.AddOutput(v)
	}
	return g, ops.InferNode(tab, n)
}

func TestCases(t *testing.T) {
	tab := table(t)
	for _, r := range Rows() {
		for _, c := range r.Cases {
			g, err := node(t, tab, r.ID, c.Attrs, c.NOut, c.In)
			if err != nil {
				t.Fatalf("%s %s: %v", r.ID, c.Name, err)
			}
			got, err := ops.Run(context.Background(), tab, g, nil)
			if err != nil {
				t.Fatalf("%s %s: %v", r.ID, c.Name, err)
			}
			for i, w := range c.Want {
				if got[i].TypeString() != w.TypeString() || g.Outputs[i].Type.String() != graph.TypeOf(w).String() {
					t.Fatalf("%s %s: output %d is %s, inferred %s, want %s", r.ID, c.Name, i, got[i].TypeString(), g.Outputs[i].Type, w.TypeString())
				}
				for j := range w.Len() {
					if math.Abs(got[i].At(j)-w.At(j)) > 1e-5 {
						t.Errorf("%s %s: output %d: %v, want %v", r.ID, c.Name, i, got[i].AsFloats(), w.AsFloats())
						break
					}
				}
			}
		}
	}
}

// TestRefused: what only other kernels compute is refused, not ignored.
func TestRefused(t *testing.T) {
	tab := table(t)
	for _, r := range Rows() {
		for _, a := range r.Attrs {
			if _, number := a.Default.(int64); !number || a.Name == "chunk_size" {
				continue
			}
			c := r.Cases[0]
			attrs := c.Attrs.Clone()
			if attrs == nil {
				attrs = graph.Attrs{}
			}
			attrs[a.Name] = int64(2)
			if _, err := node(t, tab, r.ID, attrs, c.NOut, c.In); err == nil || !strings.Contains(err.Error(), a.Name+" is 2") {
				t.Errorf("%s with %s=2: error %v", r.ID, a.Name, err)
			}
		}
	}
}
