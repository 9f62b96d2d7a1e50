package recur

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// gatedAttention proposes ONNX's LinearAttention with a decay per key: gated
// linear attention, the attention of RWKV without its bonus.
func (p *special) gatedAttention(h, q int) (*fused, error) {
	n, b := p.over, p.b
	H, okH := p.size(h).Const()
	K, okK := p.size(n).Const()
	V, okV := p.size(q).Const()
	if !okH || !okK || !okV {
		return nil, role(1, "the lengths of heads, keys and values are not known")
	}
	for _, f := range slices.Concat(p.a, p.bs) {
		if !f.within(0, 1, h, n) {
			return nil, role(1, "factor %s varies along the channels and along N", label(f))
		}
	}
	key := []int{0, 1, h, n}
	var log *graph.Value
	for _, f := range p.a {
		l, err := p.log(f)
		if err != nil {
			return nil, err
		}
		v := p.s.project(b, l, key...)
		if v == nil || b.Err != nil {
			return nil, role(2, "the decay %s does not fit", label(f))
		}
		if log == nil {
			log = v
		} else {
			log = b.Op("Add", nil, log, v)
		}
	}
	flat := func(v *graph.Value, width int64) *graph.Value {
		if v == nil || b.Err != nil {
			return nil
		}
		return layout.Reshape(b, v, []graph.Dim{p.s[0], p.s[1], graph.D(H * width)})
	}
	val := flat(p.product(p.x, []int{0, 1, h, q}, true), V)
	keys, decay := flat(p.product(p.bs, key, true), K), flat(p.expand(log, key), K)
	var h0 *graph.Value
	if len(p.n.In) > 2 {
		h0 = p.state(p.n.In[2], []int{0, h, n, q})
	}
	if b.Err != nil || val == nil || keys == nil || decay == nil {
		return nil, role(2, "the factors of the update do not fit")
	}
	attrs := graph.Attrs{"q_num_heads": H, "kv_num_heads": H, "scale": float32(1), "update_rule": "gated"}
	out := []int{0, 1, h, q}
	return p.finish("LinearAttention", out, []int{0, h, n, q}, func(r readout) (y, hT *graph.Value) {
		cs, post := p.split(r)
		for _, f := range cs {
			if !f.within(0, 1, h, n) {
				return nil, nil
			}
		}
		each := p.product(cs, key, true)
		read := each
		if r.before && each != nil && b.Err == nil {
			read = p.ahead(each)
		}
		query := flat(read, K)
		if query == nil || b.Err != nil {
			return nil, nil
		}
		m := b.Node("", "LinearAttention", attrs, 2, query, keys, val, h0, decay)
		if m == nil || b.Err != nil {
			return nil, nil
		}
		y = layout.Reshape(b, m.Out[0], []graph.Dim{p.s[0], p.s[1], graph.D(H), graph.D(V)})
		if r.before {
			var past *graph.Value
			if h0 != nil {
				past = p.state(p.n.In[2], []int{0, h, q, n})
			}
			y = p.delayed(y, each, past, h)
		}
		return p.scaled(y, post, out), m.Out[1]
	})
}
