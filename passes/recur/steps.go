package recur

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// One decode step: state' = state*exp(a) + update, y = <C, state'>. The state
// comes from outside and the update is an outer product, so the factors of the
// update show their roles by the axes on which they are longer than 1.

const (
	ruleStepSSD = "ssm.SSD (decode step)"
	ruleStepSel = "ssm.SelectiveScan (decode step)"
)

func steps(c *passes.Context, g *graph.Graph) error {
	for _, n := range append([]*graph.Node{}, g.Nodes...) {
		if !n.Op.Is("", "Add") || !isFloat(n.Out[0]) {
			continue
		}
		s := &step{c: c, g: g, next: n.Out[0]}
		for i := range n.In {
			if s.decayed(n.In[i]) {
				s.update = n.In[1-i]
				break
			}
		}
		if s.state == nil {
			continue
		}
		if err := s.rewrite(); err != nil {
			rule := ruleStepSSD
			if s.next.Type.Rank() == 3 {
				rule = ruleStepSel
			}
			c.Miss(rule, s.next, 2, 4, "%v", err)
		}
	}
	return nil
}

type step struct {
	c                   *passes.Context
	g                   *graph.Graph
	next, state, update *graph.Value
	log                 *graph.Value // the log decay, operand of exp
}

// decayed matches state*exp(a) of the state's own shape.
func (s *step) decayed(v *graph.Value) bool {
	if v.Def == nil || !v.Def.Op.Is("", "Mul") {
		return false
	}
	rank := s.next.Type.Rank()
	if rank != 3 && rank != 4 {
		return false
	}
	for i, e := range v.Def.In {
		st := v.Def.In[1-i]
		if e.Def != nil && e.Def.Op.Is("", "Exp") && st.Type.Equal(s.next.Type) && e.Type.Rank() == rank && st.Const == nil {
			s.state, s.log = st, e.Def.In[0]
			return true
		}
	}
	return false
}

// factors flattens a product.
func factors(v *graph.Value) []*graph.Value {
	if v.Def != nil && v.Def.Op.Is("", "Mul") {
		return append(factors(v.Def.In[0]), factors(v.Def.In[1])...)
	}
	return []*graph.Value{v}
}

func (s *step) rewrite() error {
	sh := s.next.Type.Shape
	rank := len(sh)
	var rows, cols, scales []*graph.Value // longer than 1 on P (or D), on N, on neither
	for _, f := range factors(s.update) {
		if f.Type.Rank() != rank {
			return fmt.Errorf("factor %q of the update is %s; expected the %d axes of the state, short ones of length 1", f.Name, f.Type, rank)
		}
		p, n := f.Type.Shape[rank-2], f.Type.Shape[rank-1]
		switch {
		case !p.Is(1) && !n.Is(1):
			return fmt.Errorf("factor %q %s of the update is long on both axes of the state; expected an outer product of x, along the channels, and B, along N", f.Name, f.Type)
		case !n.Is(1):
			cols = append(cols, f)
		case !p.Is(1):
			rows = append(rows, f)
		default:
			scales = append(scales, f)
		}
	}
	if len(cols) != 1 || len(rows) == 0 {
		return fmt.Errorf("the update %q has %d factors along N and %d along the channels; expected B alone and x", s.update.Name, len(cols), len(rows))
	}
	y, cv, err := s.readout()
	if err != nil {
		return err
	}
	if rank == 4 {
		return s.ssd(rows, scales, cols[0], cv, y)
	}
	return s.selective(rows, cols[0], cv, y)
}

// readout finds y = <C, state'>: the contraction over N of the new state with something.
func (s *step) readout() (y, c *graph.Value, err error) {
	for _, v := range layouts(s.next) {
		for _, u := range v.Uses {
			m := u.Node
			if len(m.Out) != 1 {
				continue
			}
			switch {
			case m.Op.Is("", "MatMul") && u.Index == 0, m.Op.Is("", "Einsum") && len(m.In) == 2:
				return m.Out[0], m.In[1-u.Index], nil
			case m.Op.Is("", "Mul"):
				if w := m.Out[0].Uses; len(w) == 1 && w[0].Node.Op.Is("", "ReduceSum") {
					return w[0].Node.Out[0], m.In[1-u.Index], nil
				}
			}
		}
	}
	return nil, nil, fmt.Errorf("the new state %q is not contracted with C; expected y to read it by ReduceSum, MatMul or Einsum over N, not the old state", s.next.Name)
}

// layouts lists v and its reshapes and transposes.
func layouts(v *graph.Value) []*graph.Value {
	out := []*graph.Value{v}
	for i := 0; i < len(out) && i < 32; i++ {
		for _, u := range out[i].Uses {
			if layout.Is(u.Node) && u.Index == 0 && u.Node.Op.Name != "Pad" {
				out = append(out, u.Node.Out[0])
			}
		}
	}
	return out
}

// withN finds the deepest layout of v that has as many elements as [B,G,N] in
// that order, and G, which divides H.
func withN(v *graph.Value, batch, n, h graph.Dim) (*graph.Value, graph.Dim) {
	ch := layout.Chain(v)
	for i := len(ch) - 1; i >= 0; i-- {
		s := ch[i].Type.Shape
		if len(s) < 2 || s[0] != batch {
			continue
		}
		g, ok := layout.Numel(ch[i]).DivExact(layout.Product(batch, n))
		if !ok {
			continue
		}
		last := s[len(s)-1]
		if last.Is(1) {
			last = s[len(s)-2]
		}
		if _, whole := last.DivExact(n); !whole {
			continue
		}
		if _, ok := h.DivExact(g); ok {
			return ch[i], g
		}
	}
	return nil, graph.Dim{}
}

func (s *step) ssd(rows, scales []*graph.Value, bv, cv, y *graph.Value) error {
	sh := s.next.Type.Shape
	B, H, P, N := sh[0], sh[1], sh[2], sh[3]
	one := graph.D(1)
	b := s.c.Builder(s.g, s.next.Def.From)
	if l := s.log.Type.Shape; !l[2].Is(1) || !l[3].Is(1) {
		return fmt.Errorf("the log decay %q is %s; expected one number per head [B,H,1,1], a decay per channel is no SSD", s.log.Name, s.log.Type)
	}
	broots, g := withN(bv, B, N, H)
	croots, g2 := withN(cv, B, N, H)
	if broots == nil || croots == nil || g != g2 {
		return fmt.Errorf("operands B %q %s and C %q %s are not [B,G,N] with G dividing %s heads", bv.Name, bv.Type, cv.Name, cv.Type, H)
	}
	x := multiply(b, rows)
	cl := &certify.Claim{In: []certify.Input{{Value: broots}, {Value: croots}, {Value: s.state}}}
	for _, v := range append(append([]*graph.Value{}, rows...), scales...) {
		cl.In = append(cl.In, certify.Input{Value: v})
	}
	xv := layout.Reshape(b, x, []graph.Dim{B, one, H, P})
	var dt, a *graph.Value
	if len(scales) > 0 {
		dt = s.perToken(b, multiply(b, scales), B, H)
	}
	if a = s.perHeadA(scales, H); a != nil {
		cl.In = append(cl.In, certify.Input{Value: a, Kind: certify.LogDecay})
		a = layout.Reshape(b, a, []graph.Dim{H})
	} else {
		a = s.perToken(b, s.log, B, H)
		cl.In = append(cl.In, certify.Input{Value: s.log, Kind: certify.LogDecay})
	}
	bg := layout.Reshape(b, broots, []graph.Dim{B, one, g, N})
	cg := layout.Reshape(b, croots, []graph.Dim{B, one, g, N})
	n := b.Node("ssm", "SSD", nil, 2, xv, dt, a, bg, cg, nil, nil, nil, s.state)
	if b.Err != nil {
		return b.Err
	}
	return s.commit(ruleStepSSD, b, cl, n, y)
}

func (s *step) commit(rule string, b *graph.Builder, cl *certify.Claim, n *graph.Node, y *graph.Value) error {
	cl.Old = []*graph.Value{y, s.next}
	cl.New = []*graph.Value{layout.Reshape(b, n.Out[0], y.Type.Shape), layout.Reshape(b, n.Out[1], s.next.Type.Shape)}
	if b.Err != nil {
		return b.Err
	}
	// y is computed from the new state: its old definition must not survive.
	return certify.Rewrite(s.c, rule, cl)
}

func multiply(b *graph.Builder, vs []*graph.Value) *graph.Value {
	p := vs[0]
	for _, v := range vs[1:] {
		p = b.Op("Mul", nil, p, v)
	}
	return p
}

// perToken reshapes [B,H,1,1] to [B,1,H], broadcasting missing batch or heads.
func (s *step) perToken(b *graph.Builder, v *graph.Value, batch, h graph.Dim) *graph.Value {
	if b.Err != nil {
		return nil
	}
	want := []graph.Dim{batch, graph.D(1), h}
	if layout.Numel(v) == layout.Product(want...) {
		return layout.Reshape(b, v, want)
	}
	full := b.Op("Expand", nil, v, layout.Shape(b, []graph.Dim{batch, h, graph.D(1), graph.D(1)}, s.state))
	if b.Err != nil {
		return nil
	}
	return layout.Reshape(b, full, want)
}

// perHeadA splits log = A*dt when the update is scaled by the same dt and A is
// one parameter per head.
func (s *step) perHeadA(scales []*graph.Value, h graph.Dim) *graph.Value {
	if len(scales) != 1 || s.log.Def == nil || !s.log.Def.Op.Is("", "Mul") {
		return nil
	}
	for i, v := range s.log.Def.In {
		a := s.log.Def.In[1-i]
		if layout.Deepest(v) == layout.Deepest(scales[0]) && layout.Numel(a) == h && layout.Numel(v) == layout.Numel(scales[0]) {
			return a
		}
	}
	return nil
}

// selective rewrites the Mamba-1 step on a state [B,D,N].
func (s *step) selective(rows []*graph.Value, bv, cv, y *graph.Value) error {
	sh := s.next.Type.Shape
	B, D, N := sh[0], sh[1], sh[2]
	one := graph.D(1)
	b := s.c.Builder(s.g, s.next.Def.From)
	if s.log.Def == nil || !s.log.Def.Op.Is("", "Mul") {
		return fmt.Errorf("the log decay %q is not a product A*dt", s.log.Name)
	}
	var dt, a *graph.Value
	var rest []*graph.Value
	for i, v := range s.log.Def.In {
		for j, r := range rows {
			if v == r || layout.Deepest(v) == layout.Deepest(r) && layout.Numel(v) == layout.Numel(r) {
				dt, a = r, s.log.Def.In[1-i]
				rest = append(append(rest, rows[:j]...), rows[j+1:]...)
			}
		}
	}
	if dt == nil || len(rest) == 0 {
		return fmt.Errorf("the log decay %q and the update %q share no factor dt; expected A*dt and dt*B*u", s.log.Name, s.update.Name)
	}
	if layout.Numel(a) != layout.Product(D, N) {
		return fmt.Errorf("the parameter A is %s; expected [D,N]", a.Type)
	}
	broots, g := withN(bv, B, N, D)
	croots, g2 := withN(cv, B, N, D)
	if broots == nil || croots == nil || !g.Is(1) || !g2.Is(1) {
		return fmt.Errorf("operands B %s and C %s are not [B,N]", bv.Type, cv.Type)
	}
	cl := &certify.Claim{In: []certify.Input{{Value: broots}, {Value: croots}, {Value: s.state}, {Value: dt, Kind: certify.Positive}}}
	for _, v := range rest {
		cl.In = append(cl.In, certify.Input{Value: v})
	}
	seq := []graph.Dim{B, one, D}
	n := b.Node("ssm", "SelectiveScan", nil, 2,
		layout.Reshape(b, multiply(b, rest), seq), layout.Reshape(b, dt, seq), layout.Reshape(b, a, []graph.Dim{D, N}),
		layout.Reshape(b, broots, []graph.Dim{B, one, N}), layout.Reshape(b, croots, []graph.Dim{B, one, N}), nil, nil, nil, s.state)
	if b.Err != nil {
		return b.Err
	}
	return s.commit(ruleStepSel, b, cl, n, y)
}
