package onnxgo

import (
	"context"
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/gorgonia/dense"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
	"github.com/ssdc-go/ssdc/std"
)

// maxPrograms is how many sets of input shapes a graph remembers.
const maxPrograms = 8

// runner is what a Graph keeps from run to run.
type runner struct {
	count    int
	set      *plugin.Set
	extra    []*Node // asked for besides the sinks
	programs []*program
	last     map[*Node]*tensor.Tensor // the inputs of the last run
	err      error                    // of a GetTensor since then
}

// program is the model compiled for one signature.
type program struct {
	signature string
	model     *model.Model
	session   *model.Session
	inputs    []string // names in the compiled graph, by position
	wanted    []*Node
	outputs   []string
}

func (r *runner) reset() {
	for _, p := range r.programs {
		_ = p.model.Close() // in memory: there is nothing to lose
	}
	*r = runner{set: r.set}
}

// Close ends the threads of what was compiled. The graph may run again: it
// compiles anew.
func (g *Graph) Close() error {
	g.run.reset()
	return nil
}

// Run implements backend.ComputationBackend: it computes the model's outputs
// from the tensors that were set, compiling the model for their shapes first
// if need be.
func (g *Graph) Run() error { return g.RunContext(context.Background()) }

// RunContext is Run with a context.
func (g *Graph) RunContext(ctx context.Context) error {
	if g.err != nil {
		return g.err
	}
	if len(g.ops) == 0 {
		return fmt.Errorf("the graph has no operations: unmarshal a model into it first")
	}
	g.run.err = nil
	return g.compute(ctx, nil)
}

// alsoCompute adds a value to what runs compute, and computes it from the
// inputs of the last run.
func (g *Graph) alsoCompute(n *Node) error {
	before := g.run.extra
	g.run.extra = append(before[:len(before):len(before)], n)
	err := g.compute(context.Background(), g.run.last)
	if err != nil {
		g.run.extra = before
	}
	return err
}

// compute runs the model on the given tensors, or, when there are none, on
// those that the nodes hold.
func (g *Graph) compute(ctx context.Context, given map[*Node]*tensor.Tensor) error {
	wanted := append(g.sinks(), g.run.extra...)
	if len(wanted) == 0 {
		return fmt.Errorf("every value of the graph is an input of an operation: some of them depend on each other")
	}
	l := g.leaves()
	in, args, err := l.arguments(wanted, given)
	if err != nil {
		return err
	}
	p, err := g.program(ctx, l, signature(args, wanted), wanted)
	if err != nil {
		return err
	}
	if len(p.inputs) != len(args) {
		return fmt.Errorf("the compiled model takes %d inputs, the graph has %d", len(p.inputs), len(args))
	}
	feeds := map[string]*tensor.Tensor{}
	for i, name := range p.inputs {
		feeds[name] = args[i]
	}
	out, err := p.session.Run(ctx, feeds)
	if err != nil {
		return err
	}
	if given == nil {
		g.run.count++
		g.run.last = map[*Node]*tensor.Tensor{}
		for i, n := range in {
			g.run.last[n] = args[i]
		}
	}
	for i, n := range p.wanted {
		// The memory is the session's: the next run overwrites it.
		t, err := dense.To(out[p.outputs[i]].Clone())
		if err != nil {
			return fmt.Errorf("output %q: %w", n.name, err)
		}
		n.tensor, n.computed = t, g.run.count
	}
	return nil
}

// arguments lists the caller's inputs in the order in which build meets them.
func (l *leaves) arguments(wanted []*Node, given map[*Node]*tensor.Tensor) ([]*Node, []*tensor.Tensor, error) {
	var in []*Node
	var args []*tensor.Tensor
	seen := map[*Node]bool{}
	var see func(n *Node) error
	see = func(n *Node) error {
		if n == nil || seen[n] {
			return nil
		}
		seen[n] = true
		if n.def != nil {
			for _, m := range n.def.in {
				if err := see(m); err != nil {
					return err
				}
			}
			return nil
		}
		if n.tensor == nil && !n.given {
			return nil // omitted, or build says that it is missing
		}
		src, constant, err := l.find(n)
		if err != nil || constant {
			return err
		}
		t := given[src]
		if t == nil {
			if t, err = dense.From(src.tensor); err != nil {
				return fmt.Errorf("input %q: %w", n.name, err)
			}
		}
		in, args = append(in, src), append(args, t)
		return nil
	}
	for _, n := range wanted {
		if err := see(n); err != nil {
			return nil, nil, err
		}
	}
	return in, args, nil
}

// program finds or compiles the program for a signature.
func (g *Graph) program(ctx context.Context, l *leaves, signature string, wanted []*Node) (*program, error) {
	for i, p := range g.run.programs {
		if p.signature == signature { // the last one is the youngest
			g.run.programs = append(slices.Delete(g.run.programs, i, i+1), p)
			return p, nil
		}
	}
	p, err := g.compile(ctx, l, wanted)
	if err != nil {
		return nil, err
	}
	p.signature = signature
	if len(g.run.programs) == maxPrograms {
		_ = g.run.programs[0].model.Close()
		g.run.programs = slices.Delete(g.run.programs, 0, 1)
	}
	g.run.programs = append(g.run.programs, p)
	return p, nil
}

func (g *Graph) compile(ctx context.Context, l *leaves, wanted []*Node) (*program, error) {
	if g.run.set == nil {
		set, err := plugin.Join(append([]plugin.Plugin{std.Plugin}, g.opt.plugins...)...)
		if err != nil {
			return nil, err
		}
		g.run.set = set
	}
	set := g.run.set
	b := &build{g: g, leaves: l, table: set.Registry.Table, out: graph.New("onnx-go"), values: map[*Node]*graph.Value{}, busy: map[*operation]bool{}}
	for _, n := range wanted {
		v, err := b.value(n)
		if err != nil {
			return nil, err
		}
		b.out.AddOutput(v)
	}
	target := backends.Target{Name: g.opt.target, Threads: g.opt.threads}
	if target.Name == "" {
		target.Name = "cpu"
	}
	b.out.Sweep() // Constant nodes, whose values are in the graph as such
	if !g.opt.plain {
		target.Level = 1
		if err := set.Pipeline.Run(passes.NewContext(ctx, b.table), b.out); err != nil {
			return nil, err
		}
	}
	backend, err := set.Registry.Backend(target.Name)
	if err != nil {
		return nil, err
	}
	plan, err := backend.Compile(b.out, target)
	if err != nil {
		return nil, err
	}
	p := &program{wanted: wanted}
	for _, v := range plan.Graph.Inputs {
		p.inputs = append(p.inputs, v.Name)
	}
	for _, v := range plan.Graph.Outputs {
		p.outputs = append(p.outputs, v.Name)
	}
	if p.model, err = set.Registry.Load(plan, nil, model.Options{}); err != nil {
		return nil, err
	}
	p.session, err = p.model.NewSession()
	return p, err
}

// Plan is what the last Run ran: the compiled graph, with its fused operators.
// It is nil before the first.
func (g *Graph) Plan() *backends.Plan {
	if len(g.run.programs) == 0 {
		return nil
	}
	return g.run.programs[len(g.run.programs)-1].model.Plan
}
