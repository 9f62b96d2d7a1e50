package recur

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// selective proposes ssm.SelectiveScan with channels along axis d.
func (p *special) selective(d int) (*fused, error) {
	n, b := p.over, p.b
	const want = "; expected exp(A*dt) with A [D,N] and dt a factor of the update"
	if len(p.a) != 1 {
		return nil, role(1, "the decay is a product of %d factors%s", len(p.a), want)
	}
	var times, params []view
	x := p.x
	if c := p.a[0].v.Const; c != nil && p.a[0].within(d, n) {
		l, err := p.log(p.a[0])
		if err != nil {
			return nil, err
		}
		params = []view{l}
	} else {
		e := p.a[0].v.Def
		if e == nil || !e.Op.Is("", "Exp") {
			return nil, role(1, "the decay %s is no exp%s", label(p.a[0]), want)
		}
		times, params, x = p.shared(p.s.factors(b, view{e.In[0], p.a[0].axes}))
		for _, f := range times {
			if !f.within(0, 1, d) {
				return nil, role(2, "factor %s of the log decay varies along N%s", label(f), want)
			}
		}
		for _, f := range params {
			if f.within(0, 1, d) && !f.within(d) {
				return nil, role(2, "the log decay %q and the update %q share no factor dt%s", e.In[0].Name, layout.Deepest(p.n.In[1]).Name, want)
			}
			if !f.within(d, n) {
				return nil, role(2, "factor %s of the log decay varies with the token and along N%s", label(f), want)
			}
		}
	}
	for _, f := range p.bs {
		if !f.within(0, 1, n) {
			return nil, role(2, "factor %s of the update varies along channels and N; expected B, shared by the channels", label(f))
		}
	}
	for _, r := range p.reads {
		cs, _ := p.split(r)
		for _, f := range cs {
			if !f.within(0, 1, n) {
				return nil, role(2, "factor %s of the contraction varies along channels and N; expected C, shared by the channels", label(f))
			}
		}
	}
	seq, tok := []int{0, 1, d}, []int{0, 1, n}
	u, dt := p.product(x, seq, true), p.product(times, seq, true)
	a, bv := p.product(params, []int{d, n}, true), p.product(p.bs, tok, true)
	var h0 *graph.Value
	if len(p.n.In) > 2 {
		h0 = p.state(p.n.In[2], []int{0, d, n})
	}
	if b.Err != nil || u == nil || dt == nil || a == nil || bv == nil {
		return nil, role(2, "the factors of the update do not fit")
	}
	return p.finish("ssm.SelectiveScan", seq, []int{0, d, n}, func(r readout) (y, hT *graph.Value) {
		cs, post := p.split(r)
		cv := p.product(cs, tok, true)
		if b.Err != nil || cv == nil {
			return nil, nil
		}
		read := cv
		if r.before {
			read = p.ahead(cv)
		}
		m := b.Node("ssm", "SelectiveScan", nil, 2, u, dt, a, bv, read, nil, nil, nil, h0)
		if m == nil || b.Err != nil {
			return nil, nil
		}
		y = m.Out[0]
		if r.before {
			y = p.delayed(y, cv, h0, d)
		}
		return p.scaled(y, post, seq), m.Out[1]
	})
}
