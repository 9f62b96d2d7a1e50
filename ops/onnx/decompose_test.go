package onnx

import (
	"context"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// TestDecompositions evaluates every decomposition on the row's cases, in
// float32 and float64, against the row's own evaluation.
func TestDecompositions(t *testing.T) {
	tab := table(t)
	used := map[string]bool{}
	for _, r := range tab.All() {
		if r.Decompose == nil {
			continue
		}
		for _, c := range r.Cases {
			for _, d := range []tensor.DType{tensor.Float32, tensor.Float64} {
				want := evalCase(tab, r, c, d)
				if want == nil {
					continue
				}
				got, err := runDecomposed(tab, r, c, d)
				if err != nil {
					t.Errorf("%s %s: %v", r.ID, c.Name, err)
					continue
				}
				used[r.ID.Name], used[r.ID.String()] = true, true
				for i := range got {
					if got[i].TypeString() != want[i].TypeString() {
						t.Errorf("%s %s output %d: %s, want %s", r.ID, c.Name, i, got[i].TypeString(), want[i].TypeString())
					} else if err := closeTo(got[i], want[i], 1e-5, 1e-6); err != nil {
						t.Errorf("%s %s in %v, output %d: %v", r.ID, c.Name, d, i, err)
					}
				}
			}
		}
	}
	for name := range decompositions {
		if !used[name] {
			t.Errorf("the decomposition of %s was never run", name)
		}
	}
}

func runDecomposed(tab *ops.Table, r *ops.Op, c ops.Case, d tensor.DType) ([]*tensor.Tensor, error) {
	g := graph.New("g")
	var in []*tensor.Tensor
	args := make([]*graph.Value, len(c.In))
	for i, x := range c.In {
		switch {
		case x == nil:
		case x.DType == tensor.Float32:
			in = append(in, fromFloats(d, floatsOf(x), x.Shape...))
			args[i] = g.AddInput("x", graph.TypeOf(in[len(in)-1]))
		default:
			args[i] = g.AddConst("c", x)
		}
	}
	n := g.Add(r.ID, c.Attrs, args, max(c.NOut, 1), "n")
	if err := ops.InferNode(tab, n); err != nil {
		return nil, err
	}
	b := ops.NewBuilder(tab, g)
	out, err := r.Decompose(b, n)
	if err == nil {
		err = b.Err
	}
	if err != nil {
		return nil, err
	}
	for i, v := range out {
		g.AddOutput(v)
		if !v.Type.Equal(n.Out[i].Type) {
			return nil, &typeMismatch{v.Type, n.Out[i].Type}
		}
	}
	return ops.Run(context.Background(), tab, g, in)
}

type typeMismatch struct{ got, want graph.Type }

func (e *typeMismatch) Error() string {
	return "decomposed to " + e.got.String() + ", want " + e.want.String()
}
