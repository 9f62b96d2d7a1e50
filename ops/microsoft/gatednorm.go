package microsoft

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// gatedRMSNorm gates after the norm: x * rsqrt(mean(x^2)+epsilon) * scale *
// act(gate), the mean over as many trailing elements as scale has.
var gatedRMSNorm = &ops.Op{
	ID:  id("GatedRMSNorm"),
	Doc: "RMS normalisation in groups as wide as scale, then a gate: silu, swish or sigmoid.",
	In: []ops.Param{
		{Name: "X", Doc: "[...,G*C]"}, {Name: "scale", Doc: "[C]"}, {Name: "gate", Doc: "[...,G*C]"},
	},
	Out: []ops.Param{{Name: "Y", Doc: "[...,G*C]"}},
	Attrs: []ops.Attr{
		{Name: "activation", Doc: "silu, swish or sigmoid", Default: "silu"},
		{Name: "epsilon", Doc: "added to the mean square", Default: float32(1e-5)},
	},
	Cases: []ops.Case{{
		Name: "two groups", Attrs: graph.Attrs{"epsilon": float32(0), "activation": "sigmoid"},
		In: []*tensor.Tensor{tensor.From([]float32{3, 3, 0, 2}, 1, 4), tensor.From([]float32{1, 10}, 2), tensor.From([]float32{0, 0, 0, 0}, 1, 4)},
		// Roots of the mean squares are 3 and sqrt 2; every gate is a half.
		Want: []*tensor.Tensor{tensor.From([]float32{0.5, 5, 0, 5 * math.Sqrt2}, 1, 4)},
	}},
	Infer: func(c *ops.Infer) error {
		switch act := c.Node.Attrs.Str("activation", "silu"); act {
		case "silu", "swish", "sigmoid":
		default:
			return c.Errorf("activation %q: want silu, swish or sigmoid", act)
		}
		if w := c.Type(1); w.Ranked() && w.Rank() != 1 {
			return c.Errorf("scale is %s; want [C]", w)
		}
		c.Out(0, c.Type(0))
		return nil
	},
	Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
		x, w, gate := c.In[0].AsFloats(), c.In[1].AsFloats(), c.In[2].AsFloats()
		if len(w) == 0 || len(gate) != len(x) || len(x)%len(w) != 0 {
			return nil, fmt.Errorf("input X %s, scale %s and gate %s do not fit", c.In[0].TypeString(), c.In[1].TypeString(), c.In[2].TypeString())
		}
		eps, silu := float64(c.Node.Attrs.Float("epsilon", 1e-5)), c.Node.Attrs.Str("activation", "silu") != "sigmoid"
		y := tensor.New(c.In[0].DType, c.In[0].Shape...)
		for o := 0; o < len(x); o += len(w) {
			sum := 0.0
			for _, v := range x[o : o+len(w)] {
				sum += v * v
			}
			r := 1 / math.Sqrt(sum/float64(len(w))+eps)
			for i, s := range w {
				g := gate[o+i]
				act := 1 / (1 + math.Exp(-g))
				if silu {
					act *= g
				}
				y.SetAt(o+i, x[o+i]*r*s*act)
			}
		}
		return []*tensor.Tensor{y}, nil
	},
}
