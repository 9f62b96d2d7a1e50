package recur

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// recurrence solves the carried states of a loop: each becomes a linear scan
// over sequences, a shift register, a counter or a buffer of outputs.
type recurrence struct {
	c       *passes.Context
	g       *graph.Graph
	b       *graph.Builder
	loop    *lift.Loop
	lift    *lift.Lifter
	needs   map[*graph.Value]uint64 // the states that a value of the body depends on
	closure []uint64                // the states that state i depends on, over several steps
	done    map[*lift.State]*solution
	active  map[*lift.State]bool
	buffers map[*lift.State]*buffer
	scans   []*graph.Node // ssm.LinearScan
}

// solution is a solved state.
type solution struct {
	start lift.Seq     // at the start of each step, made when asked for
	make  func() error // makes start
	final *graph.Value
}

// maxStates bounds the carried values of a loop that is analysed.
const maxStates = 64

func newRecurrence(c *passes.Context, g *graph.Graph, n *graph.Node) (*recurrence, error) {
	loop, err := lift.Open(n)
	if err != nil {
		return nil, err
	}
	if len(loop.States) > maxStates {
		return nil, fmt.Errorf("%d values are carried; at most %d are analysed", len(loop.States), maxStates)
	}
	r := &recurrence{
		c: c, g: g, b: c.Builder(g, n.From), loop: loop, needs: map[*graph.Value]uint64{},
		done: map[*lift.State]*solution{}, active: map[*lift.State]bool{}, buffers: map[*lift.State]*buffer{},
	}
	r.lift = lift.New(r.b, c.Table, loop)
	r.lift.State = r.start
	for i, s := range loop.States {
		r.needs[s.In] = 1 << i
	}
	for _, s := range loop.States {
		r.closure = append(r.closure, r.need(s.Out))
	}
	for range loop.States {
		for i := range r.closure {
			for j := range r.closure {
				if r.closure[i]>>j&1 != 0 {
					r.closure[i] |= r.closure[j]
				}
			}
		}
	}
	return r, nil
}

// need is the set of states that v depends on within a step.
func (r *recurrence) need(v *graph.Value) uint64 {
	if m, ok := r.needs[v]; ok {
		return m
	}
	r.needs[v] = 0
	if v.Def == nil || !r.lift.Inside(v) {
		return 0
	}
	var m uint64
	if w := lift.Source(v); w != v {
		m = r.need(w)
	} else {
		for _, u := range v.Def.In {
			if u != nil {
				m |= r.need(u)
			}
		}
		for _, b := range v.Def.Bodies {
			b.Walk(func(n *graph.Node) {
				for _, u := range n.In {
					if u != nil {
						m |= r.need(u)
					}
				}
			})
			for _, u := range b.Outputs {
				m |= r.need(u)
			}
		}
	}
	r.needs[v] = m
	return m
}

// group lists the states that s depends on and that depend on s, s first.
func (r *recurrence) group(s *lift.State) []*lift.State {
	i := slices.Index(r.loop.States, s)
	out := []*lift.State{s}
	for j, t := range r.loop.States {
		if j != i && r.closure[i]>>j&1 != 0 && r.closure[j]>>i&1 != 0 {
			out = append(out, t)
		}
	}
	return out
}

// start is the Lifter's question for a state at the start of each step.
func (r *recurrence) start(s *lift.State) (lift.Seq, error) {
	if err := r.solve(s); err != nil {
		return lift.Seq{}, err
	}
	if r.buffers[s] != nil {
		return lift.Seq{}, fmt.Errorf("the buffer %q is read while it is written", s.In.Name)
	}
	sol := r.done[s]
	if sol.make != nil {
		if err := sol.make(); err != nil {
			return lift.Seq{}, err
		}
		sol.make = nil
	}
	return sol.start, nil
}

// solve finds what the states of s's group are in all steps.
func (r *recurrence) solve(s *lift.State) error {
	if r.done[s] != nil || r.buffers[s] != nil {
		return nil
	}
	if r.active[s] {
		return fmt.Errorf("the update of %q depends on %q in another way than state*decay + update", s.In.Name, s.In.Name)
	}
	r.active[s] = true
	defer delete(r.active, s)
	if lift.Source(s.Out) == s.In {
		v := s.Init
		seq, err := r.lift.Of(v)
		r.done[s] = &solution{start: seq, final: v}
		return err
	}
	if a := r.lift.Index(s.In); a != nil {
		seq, err := r.counted(s, *a)
		if err != nil {
			return err
		}
		r.done[s] = seq
		return nil
	}
	if b, err := r.buffer(s); b != nil || err != nil {
		r.buffers[s] = b
		return err
	}
	if ok, err := r.shiftRegister(s); ok || err != nil {
		return err
	}
	if !isFloat(s.In) || !s.In.Type.Ranked() {
		return fmt.Errorf("%q %s is carried; expected a state of floats, a counter, or a buffer of outputs", s.In.Name, s.In.Type)
	}
	group := r.group(s)
	own := uint64(0)
	for _, t := range group {
		own |= 1 << slices.Index(r.loop.States, t)
	}
	if err := r.solveAll(r.closure[slices.Index(r.loop.States, s)] &^ own); err != nil {
		return err
	}
	forms := make([]linear, len(group))
	for i, t := range group {
		if !isFloat(t.In) || !slices.Equal(t.In.Type.Shape, s.In.Type.Shape) || len(group) > 2 {
			return fmt.Errorf("the states %s depend on each other; expected each to be state*decay + update, or a pair that is turned as a complex number", stateNames(group))
		}
		sp := &splitter{r: r, group: group, mask: own}
		f, err := sp.split(t.Out)
		if err != nil {
			return err
		}
		forms[i] = f
	}
	if len(group) == 1 {
		return r.realScan(s, forms[0])
	}
	return r.complexScan(group[0], group[1], forms[0], forms[1])
}

// solveAll solves a set of states, so that values which depend on them are made
// from their new states rather than computed again from the old ones.
func (r *recurrence) solveAll(set uint64) error {
	for i, s := range r.loop.States {
		if set>>i&1 != 0 {
			if err := r.solve(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// value is the sequence of a value of the body.
func (r *recurrence) value(v *graph.Value) (lift.Seq, error) {
	if err := r.solveAll(r.need(v)); err != nil {
		return lift.Seq{}, err
	}
	return r.lift.Of(v)
}

func stateNames(group []*lift.State) string {
	var out []string
	for _, s := range group {
		out = append(out, fmt.Sprintf("%q", s.In.Name))
	}
	return strings.Join(out, ", ")
}

// counted: an integer that every step changes by the same number.
func (r *recurrence) counted(s *lift.State, a lift.Affine) (*solution, error) {
	final := layout.Shape(r.b, []graph.Dim{r.lift.Final(a)}, r.inputs()...)
	if s.In.Type.DType != tensor.Int64 && r.b.Err == nil {
		final = r.b.Op("Cast", graph.Attrs{"to": int64(s.In.Type.DType)}, final)
	}
	final = layout.Reshape(r.b, final, s.In.Type.Shape)
	return &solution{final: final}, r.b.Err
}

// inputs are outer values whose shapes give the symbols.
func (r *recurrence) inputs() []*graph.Value {
	var out []*graph.Value
	for _, v := range r.loop.Node.In {
		if v != nil {
			out = append(out, v)
		}
	}
	return append(out, r.lift.Reads...)
}

// realScan makes h = a*h + u a LinearScan.
func (r *recurrence) realScan(s *lift.State, f linear) error {
	if _, err := r.lift.Of(s.Init); err != nil {
		return err
	}
	h, hT, err := r.linearScan(s.In.Type, f.a[0], f.u, s.Init, nil)
	if err != nil {
		return err
	}
	r.solved(s, h, hT, s.Init)
	return r.b.Err
}

// complexScan makes re' = ar*re - ai*im + ur, im' = ai*re + ar*im + ui a
// LinearScan of complex numbers. That the decays of both are the same, up to
// the sign, is left to the certificate.
func (r *recurrence) complexScan(re, im *lift.State, f, g linear) error {
	if f.a[0] == nil || g.a[0] != nil && g.a[1] == nil || f.a[1] == nil {
		return fmt.Errorf("the states %s depend on each other, but are not turned as the parts of a complex number", stateNames([]*lift.State{re, im}))
	}
	// g is split for the group [re, im] in the same order as f.
	l, d := r.lift, re.In.Type
	pair := func(x, y *lift.Seq, zero float64, full bool) *lift.Seq {
		dims := slices.Clone(d.Shape)
		parts := []*lift.Seq{x, y}
		timed := full
		for i, p := range parts {
			if p == nil {
				s := l.Scalar(r.dtype(f, g, d), zero)
				parts[i] = &s
			} else if p.V == nil {
				s := l.Scalar(r.dtype(f, g, d), 1)
				parts[i] = &s
			}
			*parts[i] = l.Pad(*parts[i], len(dims))
			timed = timed || parts[i].Timed()
		}
		if r.b.Err != nil {
			return nil
		}
		if !full {
			for a := range dims {
				if parts[0].Dims()[a].Is(1) && parts[1].Dims()[a].Is(1) {
					dims[a] = graph.D(1)
				}
			}
		}
		var vs []*graph.Value
		at := -1
		for _, p := range parts {
			s := l.Expand(*p, dims)
			if timed && r.b.Err == nil {
				s = l.Over(s, min(1, len(dims)))
			}
			if r.b.Err != nil {
				return nil
			}
			at = s.At
			vs = append(vs, l.Unsqueeze(s, []int{len(dims)}).V)
		}
		return &lift.Seq{V: r.b.Op("Concat", graph.Attrs{"axis": int64(-1)}, vs...), At: at}
	}
	a := pair(f.a[0], g.a[0], 0, false)
	u := pair(f.u, g.u, 0, true)
	if r.b.Err != nil {
		return r.b.Err
	}
	h0 := pair(&lift.Seq{V: re.Init, At: -1}, &lift.Seq{V: im.Init, At: -1}, 0, false)
	for _, v := range []*graph.Value{re.Init, im.Init} {
		if _, err := l.Of(v); err != nil {
			return err
		}
	}
	init := h0.V
	if lift.Zero(re.Init) && lift.Zero(im.Init) {
		init = nil
	}
	t := graph.Type{DType: d.DType, Shape: append(slices.Clone(d.Shape), graph.D(2))}
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

func (r *recurrence) dtype(f, g linear, t graph.Type) tensor.DType {
	for _, s := range []*lift.Seq{f.u, g.u, f.a[0], g.a[0]} {
		if s != nil && s.V != nil {
			return s.V.Type.DType
		}
	}
	return t.DType
}

// linearScan builds the operator for a state of type t; a or u nil: 0, a
// without a value: 1.
func (r *recurrence) linearScan(t graph.Type, a, u *lift.Seq, init *graph.Value, attrs graph.Attrs) (lift.Seq, *graph.Value, error) {
	l, dims, d := r.lift, t.Shape, t.DType
	for _, s := range []*lift.Seq{u, a} {
		if s != nil && s.V != nil {
			d = s.V.Type.DType
			break
		}
	}
	scalar := len(dims) == 0
	if scalar {
		dims = graph.Ds(1)
	}
	if a == nil {
		return lift.Seq{}, nil, fmt.Errorf("the new state does not depend on the old one")
	}
	av := *a
	if av.V == nil {
		av = l.Scalar(d, 1)
	}
	av = l.Pad(av, len(dims))
	uv := l.Scalar(d, 0)
	if u != nil {
		uv = *u
	}
	uv = l.Over(l.Expand(uv, dims), 1)
	if r.b.Err != nil {
		return lift.Seq{}, nil, r.b.Err
	}
	if av.Timed() {
		av = l.MoveTime(av, 1)
	} else {
		av = lift.Seq{V: r.b.Op("Unsqueeze", nil, av.V, r.b.Ints(1)), At: 1}
	}
	if init != nil {
		if lift.Zero(init) {
			init = nil
		} else {
			init = l.Cast(lift.Seq{V: init, At: -1}, d).V
			if scalar {
				init = layout.Reshape(r.b, init, dims)
			}
		}
	}
	n := r.b.Node("ssm", "LinearScan", attrs, 2, av.V, uv.V, init)
	if r.b.Err != nil {
		return lift.Seq{}, nil, r.b.Err
	}
	r.scans = append(r.scans, n)
	h, hT := lift.Seq{V: n.Out[0], At: 1}, n.Out[1]
	if scalar {
		h = l.Squeeze(lift.Seq{V: h.V, At: 1}, []int{0})
		hT = layout.Reshape(r.b, hT, nil)
	}
	return h, hT, r.b.Err
}

// solved records the sequence of a state at the end of each step. Values that
// are the new state under another layout or dtype are known with it.
func (r *recurrence) solved(s *lift.State, h lift.Seq, hT, init *graph.Value) {
	l := r.lift
	if r.b.Err != nil {
		return
	}
	out := l.Cast(h, s.Out.Type.DType)
	l.Set(s.Out, out)
	v, cur := lift.Source(s.Out), h
	for {
		l.Set(v, l.Cast(cur, v.Type.DType))
		n := v.Def
		if n == nil || r.b.Err != nil {
			break
		}
		switch {
		case n.Op.Is("", "Cast"):
		case n.Op.Is("", "Transpose") && n.Attrs.Ints("perm") != nil:
			perm := n.Attrs.Ints("perm")
			inv := make([]int64, len(perm))
			for i, p := range perm {
				inv[p] = int64(i)
			}
			cur = l.Transpose(cur, inv)
		case n.Op.Is("", "Reshape"), n.Op.Is("", "Squeeze"), n.Op.Is("", "Unsqueeze"):
			cur = l.Reshape(cur, v.Type.Shape, n.In[0].Type.Shape)
		default:
			n = nil
		}
		if n == nil || r.need(n.In[0]) == 0 {
			break
		}
		v = lift.Source(n.In[0])
	}
	sol := &solution{final: l.Cast(lift.Seq{V: hT, At: -1}, s.Out.Type.DType).V}
	sol.make = func() error { // the state before the step: the initial one, then all but the last
		b := r.b
		if s.In.Type.Rank() == 0 {
			return fmt.Errorf("the state %q is read before it is written", s.In.Name)
		}
		first := b.Op("Unsqueeze", nil, init, b.Ints(1))
		before := b.Op("Slice", nil, out.V, b.Ints(0), b.Ints(-1), b.Ints(1))
		sol.start = lift.Seq{V: b.Op("Concat", graph.Attrs{"axis": int64(1)}, first, before), At: 1}
		return b.Err
	}
	r.done[s] = sol
}

// shiftRegister: every step drops the first column along an axis and appends
// one that does not depend on the register, as the state of a convolution.
func (r *recurrence) shiftRegister(s *lift.State) (bool, error) {
	n := lift.Source(s.Out).Def
	if n == nil || !s.In.Type.Ranked() {
		return false, nil
	}
	drop := func(m *graph.Node, of *graph.Value) (axis int, ok bool) { // Slice(of, 1:)
		if m == nil || !m.Op.Is("", "Slice") || lift.Source(m.In[0]) != of || len(m.In) < 4 || m.Input(3) == nil || m.Input(4) != nil && !isOne(m.In[4]) {
			return 0, false
		}
		from, ok1 := ops.KnownOf(m.In[1])
		ax, ok2 := ops.KnownOf(m.In[3])
		if !ok1 || !ok2 || len(ax) != 1 || len(from) != 1 || !from[0].Is(1) {
			return 0, false
		}
		k, ok := ax[0].Const()
		if k < 0 {
			k += int64(of.Type.Rank())
		}
		return int(k), ok && m.In[0].Type.Shape[k].Sub(m.Out[0].Type.Shape[k]).Is(1)
	}
	var column *graph.Value
	axis, ok := 0, false
	switch {
	case n.Op.Is("", "Concat") && len(n.In) == 2:
		if axis, ok = drop(lift.Source(n.In[0]).Def, s.In); ok {
			column = n.In[1]
		}
	case n.Op.Is("", "Slice"):
		if cat := lift.Source(n.In[0]); cat.Def != nil && cat.Def.Op.Is("", "Concat") && len(cat.Def.In) == 2 && lift.Source(cat.Def.In[0]) == s.In {
			if axis, ok = drop(n, cat); ok {
				n, column = cat.Def, cat.Def.In[1]
			}
		}
	}
	if !ok || column == nil {
		return false, nil
	}
	if a := int(n.Attrs.Int("axis", 0)); a != axis && a+s.In.Type.Rank() != axis {
		return false, nil
	}
	width, known := s.In.Type.Shape[axis].Const()
	if i := slices.Index(r.loop.States, s); r.need(column)>>i&1 != 0 || !known || width > lift.MaxWindow || !column.Type.Shape[axis].Is(1) {
		return false, nil
	}
	b, l := r.b, r.lift
	x, err := r.value(column)
	if err != nil {
		return true, err
	}
	x = l.Over(l.Squeeze(x, []int{axis}), axis)
	if _, err := l.Of(s.Init); err != nil || b.Err != nil {
		return true, err
	}
	all := b.Op("Concat", graph.Attrs{"axis": int64(axis)}, s.Init, x.V)
	part := func(from int64, to graph.Dim) *graph.Value {
		return b.Op("Slice", nil, all, b.Ints(from), layout.Shape(b, []graph.Dim{to}, r.inputs()...), b.Ints(int64(axis)))
	}
	L := r.loop.Length
	sol := &solution{final: b.Op("Slice", nil, all, b.Ints(-width), b.Ints(1<<62), b.Ints(int64(axis)))}
	sol.make = func() error {
		var cols []*graph.Value
		for k := range width {
			cols = append(cols, b.Op("Unsqueeze", nil, part(k, L.Add(graph.D(k))), b.Ints(int64(axis)+1)))
		}
		sol.start = lift.Seq{V: b.Op("Concat", graph.Attrs{"axis": int64(axis) + 1}, cols...), At: axis}
		return b.Err
	}
	r.done[s] = sol
	return true, b.Err
}

func isOne(v *graph.Value) bool {
	k, ok := ops.KnownOf(v)
	return ok && len(k) == 1 && k[0].Is(1)
}
