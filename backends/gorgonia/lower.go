package gorgonia

import (
	"context"
	"fmt"
	"slices"

	gg "gorgonia.org/gorgonia"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// program is a graph lowered for one set of input shapes.
type program struct {
	shapes [][]int
	vm     gg.VM      // nil when nothing is left to compute
	inputs []*gg.Node // by position; nil: not used
	// outputs, by position: a constant, the number of an input, or what a Read
	// statement leaves in reads.
	outputs []result
	reads   []gg.Value
	used    int64 // when, on the session's clock
}

type result struct {
	constant *tensor.Tensor
	input    int // -1: not an input
}

// held is a value at these shapes: a constant, or a node of the expression graph.
type held struct {
	t     graph.Type
	value *tensor.Tensor
	node  *gg.Node
	input int // of the graph; -1: none
}

type lowering struct {
	e    *executable
	g    *gg.ExprGraph
	held map[*graph.Value]*held
	p    *program
	// weights counts the constants made variables; salt makes other names of all
	// variables, see hashes.
	weights, salt int
}

// lower builds the expression graph for inputs of the given shapes. Gorgonia
// panics on some errors of construction; they end here.
func (e *executable) lower(shapes [][]int) (p *program, err error) {
	defer func() {
		if v := recover(); v != nil {
			p, err = nil, fmt.Errorf("gorgonia: lowering graph %q: %v", e.plan.Graph.Name, v)
		}
	}()
	for salt := 0; ; salt++ {
		l := &lowering{e: e, g: gg.NewGraph(gg.WithGraphName(e.plan.Graph.Name)), held: map[*graph.Value]*held{}, salt: salt}
		if p, err = l.program(shapes); err != nil {
			return nil, err
		}
		if l.hashes() {
			return p, nil
		}
		if salt == maxSalt {
			return nil, fmt.Errorf("gorgonia: graph %q: nodes keep colliding in Gorgonia's 32-bit hashes; compile for the cpu backend", e.plan.Graph.Name)
		}
	}
}

const maxSalt = 8

// hashes reports whether every node has a hash of its own. Gorgonia's compiler
// merges nodes of equal 32-bit hash without comparing them; should two collide,
// the graph is built again under other names.
func (l *lowering) hashes() bool {
	seen := map[uint32]bool{}
	for _, n := range l.g.AllNodes() {
		if seen[n.Hashcode()] {
			return false
		}
		seen[n.Hashcode()] = true
	}
	return true
}

func (l *lowering) program(shapes [][]int) (*program, error) {
	g := l.e.plan.Graph
	l.p = &program{shapes: shapes, inputs: make([]*gg.Node, len(g.Inputs)), reads: make([]gg.Value, len(g.Outputs))}
	for i, v := range g.Inputs {
		l.held[v] = &held{t: concrete(v.Type.DType, shapes[i]), input: i}
	}
	for _, n := range g.Nodes {
		if err := l.node(n); err != nil {
			return nil, err
		}
	}
	for i, v := range g.Outputs {
		h := l.hold(v)
		r := result{constant: h.value, input: h.input}
		if h.value == nil && h.input < 0 {
			gg.Read(h.node, &l.p.reads[i])
		}
		l.p.outputs = append(l.p.outputs, r)
	}
	if len(l.g.AllNodes()) > 0 && l.computes() {
		l.p.vm = gg.NewTapeMachine(l.g)
	}
	return l.p, nil
}

// computes reports whether an output needs the machine.
func (l *lowering) computes() bool {
	return slices.ContainsFunc(l.p.outputs, func(r result) bool { return r.constant == nil && r.input < 0 })
}

func concrete(d tensor.DType, shape []int) graph.Type {
	s := make([]graph.Dim, len(shape))
	for i, n := range shape {
		s[i] = graph.D(int64(n))
	}
	return graph.T(d, s...)
}

// hold is the value at these shapes; nil for an omitted one.
func (l *lowering) hold(v *graph.Value) *held {
	if v == nil {
		return nil
	}
	if v.Const != nil && l.held[v] == nil {
		l.held[v] = &held{t: graph.TypeOf(v.Const), value: v.Const, input: -1}
	}
	return l.held[v]
}

// node lowers one node: away, when it is known at these shapes, or to an Op.
func (l *lowering) node(n *graph.Node) error {
	g, at := l.single(n)
	m := g.Nodes[0]
	if err := ops.InferNode(l.e.b.ops, m); err != nil {
		return err
	}
	row, err := l.e.b.ops.Of(m)
	if err != nil {
		return err
	}
	if len(at) == 0 && row.Traits&ops.Random == 0 {
		return l.fold(n, m)
	}
	if l.known(n, m) {
		return nil
	}
	ins := make([]*gg.Node, len(at))
	for i, h := range at {
		if ins[i], err = l.supply(h); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	if out, err := l.native(m, at); out != nil || err != nil {
		l.held[n.Out[0]] = &held{t: m.Out[0].Type, node: out, input: -1}
		return err
	}
	k, err := newKernel(l.e.b.cpu, g, l.threads(n))
	if err != nil {
		return err
	}
	if len(ins) == 0 {
		return fmt.Errorf("%s: expression graphs have no operators without inputs", n)
	}
	out, err := k.Apply(ins...)
	if err != nil {
		return err
	}
	next := 0
	for i, v := range n.Out {
		if v != nil {
			l.held[v] = &held{t: m.Out[i].Type, node: out[next], input: -1}
			next++
		}
	}
	return nil
}

// single is a graph with n alone, at the types of these shapes. Its inputs are
// what has to be computed: at lists where that comes from.
func (l *lowering) single(n *graph.Node) (g *graph.Graph, at []*held) {
	g = graph.New(n.Op.Name)
	in := make([]*graph.Value, len(n.In))
	for i, v := range n.In {
		switch h := l.hold(v); {
		case h == nil:
		case h.value != nil:
			in[i] = g.AddConst(fmt.Sprintf("c%d", i), h.value)
		default:
			in[i] = g.AddInput(fmt.Sprintf("in%d", i), h.t)
			at = append(at, h)
		}
	}
	m := g.Add(n.Op, n.Attrs, in, 0, "")
	m.From = n.From
	if m.From == "" && len(n.Out) > 0 && n.Out[0] != nil {
		m.From = n.Out[0].Name
	}
	for i, v := range n.Out {
		if v == nil {
			m.Out = append(m.Out, nil)
			continue
		}
		m.Out = append(m.Out, &graph.Value{Name: g.UniqueName(fmt.Sprintf("out%d", i)), Def: m})
	}
	return g, at
}

// fold computes a node of constants now.
func (l *lowering) fold(n, m *graph.Node) error {
	in := make([]*tensor.Tensor, len(m.In))
	for i, v := range m.In {
		if v != nil {
			in[i] = v.Const
		}
	}
	out, err := ops.Eval(context.Background(), l.e.b.ops, m, in)
	if err != nil {
		return err
	}
	for i, v := range n.Out {
		if v != nil {
			l.held[v] = &held{t: graph.TypeOf(out[i]), value: out[i], input: -1}
		}
	}
	return nil
}

// known makes constants of the outputs when inference tells their contents, as
// it does for shape arithmetic.
func (l *lowering) known(n, m *graph.Node) bool {
	var all []*held
	for _, v := range m.Out {
		if v == nil {
			all = append(all, nil)
			continue
		}
		shape, ok := v.Type.Static()
		if !ok || v.Known == nil || !v.Type.DType.IsInt() || product(shape) != len(v.Known) {
			return false
		}
		t := tensor.New(v.Type.DType, shape...)
		for i, d := range v.Known {
			c, ok := d.Const()
			if !ok {
				return false
			}
			t.SetIntAt(i, c)
		}
		all = append(all, &held{t: v.Type, value: t, input: -1})
	}
	for i, v := range n.Out {
		if v != nil {
			l.held[v] = all[i]
		}
	}
	return len(all) > 0
}

// supply is the expression graph's node of a value.
func (l *lowering) supply(h *held) (*gg.Node, error) {
	if h.node != nil {
		return h.node, nil
	}
	v := l.e.plan.Graph.Inputs[h.input]
	if err := hostable(&graph.Value{Name: v.Name, Type: h.t}); err != nil {
		return nil, fmt.Errorf("input %w", err)
	}
	h.node = l.variable(v.Name, h.t)
	l.p.inputs[h.input] = h.node
	return h.node, nil
}

func (l *lowering) variable(name string, t graph.Type, more ...gg.NodeConsOpt) *gg.Node {
	d := elementType(t)
	opts := append([]gg.NodeConsOpt{gg.WithName(fmt.Sprintf("%s#%d", name, l.salt))}, more...)
	if t.Rank() == 0 {
		return gg.NewScalar(l.g, d, opts...)
	}
	return gg.NewTensor(l.g, d, t.Rank(), append([]gg.NodeConsOpt{gg.WithShape(shapeOf(t)...)}, opts...)...)
}

// native lowers m to an operator of Gorgonia's, or returns nil. Inputs that are
// constants become variables that stay bound: Gorgonia's own constants are
// hashed by their printed form.
func (l *lowering) native(m *graph.Node, at []*held) (*gg.Node, error) {
	var types []graph.Type
	for _, v := range m.In {
		if v == nil {
			return nil, nil
		}
		types = append(types, v.Type)
	}
	r := nativeOf(m, types)
	if r == nil {
		return nil, nil
	}
	ins := make([]*gg.Node, r.arity)
	for i, v := range m.In[:r.arity] {
		if v.Const == nil { // single lists these in order

			ins[i], at = at[0].node, at[1:]
			continue
		}
		c, err := toValue(v.Const)
		if err != nil {
			return nil, fmt.Errorf("%s: input %d: %w", m, i, err)
		}
		l.weights++
		ins[i] = l.variable(fmt.Sprintf("weight %d", l.weights), v.Type, gg.WithValue(c))
	}
	out, err := r.build(m, ins)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	if want := shapeOf(m.Out[0].Type); !slices.Equal(dims(out.Shape()), dims(want)) || len(want) != out.Dims() {
		return l.reshape(m, out)
	}
	return out, nil
}

// reshape gives out, which has the right elements, the shape of m's result.
func (l *lowering) reshape(m *graph.Node, out *gg.Node) (*gg.Node, error) {
	have, err := nodeType(out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	g := graph.New("Reshape")
	b := ops.NewBuilder(l.e.b.ops, g)
	var to []int64
	for _, d := range shapeOf(m.Out[0].Type) {
		to = append(to, int64(d))
	}
	b.Op("Reshape", nil, g.AddInput("in", have), b.Ints(to...))
	if b.Err != nil {
		return nil, fmt.Errorf("%s: %w", m, b.Err)
	}
	k, err := newKernel(l.e.b.cpu, g, 1)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	outs, err := k.Apply(out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	return outs[0], nil
}

// threads: every kernel has workers of its own, so only those with much work
// get several.
func (l *lowering) threads(n *graph.Node) int {
	switch {
	case n.Op.Domain == "ssm", n.Op.Name == "MatMul", n.Op.Name == "Gemm", n.Op.Name == "Conv":
		return l.e.plan.Target.Threads
	}
	return 1
}

// run computes the outputs, in memory of their own.
func (p *program) run(g *graph.Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	if p.vm != nil {
		for i, n := range p.inputs {
			if n == nil {
				continue
			}
			v, err := toValue(in[i])
			if err == nil {
				err = gg.Let(n, v)
			}
			if err != nil {
				return nil, fmt.Errorf("input %q: %w", g.Inputs[i].Name, err)
			}
		}
		clear(p.reads)
		defer p.vm.Reset()
		if err := p.vm.RunAll(); err != nil {
			return nil, fmt.Errorf("gorgonia: graph %q: %w", g.Name, err)
		}
	}
	out := make([]*tensor.Tensor, len(p.outputs))
	for i, r := range p.outputs {
		switch {
		case r.constant != nil:
			out[i] = r.constant.Clone()
		case r.input >= 0:
			out[i] = in[r.input].Clone()
		default:
			t, err := fromValue(p.reads[i])
			if err != nil {
				return nil, fmt.Errorf("output %q: %w", g.Outputs[i].Name, err)
			}
			out[i] = t
		}
	}
	return out, nil
}

// close ends the machine. The kernels' threads end with the kernels.
func (p *program) close() error {
	if p.vm == nil {
		return nil
	}
	return p.vm.Close()
}

var _ backends.Backend = (*Backend)(nil)
