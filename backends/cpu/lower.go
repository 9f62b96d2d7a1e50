package cpu

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Bind is what a kernel's Lower sees of the program being made.
type Bind struct {
	b *binder
	n *graph.Node
	i int // step index
}

// In is the memory of input i, nil when the input is omitted.
func (b *Bind) In(i int) *Mem {
	if v := b.n.Input(i); v != nil {
		return b.b.of(v)
	}
	return nil
}

// Out is the memory of output i, nil when nobody asked for it. An output that
// became a view of the input has Skip true.
func (b *Bind) Out(i int) *Mem {
	if v := b.n.Output(i); v != nil {
		return b.b.mem[v]
	}
	return nil
}

// Skip reports that output i is a view and needs no writing.
func (b *Bind) Skip(i int) bool {
	out, in := b.Out(i), b.In(0)
	return out == nil || in != nil && out.root == in.root && b.n.Op.Domain == "" && (b.n.Op.Name == "Split" || b.n.Op.Name == "Slice" || b.n.Op.Name == "Gather")
}

// Shape is the shape of input i, or nil.
func (b *Bind) Shape(i int) []int {
	if m := b.In(i); m != nil {
		return m.Shape
	}
	return nil
}

// Ints gives the contents of integer input i when they are known now.
func (b *Bind) Ints(i int) ([]int64, bool) {
	v := b.n.Input(i)
	if v == nil {
		return nil, false
	}
	t := b.b.contents(v)
	if t == nil || !(t.DType.IsInt() || t.DType == tensor.Bool) {
		return nil, false
	}
	return t.AsInts(), true
}

// Const gives the contents of input i when they are known now, else nil.
func (b *Bind) Const(i int) *tensor.Tensor {
	if v := b.n.Input(i); v != nil {
		return b.b.contents(v)
	}
	return nil
}

// Packed is the packed form of constant input i, which Pack listed.
func (b *Bind) Packed(i int) *tensor.Tensor { return b.b.e.packed[packKey{b.n, i}] }

// Scratch is memory of n elements that only this step uses.
func (b *Bind) Scratch(d tensor.DType, n int) *Mem {
	m := denseMem(d, []int{n})
	r := &root{kind: inArena, size: m.span(), first: b.i, last: b.i}
	r.add(m)
	b.b.p.arena = append(b.b.p.arena, r)
	return m
}

// Pool is where parallel steps run.
func (b *Bind) Pool() *pool.Pool { return b.b.e.pool }

// Workspace returns what f made for this key in this program before, or makes
// it now: memory that several steps use in turn.
func (b *Bind) Workspace(key string, f func(workers int) any) any {
	w := b.b.p.workspaces[key]
	if w == nil {
		w = f(b.Pool().Workers())
		b.b.p.workspaces[key] = w
	}
	return w
}

// SessionWorkspace is Workspace shared by all programs of the session, for
// memory whose size does not depend on shapes.
func (b *Bind) SessionWorkspace(key string, f func(workers int) any) any {
	w := b.b.s.workspaces[key]
	if w == nil {
		w = f(b.Pool().Workers())
		b.b.s.workspaces[key] = w
	}
	return w
}

// task adapts a function to pool.Task.
type task func(worker, i int)

// Do implements pool.Task.
func (t task) Do(worker, i int) { t(worker, i) }

// Split cuts n items into pieces of at least grain and returns a step that
// runs f on every piece [lo,hi), in parallel when there is more than one.
func (b *Bind) Split(n, grain int, f func(lo, hi int)) Step {
	if n <= grain || b.Pool().Workers() == 1 {
		return func() error { f(0, n); return nil }
	}
	// A few pieces per worker even out the load.
	size := max(grain, (n+4*b.Pool().Workers()-1)/(4*b.Pool().Workers()))
	pieces := (n + size - 1) / size
	var t pool.Task = task(func(_, i int) { f(i*size, min(n, (i+1)*size)) })
	p := b.Pool()
	return func() error { p.Run(pieces, t); return nil }
}

// lower makes the steps.
func (b *binder) lower() error {
	for i := 0; i < len(b.nodes); i++ {
		n := b.nodes[i]
		if b.views[n] {
			continue
		}
		if end, run, name := b.tiled(i); run != nil {
			b.p.steps = append(b.p.steps, step{run, n, name, b.cost(b.nodes[i : end+1])})
			i = end
			continue
		}
		if b.dynamic(n) {
			run, name := b.heapStep(n, i)
			b.p.steps = append(b.p.steps, step{run, n, name, backends.Cost{}})
			continue
		}
		if k := b.e.kernels[n]; k != nil {
			run, err := k.Lower(&Bind{b, n, i}, n)
			if err == nil {
				b.p.steps = append(b.p.steps, step{run, n, k.Name, b.cost(b.nodes[i : i+1])})
				continue
			}
			if !errors.Is(err, ErrFallback) {
				return fmt.Errorf("%s: %w", n, err)
			}
		}
		for _, v := range append(slices.Clone(n.In), n.Out...) {
			if v != nil && b.mem[v] != nil && b.mem[v].Blocks {
				return &declined{n}
			}
		}
		b.p.steps = append(b.p.steps, step{b.evalStep(n), n, "", b.cost(b.nodes[i : i+1])})
	}
	return nil
}

// evalStep runs a node by definition and copies the results to their places.
func (b *binder) evalStep(n *graph.Node) Step {
	args := b.arguments(n)
	outs := make([]*Mem, len(n.Out))
	for i, v := range n.Out {
		if v != nil {
			outs[i] = b.mem[v]
		}
	}
	eval := b.evaluator(n)
	return func() error {
		res, err := eval(args())
		if err != nil {
			return err
		}
		for i, m := range outs {
			if m == nil {
				continue
			}
			if res[i].DType != m.DType || product(res[i].Shape) != m.Len() || len(res[i].Data) != m.span() {
				return fmt.Errorf("%s: output %d is %s, expected %v%v", n, i, res[i].TypeString(), m.DType, m.Shape)
			}
			copy(m.Raw, res[i].Data)
		}
		return nil
	}
}

// heapStep runs a node whose results are heap tensors, by a kernel's Whole or by
// definition.
func (b *binder) heapStep(n *graph.Node, i int) (run Step, name string) {
	args, p := b.arguments(n), b.p
	eval, name := b.evaluator(n), "heap"
	if k := b.e.kernels[n]; k != nil && k.Whole != nil {
		eval, name = k.Whole(&Bind{b, n, i}, n), k.Name
	}
	contains := false // what is in a sequence may be an argument
	for _, v := range n.Out {
		contains = contains || v != nil && b.typeOf(v).DType.Size() == 0
	}
	return func() error {
		in := args()
		for i, t := range in {
			if contains && t != nil && t.DType.Size() > 0 && p.heap[n.In[i]] != t {
				in[i] = t.Clone()
			}
		}
		res, err := eval(in)
		if err != nil {
			return err
		}
		for i, v := range n.Out {
			if v == nil {
				continue
			}
			p.heap[v] = res[i]
			for j, t := range in {
				// Eval may return an argument's memory; the arena's is reused.
				if t != nil && p.heap[n.In[j]] != t && res[i] != nil && overlap(res[i].Data, t.Data) {
					p.heap[v] = res[i].Clone()
					break
				}
			}
		}
		return nil
	}, name
}

// arguments makes a function that gathers the inputs of n as tensors.
func (b *binder) arguments(n *graph.Node) func() []*tensor.Tensor {
	get := make([]func() *tensor.Tensor, len(n.In))
	for i, v := range n.In {
		if v != nil {
			get[i] = b.reader(v)
		}
	}
	return func() []*tensor.Tensor {
		in := make([]*tensor.Tensor, len(get))
		for i, f := range get {
			if f != nil {
				in[i] = f()
			}
		}
		return in
	}
}

// reader makes a function that gives a value as a tensor while the program runs.
func (b *binder) reader(v *graph.Value) func() *tensor.Tensor {
	if t := b.contents(v); t != nil {
		return func() *tensor.Tensor { return t }
	}
	if b.dyn[v] {
		heap := b.p.heap
		return func() *tensor.Tensor { return heap[v] }
	}
	m := b.of(v)
	return func() *tensor.Tensor {
		if m.Dense() {
			return &tensor.Tensor{DType: m.DType, Shape: m.Shape, Data: m.Raw}
		}
		t := tensor.New(m.DType, m.Shape...)
		copyDense(t.Data, m)
		return t
	}
}

// evaluator makes a function that evaluates n by its definition.
func (b *binder) evaluator(n *graph.Node) func([]*tensor.Tensor) ([]*tensor.Tensor, error) {
	table, s := b.e.ops, b.s
	captured := map[*graph.Value]func() *tensor.Tensor{}
	for _, v := range b.e.captures[n] {
		captured[v] = b.reader(v)
	}
	return func(in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		outer := make(map[*graph.Value]*tensor.Tensor, len(captured))
		for v, f := range captured {
			outer[v] = f()
		}
		ctx := s.ctx
		if ctx == nil {
			ctx = context.Background()
		}
		return ops.EvalIn(ctx, table, n, in, outer)
	}
}

// captures lists, for nodes with bodies, the values of g that the bodies use.
func captures(g *graph.Graph) map[*graph.Node][]*graph.Value {
	inputs := map[*graph.Value]bool{}
	for _, v := range g.Inputs {
		inputs[v] = true
	}
	out := map[*graph.Node][]*graph.Value{}
	for _, n := range g.Nodes {
		seen := map[*graph.Value]bool{}
		add := func(v *graph.Value) {
			if v != nil && !seen[v] && (inputs[v] || v.Def != nil && v.Def.Graph == g) {
				seen[v] = true
				out[n] = append(out[n], v)
			}
		}
		for _, body := range n.Bodies {
			for _, v := range body.Outputs {
				add(v)
			}
			body.Walk(func(m *graph.Node) {
				for _, v := range m.In {
					add(v)
				}
				for _, c := range m.Bodies {
					for _, v := range c.Outputs {
						add(v)
					}
				}
			})
		}
	}
	return out
}

// Option is a setting of the target, "" when it is not given; the kernel lists it in Settings.
func (b *Bind) Option(name string) string { return b.b.e.plan.Target.Options[name] }
