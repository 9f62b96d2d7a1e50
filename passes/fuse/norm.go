// Package fuse rewrites what stands around a scan into single operators:
// normalisations, the causal convolution with its state, projections with
// their epilogues. One file per fusion; every rewrite is certified.
package fuse

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Norm recognises RMS normalisation, plain and gated.
var Norm = &passes.Pass{
	Name:  "fuse-norm",
	Doc:   "x*rsqrt(mean(x^2)+eps)*w becomes RMSNormalization, with a SiLU gate ssm.GatedRMSNorm, of centred values LayerNormalization",
	After: []passes.Order{{Pass: "absorb", Why: "a gate that belongs to a scan must be gone"}},
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if m, ok := matchNorm(c, n); ok {
				m.rewrite(c, g)
			} else {
				namedNorm(c, g, n)
			}
		}
		return nil
	},
}

// op returns v's node when it is that ONNX operator.
func op(v *graph.Value, name string) *graph.Node {
	if v != nil && v.Def != nil && v.Def.Op.Is("", name) {
		return v.Def
	}
	return nil
}

// pair returns the inputs of a binary node in both orders.
func pair(n *graph.Node) [2][2]*graph.Value {
	return [2][2]*graph.Value{{n.In[0], n.In[1]}, {n.In[1], n.In[0]}}
}

// scalar is the value of a one-element constant.
func scalar(v *graph.Value) (float64, bool) {
	if v == nil || v.Const == nil || v.Const.Len() != 1 {
		return 0, false
	}
	return v.Const.At(0), true
}

// norm is a match: y = layouts(x*rsqrt(mean(x^2)+eps)) * w.
type norm struct {
	y, x, w *graph.Value
	eps     float64
	inner   *graph.Value  // x of the mean, in groups when it has an axis for them
	nodes   []*graph.Node // layouts between the normalised value and the product with w
}

// matchNorm matches the product with the weight at the end.
func matchNorm(c *passes.Context, n *graph.Node) (*norm, bool) {
	if !n.Op.Is("", "Mul") {
		return nil, false
	}
	for _, p := range pair(n) {
		w := p[0]
		if w.Const == nil || !p[1].Type.Equal(n.Out[0].Type) {
			continue
		}
		if m := matchGrouped(n, w, p[1]); m != nil {
			return m, true
		}
		if w.Type.Rank() != 1 {
			continue
		}
		nodes, v := layout.Path(p[1])
		x, eps, why := normalised(v)
		if x == nil {
			if why != "" {
				c.Miss(ruleNorm, n.Out[0], 1, 3, "%s", why)
				return nil, false
			}
			continue
		}
		_, d := last(n.Out[0].Type)
		if k, _ := last(w.Type); k != 1 || w.Type.Shape[0] != d {
			continue
		}
		return &norm{y: n.Out[0], x: x, w: w, eps: eps, inner: x, nodes: nodes}, true
	}
	return nil, false
}

// matchGrouped matches a weight [G,W/G] that multiplies the groups before they
// are one axis again (Falcon-H1).
func matchGrouped(n *graph.Node, w, v *graph.Value) *norm {
	s, out := w.Type.Shape, n.Out[0].Type.Shape
	if len(s) != 2 || len(out) < 3 || s[0] != out[len(out)-2] || s[1] != out[len(out)-1] {
		return nil
	}
	use := only(n.Out[0])
	if use == nil || !use.Op.Is("", "Reshape") {
		return nil
	}
	y := use.Out[0]
	if _, width := last(y.Type); y.Type.Rank() != len(out)-1 || width != layout.Product(s...) {
		return nil
	}
	x, eps, _ := normalised(v)
	if x == nil {
		return nil
	}
	return &norm{y: y, x: x, w: w, eps: eps, inner: x, nodes: []*graph.Node{use}}
}

// last is the rank and the length of the last axis.
func last(t graph.Type) (int, graph.Dim) {
	if t.Rank() == 0 {
		return 0, graph.Dim{}
	}
	return t.Rank(), t.Shape[t.Rank()-1]
}

const (
	ruleNorm  = "RMSNormalization"
	ruleGated = "ssm.GatedRMSNorm"
)

// normalised matches x*Reciprocal(Sqrt(mean(x^2)+eps)) and x/Sqrt(mean(x^2)+eps).
// Without a match x is nil, and why says what a look-alike does differently.
func normalised(v *graph.Value) (found *graph.Value, eps float64, why string) {
	var x, root *graph.Value
	if n := op(v, "Mul"); n != nil {
		for _, p := range pair(n) {
			if r := op(p[1], "Reciprocal"); r != nil && op(r.In[0], "Sqrt") != nil {
				x, root = p[0], r.In[0]
			} else if r := op(p[1], "Pow"); r != nil {
				if k, ok := scalar(r.In[1]); ok && k == -0.5 {
					x, root = p[0], p[1]
				}
			}
		}
	} else if n := op(v, "Div"); n != nil && op(n.In[1], "Sqrt") != nil {
		x, root = n.In[0], n.In[1]
	}
	if x == nil {
		return nil, 0, ""
	}
	add := op(root.Def.In[0], "Add")
	if add == nil {
		return nil, 0, ""
	}
	for _, p := range pair(add) {
		k, isConst := scalar(p[1])
		mean := op(p[0], "ReduceMean")
		if !isConst || mean == nil || mean.Attrs.Int("keepdims", 1) == 0 {
			continue
		}
		switch sq := mean.In[0]; {
		case !overLast(mean):
			why = fmt.Sprintf("%s does not run over the last axis alone", mean)
		case !isSquare(sq, x):
			why = fmt.Sprintf("%s takes the mean of %q, which is not the square of %q", mean, sq.Name, x.Name)
		default:
			return x, k, ""
		}
	}
	return nil, 0, why
}

func isSquare(v, x *graph.Value) bool {
	if n := op(v, "Pow"); n != nil && n.In[0] == x {
		k, ok := scalar(n.In[1])
		return ok && k == 2
	}
	n := op(v, "Mul")
	return n != nil && n.In[0] == x && n.In[1] == x
}

// overLast: the reduction runs over the last axis alone.
func overLast(n *graph.Node) bool {
	axes := n.Attrs.Ints("axes")
	if axes == nil && n.Input(1) != nil && n.In[1].Const != nil {
		axes = n.In[1].Const.AsInts()
	}
	return len(axes) == 1 && (axes[0] == -1 || axes[0] == int64(n.In[0].Type.Rank()-1))
}

func (m *norm) rewrite(c *passes.Context, g *graph.Graph) {
	b := c.Builder(g, m.y.Def.From)
	_, group := last(m.inner.Type)
	_, width := last(m.y.Type)
	attrs := graph.Attrs{"epsilon": float32(m.eps)}
	cl := &certify.Claim{Old: []*graph.Value{m.y}, In: []certify.Input{{Value: m.w}}}
	if group == width {
		sh := certify.NewShrinker()
		sh.To(width, 5)
		cl.Shrink = sh.Map
	}
	_, flat := layout.Path(m.inner)
	if gate := op(flat, "Mul"); gate != nil && flat.Type.Equal(m.y.Type) {
		for _, p := range pair(gate) {
			if s := op(p[1], "Swish"); s != nil && p[0].Type.Equal(flat.Type) && layout.Numel(s.In[0]) == layout.Numel(p[0]) {
				gs, ok := group.Const()
				if !ok {
					continue
				}
				if group == width {
					gs = 0
				}
				attrs["group_size"] = gs
				cl.In = append(cl.In, certify.Input{Value: p[0]}, certify.Input{Value: s.In[0]})
				v := b.SSM("GatedRMSNorm", attrs, p[0], layout.Reshape(b, s.In[0], p[0].Type.Shape), layout.Reshape(b, m.w, []graph.Dim{width}))
				finish(c, b, ruleGated, cl, v)
				return
			}
		}
	}
	if group != width || len(m.nodes) > 0 {
		c.Miss(ruleNorm, m.y, 2, 3, "%q is normalised in groups of %s of %s channels, which only ssm.GatedRMSNorm does; expected %q to be x*SiLU(z)", m.x.Name, group, width, flat.Name)
		return
	}
	if x := centred(m.x); x != nil {
		m.layerNorm(c, g, x, cl)
		return
	}
	cl.In = append(cl.In, certify.Input{Value: m.x})
	attrs["axis"] = int64(-1)
	finish(c, b, ruleNorm, cl, b.Op("RMSNormalization", attrs, m.x, m.w))
}

// finish certifies that v may stand for the claim's old value.
func finish(c *passes.Context, b *graph.Builder, rule string, cl *certify.Claim, v *graph.Value) bool {
	err := b.Err
	if err == nil {
		cl.New = append(cl.New, v)
		err = certify.Rewrite(c, rule, cl)
	}
	if err != nil {
		c.Miss(rule, cl.Old[0], 2, 3, "%v", err)
	}
	return err == nil
}
