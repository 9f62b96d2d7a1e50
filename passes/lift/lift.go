package lift

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Lifter gives the sequences of a loop's values, building them in the graph of B.
type Lifter struct {
	B     *graph.Builder
	Table *ops.Table
	Loop  *Loop
	// State is asked for the sequence of a state at the start of each step. It
	// may call Set for others, and an error ends the lifting.
	State func(*State) (Seq, error)

	seqs   map[*graph.Value]Seq
	inner  map[*graph.Graph]bool
	params map[*graph.Value]any // *State or *Read of a body input
	index  map[*graph.Value]*Affine
	steps  *graph.Value // 0, 1, ... L-1
	read   map[*graph.Value]bool
	Reads  []*graph.Value // the outer values that were taken up, in order
}

// Affine is an integer that is Scale*t + Offset in step t.
type Affine struct {
	Scale  int64
	Offset graph.Dim
}

// New makes a Lifter for a loop.
func New(b *graph.Builder, t *ops.Table, loop *Loop) *Lifter {
	l := &Lifter{
		B: b, Table: t, Loop: loop, seqs: map[*graph.Value]Seq{}, inner: map[*graph.Graph]bool{},
		params: map[*graph.Value]any{}, index: map[*graph.Value]*Affine{}, read: map[*graph.Value]bool{},
	}
	var mark func(g *graph.Graph)
	mark = func(g *graph.Graph) {
		l.inner[g] = true
		for _, n := range g.Nodes {
			for _, c := range n.Bodies {
				mark(c.Graph)
			}
		}
	}
	if loop.Body != nil {
		mark(loop.Body)
	}
	for _, s := range loop.States {
		l.params[s.In] = s
	}
	for _, r := range loop.Reads {
		l.params[r.In] = r
	}
	return l
}

// Set states the sequence of a value.
func (l *Lifter) Set(v *graph.Value, s Seq) { l.seqs[v] = s }

// Inside reports whether v is a value of the body: neither a constant nor from outside.
func (l *Lifter) Inside(v *graph.Value) bool {
	if v.Const != nil {
		return false
	}
	if v.Def != nil {
		return l.inner[v.Def.Graph]
	}
	return v == l.Loop.Index || v == l.Loop.Cond || l.params[v] != nil
}

// Param returns what a body input is: a *State, a *Read or nil.
func (l *Lifter) Param(v *graph.Value) any { return l.params[v] }

// Of is the sequence of v.
func (l *Lifter) Of(v *graph.Value) (Seq, error) {
	if s, ok := l.seqs[v]; ok {
		return s, nil
	}
	s, err := l.of(v)
	if err == nil {
		err = l.B.Err
	}
	if err == nil && s.V != nil && !s.V.Type.Ranked() && !s.V.Type.DType.IsContainer() {
		err = fmt.Errorf("the rank of %q is not known", s.V.Name)
	}
	if err != nil {
		return Seq{}, err
	}
	l.seqs[v] = s
	return s, nil
}

func (l *Lifter) of(v *graph.Value) (Seq, error) {
	if !l.Inside(v) {
		l.takeUp(v)
		return Seq{v, -1}, nil
	}
	if k, ok := ops.KnownOf(v); ok && v.Type.DType.IsInt() {
		return l.known(v, k)
	}
	if w := Source(v); w != v {
		return l.Of(w)
	}
	if a := l.Index(v); a != nil {
		return l.numbers(v, *a)
	}
	switch p := l.params[v].(type) {
	case *State:
		if l.State == nil {
			return Seq{}, fmt.Errorf("%q is carried", v.Name)
		}
		return l.State(p)
	case *Read:
		return l.scanned(p)
	}
	if v == l.Loop.Cond {
		t := tensor.New(tensor.Bool)
		t.SetIntAt(0, 1)
		return Seq{l.B.Const(t), -1}, nil
	}
	return l.node(v)
}

// takeUp notes an outer value that sequences are made from.
func (l *Lifter) takeUp(v *graph.Value) {
	if _, known := ops.KnownOf(v); v.Const == nil && !known && !l.read[v] {
		l.read[v] = true
		l.Reads = append(l.Reads, v)
	}
}

func (l *Lifter) known(v *graph.Value, k []graph.Dim) (Seq, error) {
	s := layout.Shape(l.B, k)
	if l.B.Err != nil {
		return Seq{}, l.B.Err
	}
	if v.Type.DType != tensor.Int64 {
		s = l.B.Op("Cast", graph.Attrs{"to": int64(v.Type.DType)}, s)
	}
	return Seq{layout.Reshape(l.B, s, v.Type.Shape), -1}, l.B.Err
}

// scanned is the sequence of a scan input. A Transpose that only put time
// first is looked through: it would have to be undone.
func (l *Lifter) scanned(r *Read) (Seq, error) {
	s := Seq{r.V, r.Axis}
	if n := r.V.Def; n != nil && n.Op.Is("", "Transpose") && len(n.Attrs.Ints("perm")) > 0 {
		perm := n.Attrs.Ints("perm")
		if rest := slices.Delete(slices.Clone(perm), r.Axis, r.Axis+1); slices.IsSorted(rest) {
			s = Seq{n.In[0], int(perm[r.Axis])}
		}
	}
	l.takeUp(s.V)
	if r.Reverse {
		s = l.Reversed(s)
	}
	return s, nil
}

// Index returns scale*t + offset for an integer of one element that is that, else nil.
func (l *Lifter) Index(v *graph.Value) *Affine {
	if a, ok := l.index[v]; ok {
		return a
	}
	l.index[v] = nil // ends recursion
	a := l.affine(v)
	l.index[v] = a
	return a
}

func (l *Lifter) affine(v *graph.Value) *Affine {
	if !v.Type.DType.IsInt() || !layout.Numel(v).Is(1) {
		return nil
	}
	if k, ok := ops.KnownOf(v); ok && len(k) == 1 {
		return &Affine{0, k[0]}
	}
	if v == l.Loop.Index {
		return &Affine{1, graph.D(0)}
	}
	if s, ok := l.params[v].(*State); ok {
		return l.counter(s)
	}
	if w := Source(v); w != v {
		return l.Index(w)
	}
	if v.Def == nil || !l.Inside(v) {
		return nil
	}
	n := v.Def
	var in []*Affine
	for i, u := range n.In {
		if i > 1 || i == 1 && layout.Is(n) {
			break
		}
		in = append(in, l.Index(u))
		if in[i] == nil {
			return nil
		}
	}
	switch {
	case n.Op.Is("", "Cast"), layout.Is(n) && n.Op.Name != "Pad" && n.Op.Name != "Gather":
		return in[0]
	case n.Op.Is("", "Concat") && len(n.In) == 1:
		return in[0]
	case n.Op.Is("", "Neg"):
		return &Affine{-in[0].Scale, in[0].Offset.Neg()}
	case n.Op.Is("", "Add"):
		return &Affine{in[0].Scale + in[1].Scale, in[0].Offset.Add(in[1].Offset)}
	case n.Op.Is("", "Sub"):
		return &Affine{in[0].Scale - in[1].Scale, in[0].Offset.Sub(in[1].Offset)}
	case n.Op.Is("", "Mul"):
		for i := range 2 {
			if k, ok := in[i].Offset.Const(); ok && in[i].Scale == 0 {
				return &Affine{k * in[1-i].Scale, in[1-i].Offset.Mul(graph.D(k))}
			}
		}
	}
	return nil
}

// counter: a carried integer to which every step adds the same number.
func (l *Lifter) counter(s *State) *Affine {
	start, ok := ops.KnownOf(s.Init)
	if !ok || len(start) != 1 {
		return nil
	}
	out := Source(s.Out)
	if out == s.In {
		return &Affine{0, start[0]}
	}
	n := out.Def
	if n == nil || !n.Op.Is("", "Add") && !n.Op.Is("", "Sub") {
		return nil
	}
	for i, u := range n.In {
		k, ok := ops.KnownOf(n.In[1-i])
		if Source(u) != s.In || !ok || len(k) != 1 || n.Op.Name == "Sub" && i == 1 {
			continue
		}
		if step, ok := k[0].Const(); ok {
			if n.Op.Name == "Sub" {
				step = -step
			}
			return &Affine{step, start[0]}
		}
	}
	return nil
}

// numbers makes the sequence of an affine integer.
func (l *Lifter) numbers(v *graph.Value, a Affine) (Seq, error) {
	b := l.B
	if a.Scale == 0 {
		return l.known(v, []graph.Dim{a.Offset})
	}
	if l.steps == nil {
		scalar := func(x *graph.Value) *graph.Value { return layout.Reshape(b, x, nil) }
		l.steps = b.Op("Range", nil, scalar(b.Ints(0)), scalar(layout.Shape(b, []graph.Dim{l.Loop.Length}, l.Reads...)), scalar(b.Ints(1)))
	}
	t := l.steps
	if a.Scale != 1 {
		t = b.Op("Mul", nil, t, b.Ints(a.Scale))
	}
	if !a.Offset.Is(0) {
		t = b.Op("Add", nil, t, layout.Shape(b, []graph.Dim{a.Offset}, l.Reads...))
	}
	s := Seq{t, 0}
	if v.Type.DType != tensor.Int64 {
		s = l.Cast(s, v.Type.DType)
	}
	var ones []int
	for i := range v.Type.Rank() {
		ones = append(ones, i)
	}
	return l.Unsqueeze(s, ones), b.Err
}

// Final is the value of an affine integer after the last step.
func (l *Lifter) Final(a Affine) graph.Dim {
	return a.Offset.Add(l.Loop.Length.Mul(graph.D(a.Scale)))
}
