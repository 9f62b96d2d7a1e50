package softcap

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Op is the operator: its name, its types, its definition.
var Op = &ops.Op{
	ID:     graph.OpID{Domain: "example", Name: "Softcap", Since: 1},
	Doc:    "cap * tanh(x / cap), element by element: x, bounded smoothly to (-cap, cap).",
	In:     []ops.Param{{Name: "x", Doc: "any shape, floating point"}},
	Out:    []ops.Param{{Name: "y", Doc: "the shape of x"}},
	Attrs:  []ops.Attr{{Name: "cap", Doc: "the bound, above zero"}},
	Traits: ops.Elementwise,
	Infer: func(c *ops.Infer) error {
		x := c.Type(0)
		if !x.DType.IsFloat() {
			return c.Errorf("x is %s; want a floating-point tensor", x)
		}
		if limit := c.Node.Attrs.Float("cap", 0); !(limit > 0) {
			return c.Errorf("cap is %g; want a number above zero", limit)
		}
		c.Out(0, x)
		return nil
	},
	Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
		x, limit := c.In[0], float64(c.Node.Attrs.Float("cap", 0))
		y := tensor.New(x.DType, x.Shape...)
		for i := range x.Len() {
			y.SetAt(i, limit*math.Tanh(x.At(i)/limit))
		}
		return []*tensor.Tensor{y}, nil
	},
	Decompose: func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
		limit := tensor.New(n.In[0].Type.DType)
		limit.SetAt(0, float64(n.Attrs.Float("cap", 0)))
		c := b.Const(limit)
		y := b.Op("Mul", nil, b.Op("Tanh", nil, b.Op("Div", nil, n.In[0], c)), c)
		if b.Err != nil {
			return nil, fmt.Errorf("softcap: %w", b.Err)
		}
		return []*graph.Value{y}, nil
	},
	Cases: []ops.Case{{
		Name:  "bounds large values",
		Attrs: graph.Attrs{"cap": float32(2)},
		In:    []*tensor.Tensor{tensor.From([]float32{-100, -1, 0, 1, 100}, 5)},
		Want:  []*tensor.Tensor{tensor.From([]float32{-2, -0.92423431, 0, 0.92423431, 2}, 5)},
	}},
}
