package recur

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// ssd proposes ssm.SSD with heads along axis h and channels along axis q;
// either may be -1.
func (p *special) ssd(h, q int) (*fused, error) {
	n, b := p.over, p.b
	for _, f := range p.a {
		if !f.within(0, 1, h) {
			if f.long(n) {
				return nil, role(1, "the decay %s varies along the contracted axis, %s; an SSD has one decay per head", label(f), p.size(n))
			}
			return nil, role(1, "the decay %s varies along the channels; expected one per head", label(f))
		}
	}
	for _, f := range p.bs {
		if !f.within(0, 1, h, n) {
			return nil, role(2, "factor %s of the update varies along channels and N; expected an outer product of x, along the channels, and B, along N", label(f))
		}
	}
	for _, r := range p.reads {
		cs, _ := p.split(r)
		for _, f := range cs {
			if !f.within(0, 1, h, n) {
				return nil, role(2, "factor %s of the contraction varies along channels and N; expected C, shared by the channels of a head", label(f))
			}
		}
	}
	log, dt, x, err := p.logDecay(h)
	if err != nil {
		return nil, err
	}
	seq := []int{0, 1, h, q}
	xv := p.product(x, seq, true)
	bv := p.group(p.bs, h)
	var h0 *graph.Value
	if len(p.n.In) > 2 {
		h0 = p.state(p.n.In[2], []int{0, h, q, n})
	}
	if b.Err != nil || xv == nil || bv == nil || log == nil {
		return nil, role(2, "the factors of the update do not fit")
	}
	return p.finish("ssm.SSD", seq, []int{0, h, q, n}, func(r readout) (y, hT *graph.Value) {
		cs, post := p.split(r)
		cv := p.group(cs, h)
		if b.Err != nil || cv == nil {
			return nil, nil
		}
		bg := bv
		if g, k := bg.Type.Shape[2], cv.Type.Shape[2]; g != k { // both per head
			bg, cv = p.perHead(bg, h), p.perHead(cv, h)
		}
		read := cv
		if r.before {
			read = p.ahead(cv)
		}
		m := b.Node("ssm", "SSD", nil, 2, xv, dt, log, bg, read, nil, nil, nil, h0)
		if m == nil || b.Err != nil {
			return nil, nil
		}
		y = m.Out[0]
		if r.before {
			y = p.delayed(y, cv, h0, h)
		}
		return p.scaled(y, post, seq), m.Out[1]
	})
}

// ahead is v with every token in the place of the one before it; what comes
// last is not read.
func (p *special) ahead(v *graph.Value) *graph.Value {
	b := p.b
	rest := b.Op("Slice", nil, v, b.Ints(1), b.Ints(1<<62), b.Ints(1))
	return b.Op("Concat", graph.Attrs{"axis": int64(1)}, rest, b.Op("Slice", nil, v, b.Ints(0), b.Ints(1), b.Ints(1)))
}

// delayed makes the output y[B,L,H,P], or [B,L,D], of steps that read the state
// before them: C has been moved one token ahead, so y comes one too early, and the
// first step reads the initial state.
func (p *special) delayed(y, cv, h0 *graph.Value, h int) *graph.Value {
	b := p.b
	if b.Err != nil {
		return nil
	}
	shape := slices.Clone(y.Type.Shape)
	shape[1] = graph.D(1)
	var first *graph.Value
	if h0 == nil {
		first = b.Op("Expand", nil, p.ones(len(shape), 0), layout.Shape(b, shape, p.n.In[1]))
	} else {
		c0 := b.Op("Slice", nil, cv, b.Ints(0), b.Ints(1), b.Ints(1)) // [B,1,H or 1,N], [B,1,N]
		if b.Err == nil && len(shape) == 4 && !c0.Type.Shape[2].Is(1) {
			c0 = p.headOf(c0, h)
		}
		if c0 == nil || b.Err != nil {
			return nil
		}
		if len(shape) == 3 {
			first = layout.Transpose(b, b.Op("MatMul", nil, h0, layout.Transpose(b, c0, 0, 2, 1)), 0, 2, 1)
		} else {
			column := layout.Transpose(b, c0, 0, 2, 3, 1)
			first = layout.Transpose(b, b.Op("MatMul", nil, h0, column), 0, 3, 1, 2)
		}
	}
	all := b.Op("Concat", graph.Attrs{"axis": int64(1)}, first, y)
	return b.Op("Slice", nil, all, b.Ints(0), b.Ints(-1), b.Ints(1))
}

// headOf is perHead for one step, or none: there a Reshape would ask for one.
func (p *special) headOf(v *graph.Value, h int) *graph.Value {
	heads, ok := p.size(h).Const()
	groups, known := v.Type.Shape[2].Const()
	switch {
	case !ok || !known || groups == 0 || heads%groups != 0:
		return nil
	case groups == heads:
		return v
	}
	group := make([]int64, heads)
	for i := range group {
		group[i] = int64(i) / (heads / groups)
	}
	return p.b.Op("Gather", graph.Attrs{"axis": int64(2)}, v, p.b.Ints(group...))
}

// perHead repeats the groups of [B,L,G,N] to heads.
func (p *special) perHead(v *graph.Value, h int) *graph.Value {
	b, s := p.b, v.Type.Shape
	H := p.size(h)
	k, ok := H.DivExact(s[2])
	if !ok || b.Err != nil || k.Is(1) {
		return v
	}
	w := b.Op("Unsqueeze", nil, v, b.Ints(3))
	if b.Err != nil {
		return nil
	}
	w = b.Op("Expand", nil, w, layout.Shape(b, []graph.Dim{s[0], s[1], s[2], k, s[3]}, p.n.In[1]))
	return layout.Reshape(b, w, []graph.Dim{s[0], s[1], H, s[3]})
}

// group multiplies factors to [B,L,G,N]: B or C.
func (p *special) group(ws []view, h int) *graph.Value {
	b := p.b
	if len(ws) == 0 {
		return p.expand(p.ones(4, 1), []int{0, 1, -1, p.over})
	}
	if len(ws) == 1 && p.grouped && h >= 0 && ws[0].long(h) {
		if v := p.belowHeads(ws[0].v, p.s[h]); v != nil {
			p.ungrouped = true
			return v
		}
	}
	v := p.product(ws, []int{0, 1, h, p.over}, false)
	if v == nil || b.Err != nil {
		return nil
	}
	if v.Type.Shape[2].Is(1) {
		return p.expand(v, []int{0, 1, -1, p.over})
	}
	return p.expand(v, []int{0, 1, h, p.over})
}

// belowHeads finds [B,L,G,N] below its repetition over the heads.
func (p *special) belowHeads(v *graph.Value, heads graph.Dim) *graph.Value {
	chain := layout.Chain(v)
	B, L, N := p.s[0], p.s[1], p.s[p.over]
	for i := len(chain) - 1; i >= 0; i-- {
		s := chain[i].Type.Shape
		if len(s) < 2 || s[0] != B || !L.Is(1) && (len(s) < 3 || s[1] != L) {
			continue
		}
		g, ok := layout.Numel(chain[i]).DivExact(layout.Product(B, L, N))
		if !ok {
			continue
		}
		last := s[len(s)-1]
		if last.Is(1) && len(s) > 2 {
			last = s[len(s)-2]
		}
		if _, whole := last.DivExact(N); !whole {
			continue
		}
		if _, ok := heads.DivExact(g); ok && g != heads {
			return layout.Reshape(p.b, chain[i], []graph.Dim{B, L, g, N})
		}
	}
	return nil
}
