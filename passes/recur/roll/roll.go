// Package roll turns unrolled loops over time back into loops.
//
// An exporter that traces a loop writes every step out: hundreds of thousands
// of nodes for what was a dozen lines. Where the steps end, something puts
// their results side by side (Find). Roll walks back from there through all
// steps at once: a lane holds the same value of every step. Lanes that are
// computed by equal nodes become one node of a body; a lane of reads of one
// sequence at times 0, 1, 2... becomes a scan input; a lane that holds what
// another had one step before becomes a carried state; one value for all steps
// is captured. Each node is visited once, so a trace of any length costs
// linear time. The result is an ONNX Scan, which computes what the trace does
// with the same operations.
package roll

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// Loop is a rolled trace. The values Old of the trace are what New computes
// from the outputs of Node; In are the values where the trace begins.
type Loop struct {
	Node     *graph.Node
	Old, New []*graph.Value
	In       []*graph.Value
	Steps    int
	Odd      error // how the first step differs, when it was read as the start of a state
	early    bool  // what the first step leaves is used outside
}

// Roll makes a Scan of the steps that c collects. Nodes are added with b. all tells what other collectors hold.
// The error is ErrParallel, or nil errors are not worth telling: see Telling.
func (c *Collector) Roll(b *graph.Builder, all *Index) (*Loop, error) {
	var errs []error
	if len(c.Elems) < 2 { // one step is no loop, whatever else is put beside it
		return nil, ErrParallel
	}
	told := false
	for _, reverse := range []bool{c.backward, !c.backward} {
		for peel := range 2 {
			if len(c.Elems)-peel < 2 {
				continue
			}
			own := *b // what does not fit is an error of this attempt
			before := len(b.Graph.Nodes)
			l, err := c.roll(&own, all, peel, reverse)
			if err == nil {
				return l, nil
			}
			b.Graph.Truncate(before) // values that it used would seem to be used outside the trace
			if err == ErrParallel {
				return nil, err
			}
			errs, told = append(errs, err), told || telling(err)
		}
	}
	// The direction of the model says most; a first step that may differ, least.
	first := errs[0]
	if m := (*mismatch)(nil); len(errs) > 2 && errors.As(first, &m) && m.first {
		first = errs[1]
	}
	if told && !telling(first) {
		first = refused{first}
	}
	return nil, first
}

// Index finds the collectors that hold a value.
type Index struct{ by map[*graph.Value][]*Collector }

// NewIndex lists what collectors hold.
func NewIndex(cs []*Collector) *Index {
	x := &Index{map[*graph.Value][]*Collector{}}
	for _, c := range cs {
		for _, e := range c.Elems {
			x.by[e] = append(x.by[e], c)
		}
	}
	return x
}

// root is one collector's part of a loop.
type root struct {
	c *Collector
	l *lane
	// squeeze: elements in the body still have the axis of length 1.
	squeeze bool
}

// attempt is one way to roll.
type attempt struct {
	*roller
	g       *graph.Graph
	all     *Index
	scan    *graph.Node
	peel    int
	reverse bool
	roots   []*root
}

func (c *Collector) roll(b *graph.Builder, all *Index, peel int, reverse bool) (*Loop, error) {
	id, err := b.Resolve("", "Scan")
	if err != nil {
		return nil, err
	}
	a := &attempt{g: b.Graph, all: all, peel: peel, reverse: reverse}
	a.scan = b.Graph.Add(id, graph.Attrs{}, nil, 0, "")
	a.scan.From = c.Value.Def.From
	a.roller = &roller{
		b: b, body: a.scan.AddBody("body", "step"), n: len(c.Elems) - peel, ref: (len(c.Elems) - peel) / 2,
		lanes: map[*graph.Value][]*lane{}, before: map[*graph.Value][]*lane{}, nodes: map[*graph.Node][]*graph.Node{},
		inside: map[*graph.Node]bool{}, shapes: newTemplates(false), loose: newTemplates(true),
		spelled: map[*graph.Value]*graph.Value{}, again: map[*graph.Value]bool{},
	}
	l, err := a.run(c)
	if m := (*mismatch)(nil); errors.As(err, &m) {
		m.first, m.step = m.step == 0, a.step(m.step)
	}
	if err != nil && err != ErrParallel && a.seen {
		err = refused{err}
	}
	return l, err
}

// step is the place of a step among the collected ones.
func (a *attempt) step(t int) int {
	if t += a.peel; a.reverse {
		t = a.n + a.peel - 1 - t
	}
	return t
}

func (a *attempt) run(c *Collector) (*Loop, error) {
	if err := a.root(c); err != nil {
		return nil, err
	}
	if len(a.states) == 0 {
		return nil, ErrParallel
	}
	finals, err := a.exits()
	if err != nil {
		return nil, err
	}
	return a.build(finals)
}

// root folds the elements of a collector.
func (a *attempt) root(c *Collector) error {
	vals := slices.Clone(c.Elems)
	if a.reverse {
		slices.Reverse(vals)
	}
	vals = vals[a.peel:]
	rt := &root{c: c, squeeze: true}
	a.roots = append(a.roots, rt)
	for _, m := range c.inner {
		a.inside[m] = true
	}
	if c.width > 0 {
		rt.squeeze = false
	} else if in := a.unsqueezed(vals, c.Axis); in != nil {
		for t, v := range vals {
			if v.Def != nil && slices.Contains(v.Def.In, in[t]) {
				a.inside[v.Def] = true
			}
		}
		vals, rt.squeeze = in, false
	}
	var err error
	if rt.l, err = a.fold(vals, false); err != nil {
		return err
	}
	for len(a.todo) > 0 {
		st := a.todo[0]
		a.todo = a.todo[1:]
		if st.next, err = a.fold(st.next.vals, false); err != nil {
			if m := (*mismatch)(nil); st.why == nil || errors.As(err, &m) && m.step > 1 {
				return err
			}
			return st.why
		}
	}
	return nil
}

// unsqueezed gives what the elements were before an axis was put in.
// The first step may have left what it read as it was: that loses its axis here.
func (a *attempt) unsqueezed(vals []*graph.Value, axis int) []*graph.Value {
	in := make([]*graph.Value, len(vals))
	for t, v := range vals {
		n := v.Def
		if t == 0 && isWhole(v) {
			shape := slices.Delete(slices.Clone(v.Type.Shape), axis, axis+1)
			for _, u := range v.Uses {
				if w := u.Node.Out[0]; u.Node.Op.Is("", "Squeeze") && slices.Equal(w.Type.Shape, shape) {
					in[t] = w // which the next step may read
				}
			}
			if in[t] == nil {
				in[t] = a.b.Op("Squeeze", nil, v, a.b.Ints(int64(axis)))
			}
			if a.b.Err != nil {
				return nil
			}
			continue
		}
		if n == nil || len(v.Uses) != 1 || v.IsOutput() || !n.Op.Is("", "Unsqueeze") && !n.Op.Is("", "Reshape") || !n.In[0].Type.Ranked() {
			return nil
		}
		if !slices.Equal(n.In[0].Type.Shape, slices.Delete(slices.Clone(v.Type.Shape), axis, axis+1)) {
			return nil
		}
		in[t] = n.In[0]
	}
	return in
}

// isWhole: v is an element of a sequence that kept its axis.
func isWhole(v *graph.Value) bool {
	r, ok := readOf(v)
	return ok && r.keep
}

// exits finds the final states that are used outside, and other collectors of
// the same loop. Other values that depend on a state must stay inside.
func (a *attempt) exits() (map[*state]*graph.Value, error) {
	finals := map[*state]*graph.Value{}
	checked := map[*lane]bool{}
	for i := 0; i < len(a.order); i++ { // another collector adds lanes, and makes nodes that used values outside inner ones
		l := a.order[i]
		if checked[l] || !l.dep {
			continue
		}
		checked[l] = true
		more, err := a.exit(l, finals)
		if err != nil {
			return nil, err
		}
		if more {
			checked[l] = false
			i--
		}
	}
	return finals, nil
}

func (a *attempt) exit(l *lane, finals map[*state]*graph.Value) (more bool, err error) {
lane:
	for t, v := range l.vals {
		if v == nil || v.Def == nil || !a.inside[v.Def] {
			continue
		}
		out := v.IsOutput()
		var user *graph.Node
		for _, u := range v.Uses {
			if !a.inside[u.Node] {
				out, user = true, u.Node
			}
		}
		if !out {
			continue
		}
		if t == a.n-1 {
			for _, st := range a.states {
				if w := st.next.vals[a.n-1]; w == v {
					finals[st] = v
					continue lane
				}
			}
		}
		for _, rt := range a.roots {
			if rt.l == l { // an element by itself: cut out of the collection
				continue lane
			}
		}
		if c := a.collector(v, user); c != nil {
			if err := a.root(c); err != nil {
				return false, err
			}
			return true, nil
		}
		if slices.ContainsFunc(a.states, func(st *state) bool { return st.in == l.body }) {
			t-- // it is what the step before left
		}
		return false, fmt.Errorf("%q of step %d is used outside the trace, where only the collected values and the final state are known", v.Name, a.step(t))
	}
	return false, nil
}

// collector finds another collector of the loop that v goes to.
func (a *attempt) collector(v *graph.Value, user *graph.Node) *Collector {
	for range 4 {
		for _, c := range a.all.by[v] {
			if len(c.Elems) == a.n+a.peel && !slices.ContainsFunc(a.roots, func(r *root) bool { return r.c == c }) {
				return c
			}
		}
		if user == nil || len(user.Out) != 1 || user.Op.Domain != "" {
			return nil
		}
		v, user = user.Out[0], nil
		if len(v.Uses) > 0 {
			user = v.Uses[0].Node
		}
	}
	return nil
}

// build completes the Scan.
func (a *attempt) build(finals map[*state]*graph.Value) (*Loop, error) {
	n := a.scan
	loop := &Loop{Node: n, Steps: a.n}
	set := func(v *graph.Value) {
		n.In = append(n.In, nil)
		n.SetIn(len(n.In)-1, v)
	}
	out := func(v *graph.Value) *graph.Value {
		if v.Def == nil || v.Def.Graph != a.body || v.IsOutput() { // an output has a value of its own
			v = a.op("Identity", nil, v)
		}
		a.body.AddOutput(v)
		o := &graph.Value{Name: a.g.UniqueName("Scan"), Def: n}
		n.Out = append(n.Out, o)
		return o
	}
	ins := a.body.Inputs
	a.body.Inputs = nil
	for _, st := range a.states {
		init, err := a.initial(st)
		if err != nil {
			return nil, err
		}
		if m := (*mismatch)(nil); loop.Odd == nil && errors.As(st.why, &m) {
			m.step = a.step(m.step)
			loop.Odd = m
		}
		set(init)
		loop.begin(st.init)
		a.body.Inputs = append(a.body.Inputs, st.in)
		o := out(st.next.body)
		if v := finals[st]; v != nil {
			loop.Old = append(loop.Old, v)
			loop.New = append(loop.New, o)
		}
	}
	var axes, directions []int64
	for _, q := range a.seqs {
		set(q.v)
		loop.begin(q.from)
		a.body.Inputs = append(a.body.Inputs, q.in)
		axes = append(axes, int64(q.axis))
		directions = append(directions, flag(q.reverse))
	}
	if len(a.body.Inputs) != len(ins) || len(a.seqs) == 0 {
		return nil, fmt.Errorf("the steps read no sequence")
	}
	n.Attrs["num_scan_inputs"], n.Attrs["scan_input_axes"], n.Attrs["scan_input_directions"] = int64(len(a.seqs)), axes, directions
	axes, directions = nil, nil
	ys := make([]*graph.Value, len(a.roots))
	for i, rt := range a.roots {
		v := rt.l.body
		if rt.squeeze {
			v = a.op("Squeeze", nil, v, a.b.Ints(int64(rt.c.Axis)))
		}
		ys[i] = out(v)
		axes = append(axes, int64(rt.c.Axis))
		directions = append(directions, flag(a.reverse))
	}
	n.Attrs["scan_output_axes"], n.Attrs["scan_output_directions"] = axes, directions
	if a.b.Err != nil {
		return nil, a.b.Err
	}
	if err := a.b.Infer(n); err != nil {
		return nil, err
	}
	for i, rt := range a.roots {
		a.collected(loop, rt, ys[i])
	}
	for i, v := range loop.New {
		if v.Def == n { // a value that stays when n is replaced
			loop.New[i] = a.b.Op("Identity", nil, v)
		}
	}
	if loop.early { // what a later step reads may depend on it
		return nil, fmt.Errorf("the first step has no state to start from, and what it leaves is used outside")
	}
	for _, rt := range a.roots {
		for _, v := range rt.c.base() {
			loop.begin(v)
		}
	}
	a.captured(loop)
	for i, v := range loop.Old {
		if a.b.Err == nil && !v.Type.Equal(loop.New[i].Type) {
			return nil, fmt.Errorf("%q %s becomes %s", v.Name, v.Type, loop.New[i].Type)
		}
	}
	return loop, a.b.Err
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// initial is the state before the first step, repeated to the shape of a
// state: the first step may broadcast it.
func (a *attempt) initial(st *state) (*graph.Value, error) {
	t, v := st.in.Type, st.init
	if v != nil && v.Def != nil && a.inside[v.Def] {
		return nil, fmt.Errorf("the steps are not collected one after the other: %q, the state that a step leaves, would have to be there before the first", v.Name)
	}
	if v != nil && v.Type.Equal(t) {
		return v, nil
	}
	if v == nil {
		v = a.b.Const(tensor.New(t.DType))
	}
	v = a.b.Op("Expand", nil, v, ssm.ShapeOf(a.b, t.Shape, append(slices.Clone(a.g.Inputs), a.sources()...)...))
	return v, a.b.Err
}

func (a *attempt) sources() []*graph.Value {
	var vs []*graph.Value
	for _, q := range a.seqs {
		vs = append(vs, q.v)
	}
	return vs
}
