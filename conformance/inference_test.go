package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx"
	"github.com/ssdc-go/ssdc/ops"
)

// TestInferenceHolds evaluates models while it compares every value, inside of
// bodies too, with what was inferred for it: element type, rank, each length,
// and symbolic contents, with the symbols bound to the lengths of the inputs.
func TestInferenceHolds(t *testing.T) {
	w := &watch{t: t, seen: map[string]bool{}}
	tab := w.table()
	models, _ := filepath.Glob("../testdata/models/*/model.onnx")
	for _, path := range models {
		m, err := onnx.Load(path, tab, nil)
		if err != nil {
			continue // TestFixtures judges that
		}
		for set := 1; !testing.Short() || set == 1; set++ {
			name := "inputs.npz"
			if set > 1 {
				name = fmt.Sprintf("inputs_%d.npz", set)
			}
			given, _, err := tensor.ReadNpz(filepath.Join(filepath.Dir(path), name))
			if err != nil {
				break
			}
			in := make([]*tensor.Tensor, len(m.Graph.Inputs))
			for i, v := range m.Graph.Inputs {
				in[i] = given[v.Name]
			}
			w.run(filepath.Base(filepath.Dir(path)), tab, m.Graph, in)
		}
	}
	if _, err := os.Stat(data); err == nil {
		_, err := Run(data, tab, func(g *graph.Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
			return w.run(g.Name, tab, g, in)
		}, nil)
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d values, %d lengths and elements compared", w.values, w.lengths)
}

// watch compares values with their inferred types as they are computed.
type watch struct {
	t               *testing.T
	model           string
	bound           graph.Bindings
	seen            map[string]bool
	values, lengths int
}

// table is the ONNX table with every evaluation watched.
func (w *watch) table() *ops.Table {
	var tab ops.Table
	for _, r := range table(w.t).All() {
		row := *r
		if eval := r.Eval; eval != nil {
			row.Eval = func(c *ops.Call) ([]*tensor.Tensor, error) {
				out, err := eval(c)
				for i, v := range c.Node.Out {
					if err == nil && v != nil && out[i] != nil && !out[i].DType.IsContainer() {
						w.compare(c.Node, v, out[i])
					}
				}
				return out, err
			}
		}
		if err := tab.Add("watch", &row); err != nil {
			w.t.Fatal(err)
		}
	}
	return &tab
}

func (w *watch) run(model string, tab *ops.Table, g *graph.Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	w.model, w.bound = model, graph.Bindings{}
	for i, v := range g.Inputs {
		if in[i] == nil || len(in[i].Shape) != len(v.Type.Shape) {
			continue
		}
		for a, d := range v.Type.Shape {
			if s, ok := d.AsSym(); ok {
				w.bound[s] = int64(in[i].Shape[a])
			}
		}
	}
	return ops.Run(context.Background(), tab, g, in)
}

func (w *watch) compare(n *graph.Node, v *graph.Value, x *tensor.Tensor) {
	complain := func(format string, a ...any) {
		what := fmt.Sprintf("%s: %s %q is %s, inferred %s: ", w.model, n, v.Name, x.TypeString(), v.Type) + fmt.Sprintf(format, a...)
		if !w.seen[n.String()] {
			w.t.Error(what)
		}
		w.seen[n.String()] = true
	}
	w.values++
	if v.Type.DType != x.DType || v.Type.Ranked() && v.Type.Rank() != x.Rank() {
		complain("another element type or rank")
		return
	}
	for a, d := range v.Type.Shape {
		if n, err := d.Eval(w.bound); err == nil { // lengths that only running tells have no value
			w.lengths++
			if n != int64(x.Shape[a]) {
				complain("axis %d is %d with %v", a, n, w.bound)
			}
		}
	}
	if v.Known != nil && len(v.Known) != x.Len() {
		complain("%d elements known", len(v.Known))
		return
	}
	for i, d := range v.Known {
		if n, err := d.Eval(w.bound); err == nil {
			w.lengths++
			if n != x.IntAt(i) {
				complain("element %d is %d, known as %v = %d with %v", i, x.IntAt(i), d, n, w.bound)
			}
		}
	}
}
