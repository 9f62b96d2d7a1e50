package recur

import (
	"errors"
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// scanRoles claims that a region of matrix products is an ssm.SSD of operands
// in the given roles. Both doors to such forms use it: decays that are computed
// from a[B,L,H], and powers of a constant.
type scanRoles struct {
	c     *passes.Context
	g     *graph.Graph
	st    static
	rule  string
	a     []graph.Dim  // B, L, H
	q     graph.Dim    // chunk length, 1 when not seen
	log   *graph.Value // the log decay [B,L,H] or [B,H,L]; nil for a constant one:
	gamma *constantDecay
}

func (r *scanRoles) shape() string {
	return fmt.Sprintf("[%s,%s,%s]", r.a[0], r.a[1], r.a[2])
}

// timeFirst: [B,L,H,*] rather than [B,H,L,*].
func (r *scanRoles) timeFirst(s []graph.Dim) bool { return s[1] == r.a[1] }

// sequence returns the forms [B,L,x,y], [B,H,L,y] and [B,L,x] of an operand, deepest first.
func (r *scanRoles) sequence(ch []*graph.Value) []*graph.Value {
	var out, turned []*graph.Value
	for i := len(ch) - 1; i >= 0; i-- {
		s := ch[i].Type.Shape
		if len(s) != 4 && len(s) != 3 || s[0] != r.a[0] {
			continue
		}
		if r.timeFirst(s) {
			out = append(out, ch[i])
		} else if len(s) == 4 && s[2] == r.a[1] {
			if _, ok := r.a[2].DivExact(s[1]); ok {
				turned = append(turned, ch[i])
			}
		}
	}
	return append(out, turned...)
}

func (r *scanRoles) stateOf(ch []*graph.Value) *graph.Value {
	for i := len(ch) - 1; i >= 0; i-- {
		if s := ch[i].Type.Shape; len(s) == 4 && s[0] == r.a[0] && s[1] == r.a[2] {
			return ch[i]
		}
	}
	return nil
}

// places are the orders of axes that a y may have.
type place int

const (
	tokens      place = iota // [B,L,H,P], [B,c,Q,H,P], [B,L,HP]
	heads                    // [B,H,L,P], [B,H,c,Q,P]
	chunksHeads              // [B,c,H,Q,P]
)

// placesOf lists how the shape of a value can be read as y.
func (r *scanRoles) placesOf(v *graph.Value) (ps []place) {
	s, L, H := v.Type.Shape, r.a[1], r.a[2]
	if len(s) < 3 || len(s) > 5 || s[0] != r.a[0] {
		return nil
	}
	if p, ok := layout.Numel(v).DivExact(layout.Product(r.a...)); !ok || p == graph.D(0) {
		return nil
	}
	if s[1] == L || len(s) == 5 && s[1].Mul(s[2]) == L && s[3] == H {
		ps = append(ps, tokens)
	}
	if s[1] == H && (len(s) == 4 && s[2] == L && (s[3] != L || L.IsConst()) || len(s) == 5 && s[2].Mul(s[3]) == L) {
		ps = append(ps, heads)
	}
	if len(s) == 5 && s[2] == H && s[1].Mul(s[3]) == L {
		ps = append(ps, chunksHeads)
	}
	return ps
}

func (r *scanRoles) isY(v *graph.Value) bool { return len(r.placesOf(v)) > 0 }

// placed brings the scan's y [B,L,H,P] to the place of the old one.
func (r *scanRoles) placed(b *graph.Builder, y *graph.Value, p place, like *graph.Value) *graph.Value {
	s := like.Type.Shape
	switch p {
	case heads:
		y = layout.Transpose(b, y, 0, 2, 1, 3)
	case chunksHeads:
		y = layout.Reshape(b, y, []graph.Dim{s[0], s[1], s[3], s[2], s[4]})
		if b.Err == nil {
			y = layout.Transpose(b, y, 0, 1, 3, 2, 4)
		}
	}
	return layout.Reshape(b, y, s)
}

// decays are the operands dt and A, and inputs that they stand on.
func (r *scanRoles) decays(b *graph.Builder, x *graph.Value) (dt, a *graph.Value, in []certify.Input) {
	if r.log == nil {
		return r.gamma.operands(b, x, r.a)
	}
	a = r.log
	if s := a.Type.Shape; s[1] != r.a[1] || s[2] != r.a[2] {
		a = layout.Transpose(b, a, 0, 2, 1)
	}
	return nil, a, []certify.Input{{Value: r.log, Kind: decayKind(r.log)}}
}

// assign claims one assignment of roles. Where P = N, nFirst says that states
// are [B,H,N,P]; elsewhere their shapes do.
func (r *scanRoles) assign(xs, bs, cs []*graph.Value, past, y, state *graph.Value, nFirst bool) error {
	a := r.a
	x := r.perHead(xs)
	if x == nil {
		return roleError{fmt.Errorf("no operand has the shape of x[B,L,H,P]")}
	}
	bb := r.c.Builder(r.g, y.Def.From)
	xv := r.headed(bb, x)
	if bb.Err != nil {
		return bb.Err
	}
	P := xv.Type.Shape[3]
	if layout.Numel(y) != layout.Product(a[0], a[1], a[2], P) {
		return roleError{fmt.Errorf("y has another head dim than x")}
	}
	bv, cv := r.grouped(bb, bs), r.grouped(bb, cs)
	if bv == nil || cv == nil || bv.Type.Shape[3] != cv.Type.Shape[3] || bv.Type.Shape[2] != cv.Type.Shape[2] {
		return roleError{fmt.Errorf("no operands have the shapes of B and C [B,L,G,N]")}
	}
	// turned brings a state from [B,H,N,P] to [B,H,P,N], or like one back.
	turned := func(v, like *graph.Value) *graph.Value {
		N := bv.Type.Shape[3]
		if like == nil || P == N && !nFirst || P != N && like.Type.Shape[2] == P && like.Type.Shape[3] == N {
			return v
		}
		return layout.Transpose(bb, v, 0, 1, 3, 2)
	}
	dt, log, in := r.decays(bb, xv)
	c := cv
	if r.gamma != nil {
		c = r.gamma.scaled(bb, cv, a[2])
	}
	if bb.Err != nil {
		return roleError{bb.Err}
	}
	n := bb.Node("ssm", "SSD", graph.Attrs{}, 2, xv, dt, log, bv, c, nil, nil, nil, turned(past, past))
	if bb.Err != nil {
		return roleError{bb.Err}
	}
	if k, ok := r.q.Const(); ok && k > 1 {
		n.Attrs["chunk_size"] = k
	}
	in = append([]certify.Input{{Value: x}}, in...)
	in = append(in, certify.Input{Value: rootOf(bs, bv)}, certify.Input{Value: rootOf(cs, cv)})
	if past != nil {
		in = append(in, certify.Input{Value: past})
	}
	var last error
	for _, p := range r.placesOf(y) {
		cl := &certify.Claim{In: in, Old: []*graph.Value{y}, New: []*graph.Value{r.placed(bb, n.Out[0], p, y)}}
		if state != nil {
			cl.Old = append(cl.Old, state)
			cl.New = append(cl.New, layout.Reshape(bb, turned(n.Out[1], state), state.Type.Shape))
		}
		if bb.Err != nil {
			return roleError{bb.Err}
		}
		if r.gamma != nil {
			cl.Tol = r.gamma.tol
		}
		cl.Shrink = r.shrinking(P, bv.Type.Shape[2], bv.Type.Shape[3])
		err := r.certified(cl, bs, cs)
		if err == nil {
			return nil
		}
		last = certify.Closer(last, err)
	}
	return last
}

func (r *scanRoles) certified(cl *certify.Claim, bs, cs []*graph.Value) error {
	cl.Along(r.a[1], r.lengths()...)
	err := certify.Rewrite(r.c, r.rule, cl)
	var m *certify.Mismatch
	if errors.As(err, &m) {
		return r.diagnose(m, bs, cs)
	}
	if q, ok := r.q.Const(); ok && certify.CannotEvaluate(err) {
		// The form may only exist for whole chunks: elsewhere the graph cannot run.
		cl.Along(r.a[1], q, 3*q)
		cl.Multiple = q
		err = certify.Rewrite(r.c, r.rule, cl)
		if errors.As(err, &m) {
			return r.diagnose(m, bs, cs)
		}
	}
	return err
}

// lengths to certify at: shorter than a chunk, and across chunks with a tail.
func (r *scanRoles) lengths() []int64 {
	q, ok := r.q.Const()
	if !ok || q <= 1 {
		return []int64{3, 7}
	}
	return []int64{3, 2*q + (q+1)/2}
}

func (r *scanRoles) shrinking(p, g, n graph.Dim) map[int64]int64 {
	h := r.a[2]
	s := certify.NewShrinker(r.q, r.a[1])
	switch {
	case r.gamma != nil: // the decays are per head
		s = certify.NewShrinker(r.q, r.a[1], h, g)
	case g.Is(1):
		s.To(h, 2)
	default:
		s.To(h, 4)
		if g != h {
			s.To(g, 2)
		}
	}
	s.To(p, 3)
	s.To(n, 5)
	s.To(h.Mul(p), s.Of(h)*s.Of(p))
	s.To(g.Mul(n), s.Of(g)*s.Of(n))
	return s.Map
}

// perHead picks the deepest form that is [B,L,H,*] or [B,H,L,*], else one that H divides.
func (r *scanRoles) perHead(forms []*graph.Value) *graph.Value {
	for _, v := range forms {
		if s := v.Type.Shape; len(s) == 4 && s[2] == r.a[2] && s[1] == r.a[1] {
			return v
		}
	}
	for _, v := range forms {
		if s := v.Type.Shape; len(s) == 4 && s[1] == r.a[2] && s[2] == r.a[1] {
			return v
		}
	}
	for _, v := range forms {
		if v.Type.Rank() == 3 {
			if _, ok := v.Type.Shape[2].DivExact(r.a[2]); ok {
				return v
			}
		}
	}
	return nil
}

func (r *scanRoles) headed(b *graph.Builder, v *graph.Value) *graph.Value {
	s := v.Type.Shape
	switch {
	case len(s) == 4 && r.timeFirst(s) && s[2] == r.a[2]:
		return v
	case len(s) == 4:
		return layout.Transpose(b, v, 0, 2, 1, 3)
	}
	p, _ := s[2].DivExact(r.a[2])
	return layout.Reshape(b, v, []graph.Dim{s[0], s[1], r.a[2], p})
}

// grouped picks the deepest [B,L,G,N] or [B,G,L,N] with G dividing H; a rank 3 form is one group.
func (r *scanRoles) grouped(b *graph.Builder, forms []*graph.Value) *graph.Value {
	for _, v := range forms {
		if s := v.Type.Shape; len(s) == 4 && r.timeFirst(s) {
			if _, ok := r.a[2].DivExact(s[2]); ok {
				return v
			}
		}
	}
	for _, v := range forms {
		if s := v.Type.Shape; len(s) == 4 && s[2] == r.a[1] {
			if _, ok := r.a[2].DivExact(s[1]); ok {
				return layout.Transpose(b, v, 0, 2, 1, 3)
			}
		}
	}
	for _, v := range forms {
		if s := v.Type.Shape; len(s) == 3 {
			return layout.Reshape(b, v, []graph.Dim{s[0], s[1], graph.D(1), s[2]})
		}
	}
	return nil
}

// rootOf is the form that v was made from.
func rootOf(forms []*graph.Value, v *graph.Value) *graph.Value {
	for _, f := range forms {
		if f == v {
			return v
		}
	}
	return v.Def.In[0]
}
