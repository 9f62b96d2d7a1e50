package recur

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// try assigns roles to the operands and asks for a certificate.
func (r *chunkRegion) try(y *graph.Value, exits []*graph.Value) error {
	state, from := stateExit(r.root, exits, y)
	for _, v := range exits {
		if v != from && v != state && r.tails.leaves(v, y) {
			return fmt.Errorf("%q %s inside the form is used outside it; only y and the final state may be", v.Name, v.Type)
		}
	}
	outs := []*graph.Value{y}
	if state != nil {
		outs = append(outs, state)
	}
	var seq [][]*graph.Value
	var past *graph.Value
	for _, ch := range r.operands(outs) {
		if s := r.sequence(ch); s != nil {
			seq = append(seq, s)
		} else if p := r.stateOf(ch); p != nil && past == nil {
			past = p
		} else {
			d := ch[len(ch)-1]
			return fmt.Errorf("operand %q %s of the form is neither a sequence [B,L,...] with the decay's B and L, %s, nor a state [B,H,P,N]", d.Name, d.Type, r.root.Type)
		}
	}
	if len(seq) != 3 {
		var names []string
		for _, s := range seq {
			names = append(names, fmt.Sprintf("%q %s", s[0].Name, s[0].Type))
		}
		return fmt.Errorf("y is computed from %d sequences beside the decay (%s); expected three: x, B and C", len(seq), strings.Join(names, ", "))
	}
	var last error
	for _, p := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for _, nFirst := range []bool{false, true} {
			if nFirst && past == nil && state == nil {
				continue // there is no state whose axes could stand in another order
			}
			err := r.assign(seq[p[0]], seq[p[1]], seq[p[2]], past, y, state, nFirst)
			if err == nil {
				return nil
			}
			if last == nil || isRole(last) {
				last = err
			} else if !isRole(err) {
				last = certify.Closer(last, err)
			}
		}
	}
	return last
}

// sequence returns the forms [B,L,x,y] and [B,L,x] of an operand, deepest first.
func (r *chunkRegion) sequence(ch []*graph.Value) []*graph.Value {
	a := r.root.Type.Shape
	var out []*graph.Value
	for i := len(ch) - 1; i >= 0; i-- {
		s := ch[i].Type.Shape
		if (len(s) == 4 || len(s) == 3) && s[0] == a[0] && s[1] == a[1] {
			out = append(out, ch[i])
		}
	}
	return out
}

func (r *chunkRegion) stateOf(ch []*graph.Value) *graph.Value {
	a := r.root.Type.Shape
	for i := len(ch) - 1; i >= 0; i-- {
		if s := ch[i].Type.Shape; len(s) == 4 && s[0] == a[0] && s[1] == a[2] {
			return ch[i]
		}
	}
	return nil
}

// roleError: the shapes rule the assignment out, before any evaluation.
type roleError struct{ error }

func isRole(err error) bool { _, ok := err.(roleError); return ok }

// assign claims one assignment of roles. Where P = N, nFirst says that states
// are [B,H,N,P]; elsewhere their shapes do.
func (r *chunkRegion) assign(xs, bs, cs []*graph.Value, past, y, state *graph.Value, nFirst bool) error {
	a := r.root.Type.Shape
	x := perHead(xs, a[2])
	if x == nil {
		return roleError{fmt.Errorf("no operand has the shape of x[B,L,H,P]")}
	}
	bb := r.c.Builder(r.g, y.Def.From)
	xv := headed(bb, x, a[2])
	if bb.Err != nil {
		return bb.Err
	}
	P := xv.Type.Shape[3]
	if layout.Numel(y) != layout.Product(a[0], a[1], a[2], P) {
		return roleError{fmt.Errorf("y has another head dim than x")}
	}
	bv, cv := grouped(bb, bs, a[2]), grouped(bb, cs, a[2])
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
	n := bb.Node("ssm", "SSD", graph.Attrs{}, 2, xv, nil, r.root, bv, cv, nil, nil, nil, turned(past, past))
	if bb.Err != nil {
		return roleError{bb.Err}
	}
	if k, ok := r.q.Const(); ok && k > 1 {
		n.Attrs["chunk_size"] = k
	}
	cl := &certify.Claim{
		In:  []certify.Input{{Value: x, Kind: certify.Any}, {Value: r.root, Kind: decayKind(r.root)}, {Value: rootOf(bs, bv), Kind: certify.Any}, {Value: rootOf(cs, cv), Kind: certify.Any}},
		Old: []*graph.Value{y},
		New: []*graph.Value{layout.Reshape(bb, n.Out[0], y.Type.Shape)},
	}
	cl.Along(a[1], r.lengths()...)
	if past != nil {
		cl.In = append(cl.In, certify.Input{Value: past, Kind: certify.Any})
	}
	if state != nil {
		cl.Old = append(cl.Old, state)
		cl.New = append(cl.New, layout.Reshape(bb, turned(n.Out[1], state), state.Type.Shape))
	}
	if bb.Err != nil {
		return bb.Err
	}
	cl.Shrink = r.shrinking(a[2], P, bv.Type.Shape[2], bv.Type.Shape[3])
	err := certify.Rewrite(r.c, ruleChunked, cl)
	var m *certify.Mismatch
	if errors.As(err, &m) {
		return r.diagnose(m, cl, bs, cs)
	}
	if q, ok := r.q.Const(); ok && certify.CannotEvaluate(err) {
		// The form may only exist for whole chunks: elsewhere the graph cannot run.
		cl.Along(a[1], q, 3*q)
		cl.Multiple = q
		err = certify.Rewrite(r.c, ruleChunked, cl)
	}
	return err
}

// decayKind tells log decays that are shown to be at most 0: forms that clamp
// sums of them at 0 are scans for these only.
func decayKind(v *graph.Value) certify.Kind {
	if sign(v, 8) < 0 {
		return certify.NonPositive
	}
	return certify.LogDecay
}

// sign is 1 for values that are never below 0, -1 for those never above, else 0.
func sign(v *graph.Value, depth int) int {
	if v.Const != nil {
		switch ofSign(v.Const) {
		case certify.LogDecay:
			return -1
		case certify.Positive:
			return 1
		}
		return 0
	}
	n := v.Def
	if n == nil || n.Op.Domain != "" || depth == 0 {
		return 0
	}
	switch n.Op.Name {
	case "Softplus", "Exp", "Sigmoid", "Relu", "Abs":
		return 1
	case "Neg":
		return -sign(n.In[0], depth-1)
	case "Mul":
		return sign(n.In[0], depth-1) * sign(n.In[1], depth-1)
	case "Cast", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand", "Slice":
		return sign(n.In[0], depth-1)
	}
	return 0
}

// diagnosis adds what is known about a mismatch.
type diagnosis struct {
	*certify.Mismatch
	why string
}

func (d *diagnosis) Error() string { return d.Mismatch.Error() + "; " + d.why }
func (d *diagnosis) Unwrap() error { return d.Mismatch }

// diagnose recognises what often keeps a chunked form from being an SSD: groups
// in another order, and states that are not carried from chunk to chunk.
func (r *chunkRegion) diagnose(m *certify.Mismatch, cl *certify.Claim, bs, cs []*graph.Value) error {
	heads := r.root.Type.Shape[2]
	for _, forms := range [][]*graph.Value{bs, cs} {
		for _, v := range forms {
			if tiled(v, heads) {
				return &diagnosis{m, fmt.Sprintf("%q is tiled over the heads (head h reads group h mod G), where an SSD's groups are repeated one by one (h div H/G); transformers 4.49 and older export this, 4.57 does not", v.Name)}
			}
		}
	}
	if q, ok := r.q.Const(); ok && q > 1 && m.Trial > 0 {
		return &diagnosis{m, fmt.Sprintf("the two agree within a chunk of %d tokens and differ across chunks: the states are not carried on as exp(sum of the decays) tells", q)}
	}
	return m
}

// tiled: v is [B,L,H,N] by repetition of whole runs of groups.
func tiled(v *graph.Value, heads graph.Dim) bool {
	if v.Type.Rank() != 4 || v.Type.Shape[2] != heads {
		return false
	}
	for _, u := range layout.Chain(v) {
		if u.Def != nil && u.Def.Op.Is("", "Tile") {
			return true
		}
	}
	return false
}

// lengths to certify at: shorter than a chunk, and across chunks with a tail.
func (r *chunkRegion) lengths() []int64 {
	q, ok := r.q.Const()
	if !ok || q <= 1 {
		return []int64{3, 7}
	}
	return []int64{3, 2*q + (q+1)/2}
}

func (r *chunkRegion) shrinking(h, p, g, n graph.Dim) map[int64]int64 {
	s := certify.NewShrinker(r.q, r.root.Type.Shape[1])
	if g.Is(1) {
		s.To(h, 2)
	} else {
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

// perHead picks the deepest form that is [B,L,H,*], else one that H divides.
func perHead(forms []*graph.Value, h graph.Dim) *graph.Value {
	for _, v := range forms {
		if v.Type.Rank() == 4 && v.Type.Shape[2] == h {
			return v
		}
	}
	for _, v := range forms {
		if v.Type.Rank() == 3 {
			if _, ok := v.Type.Shape[2].DivExact(h); ok {
				return v
			}
		}
	}
	return nil
}

func headed(b *graph.Builder, v *graph.Value, h graph.Dim) *graph.Value {
	if v.Type.Rank() == 4 {
		return v
	}
	s := v.Type.Shape
	p, _ := s[2].DivExact(h)
	return layout.Reshape(b, v, []graph.Dim{s[0], s[1], h, p})
}

// grouped picks the deepest [B,L,G,N] with G dividing H; a rank 3 form is one group.
func grouped(b *graph.Builder, forms []*graph.Value, h graph.Dim) *graph.Value {
	for _, v := range forms {
		if v.Type.Rank() == 4 {
			if _, ok := h.DivExact(v.Type.Shape[2]); ok {
				return v
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
