package recur

import (
	"errors"
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
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
	for _, n := range append([]*graph.Node{}, g.Nodes...) {
		if n.Op.Is("", "Einsum") && len(n.In) == 4 { // q, k, mask and v of chunks at once
			for _, v := range n.In {
				if st.is(v) && chunkScores(v.Type) {
					c.Miss(ruleMasked, n.Out[0], 1, 4, "%v", foldedChunks(v))
				}
			}
			continue
		}
		if !(n.Op.Is("", "MatMul") || n.Op.Is("", "Einsum") && len(n.In) == 2) || n.Out[0].Unused() || !isFloat(n.Out[0]) {
			continue
		}
		for i, v := range n.In {
			m := &maskedAttention{c: c, g: g, st: st, y: n.Out[0], value: n.In[1-i], scale: 1}
			if !m.scores(v) {
				continue
			}
			if err := m.rewrite(); err != nil {
				c.Miss(ruleMasked, m.y, 2, 4, "%v", err)
			}
			break
		}
	}
	return nil
}

type maskedAttention struct {
	c          *passes.Context
	g          *graph.Graph
	st         static
	y, value   *graph.Value
	mask       *graph.Value // static factor of the scores; nil when only cut
	cut        bool         // Trilu, or zeros by Where
	scale      float64
	s          *graph.Value // q k^T
	query, key *graph.Value
}

// chunkScores: [B,H,chunks,Q,Q].
func chunkScores(t graph.Type) bool { return t.Rank() == 5 && t.Shape[3] == t.Shape[4] }

func foldedChunks(v *graph.Value) error {
	return fmt.Errorf("%q, %s, belongs to chunks whose decays were folded into a constant mask; expected one mask [L,L] for the whole sequence, or decays that are computed in the graph", v.Name, v.Type)
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
			} else if m.mask != nil || n.Op.Name == "Div" || n.In[k].Type.Rank() < 2 {
				return false
			} else {
				m.mask = n.In[k]
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
			return (m.mask != nil || m.cut) && t.Rank() >= 3 && t.Rank() <= 5 && t.Shape[t.Rank()-1] == t.Shape[t.Rank()-2]
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

// sequence finds [B,L,H,n] among the layouts of an operand.
func (m *maskedAttention) sequence(b *graph.Builder, v *graph.Value) *graph.Value {
	s := m.s.Type.Shape
	for _, u := range layout.Chain(v) {
		t := u.Type.Shape
		switch {
		case len(s) == 4 && len(t) == 4 && t[0] == s[0] && t[1] == s[2] && t[2] == s[1]:
			return u
		case len(s) == 3 && len(t) == 3 && t[0] == s[0] && t[1] == s[1]:
			return layout.Reshape(b, u, []graph.Dim{t[0], t[1], graph.D(1), t[2]})
		}
	}
	return nil
}

func (m *maskedAttention) rewrite() error {
	if chunkScores(m.s.Type) {
		return foldedChunks(m.s)
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
	log, tol, err := m.decay(b, q, int(heads))
	if err != nil {
		return err
	}
	s := q.Type.Shape
	one := tensor.New(v.Type.DType, 1, 1, 1)
	one.SetAt(0, 1)
	dt := b.Op("Expand", nil, b.Const(one), layout.Shape(b, s[:3], q))
	c := q
	if m.scale != 1 {
		f := tensor.New(q.Type.DType, 1)
		f.SetAt(0, m.scale)
		c = b.Op("Mul", nil, q, b.Const(f))
	}
	n := b.Node("ssm", "SSD", nil, 2, v, dt, log, k, c)
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
		cl := &certify.Claim{Old: []*graph.Value{m.y}, New: []*graph.Value{y}, Tol: tol}
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
	return last
}

// decay reads log gamma per head off the mask, and how far rounding may have
// moved the mask from its powers.
func (m *maskedAttention) decay(b *graph.Builder, like *graph.Value, heads int) (log *graph.Value, tol float64, err error) {
	d := like.Type.DType
	if m.mask == nil {
		return b.Const(tensor.New(d, heads)), 0, nil
	}
	t, err := certify.Static(m.c.Ctx, m.c.Table, m.mask, like, like.Type.Shape[1], 3)
	if err != nil {
		return nil, 0, fmt.Errorf("the mask %q cannot be evaluated: %w", m.mask.Name, err)
	}
	rank := t.Rank()
	if rank < 2 || t.Shape[rank-1] < 2 || t.Shape[rank-1] != t.Shape[rank-2] {
		return nil, 0, fmt.Errorf("the factor %q %s of the scores is no mask [H,L,L]", m.mask.Name, m.mask.Type)
	}
	L := t.Shape[rank-1]
	n := t.Len() / (L * L)
	if n != 1 && n != heads {
		return nil, 0, fmt.Errorf("the mask %q %s is neither one for all nor one per head", m.mask.Name, m.mask.Type)
	}
	logs, gammas := tensor.New(d, heads), tensor.New(d, heads)
	exact := true
	for h := range heads {
		at := func(i, j int) float64 { return t.At((h%n*L+i)*L + j) }
		switch {
		case at(0, 1) != 0 && !m.cut:
			return nil, 0, fmt.Errorf("the mask %q lets tokens see later ones: its entry above the diagonal is %g, a scan's is 0", m.mask.Name, at(0, 1))
		case at(0, 0) != 1:
			return nil, 0, fmt.Errorf("the diagonal of the mask %q is %g, a scan's is 1", m.mask.Name, at(0, 0))
		case !(at(1, 0) > 0):
			return nil, 0, fmt.Errorf("the mask %q is %g below its diagonal, a scan's is a decay above 0", m.mask.Name, at(1, 0))
		}
		far := 1 // the farthest entry has the most digits of gamma
		for far+1 < L && at(far+1, 0) > 1e-30 {
			far++
		}
		logs.SetAt(h, math.Log(at(far, 0))/float64(far))
		gammas.SetAt(h, at(1, 0))
		exact = exact && gammas.At(h) == at(1, 0)
	}
	if m.mask.Const != nil && d != tensor.Float64 { // powers that were rounded one by one
		return b.Const(logs), 1e-6, nil
	}
	if exact { // the logarithm is not folded before the check
		return b.Op("Log", nil, b.Const(gammas)), 0, nil
	}
	return b.Const(logs), 0, nil
}
