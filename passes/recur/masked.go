package recur

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Attention without a softmax under a mask that no data enters,
//
//	y = (q k^T o M) v,  M[i,j] = gamma^(i-j) for i >= j, else 0:
//
// RetNet's parallel form, and with gamma = 1 linear attention. It is the
// quadratic form of an SSD whose decay is one number per head, which is read off
// the mask itself.

const ruleMasked = "ssm.SSD (masked attention)"

func masked(c *passes.Context, g *graph.Graph) error {
	st := static{}
	all := &foldedChunks{inside: map[*graph.Node]bool{}, tried: map[*graph.Value]bool{}}
	for _, n := range append([]*graph.Node{}, g.Nodes...) {
		if !isOp(n, "MatMul", "Einsum") || n.Out[0].Unused() || !isFloat(n.Out[0]) || all.inside[n] {
			continue
		}
		for i := range n.In {
			m := &maskedAttention{c: c, g: g, st: st, y: n.Out[0], scale: 1}
			if !m.product(n, i) {
				if m.joint != nil {
					c.Miss(ruleMasked, m.y, 1, 4, "%s joins the scores and the mask; expected their product, without a softmax", m.joint)
				}
				continue
			}
			rule, told := ruleMasked, false
			var err error
			if m.ofChunk() { // not worth having one by one
				rule = ruleFolded
				err, told = all.rewrite(m, nil)
			} else if err = m.rewrite(); err != nil {
				err, told = all.rewrite(m, err)
			}
			if err != nil && !told {
				c.Miss(rule, m.y, 2, 4, "%v", err)
			}
			break
		}
	}
	return nil
}

// product: operand i of n are masked scores, or, of a product of four, the mask itself.
func (m *maskedAttention) product(n *graph.Node, i int) bool {
	if len(n.In) == 2 {
		m.value = n.In[1-i]
		return m.scores(n.In[i])
	}
	if t := n.In[i].Type; len(n.In) < 4 || !m.st.is(n.In[i]) || t.Rank() < 2 {
		return false
	}
	data := 0
	for _, v := range n.In {
		if !m.st.is(v) {
			data++
			m.query, m.key, m.value = m.key, m.value, v
		}
	}
	m.mask = n.In[i]
	return data == 3
}

type maskedAttention struct {
	c          *passes.Context
	g          *graph.Graph
	st         static
	y, value   *graph.Value
	mask       *graph.Value // static factor of the scores; nil when only cut
	cut        bool         // Trilu, or zeros by Where
	scale      float64
	s          *graph.Value // q k^T; nil in a product of all operands at once
	query, key *graph.Value
	joint      *graph.Node // joins scores and mask, and not by a product
	doubt      error       // why the mask, its axes in their usual order, is none of a scan
}

// ofChunk: the scores are those of all chunks, or of one that is cut from the sequence.
func (m *maskedAttention) ofChunk() bool {
	if m.s == nil || m.s.Type.Rank() > 4 {
		return true
	}
	Q := m.s.Type.Shape[m.s.Type.Rank()-1]
	for v := m.query; v != nil; {
		d := layout.Deepest(v).Def
		if d == nil || !isOp(d, "Slice", "Split", "Cast", "Mul", "Div") {
			return false
		}
		in, out := dataOperand(d.In, m.st), d.Out[0].Type.Shape
		if in != nil && isOp(d, "Slice", "Split") && in.Type.Rank() == len(out) {
			for i, n := range in.Type.Shape[:len(out)-1] {
				if out[i] != n && out[i] == Q {
					return true
				}
			}
		}
		v = in
	}
	return false
}

// scores takes v apart into q k^T, a mask and a scale.
func (m *maskedAttention) scores(v *graph.Value) bool {
	for depth := 0; v.Def != nil && depth < 8; depth++ {
		n := v.Def
		switch {
		case n.Op.Is("", "Mul") || n.Op.Is("", "Div"):
			k := 1
			if m.st.is(n.In[0]) && n.Op.Name == "Mul" {
				k = 0
			}
			if !m.st.is(n.In[k]) || m.st.is(n.In[1-k]) {
				return false
			}
			if x, ok := uniform(n.In[k]); ok {
				if n.Op.Name == "Div" {
					x = 1 / x
				}
				m.scale *= x
			} else if n.Op.Name == "Div" || n.In[k].Type.Rank() < 2 {
				return false
			} else if m.mask == nil {
				m.mask = n.In[k]
			} else { // a mask and a scale per head
				m.mask = m.c.Builder(m.g, n.From).Op("Mul", nil, m.mask, n.In[k])
			}
			if m.mask == nil {
				return false
			}
			v = n.In[1-k]
		case n.Op.Is("", "Trilu"):
			m.cut, v = true, n.In[0]
		case n.Op.Is("", "Where") && m.st.is(n.In[0]):
			k := 1
			if m.st.is(n.In[1]) {
				k = 2
			}
			if x, ok := uniform(n.In[3-k]); !ok || x != 0 || m.st.is(n.In[k]) {
				return false
			}
			m.cut, v = true, n.In[k]
		case n.Op.Is("", "MatMul") || n.Op.Is("", "Einsum") && len(n.In) == 2:
			m.s, m.query, m.key = v, n.In[0], n.In[1]
			t := v.Type
			return (m.mask != nil || m.cut) && isProduct(n, m.st) && t.Rank() >= 3 && square(t)
		case depth == 0 && isOp(n, "Add", "Sub", "Min", "Max") && len(n.In) == 2:
			for k, mask := range n.In {
				s := n.In[1-k]
				if m.st.is(mask) && mask.Type.Rank() >= 2 && !m.st.is(s) && s.Def != nil && isProduct(s.Def, m.st) && square(s.Type) && square(mask.Type) {
					m.joint = n
				}
			}
			return false
		default:
			return false
		}
	}
	return false
}

// uniform is the one number of a constant.
func uniform(v *graph.Value) (float64, bool) {
	if v.Const == nil || v.Const.Len() == 0 || !v.Const.DType.IsFloat() {
		return 0, false
	}
	x := v.Const.At(0)
	for i := range v.Const.Len() {
		if v.Const.At(i) != x {
			return 0, false
		}
	}
	return x, true
}

// square: two axes are as long as each other, the last two unless an Einsum names others.
func square(t graph.Type) bool {
	for i, d := range t.Shape {
		if slices.Contains(t.Shape[i+1:], d) {
			return true
		}
	}
	return false
}

// sequence finds [B,L,H,n], or [B,H,L,n], among the layouts of an operand, the
// deepest first.
func (m *maskedAttention) sequence(b *graph.Builder, v *graph.Value) *graph.Value {
	s := m.s.Type.Shape
	var turned *graph.Value
	for _, u := range slices.Backward(layout.Chain(v)) {
		t := u.Type.Shape
		switch {
		case turned == nil && len(s) == 4 && len(t) == 4 && t[0] == s[0] && t[1] == s[1] && t[2] == s[2] && s[1] != s[2]:
			turned = u
		case len(s) == 4 && len(t) == 4 && t[0] == s[0] && t[1] == s[2] && t[2] == s[1]:
			return u
		case len(s) == 3 && len(t) == 3 && t[0] == s[0] && t[1] == s[1]:
			return layout.Reshape(b, u, []graph.Dim{t[0], t[1], graph.D(1), t[2]})
		}
	}
	if turned != nil {
		return layout.Transpose(b, turned, 0, 2, 1, 3)
	}
	return nil
}

// rewrite takes the scores for those of the whole sequence.
func (m *maskedAttention) rewrite() error {
	if m.s == nil || m.s.Type.Rank() > 4 {
		return fmt.Errorf("the scores are those of chunks")
	}
	b := m.c.Builder(m.g, m.y.Def.From)
	q, k, v := m.sequence(b, m.query), m.sequence(b, m.key), m.sequence(b, m.value)
	if b.Err != nil || q == nil || k == nil || v == nil {
		return errors.Join(b.Err, fmt.Errorf("the operands of %q, %s, are not queries, keys and values [B,L,H,.] of as many heads and tokens", m.s.Name, m.s.Type))
	}
	heads, ok := q.Type.Shape[2].Const()
	if !ok {
		return fmt.Errorf("the number of heads, %s, is not known", q.Type.Shape[2])
	}
	s := q.Type.Shape
	gamma, err := m.decay(q, s[1], int(heads))
	if err != nil {
		return err
	}
	dt, log, _ := gamma.operands(b, v, s[:3])
	n := b.Node("ssm", "SSD", nil, 2, v, dt, log, k, gamma.scaled(b, q, s[2]))
	if b.Err != nil {
		return b.Err
	}
	var last error
	for _, swap := range []bool{true, false} {
		y := n.Out[0]
		if swap {
			y = layout.Transpose(b, y, 0, 2, 1, 3)
		}
		if b.Err != nil || layout.Numel(y) != layout.Numel(m.y) {
			return errors.Join(b.Err, fmt.Errorf("%q is %s, the values %s", m.y.Name, m.y.Type, v.Type))
		}
		y = layout.Reshape(b, y, m.y.Type.Shape)
		cl := &certify.Claim{Old: []*graph.Value{m.y}, New: []*graph.Value{y}, Tol: gamma.tol}
		for _, u := range []*graph.Value{layout.Deepest(q), layout.Deepest(k), layout.Deepest(v)} {
			cl.In = append(cl.In, certify.Input{Value: u})
		}
		cl.Along(s[1], 3, 7)
		cl.Shrink = shrinking(cl, s[1])
		delete(cl.Shrink, heads) // the decays are per head
		if err := certify.Rewrite(m.c, ruleMasked, cl); err == nil {
			return nil
		} else {
			last = certify.Closer(last, err)
		}
	}
	if m.doubt != nil {
		return m.doubt
	}
	return last
}
