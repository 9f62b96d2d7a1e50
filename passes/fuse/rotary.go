package fuse

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Rotary recognises rotary positions.
var Rotary = &passes.Pass{
	Name:  "fuse-rotary",
	Doc:   "x*cos + rotate_half(x)*sin, of all features of a head or the first, becomes RotaryEmbedding",
	After: []passes.Order{{Pass: "canon", Why: "it reads one spelling of slices"}},
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if n.Op.Is("", "Add") && !n.Out[0].Unused() {
				rotary(c, g, n)
			}
		}
		return nil
	},
}

const ruleRotary = "RotaryEmbedding"

// rotary matches x*cos + Concat(-x[half:], x[:half])*sin on [B,H,S,d].
func rotary(c *passes.Context, g *graph.Graph, n *graph.Node) {
	if n.Out[0].Type.Rank() != 4 {
		return
	}
	for _, p := range pair(n) {
		plain, turned := op(p[0], "Mul"), op(p[1], "Mul")
		if plain == nil || turned == nil {
			continue
		}
		for _, q := range pair(turned) {
			half, ok := rotated(q[0])
			if !ok || !q[0].Type.Equal(n.Out[0].Type) {
				continue
			}
			for _, r := range pair(plain) {
				if x := r[0]; x.Type.Equal(n.Out[0].Type) && only(n.Out[0]) != nil {
					rewriteRotary(c, g, n, x, r[1], q[1], half)
					return
				}
			}
		}
	}
}

// rotated reads Concat(Neg(b), a) along the last axis, a and b half as long.
func rotated(v *graph.Value) (half graph.Dim, ok bool) {
	cat := op(v, "Concat")
	if cat == nil || len(cat.In) != 2 || op(cat.In[0], "Neg") == nil {
		return half, false
	}
	r, d := last(v.Type)
	if a := cat.Attrs.Int("axis", 0); a != -1 && a != int64(r-1) {
		return half, false
	}
	_, half = last(cat.In[1].Type)
	return half, half.Mul(graph.D(2)) == d
}

func rewriteRotary(c *passes.Context, g *graph.Graph, n *graph.Node, x, cos, sin *graph.Value, half graph.Dim) {
	b := c.Builder(g, n.From)
	y, attrs := n.Out[0], graph.Attrs{}
	if whole, out := partial(x, y); whole != nil {
		dim, _ := half.Mul(graph.D(2)).Const()
		x, y = whole, out
		attrs["rotary_embedding_dim"] = dim
	}
	cl := &certify.Claim{Old: []*graph.Value{y}}
	s := y.Type.Shape
	caches := make([]*graph.Value, 2)
	for i, v := range []*graph.Value{cos, sin} {
		part, angle := firstHalf(b, v, half)
		if part == nil || b.Err != nil || part.Type.Rank() != 3 {
			return // angles that are not the same for both halves, or no known form
		}
		if !slices.ContainsFunc(cl.In, func(in certify.Input) bool { return in.Value == angle }) {
			cl.In = append(cl.In, certify.Input{Value: angle})
		}
		if t := part.Type.Shape; t[1] != s[2] || t[0] != s[0] && !t[0].Is(1) {
			return
		}
		if want := []graph.Dim{s[0], s[2], half}; part.Type.Shape[0] != s[0] {
			part = b.Op("Expand", nil, part, layout.Shape(b, want, x))
		}
		caches[i] = part
	}
	heads, ok := s[1].Const()
	tr := op(x, "Transpose")
	packed := (*graph.Value)(nil)
	if ok && tr != nil {
		packed = packedHeads(b, x)
	}
	var out *graph.Value
	if packed != nil && b.Err == nil { // [B,S,H*d] stays as it is
		source := packed
		if _, old := source.Def, op(tr.In[0], "Reshape"); old != nil {
			source = old.In[0]
		}
		cl.In = append(cl.In, certify.Input{Value: source})
		attrs["num_heads"] = heads
		out = b.Op("RotaryEmbedding", attrs, packed, caches[0], caches[1])
		out = layout.Transpose(b, layout.Reshape(b, out, []graph.Dim{s[0], s[2], s[1], s[3]}), 0, 2, 1, 3)
	} else {
		cl.In = append(cl.In, certify.Input{Value: x})
		out = b.Op("RotaryEmbedding", attrs, x, caches[0], caches[1])
	}
	cl.Along(s[2], 2, 5)
	sh := certify.NewShrinker(half, s[1], s[3])
	sh.To(s[2], 5)
	cl.Shrink = sh.Map
	finish(c, b, ruleRotary, cl, out)
}

// partial: x is the first features of a wider head, and y is followed by the
// rest of them: Concat(y, whole[rot:]).
func partial(x, y *graph.Value) (whole, out *graph.Value) {
	cut, cat := op(x, "Slice"), only(y)
	if cut == nil || cat == nil || !cat.Op.Is("", "Concat") || len(cat.In) != 2 || cat.In[0] != y {
		return nil, nil
	}
	rest := op(cat.In[1], "Slice")
	if rest == nil || rest.In[0] != cut.In[0] || !cat.Out[0].Type.Equal(cut.In[0].Type) {
		return nil, nil
	}
	return cut.In[0], cat.Out[0]
}

// firstHalf follows the table v, [B,1,S,2*half], down to Concat(angle, angle)
// and builds the same on angle alone, [B,S,half].
func firstHalf(b *graph.Builder, v *graph.Value, half graph.Dim) (part, angle *graph.Value) {
	var path []*graph.Node
	for range 8 {
		n := v.Def
		if n == nil || n.Op.Domain != "" {
			return nil, nil
		}
		switch n.Op.Name {
		case "Concat":
			r, _ := last(v.Type)
			if a := n.Attrs.Int("axis", 0); len(n.In) != 2 || n.In[0] != n.In[1] || a != -1 && a != int64(r-1) {
				return nil, nil
			}
			angle = n.In[0]
			if _, d := last(angle.Type); d != half {
				return nil, nil
			}
			part = angle
			for i := len(path) - 1; i >= 0 && b.Err == nil; i-- {
				in := append([]*graph.Value{}, path[i].In...)
				for k, w := range in {
					if w.Const == nil {
						in[k] = part
					}
				}
				if m := b.Like(path[i], in...); m != nil {
					part = m.Out[0]
				}
			}
			return part, angle
		case "Unsqueeze", "Reshape":
			if len(path) > 0 || v.Type.Rank() != 4 || !v.Type.Shape[1].Is(1) || n.In[0].Type.Rank() != 3 || n.In[0].Type.Shape[1] != v.Type.Shape[2] {
				return nil, nil
			}
			v = n.In[0]
		case "Cos", "Sin", "Cast":
			path, v = append(path, n), n.In[0]
		case "Mul":
			x, _, ok := times(n)
			if !ok {
				return nil, nil
			}
			path, v = append(path, n), x
		default:
			return nil, nil
		}
	}
	return nil, nil
}
