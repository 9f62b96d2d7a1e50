package canon

import (
	"context"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/library"
	"github.com/ssdc-go/ssdc/passes"
)

// TestWidens: weights of 4 bits become floats where a backend is compiled for,
// and stay what they are in a graph that is only rewritten.
func TestWidens(t *testing.T) {
	var tab ops.Table
	if err := library.Register(&tab); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		target string
		spent  int64
		folds  bool
	}{{"", 0, false}, {"cpu", 0, true}, {"cpu", 1 << 61, false}} {
		ctx := passes.NewContext(context.Background(), &tab)
		ctx.Target = c.target
		ctx.Cache[widened] = c.spent
		g := graph.New("g")
		x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("n"), graph.D(1024)))
		b := ops.NewBuilder(&tab, g)
		scale := tensor.New(tensor.Float32, 512, 32)
		for i := range scale.Len() {
			scale.SetAt(i, 0.5)
		}
		q := tensor.New(tensor.Uint4, 512, 1024)
		q.SetIntAt(700, 12)
		zero := tensor.New(tensor.Uint4, 512, 32)
		zero.SetIntAt(21, 2)
		w := b.Op("DequantizeLinear", graph.Attrs{"axis": int64(1), "block_size": int64(32)}, b.Const(q), b.Const(scale), b.Const(zero))
		g.AddOutput(b.Op("MatMul", nil, x, b.Op("Transpose", graph.Attrs{"perm": []int64{1, 0}}, w)))
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		if err := Run(ctx, g); err != nil {
			t.Fatal(err)
		}
		product := g.Outputs[0].Def
		folded := product.In[1].Const != nil
		if folded != c.folds {
			t.Errorf("target %q with %d bytes spent: folded %t", c.target, c.spent, folded)
		}
		if folded {
			if v := product.In[1].Const; v.At(700*512) != 5 || v.At(672*512) != -1 || v.At(704*512) != 0 {
				t.Errorf("weights %v %v %v", v.At(700*512), v.At(672*512), v.At(704*512))
			}
		}
	}
}
