package fuse

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
)

const ruleLayerNorm = "LayerNormalization"

// centred is x where v is x - mean(x) over the last axis, else nil.
func centred(v *graph.Value) *graph.Value {
	sub := op(v, "Sub")
	if sub == nil {
		return nil
	}
	mean := op(sub.In[1], "ReduceMean")
	if mean == nil || mean.In[0] != sub.In[0] || mean.Attrs.Int("keepdims", 1) == 0 || !overLast(mean) {
		return nil
	}
	return sub.In[0]
}

// layerNorm writes a normalisation of centred values, with the bias that may
// follow, as LayerNormalization.
func (m *norm) layerNorm(c *passes.Context, g *graph.Graph, x *graph.Value, cl *certify.Claim) {
	b := c.Builder(g, m.y.Def.From)
	cl.In = append(cl.In, certify.Input{Value: x})
	var bias *graph.Value
	if u := only(m.y); u != nil && u.Op.Is("", "Add") && u.Out[0].Type.Equal(m.y.Type) {
		if v := other(u, m.y); v.Const != nil && v.Type.Equal(m.w.Type) {
			bias = v
			cl.In = append(cl.In, certify.Input{Value: v})
			cl.Old[0] = u.Out[0]
		}
	}
	finish(c, b, ruleLayerNorm, cl, b.Op("LayerNormalization", graph.Attrs{"axis": int64(-1), "epsilon": float32(m.eps)}, x, m.w, bias))
}
