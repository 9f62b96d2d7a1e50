// Package cpu runs plans on the processor.
//
// Compile picks a kernel (a row of the table, see Kernel) for every node and
// packs the constants that the kernels want packed. Open maps those weights
// and starts the threads. The first Run with given input shapes binds the
// program to them: every length becomes a number, integer values that only
// depend on shapes become constants, values get offsets in one arena by their
// lifetimes (views share memory, element-wise results and recurrent state are
// updated in place), and every node becomes a Step, a closure over that memory.
// Later Runs only walk the steps and allocate nothing.
//
// A node without a kernel runs by its operator's Eval. Values whose shape only
// running tells, strings, sequences, and all that depends on them, live on the
// heap and run by Eval too: slow, but complete.
//
// Files: kernel.go (the row), mem.go (where a value lives), bind.go, views.go
// tiles.go and lower.go (from graph to program), session.go and state.go (running it), kernels_*.go
// (the rows, by family). The arithmetic is in the packages below.
package cpu

import (
	"fmt"
	"io"
	"runtime"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Backend is the CPU backend.
type Backend struct {
	ops     *ops.Table
	kernels table
}

// New makes the backend with its own kernels; t defines the operators.
func New(t *ops.Table) *Backend {
	b := &Backend{ops: t, kernels: table{map[[2]string][]*Kernel{}, map[string]string{}}}
	if err := b.kernels.add("backends/cpu", false, Kernels()...); err != nil {
		panic(err) // two rows of this package have one name
	}
	return b
}

// Add puts kernels in the table, ahead of those that are there; source is who
// brings them.
func (b *Backend) Add(source string, rows ...*Kernel) error {
	return b.kernels.add(source, true, rows...)
}

// Kernels lists the rows of this package.
func Kernels() []*Kernel {
	var all []*Kernel
	for _, family := range families {
		all = append(all, family()...)
	}
	return all
}

// Name implements backends.Backend.
func (b *Backend) Name() string { return "cpu" }

// Supports implements backends.Backend: a node runs if it has a kernel or an Eval.
func (b *Backend) Supports(n *graph.Node, t backends.Target) error {
	k, why := b.kernels.choose(n, t)
	if k != nil {
		return nil
	}
	row, err := b.ops.Of(n)
	switch {
	case err != nil:
		return err
	case row.Eval != nil:
		return nil
	case why != nil:
		return fmt.Errorf("%s: no reference implementation, and %w", n, why)
	}
	return fmt.Errorf("%s: neither a kernel nor a reference implementation", n)
}

// KernelFor names the kernel that n would run on, or says why it has none.
func (b *Backend) KernelFor(n *graph.Node, t backends.Target) (string, error) {
	k, why := b.kernels.choose(n, t)
	if k != nil {
		return k.Name, nil
	}
	return "", why
}

// KernelsOf names the kernels for an operator version, in order of preference.
func (b *Backend) KernelsOf(op graph.OpID) []string {
	var names []string
	for _, k := range b.kernels.rows[[2]string{op.Domain, op.Name}] {
		if k.takes(op) {
			names = append(names, k.Name)
		}
	}
	return names
}

// Source says who defined the kernel of that name that n runs on; "" when there
// is no such kernel.
func (b *Backend) Source(n *graph.Node, kernel string) string {
	if k := b.kernels.named(n, kernel); k != nil {
		return b.kernels.source[k.Op.String()+"/"+k.Name]
	}
	return ""
}

// Compile implements backends.Backend.
func (b *Backend) Compile(g *graph.Graph, t backends.Target) (*backends.Plan, error) {
	if err := g.Verify(); err != nil {
		return nil, err
	}
	if err := backends.CheckStates(g, t.States); err != nil {
		return nil, err
	}
	if _, err := gemm.ParseFormat(t.Weights); err != nil {
		return nil, err
	}
	if err := t.CheckOptions(b.Name(), b.kernels.settings()...); err != nil {
		return nil, err
	}
	p := &backends.Plan{Target: t, Graph: g, States: t.States}
	p.Target.Name = b.Name()
	w := newWeightList()
	for _, n := range g.Nodes {
		if err := b.Supports(n, t); err != nil {
			return nil, err
		}
		k, _ := b.kernels.choose(n, t)
		name := ""
		if k != nil {
			name = k.Name
		}
		p.Kernels = append(p.Kernels, name)
		packed := map[int]bool{}
		for _, pk := range packings(k, n, t) {
			packed[pk.In] = true
			w.packed(n.In[pk.In], pk)
		}
		for i, v := range n.In {
			if v != nil && v.Const != nil && !packed[i] {
				w.plain(v)
			}
		}
		for _, body := range n.Bodies {
			for _, v := range body.Constants() {
				w.plain(v)
			}
		}
	}
	for _, v := range g.Outputs {
		if v.Const != nil {
			w.plain(v)
		}
	}
	p.Weights = w.list
	return p, nil
}

func packings(k *Kernel, n *graph.Node, t backends.Target) []Packing {
	if k == nil || k.Pack == nil {
		return nil
	}
	return k.Pack(n, t)
}

// weightList collects the stored forms of constants, each once.
type weightList struct {
	list []*backends.Weight
	seen map[[2]string]bool
}

func newWeightList() *weightList { return &weightList{seen: map[[2]string]bool{}} }

func (l *weightList) plain(v *graph.Value) {
	t := v.Const
	if t.DType.IsContainer() || t.DType == tensor.String {
		return // printed with the graph
	}
	l.add(&backends.Weight{Name: v.Name, DType: t.DType, Shape: t.Shape, Load: func() (*tensor.Tensor, error) {
		if len(t.Data) != t.DType.Bytes(t.Len()) {
			return nil, fmt.Errorf("the plan holds only packed forms of it")
		}
		return t, nil
	}})
}

func (l *weightList) packed(v *graph.Value, pk Packing) {
	t := v.Const
	l.add(&backends.Weight{Name: v.Name, Layout: pk.Layout, DType: pk.DType, Shape: pk.Shape, Load: func() (*tensor.Tensor, error) {
		if len(t.Data) != t.DType.Bytes(t.Len()) {
			return nil, fmt.Errorf("the plan holds only packed forms of it")
		}
		return pk.Pack(t)
	}})
}

func (l *weightList) add(w *backends.Weight) {
	if k := [2]string{w.Name, w.Layout}; !l.seen[k] {
		l.seen[k] = true
		l.list = append(l.list, w)
	}
}

// Open implements backends.Backend.
func (b *Backend) Open(p *backends.Plan, w backends.Weights) (backends.Executable, error) {
	if len(p.Kernels) != len(p.Graph.Nodes) {
		return nil, fmt.Errorf("plan: %d kernels for %d nodes; compile the model again", len(p.Kernels), len(p.Graph.Nodes))
	}
	if err := backends.CheckStates(p.Graph, p.States); err != nil {
		return nil, err
	}
	if _, err := gemm.ParseFormat(p.Target.Weights); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if w == nil {
		w = p.Own()
	}
	e := &executable{
		plan: p, ops: b.ops, tables: openTables(p.Graph, w),
		kernels: map[*graph.Node]*Kernel{}, packed: map[packKey]*tensor.Tensor{}, captures: captures(p.Graph),
	}
	for i, n := range p.Graph.Nodes {
		if p.Kernels[i] == "" {
			if row, err := b.ops.Of(n); err != nil {
				return nil, err
			} else if row.Eval == nil {
				return nil, fmt.Errorf("%s: operator has no reference implementation", n)
			}
			continue
		}
		k := b.kernels.named(n, p.Kernels[i])
		if k == nil {
			return nil, fmt.Errorf("%s: the plan asks for kernel %q, which this program does not have; run it with the plugin that defines it, or compile again", n, p.Kernels[i])
		}
		if k.Accepts != nil {
			if err := k.Accepts(n, p.Target); err != nil {
				return nil, fmt.Errorf("%s: kernel %q of the plan: %w", n, k.Name, err)
			}
		}
		e.kernels[n] = k
		for _, pk := range packings(k, n, p.Target) {
			t, err := loadPacked(w, n.In[pk.In], pk)
			if err != nil {
				return nil, fmt.Errorf("%s input %d: %w", n, pk.In, err)
			}
			e.packed[packKey{n, pk.In}] = t
		}
	}
	for i, v := range p.Graph.Inputs {
		e.inputNames = append(e.inputNames, v.Name)
		e.stateOf = append(e.stateOf, -1)
		for j, s := range p.States {
			if s.In == v.Name {
				e.stateOf[i] = j
			}
		}
	}
	for i, v := range p.Graph.Outputs {
		e.outputNames = append(e.outputNames, v.Name)
		e.nextOf = append(e.nextOf, -1)
		for j, s := range p.States {
			if s.Out == v.Name {
				e.nextOf[i] = j
			}
		}
	}
	// Workers beyond what Go runs at a time would hand processors to one another, and
	// cut the work finer than it needs to be.
	threads := runtime.GOMAXPROCS(0)
	if p.Target.Threads > 0 {
		threads = min(threads, p.Target.Threads)
	}
	e.pool = pool.New(threads)
	return e, nil
}

// loadPacked finds the packed form of v, or packs it now from another form.
func loadPacked(w backends.Weights, v *graph.Value, pk Packing) (*tensor.Tensor, error) {
	t, err := w.Weight(v.Name, pk.Layout)
	if err != nil {
		if len(v.Const.Data) != v.Const.DType.Bytes(v.Const.Len()) {
			return nil, err
		}
		if t, err = pk.Pack(v.Const); err != nil {
			return nil, err
		}
	}
	if t.DType != pk.DType || len(t.Data) != pk.DType.Bytes(product(pk.Shape)) {
		return nil, fmt.Errorf("constant %q in layout %s is %s, expected %v%v", v.Name, pk.Layout, t.TypeString(), pk.DType, pk.Shape)
	}
	return t, nil
}

// Unpack gives the row-major form of a stored weight, for compiling an
// artifact again. shape is that of the constant in the graph.
func (b *Backend) Unpack(p *backends.Plan, name, layout string, stored *tensor.Tensor) (*tensor.Tensor, error) {
	if layout == "" {
		return stored, nil
	}
	for i, n := range p.Graph.Nodes {
		for _, pk := range packings(b.kernels.named(n, p.Kernels[i]), n, p.Target) {
			if v := n.In[pk.In]; v.Name == name && pk.Layout == layout && pk.Unpack != nil {
				return pk.Unpack(stored, v.Const.Shape)
			}
		}
	}
	return nil, fmt.Errorf("weight %q: no kernel knows how to unpack layout %q", name, layout)
}

// executable is an opened plan.
type executable struct {
	plan    *backends.Plan
	ops     *ops.Table
	kernels map[*graph.Node]*Kernel
	packed  map[packKey]*tensor.Tensor
	tables  map[*graph.Value]io.ReaderAt
	pool    *pool.Pool
	// captures lists what the bodies of a node use of the graph around it.
	captures map[*graph.Node][]*graph.Value

	inputNames, outputNames []string
	stateOf, nextOf         []int // per input, per output: the state pair, or -1
}

type packKey struct {
	n  *graph.Node
	in int
}

// Plan implements backends.Executable.
func (e *executable) Plan() *backends.Plan { return e.plan }

// Close implements backends.Executable.
func (e *executable) Close() error {
	e.pool.Close()
	return nil
}
