package recur

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// recurrence solves the carried states of a loop: each becomes a linear scan
// over sequences, a shift register, a counter or a buffer of outputs.
type recurrence struct {
	c         *passes.Context
	g         *graph.Graph
	b         *graph.Builder
	loop      *lift.Loop
	lift      *lift.Lifter
	needs     map[*graph.Value]uint64   // the states that a value of the body depends on
	depends   func(*graph.Value) uint64 // the same where the body is the model itself
	closure   []uint64                  // the states that state i depends on, over several steps
	done      map[*lift.State]*solution
	active    map[*lift.State]bool
	buffers   map[*lift.State]*buffer
	registers []*register
	scans     []*graph.Node // ssm.LinearScan
	pair      string        // names of two states taken for a complex number
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
	if r.depends != nil {
		return r.depends(v)
	}
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
	if len(group) == 1 {
		if ok, err := r.packedScan(s, own); ok || err != nil {
			return err
		}
	}
	forms := make([]linearForm, len(group))
	for i, t := range group {
		if !isFloat(t.In) || !slices.Equal(t.In.Type.Shape, s.In.Type.Shape) || len(group) > 2 {
			return fmt.Errorf("the states %s depend on each other; expected each to be state*decay + update, or a pair that is turned as a complex number", stateNames(group))
		}
		sp := &splitter{r: r, group: group, mask: own}
		f, err := sp.split(unrounded(t.Out))
		if err != nil {
			return err
		}
		forms[i] = f
	}
	if len(group) == 1 {
		return r.realScan(s, forms[0])
	}
	r.pair = stateNames(group)
	return r.complexScan(group[0], group[1], forms[0], forms[1])
}

// unrounded is a new state before it is rounded to the type it is kept in: the
// scan keeps the wider one.
func unrounded(v *graph.Value) *graph.Value {
	w := lift.Source(v)
	if n := w.Def; n != nil && n.Op.Is("", "Cast") && isFloat(w) && isFloat(n.In[0]) {
		return n.In[0]
	}
	return v
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

// solved records the sequence of a state at the end of each step. Values that
// are the new state under another layout or dtype are known with it.
func (r *recurrence) solved(s *lift.State, h lift.Seq, hT, init *graph.Value) {
	l := r.lift
	if r.b.Err != nil {
		return
	}
	out := l.Cast(h, s.Out.Type.DType)
	l.Set(s.Out, out)
	r.known(lift.Source(s.Out), h)
	sol := &solution{final: l.Cast(lift.Seq{V: hT, At: -1}, s.Out.Type.DType).V}
	sol.make = func() error { // the states before the steps: the initial one, then all, but for the last; none where there are no steps
		b := r.b
		if s.In.Type.Rank() == 0 {
			return fmt.Errorf("the state %q is read before it is written", s.In.Name)
		}
		first := b.Op("Unsqueeze", nil, init, b.Ints(1))
		all := b.Op("Concat", graph.Attrs{"axis": int64(1)}, first, out.V)
		if b.Err != nil {
			return b.Err
		}
		sol.start = lift.Seq{V: b.Op("Slice", nil, all, b.Ints(0), b.Ints(-1), b.Ints(1)), At: 1}
		return b.Err
	}
	r.done[s] = sol
}

// known states the sequence of v and of what v is another layout or dtype of.
func (r *recurrence) known(v *graph.Value, cur lift.Seq) {
	l := r.lift
	for r.b.Err == nil {
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
}
