package recur

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// Complex states, as diagonal state spaces have them (S4D, S5, LRU), come as two
// real ones or as one with the parts along its last axis. With
//
//	re' = ar*re - ai*im + ur,  im' = ai*re + ar*im + ui
//
// they are one scan of complex numbers. Only the first column of the decay is
// read off; that the second one agrees is left to the certificate.

// complexScan solves a pair of states.
func (r *recurrence) complexScan(re, im *lift.State, f, g linearForm) error {
	dims, l := re.In.Type.Shape, r.lift
	a, u, err := r.complexForm(dims, re.In.Type.DType, f, g)
	if err != nil {
		return fmt.Errorf("the states %s depend on each other, but %w", stateNames([]*lift.State{re, im}), err)
	}
	for _, v := range []*graph.Value{re.Init, im.Init} {
		if _, err := l.Of(v); err != nil {
			return err
		}
	}
	var init *graph.Value
	if !lift.Zero(re.Init) || !lift.Zero(im.Init) {
		one := r.dtype(f, g, re.In.Type.DType)
		init = r.pairUp(dims, one, &lift.Seq{V: re.Init, At: -1}, &lift.Seq{V: im.Init, At: -1}, false).V
	}
	t := graph.Type{DType: re.In.Type.DType, Shape: append(slices.Clone(dims), graph.D(2))}
	h, hT, err := r.linearScan(t, a, u, init, graph.Attrs{"complex": int64(1)})
	if err != nil {
		return err
	}
	part := func(v *graph.Value, k int64) *graph.Value {
		return r.b.Op("Gather", graph.Attrs{"axis": int64(-1)}, v, layout.Reshape(r.b, r.b.Ints(k), nil))
	}
	r.solved(re, lift.Seq{V: part(h.V, 0), At: h.At}, part(hT, 0), re.Init)
	r.solved(im, lift.Seq{V: part(h.V, 1), At: h.At}, part(hT, 1), im.Init)
	return r.b.Err
}

// packedScan solves a state with both parts along its last axis, whose update
// puts two parts together again; ok is false for any other state.
func (r *recurrence) packedScan(s *lift.State, mask uint64) (ok bool, err error) {
	t, l := s.In.Type, r.lift
	last := t.Rank() - 1
	n := lift.Source(s.Out).Def
	if last < 1 || !t.Shape[last].Is(2) || n == nil || !n.Op.Is("", "Concat") || len(n.In) != 2 {
		return false, nil
	}
	if axis := int(n.Attrs.Int("axis", 0)); axis != last && axis != -1 {
		return false, nil
	}
	sp := &splitter{r: r, group: []*lift.State{s, s}, mask: mask, packed: s}
	var forms [2]linearForm
	for i, v := range n.In {
		if !v.Type.Shape[last].Is(1) {
			return false, nil
		}
		f, err := sp.split(v)
		if forms[i], err = sp.each(f, func(x lift.Seq) (lift.Seq, error) { return l.Squeeze(l.Pad(x, last+1), []int{last}), nil }, err); err != nil {
			return true, err
		}
	}
	a, u, err := r.complexForm(t.Shape[:last], t.DType, forms[0], forms[1])
	if err != nil {
		return true, fmt.Errorf("the parts of the state %q drive each other, but %w", s.In.Name, err)
	}
	if _, err := l.Of(s.Init); err != nil {
		return true, err
	}
	r.pair = fmt.Sprintf("%q", s.In.Name)
	h, hT, err := r.linearScan(t, a, u, s.Init, graph.Attrs{"complex": int64(1)})
	if err != nil {
		return true, err
	}
	r.solved(s, h, hT, s.Init)
	for i, v := range n.In {
		part := r.b.Op("Slice", nil, h.V, r.b.Ints(int64(i)), r.b.Ints(int64(i)+1), r.b.Ints(int64(last)+1))
		r.known(lift.Source(v), lift.Seq{V: part, At: h.At})
	}
	return true, r.b.Err
}

// part reports which part of the packed state v is.
func (p *splitter) part(v *graph.Value) (int, bool) {
	n := v.Def
	if p.packed == nil || n == nil || n.Op.Domain != "" || len(n.In) == 0 || lift.Source(n.In[0]) != p.packed.In {
		return 0, false
	}
	last := int64(p.packed.In.Type.Rank() - 1)
	isLast := func(a int64) bool { return a == last || a == -1 }
	number := func(i int) (int, bool) {
		k, ok := ops.KnownOf(n.Input(i))
		if !ok || len(k) != 1 {
			return 0, false
		}
		c, ok := k[0].Const()
		if c < 0 {
			c += 2
		}
		return int(c), ok && c >= 0 && c < 2
	}
	switch {
	case n.Op.Is("", "Gather") && isLast(n.Attrs.Int("axis", 0)) && n.In[1].Type.Rank() == 0:
		return number(1)
	case n.Op.Is("", "Slice") && len(n.In) > 3 && v.Type.Shape[last].Is(1):
		if k, ok := ops.KnownOf(n.In[3]); ok && len(k) == 1 && (k[0].Is(last) || k[0].Is(-1)) {
			return number(1)
		}
	case n.Op.Is("", "Split") && isLast(n.Attrs.Int("axis", 0)) && len(n.Out) == 2 && v.Type.Shape[last].Is(1):
		return slices.Index(n.Out, v), true
	}
	return 0, false
}

// complexForm puts the decay and the update of both parts together.
func (r *recurrence) complexForm(dims []graph.Dim, d tensor.DType, f, g linearForm) (a, u *lift.Seq, err error) {
	if f.a[0] == nil || f.a[1] == nil || g.a[0] == nil || g.a[1] == nil {
		return nil, nil, fmt.Errorf("are not turned as the parts of a complex number")
	}
	d = r.dtype(f, g, d)
	a, u = r.pairUp(dims, d, f.a[0], g.a[0], false), r.pairUp(dims, d, f.u, g.u, true)
	return a, u, r.b.Err
}

// pairUp is (x, y) along a new last axis; full repeats them to the whole shape
// and over time.
func (r *recurrence) pairUp(dims []graph.Dim, d tensor.DType, x, y *lift.Seq, full bool) *lift.Seq {
	l := r.lift
	dims = slices.Clone(dims)
	timed := full
	var parts []lift.Seq
	for _, p := range []*lift.Seq{x, y} {
		s := l.Scalar(d, 0)
		switch {
		case p != nil && p.V == nil:
			s = l.Scalar(d, 1)
		case p != nil:
			s = *p
		}
		s = l.Pad(s, len(dims))
		timed = timed || s.Timed()
		parts = append(parts, s)
	}
	if r.b.Err != nil {
		return &lift.Seq{At: -1}
	}
	for a := range dims {
		if !full && parts[0].Dims()[a].Is(1) && parts[1].Dims()[a].Is(1) {
			dims[a] = graph.D(1)
		}
	}
	var vs []*graph.Value
	at := -1
	for _, p := range parts {
		s := l.Expand(p, dims)
		if timed && r.b.Err == nil {
			s = l.Over(s, min(1, len(dims)))
		}
		if r.b.Err != nil {
			return &lift.Seq{At: -1}
		}
		at = s.At
		vs = append(vs, l.Unsqueeze(s, []int{len(dims)}).V)
	}
	return &lift.Seq{V: r.b.Op("Concat", graph.Attrs{"axis": int64(-1)}, vs...), At: at}
}

func (r *recurrence) dtype(f, g linearForm, d tensor.DType) tensor.DType {
	for _, s := range []*lift.Seq{f.u, g.u, f.a[0], g.a[0]} {
		if s != nil && s.V != nil {
			return s.V.Type.DType
		}
	}
	return d
}
