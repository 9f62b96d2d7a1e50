package cuda

import (
	"context"
	"errors"
	"fmt"

	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Bind is what a kernel's Lower sees of the program being made.
type Bind struct {
	b    *binder
	n    *graph.Node
	i    int // step index
	name string
}

// In is the memory of input i as it lies, nil when it is omitted.
func (b *Bind) In(i int) (*Mem, error) {
	v := b.n.Input(i)
	if v == nil {
		return nil, nil
	}
	return b.b.of(v)
}

// Dense is the memory of input i without gaps, a copy if need be.
func (b *Bind) Dense(i int) (*Mem, error) {
	m, err := b.In(i)
	if err != nil || m == nil {
		return m, err
	}
	return b.dense(m)
}

// Steps is the memory of a [B,L,...] input that is dense behind its second axis.
func (b *Bind) Steps(i int) (*Mem, error) {
	m, err := b.In(i)
	if err != nil || m == nil || len(m.Shape) >= 2 && m.denseFrom(2) {
		return m, err
	}
	return b.dense(m)
}

// As is the memory of input i without gaps, stored as d: constants once for all sessions, others by a copy.
func (b *Bind) As(i int, d tensor.DType) (*Mem, error) {
	v := b.n.Input(i)
	if v == nil {
		return nil, nil
	}
	if t := b.b.contents(v); t != nil && isReal(t.DType) {
		return b.b.constant(v, t, d, false)
	}
	m, err := b.In(i)
	if err != nil || m.DType == d {
		return b.Dense(i)
	}
	out := b.Scratch(d, m.Shape...)
	return out, b.copy(out, m)
}

// Out is the memory of output i, nil when nobody asked for it.
func (b *Bind) Out(i int) *Mem {
	if v := b.n.Output(i); v != nil {
		return b.b.mem[v]
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

// Scratch is memory that only this step uses.
func (b *Bind) Scratch(d tensor.DType, shape ...int) *Mem { return b.b.arenaMem(d, shape, b.i) }

// dense is m without gaps. A copy is kept for the readers that follow.
func (b *Bind) dense(m *Mem) (*Mem, error) {
	if m.Dense() {
		return m, nil
	}
	if c := b.b.dense[m]; c != nil {
		c.root.last = max(c.root.last, b.i)
		return c, nil
	}
	c := b.Scratch(m.DType, m.Shape...)
	if err := b.copy(c, m); err != nil {
		return nil, err
	}
	b.b.dense[m] = c
	return c, nil
}

// copy submits a copy between views of one shape.
func (b *Bind) copy(dst, src *Mem) error {
	if dst.Len() == 0 {
		return nil
	}
	l, err := copyLaunch(b.b.e.dev, dst, src)
	if err != nil {
		return err
	}
	b.submit("copy", l)
	return nil
}

// Launch submits a kernel of a unit. Its parameters follow its struct.
func (b *Bind) Launch(unit, name string, blocks, threads, shared int, p *params) error {
	if blocks <= 0 || blocks > 1<<31-1 {
		return ErrFallback
	}
	f, err := b.b.e.dev.function(unit, name, shared)
	if err != nil {
		return err
	}
	b.submit(b.name, &launch{f, blocks, threads, shared, p})
	return nil
}

func (b *Bind) submit(name string, l *launch) {
	b.b.p.steps = append(b.b.p.steps, step{node: b.n, kernel: name, launch: l})
}

// Do submits something other than a kernel; place runs once the addresses are known.
func (b *Bind) Do(name string, place func() error, run func(*session) error) {
	b.b.p.steps = append(b.b.p.steps, step{node: b.n, kernel: name, place: place, run: run})
}

// Option and device of the lowering.
func (b *Bind) set() settings { return b.b.e.set }
func (b *Bind) dev() *device  { return b.b.e.dev }

// outputs makes the copies of results to where the caller and the next run expect them.
func (b *binder) outputs() error {
	last := len(b.nodes)
	at := &Bind{b: b, i: last}
	for i, v := range b.e.plan.Graph.Outputs {
		j := b.e.nextOf[i]
		if b.dyn[v] {
			b.p.out = append(b.p.out, nil)
			continue
		}
		m, err := b.of(v)
		if err != nil {
			return err
		}
		if m.DType != v.Type.DType || !m.Dense() {
			dst := at.Scratch(v.Type.DType, m.Shape...)
			if err := at.copy(dst, m); err != nil {
				return err
			}
			m = dst
		}
		m.root.last = forever
		if m.root.kind == inArena {
			b.p.out = append(b.p.out, m)
		} else if j >= 0 && m.root.kind == inState && m.root.index == j && m.whole() {
			b.p.out = append(b.p.out, m)
			continue // it is in its place
		} else { // a constant, an input state: the caller's copy must not change with it
			dst := at.Scratch(m.DType, m.Shape...)
			dst.root.last = forever
			if err := at.copy(dst, m); err != nil {
				return err
			}
			m = dst
			b.p.out = append(b.p.out, m)
		}
		if j >= 0 {
			b.p.next[j] = m
		}
	}
	// New states move to their places last, when all have been computed.
	for j, m := range b.p.next {
		if m == nil {
			continue
		}
		n := m.Bytes()
		at.Do("state", nil, func(s *session) error { return s.stream.Copy(s.states[j].cur, m.addr(), n) })
	}
	return nil
}

// evalStep runs a node by definition on the host and copies the results to their places.
func (b *binder) evalStep(i int, n *graph.Node) error {
	args, err := b.arguments(i, n)
	if err != nil {
		return err
	}
	at := &Bind{b, n, i, "host"}
	type result struct{ m *Mem }
	outs := make([]result, len(n.Out))
	for j, v := range n.Out {
		if v != nil && b.mem[v] != nil {
			outs[j].m = b.mem[v]
		}
	}
	eval, err := b.evaluator(i, n)
	if err != nil {
		return err
	}
	b.p.onHost = true
	at.Do("host", nil, func(s *session) error {
		in, err := args(s)
		if err != nil {
			return err
		}
		res, err := eval(s, in)
		if err != nil {
			return err
		}
		for j, o := range outs {
			if o.m == nil {
				continue
			}
			t := res[j]
			if t.Len() != o.m.Len() || t.DType != n.Out[j].Type.DType {
				return fmt.Errorf("%s: output %d is %s, expected %v%v", n, j, t.TypeString(), n.Out[j].Type.DType, o.m.Shape)
			}
			if err := s.stream.ToDevice(o.m.addr(), stored(t, o.m.DType)); err != nil {
				return err
			}
		}
		return s.stream.Sync() // the tensors go away
	})
	return nil
}

// heapStep runs a node by definition; its results are tensors of the host.
func (b *binder) heapStep(i int, n *graph.Node) error {
	args, err := b.arguments(i, n)
	if err != nil {
		return err
	}
	eval, err := b.evaluator(i, n)
	if err != nil {
		return err
	}
	p := b.p
	p.onHost = true
	(&Bind{b, n, i, "host"}).Do("host", nil, func(s *session) error {
		in, err := args(s)
		if err != nil {
			return err
		}
		res, err := eval(s, in)
		if err != nil {
			return err
		}
		for j, v := range n.Out {
			if v != nil {
				p.heap[v] = res[j]
			}
		}
		return nil
	})
	return nil
}

// stored is t as the bytes of type d.
func stored(t *tensor.Tensor, d tensor.DType) []byte {
	if t.DType == d {
		return t.Data
	}
	c := tensor.New(d, t.Shape...)
	for i := range t.Len() {
		c.SetAt(i, t.At(i))
	}
	return c.Data
}

type reader func(*session) (*tensor.Tensor, error)

// arguments makes a function that gathers the inputs of n as tensors of the host.
func (b *binder) arguments(i int, n *graph.Node) (func(*session) ([]*tensor.Tensor, error), error) {
	get := make([]reader, len(n.In))
	for j, v := range n.In {
		if v == nil {
			continue
		}
		var err error
		if get[j], err = b.reader(i, v); err != nil {
			return nil, err
		}
	}
	return func(s *session) ([]*tensor.Tensor, error) {
		in := make([]*tensor.Tensor, len(get))
		for j, f := range get {
			if f == nil {
				continue
			}
			t, err := f(s)
			if err != nil {
				return nil, err
			}
			in[j] = t
		}
		return in, nil
	}, nil
}

// reader makes a function that gives a value as a tensor while the program runs.
func (b *binder) reader(i int, v *graph.Value) (reader, error) {
	if t := b.contents(v); t != nil {
		if t.DType.Size() > 0 && t.DType != tensor.String && len(t.Data) != t.DType.Bytes(t.Len()) {
			w, err := b.e.host(v, t)
			if err != nil {
				return nil, err
			}
			t = w.Reshaped(t.Shape...)
		}
		return func(*session) (*tensor.Tensor, error) { return t, nil }, nil
	}
	if b.dyn[v] {
		heap := b.p.heap
		return func(*session) (*tensor.Tensor, error) { return heap[v], nil }, nil
	}
	m, err := b.of(v)
	if err != nil {
		return nil, err
	}
	if m, err = (&Bind{b, v.Def, i, "copy"}).dense(m); err != nil {
		return nil, err
	}
	d := v.Type.DType
	return func(s *session) (*tensor.Tensor, error) {
		t := tensor.New(m.DType, m.Shape...)
		if err := s.stream.ToHost(t.Data, m.addr()); err != nil {
			return nil, err
		}
		if err := s.stream.Sync(); err != nil {
			return nil, err
		}
		if m.DType != d {
			c := tensor.New(d, m.Shape...)
			copy(c.Data, stored(t, d))
			t = c
		}
		return t, nil
	}, nil
}

// evaluator makes a function that evaluates n by its definition.
func (b *binder) evaluator(i int, n *graph.Node) (func(*session, []*tensor.Tensor) ([]*tensor.Tensor, error), error) {
	captured := map[*graph.Value]reader{}
	for _, v := range b.e.captures[n] {
		r, err := b.reader(i, v)
		if err != nil {
			return nil, err
		}
		captured[v] = r
	}
	table := b.e.ops
	return func(s *session, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		outer := make(map[*graph.Value]*tensor.Tensor, len(captured))
		for v, f := range captured {
			t, err := f(s)
			if err != nil {
				return nil, err
			}
			outer[v] = t
		}
		ctx := s.ctx
		if ctx == nil {
			ctx = context.Background()
		}
		return ops.EvalIn(ctx, table, n, in, outer)
	}, nil
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

func asDriver(err error, e **driver.Error) bool { return errors.As(err, e) }
