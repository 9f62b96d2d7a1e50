package cpu

import (
	"errors"
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/internal/memory"
	"github.com/ssdc-go/ssdc/ops"
)

// program is a plan bound to input shapes, for one session.
type program struct {
	e      *executable
	shapes [][]int // of the inputs
	in     []*Mem  // by input; nil when dynamic
	out    []*Mem  // by output; nil when dynamic
	next   []*Mem  // by state pair: where the new state is
	steps  []step

	arena     []*root
	arenaSize int
	arenaBase *byte
	external  []*root // inputs, outputs, states: placed before a run

	heap       map[*graph.Value]*tensor.Tensor // dynamic values of the run in progress
	workspaces map[string]any
	used       int64 // clock of the session, for eviction
	fromZero   bool  // fits a run that starts from states without a shape
}

type step struct {
	run    Step
	node   *graph.Node // nil: copy to an output
	kernel string
	cost   backends.Cost
}

// forever is the last use of a value that must survive the run.
const forever = math.MaxInt

// binder makes a program.
type binder struct {
	e     *executable
	s     *session
	p     *program
	typed map[*graph.Value]*graph.Value // copies, with the types of this binding
	mem   map[*graph.Value]*Mem
	dyn   map[*graph.Value]bool
	known map[*graph.Value]*tensor.Tensor
	nodes []*graph.Node // those that must run, in order
	at    map[*graph.Node]int
	alive map[*graph.Value]int // last step that reads a value
	views map[*graph.Node]bool // nodes that need no step
	group []span               // per node: the nodes that run together with it
	plain map[*graph.Node]bool // nodes that get no operand in blocks of channels
}

// span is a range of steps, both ends included.
type span struct{ first, last int }

// bind makes the program for inputs of the given shapes, which have been
// checked against the signature.
func (e *executable) bind(s *session, shapes [][]int) (p *program, err error) {
	defer func() { // a Lower that trips over shapes nobody thought of
		if v := recover(); v != nil {
			p, err = nil, fmt.Errorf("graph %q: cannot be bound to inputs of shapes %v: %v", e.plan.Graph.Name, shapes, v)
		}
	}()
	// Nodes whose kernels decline operands in blocks of channels run by definition,
	// which reads none: then all is bound again without.
	plain := map[*graph.Node]bool{}
	for {
		p, err = e.bindPlain(s, shapes, plain)
		var d *declined
		if !errors.As(err, &d) || plain[d.node] {
			return p, err
		}
		plain[d.node] = true
	}
}

// bindPlain is bind with nodes that get no operand in blocks.
func (e *executable) bindPlain(s *session, shapes [][]int, plain map[*graph.Node]bool) (*program, error) {
	b := &binder{
		e: e, s: s, plain: plain,
		p: &program{
			e: e, shapes: shapes, heap: map[*graph.Value]*tensor.Tensor{}, workspaces: map[string]any{},
			next: make([]*Mem, len(e.plan.States)),
		},
		mem: map[*graph.Value]*Mem{}, dyn: map[*graph.Value]bool{}, known: map[*graph.Value]*tensor.Tensor{},
		at: map[*graph.Node]int{}, alive: map[*graph.Value]int{}, views: map[*graph.Node]bool{},
	}
	if err := b.infer(); err != nil {
		return nil, err
	}
	b.classify()
	b.choose()
	b.inputs()
	if err := b.place(); err != nil {
		return nil, err
	}
	b.overwrite()
	copies := b.outputs()
	if err := b.lower(); err != nil {
		return nil, err
	}
	b.p.steps = append(b.p.steps, copies...)
	b.layout()
	return b.p, nil
}

// infer finds all types again with the lengths of this binding: sharper than
// evaluating the symbolic types, because numbers settle which operand of a
// broadcast is the longer.
func (b *binder) infer() error {
	g := b.e.plan.Graph
	c, m := g.Clone()
	for i, v := range g.Inputs {
		if s := b.p.shapes[i]; s != nil {
			dims := make([]graph.Dim, len(s))
			for a, n := range s {
				dims[a] = graph.D(int64(n))
			}
			m[v].Type.Shape = dims
		}
	}
	b.typed = m
	if err := ops.InferGraph(b.e.ops, c); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		for _, v := range n.Out {
			if v == nil {
				continue
			}
			if shape, ok := v.Type.Static(); ok && memory.Product(8, shape...) < 0 {
				return fmt.Errorf("%s: its result of type %s is beyond any memory", n, v.Type)
			}
		}
	}
	return nil
}

// typeOf is the type of v in this binding.
func (b *binder) typeOf(v *graph.Value) graph.Type {
	if w := b.typed[v]; w != nil {
		return w.Type
	}
	return v.Type
}

// contents returns the tensor of a value that is known before running.
func (b *binder) contents(v *graph.Value) *tensor.Tensor {
	if v.Const != nil {
		return v.Const
	}
	if t, ok := b.known[v]; ok {
		return t
	}
	t := b.evalKnown(v)
	b.known[v] = t
	return t
}

func (b *binder) evalKnown(v *graph.Value) *tensor.Tensor {
	w := b.typed[v]
	if w == nil || w.Known == nil || v.Def == nil {
		return nil
	}
	shape, ok := w.Type.Static()
	if !ok || product(shape) != len(w.Known) || !(w.Type.DType.IsInt() || w.Type.DType == tensor.Bool) {
		return nil
	}
	t := tensor.New(w.Type.DType, shape...)
	for i, d := range w.Known {
		n, ok := d.Const()
		if !ok {
			return nil
		}
		t.SetIntAt(i, n)
	}
	return t
}

// classify finds the values that live on the heap: those whose size is not
// known yet, and all that is computed from them.
func (b *binder) classify() {
	g := b.e.plan.Graph
	heap := func(t graph.Type) bool {
		_, static := t.Static()
		return !static || t.DType.Size() == 0
	}
	for _, v := range g.Inputs {
		b.dyn[v] = heap(b.typeOf(v))
	}
	for _, n := range g.Nodes {
		dyn := false
		for _, v := range n.In {
			dyn = dyn || v != nil && b.dyn[v]
		}
		for _, v := range n.Out {
			dyn = dyn || v != nil && b.contents(v) == nil && heap(b.typeOf(v))
		}
		for _, v := range n.Out {
			if v != nil && b.contents(v) == nil {
				b.dyn[v] = dyn
			}
		}
	}
}

// choose lists the nodes that must run: those that outputs need, without what
// only computes contents that are known.
func (b *binder) choose() {
	g := b.e.plan.Graph
	need := map[*graph.Value]bool{}
	want := func(v *graph.Value) {
		if v != nil && b.contents(v) == nil {
			need[v] = true
		}
	}
	for _, v := range g.Outputs {
		want(v)
	}
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n := g.Nodes[i]
		run := false
		for _, v := range n.Out {
			run = run || v != nil && need[v]
		}
		if !run {
			continue
		}
		b.nodes = append(b.nodes, n)
		for _, v := range n.In {
			want(v)
		}
		for _, v := range b.e.captures[n] {
			want(v)
		}
	}
	for i, j := 0, len(b.nodes)-1; i < j; i, j = i+1, j-1 {
		b.nodes[i], b.nodes[j] = b.nodes[j], b.nodes[i]
	}
	b.group = make([]span, len(b.nodes))
	for i, n := range b.nodes {
		b.at[n] = i
		b.group[i] = span{i, i}
		for _, v := range n.In {
			if v != nil {
				b.alive[v] = i
			}
		}
		for _, v := range b.e.captures[n] {
			b.alive[v] = i
		}
	}
	for _, v := range g.Outputs {
		b.alive[v] = forever
	}
}

// inputs gives the graph inputs their roots.
func (b *binder) inputs() {
	for i, v := range b.e.plan.Graph.Inputs {
		if b.dyn[v] {
			b.p.in = append(b.p.in, nil)
			continue
		}
		m := denseMem(v.Type.DType, b.p.shapes[i])
		r := &root{kind: inInput, index: i, size: m.span(), first: -1, last: b.alive[v]}
		if j := b.e.stateOf[i]; j >= 0 {
			r.kind, r.index = inState, j
		}
		r.add(m)
		b.p.external = append(b.p.external, r)
		b.p.in = append(b.p.in, m)
		b.mem[v] = m
	}
}

// of returns the memory of a value: a constant's, or where place put it.
func (b *binder) of(v *graph.Value) *Mem {
	if m := b.mem[v]; m != nil {
		return m
	}
	if t := b.contents(v); t != nil && t.DType.Size() > 0 {
		m := constMem(t)
		b.mem[v] = m
		return m
	}
	return nil
}

// dynamic reports whether a node runs on heap tensors.
func (b *binder) dynamic(n *graph.Node) bool {
	for _, v := range n.In {
		if v != nil && b.dyn[v] {
			return true
		}
	}
	for _, v := range n.Out {
		if v != nil && b.dyn[v] {
			return true
		}
	}
	return false
}

// place gives every computed value a root of its own, or makes it a view.
func (b *binder) place() error {
	blocks := b.block()
	for i, n := range b.nodes {
		if b.dynamic(n) {
			continue
		}
		if b.view(n) {
			b.views[n] = true
			continue
		}
		b.partViews(i, n)
		for j, v := range n.Out {
			if v == nil || b.mem[v] != nil || b.unwanted(n, j) {
				continue
			}
			shape, _ := b.typeOf(v).Static()
			if tooLarge(shape) {
				return fmt.Errorf("%s: output %q would be %s, which is too large", n, v.Name, b.typeOf(v))
			}
			m := denseMem(v.Type.DType, shape)
			m.Blocks = blocks[v]
			r := &root{kind: inArena, size: m.span(), first: i, last: max(b.alive[v], i)}
			r.add(m)
			b.p.arena = append(b.p.arena, r)
			b.mem[v] = m
		}
	}
	return nil
}

// unwanted reports that output j of n need not be computed: nobody reads it, and
// the operator allows a node to do without.
func (b *binder) unwanted(n *graph.Node, j int) bool {
	if _, read := b.alive[n.Out[j]]; read {
		return false
	}
	row, err := b.e.ops.Of(n)
	return err == nil && j < len(row.Out) && row.Out[j].Optional
}

// overwrite lets outputs take over the memory of inputs that die with the node.
func (b *binder) overwrite() {
	for i, n := range b.nodes {
		k := b.e.kernels[n]
		if k == nil || b.views[n] || b.dynamic(n) {
			continue
		}
		for j, v := range n.Out {
			if v == nil || b.contents(v) != nil {
				continue
			}
			for _, in := range k.Over[j] {
				if in < len(n.In) && n.In[in] != nil && b.canOverwrite(i, n, v, in) {
					b.merge(b.mem[n.In[in]].root, b.mem[v].root)
					break
				}
			}
		}
	}
}

func (b *binder) canOverwrite(i int, n *graph.Node, out *graph.Value, in int) bool {
	src, dst := b.mem[n.In[in]], b.mem[out]
	if src == nil || dst == nil || src.known != nil || src.root == dst.root || dst.root.kind != inArena ||
		src.DType.Size() != dst.DType.Size() || !src.whole() || !dst.whole() || src.span() != dst.span() || src.root.last != i {
		return false
	}
	switch src.root.kind {
	case inArena:
	case inState: // only the state's own successor may take its place
		if !b.becomes(dst, src.root.index) {
			return false
		}
	default:
		return false
	}
	row, err := b.e.ops.Of(n)
	for o, v := range n.In {
		if o == in || v == nil || b.of(v) == nil || b.of(v).root != src.root {
			continue
		}
		if m := b.of(v); err != nil || row.Traits&ops.Elementwise == 0 || !m.whole() {
			return false
		}
	}
	return true
}

// becomes reports whether dst is, as a whole, the next value of state pair j.
func (b *binder) becomes(dst *Mem, j int) bool {
	for i, v := range b.e.plan.Graph.Outputs {
		if b.e.nextOf[i] == j {
			m := b.mem[v]
			return m != nil && m.root == dst.root && m.whole()
		}
	}
	return false
}

// merge moves everything in gone to r.
func (b *binder) merge(r, gone *root) {
	for _, m := range gone.mems {
		r.add(m)
	}
	r.last = max(r.last, gone.last)
	gone.mems, gone.size = nil, 0
}

// outputs decides where results go: straight to the caller's or the session's
// memory where a value has its root to itself, else by a copy at the end.
func (b *binder) outputs() (copies []step) {
	taken := map[*root]bool{}
	for i, v := range b.e.plan.Graph.Outputs {
		j := b.e.nextOf[i]
		if b.dyn[v] || b.of(v) == nil {
			b.p.out = append(b.p.out, nil)
			continue
		}
		m := b.of(v)
		kind, index := inOutput, i
		if j >= 0 {
			kind, index = inNext, j
		}
		switch {
		case j >= 0 && m.root.kind == inState && m.root.index == j && m.whole():
		case m.root.kind == inArena && m.whole() && !taken[m.root]:
			m.root.kind, m.root.index = kind, index
			b.p.external = append(b.p.external, m.root)
		default:
			src := m
			m = denseMem(src.DType, src.Shape)
			r := &root{kind: kind, index: index, size: m.span()}
			r.add(m)
			b.p.external = append(b.p.external, r)
			dst := m
			copies = append(copies, step{kernel: "copy", run: func() error { copyDense(dst.Raw, src); return nil }, cost: backends.Cost{Bytes: int64(2 * src.DType.Bytes(src.Len()))}})
		}
		taken[m.root] = true
		if j >= 0 {
			b.p.next[j] = m
		}
		b.p.out = append(b.p.out, m)
	}
	return copies
}

// layout gives the roots of the arena their offsets.
func (b *binder) layout() {
	var kept []*root
	var slots []backends.Slot
	for _, r := range b.p.arena {
		if r.kind == inArena && r.size > 0 {
			// Nodes that run together need their memory at the same time.
			r.first = b.group[r.first].first
			if r.last != forever {
				r.last = b.group[r.last].last
			}
			kept = append(kept, r)
			slots = append(slots, backends.Slot{Size: r.size, First: r.first, Last: r.last})
		}
	}
	offs, size := backends.PlanArena(slots)
	for i, r := range kept {
		r.off = offs[i]
	}
	b.p.arena, b.p.arenaSize = kept, size
}

// copyDense writes the elements of m to dst without gaps.
func copyDense(dst []byte, m *Mem) {
	if m.Dense() {
		copy(dst, m.Raw)
		return
	}
	e := m.DType.Size()
	w := m.Cols * e
	for r := range m.Rows {
		copy(dst[r*w:(r+1)*w], m.Raw[r*m.Stride*e:])
	}
}
