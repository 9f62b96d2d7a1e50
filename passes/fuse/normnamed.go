package fuse

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// namedNorm takes normalisations that the model calls by name where a gate
// stands before them: RMSNormalization of x*SiLU(z), in groups when its scale
// is ones and the weight follows, and ONNX Runtime's GatedRMSNorm.
func namedNorm(c *passes.Context, g *graph.Graph, n *graph.Node) {
	switch {
	case n.Op.Is("com.microsoft", "GatedRMSNorm"):
		contribNorm(c, g, n)
	case n.Op.Is("", "RMSNormalization"):
		x, w := n.In[0], n.In[1]
		rank, width := last(x.Type)
		if a := n.Attrs.Int("axis", -1); a != -1 && a != int64(rank-1) || w.Const == nil || w.Type.Rank() != 1 || w.Type.Shape[0] != width {
			return
		}
		if _, flat := layout.Path(x); !gated(flat) {
			return
		}
		m := &norm{y: n.Out[0], x: x, w: w, eps: float64(n.Attrs.Float("epsilon", 1e-5)), inner: x}
		if nodes, v, use, ok := layout.After(n.Out[0]); ok && len(nodes) > 0 && allOnes(w) && use.Node.Op.Is("", "Mul") && use.Node.Out[0].Type.Equal(v.Type) {
			weight := use.Node.In[1-use.Index]
			if _, d := last(v.Type); weight.Const == nil || weight.Type.Rank() != 1 || weight.Type.Shape[0] != d {
				return
			}
			m.y, m.w = use.Node.Out[0], weight
		}
		if _, flat := layout.Path(x); flat.Type.Equal(m.y.Type) {
			m.rewrite(c, g)
		}
	}
}

func gated(v *graph.Value) bool {
	n := op(v, "Mul")
	return n != nil && (op(n.In[0], "Swish") != nil || op(n.In[1], "Swish") != nil)
}

func allOnes(v *graph.Value) bool {
	for i := range v.Const.Len() {
		if v.Const.At(i) != 1 {
			return false
		}
	}
	return true
}

// contribNorm gates behind the norm; its weight is one group wide.
func contribNorm(c *passes.Context, g *graph.Graph, n *graph.Node) {
	_, width := last(n.In[0].Type)
	if act := n.Attrs.Str("activation", "silu"); act == "sigmoid" || n.In[1].Type.Rank() != 1 || n.In[1].Type.Shape[0] != width {
		c.Miss(ruleGated, n.Out[0], 1, 2, "%s: activation %q and a scale of %s; expected silu and one group of %s channels", n, act, n.In[1].Type, width)
		return
	}
	b := c.Builder(g, n.From)
	cl := &certify.Claim{Old: []*graph.Value{n.Out[0]}}
	for _, v := range n.In {
		cl.In = append(cl.In, certify.Input{Value: v})
	}
	sh := certify.NewShrinker()
	sh.To(width, 5)
	cl.Shrink = sh.Map
	finish(c, b, ruleGated, cl, b.SSM("GatedRMSNorm", graph.Attrs{"norm_before_gate": int64(1), "epsilon": n.Attrs.Float("epsilon", 1e-5)}, n.In[0], n.In[2], n.In[1]))
}
