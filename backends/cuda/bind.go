package cuda

import (
	"errors"
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/internal/memory"
	"github.com/ssdc-go/ssdc/ops"
)

// program is a plan bound to input shapes, for one session.
type program struct {
	shapes [][]int // of the inputs
	in     []*Mem  // by input; nil when it lives on the host
	out    []*Mem  // by output; nil when it lives on the host
	next   []*Mem  // by state pair: where the new state is before it is moved to its place
	steps  []step

	arena     []*root
	states    []*root // views of the session's states, by pair; nil when unused
	arenaSize int
	placed    driver.Ptr // arena that the steps were placed in
	plans     []*driver.MatmulPlan
	blasBytes int // workspace of the products

	onHost bool // has steps on the host: cannot be replayed as a graph
	bad    *Mem // set by kernels that met an index out of range
	graph  *driver.Graph
	runs   int
	used   int64 // clock of the session, for eviction

	heap map[*graph.Value]*tensor.Tensor // host values of the run in progress
}

// step is one submission.
type step struct {
	node   *graph.Node // nil: copy to an output or state
	kernel string
	launch *launch
	place  func() error // when there is no launch: prepares run, once addresses are known
	run    func(s *session) error
}

// forever is the last use of a value that must survive the run.
const forever = math.MaxInt

// binder makes a program.
type binder struct {
	e     *executable
	p     *program
	typed map[*graph.Value]*graph.Value // copies, with the types of this binding
	mem   map[*graph.Value]*Mem
	dyn   map[*graph.Value]bool
	known map[*graph.Value]*tensor.Tensor
	nodes []*graph.Node // those that must run, in order
	at    map[*graph.Node]int
	uses  map[*graph.Value]int // readers among nodes and outputs
	alive map[*graph.Value]int // last step that reads a value
	done  map[*graph.Node]bool // nodes that need no step
	// joined maps an element-wise node to the one whose launch computes it.
	joined map[*graph.Node]*graph.Node
	parts  map[*graph.Node][]outPart // convolutions whose channels go to separate tensors
	dense  map[*Mem]*Mem             // dense copies made so far
	// What a neighbour may take over or add to: kernels_decode.go.
	norms   map[*graph.Node]*normed
	streams map[*root]*streamed
	scans   map[*graph.Node]*ssdStep
	decodes map[*launch]any // *streamed, *ssdStep
}

// bind makes the program for inputs of the given shapes, which have been checked against the signature.
func (e *executable) bind(shapes [][]int) (p *program, err error) {
	defer func() { // a Lower that trips over shapes nobody thought of
		if v := recover(); v != nil {
			p, err = nil, fmt.Errorf("graph %q: cannot be bound to inputs of shapes %v: %v", e.plan.Graph.Name, shapes, v)
		}
	}()
	b := &binder{
		e: e,
		p: &program{
			shapes: shapes, heap: map[*graph.Value]*tensor.Tensor{},
			next: make([]*Mem, len(e.plan.States)), states: make([]*root, len(e.plan.States)),
		},
		mem: map[*graph.Value]*Mem{}, dyn: map[*graph.Value]bool{}, known: map[*graph.Value]*tensor.Tensor{},
		at: map[*graph.Node]int{}, uses: map[*graph.Value]int{}, alive: map[*graph.Value]int{}, done: map[*graph.Node]bool{},
		joined: map[*graph.Node]*graph.Node{}, parts: map[*graph.Node][]outPart{}, dense: map[*Mem]*Mem{},
		norms: map[*graph.Node]*normed{}, streams: map[*root]*streamed{}, scans: map[*graph.Node]*ssdStep{}, decodes: map[*launch]any{},
	}
	if err := b.infer(); err != nil {
		return nil, err
	}
	b.classify()
	b.choose()
	b.joinChains() // first: it lets values live longer
	b.inputs()
	for i, n := range b.nodes {
		if err := b.node(i, n); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(b.joinBlocks(), b.joinBits()); err != nil {
		return nil, err
	}
	if err := b.outputs(); err != nil {
		return nil, err
	}
	b.layout()
	return b.p, nil
}

// infer finds all types again with the lengths of this binding.
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
	var t *tensor.Tensor
	if w := b.typed[v]; w != nil && v.Def != nil {
		t = knownTensor(w)
	}
	b.known[v] = t
	return t
}

// knownTensor makes a tensor of contents that inference found, nil when there are none.
func knownTensor(w *graph.Value) *tensor.Tensor {
	shape, ok := w.Type.Static()
	if w.Known == nil || !ok || product(shape) != len(w.Known) || !(w.Type.DType.IsInt() || w.Type.DType == tensor.Bool) {
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

// classify finds the values that live on the host: those whose size is not known yet or whose type the device has
// not, and all that is computed from them.
func (b *binder) classify() {
	g := b.e.plan.Graph
	host := func(t graph.Type) bool {
		_, static := t.Static()
		return !static || t.DType.Size() == 0 || t.DType.Bits()%8 != 0 || t.DType.IsContainer() || t.DType == tensor.String
	}
	for _, v := range g.Inputs {
		b.dyn[v] = host(b.typeOf(v))
	}
	for _, n := range g.Nodes {
		dyn := false
		for _, v := range n.In {
			dyn = dyn || v != nil && b.dyn[v]
		}
		for _, v := range n.Out {
			dyn = dyn || v != nil && b.contents(v) == nil && host(b.typeOf(v))
		}
		for _, v := range n.Out {
			if v != nil && b.contents(v) == nil {
				b.dyn[v] = dyn
			}
		}
	}
}

// choose lists the nodes that must run.
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
		m := b.e.matrices[n]
		for i, v := range n.In {
			if m == nil || m.digits == nil || i != 1 { // digits are multiplied as they are
				want(v)
			}
		}
		for _, v := range b.e.captures[n] {
			want(v)
		}
	}
	for i, j := 0, len(b.nodes)-1; i < j; i, j = i+1, j-1 {
		b.nodes[i], b.nodes[j] = b.nodes[j], b.nodes[i]
	}
	for i, n := range b.nodes {
		b.at[n] = i
		for _, v := range n.In {
			if v != nil {
				b.alive[v] = i
				b.uses[v]++
			}
		}
		for _, v := range b.e.captures[n] {
			b.alive[v] = i
			b.uses[v]++
		}
	}
	for _, v := range g.Outputs {
		b.alive[v] = forever
		b.uses[v]++
	}
}

// storage is the type that a computed value is kept in: with compute=bf16, floats that are neither given nor asked for
// are bfloat16.
func (b *binder) storage(v *graph.Value) tensor.DType {
	d := v.Type.DType
	if b.e.set.compute == "bf16" && d == tensor.Float32 && !v.IsOutput() {
		return tensor.BFloat16
	}
	return d
}

// inputs gives the graph inputs their memory.
func (b *binder) inputs() {
	for i, v := range b.e.plan.Graph.Inputs {
		if b.dyn[v] {
			b.p.in = append(b.p.in, nil)
			continue
		}
		m := denseMem(v.Type.DType, b.p.shapes[i])
		m.root = &root{kind: inArena, size: m.Bytes(), first: -1, last: max(b.alive[v], 0)}
		if j := b.e.stateOf[i]; j >= 0 {
			m.root.kind, m.root.index = inState, j
			b.p.states[j] = m.root
		} else {
			b.p.arena = append(b.p.arena, m.root)
		}
		b.p.in = append(b.p.in, m)
		b.mem[v] = m
	}
}

// arenaMem makes memory for a value of the arena, in use from step i on.
func (b *binder) arenaMem(d tensor.DType, shape []int, i int) *Mem {
	m := denseMem(d, shape)
	m.root = &root{kind: inArena, size: m.Bytes(), first: i, last: i}
	b.p.arena = append(b.p.arena, m.root)
	return m
}

// of returns the memory of a value, which must not live on the host.
func (b *binder) of(v *graph.Value) (*Mem, error) {
	if m := b.mem[v]; m != nil {
		return m, nil
	}
	t := b.contents(v)
	if t == nil {
		return nil, fmt.Errorf("value %q has no memory", v.Name)
	}
	m, err := b.constant(v, t, t.DType, false)
	if err == nil {
		b.mem[v] = m
	}
	return m, err
}

// constant is a constant on the device.
func (b *binder) constant(v *graph.Value, t *tensor.Tensor, d tensor.DType, transposed bool) (*Mem, error) {
	p, err := b.e.constant(v, t, d, transposed)
	if err != nil {
		return nil, err
	}
	shape := t.Shape
	if transposed {
		shape = []int{t.Shape[1], t.Shape[0]}
	}
	m := denseMem(d, shape)
	m.root = &root{kind: inConst, size: m.Bytes(), base: p}
	return m, nil
}

// dynamic reports whether a node runs on host values.
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

// node makes the steps of one node.
func (b *binder) node(i int, n *graph.Node) error {
	if b.done[n] || b.joined[n] != nil {
		return nil
	}
	if b.dynamic(n) {
		return b.heapStep(i, n)
	}
	if b.e.matrices[n] == nil {
		if ok, err := b.view(i, n); err != nil || ok {
			return err
		}
	}
	if err := b.place(i, n); err != nil {
		return err
	}
	empty := true
	for _, v := range n.Out {
		empty = empty && (v == nil || b.mem[v] == nil || b.mem[v].Len() == 0)
	}
	if empty {
		return nil
	}
	if k := b.e.kernels[n]; k != nil {
		steps := len(b.p.steps)
		err := k.Lower(&Bind{b, n, i, k.Name}, n)
		if err == nil {
			return nil
		}
		b.p.steps = b.p.steps[:steps]
		if !errors.Is(err, ErrFallback) {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return b.evalStep(i, n)
}

// place gives the outputs of a node their memory.
func (b *binder) place(i int, n *graph.Node) error {
	for j, v := range n.Out {
		if v == nil || b.mem[v] != nil || b.contents(v) != nil {
			continue
		}
		shape, _ := b.typeOf(v).Static()
		if product(shape) > 1<<38 {
			return fmt.Errorf("%s: output %q would be %s, which is too large", n, v.Name, b.typeOf(v))
		}
		if m := b.takeOver(i, n, j, v, shape); m != nil {
			b.mem[v] = m
			continue
		}
		m := b.arenaMem(b.storage(v), shape, i)
		m.root.last = max(b.alive[v], i)
		b.mem[v] = m
	}
	return nil
}

// takeOver lets the next value of a state be written where the state is, when the node is the last to read it.
func (b *binder) takeOver(i int, n *graph.Node, j int, v *graph.Value, shape []int) *Mem {
	k := b.e.kernels[n]
	if k == nil || len(n.Bodies) > 0 {
		return nil
	}
	in, ok := k.Over[j]
	if !ok || n.Input(in) == nil {
		return nil
	}
	src := b.mem[n.In[in]]
	if src == nil || src.root.kind != inState || !src.whole() || src.root.last > i || src.DType != b.storage(v) || product(shape) != src.Len() {
		return nil
	}
	for o, u := range n.In {
		if m := b.mem[u]; o != in && u != nil && m != nil && m.root == src.root {
			return nil
		}
	}
	for o, u := range b.e.plan.Graph.Outputs {
		if u == v && b.e.nextOf[o] == src.root.index {
			m := src.view(shape, denseStrides(shape), 0)
			return m
		}
	}
	return nil
}

// layout gives the roots of the arena their offsets.
func (b *binder) layout() {
	var kept []*root
	var slots []backends.Slot
	for _, r := range b.p.arena {
		if r.size > 0 {
			kept = append(kept, r)
			slots = append(slots, backends.Slot{Size: alignUp(r.size, 256), First: r.first, Last: r.last})
		}
	}
	offs, size := backends.PlanArena(slots)
	for i, r := range kept {
		r.off = offs[i]
	}
	b.p.arenaSize = size
}

func alignUp(n, to int) int { return (n + to - 1) / to * to }

func ceilDiv(a, b int) int { return (a + b - 1) / b }
