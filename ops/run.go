package ops

import (
	"context"
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Run evaluates g with the rows' Eval functions, one node at a time: the
// definition of what a graph computes. in follows g.Inputs.
func Run(ctx context.Context, t *Table, g *graph.Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	r := &runner{ctx: ctx, table: t}
	return r.graph(g, nil, in)
}

// Eval computes one node on the given inputs. Nodes with bodies that capture
// outer values need EvalIn or Run.
func Eval(ctx context.Context, t *Table, n *graph.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	return EvalIn(ctx, t, n, in, nil)
}

// EvalIn computes one node on the given inputs; outer holds the values around
// it that its bodies capture.
func EvalIn(ctx context.Context, t *Table, n *graph.Node, in []*tensor.Tensor, outer map[*graph.Value]*tensor.Tensor) ([]*tensor.Tensor, error) {
	r := &runner{ctx: ctx, table: t}
	return r.node(n, &scope{vals: outer}, in)
}

type runner struct {
	ctx   context.Context
	table *Table
}

// scope holds the values of one activation of a graph.
type scope struct {
	parent *scope
	vals   map[*graph.Value]*tensor.Tensor
}

func (s *scope) lookup(v *graph.Value) (*tensor.Tensor, error) {
	if v == nil {
		return nil, nil
	}
	if v.Const != nil {
		return v.Const, nil
	}
	for ; s != nil; s = s.parent {
		if t, ok := s.vals[v]; ok {
			return t, nil
		}
	}
	return nil, fmt.Errorf("value %q has not been computed", v.Name)
}

func (r *runner) graph(g *graph.Graph, parent *scope, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	if len(in) != len(g.Inputs) {
		return nil, fmt.Errorf("graph %q takes %d inputs, got %d", g.Name, len(g.Inputs), len(in))
	}
	s := &scope{parent: parent, vals: make(map[*graph.Value]*tensor.Tensor, len(g.Nodes))}
	for i, v := range g.Inputs {
		s.vals[v] = in[i]
	}
	drop := lastUses(g)
	for i, n := range g.Nodes {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		args := make([]*tensor.Tensor, len(n.In))
		for j, v := range n.In {
			var err error
			if args[j], err = s.lookup(v); err != nil {
				return nil, fmt.Errorf("%s input %d: %w", n, j, err)
			}
		}
		out, err := r.node(n, s, args)
		if err != nil {
			return nil, err
		}
		for j, v := range n.Out {
			if v != nil {
				s.vals[v] = out[j]
			}
		}
		for _, v := range drop[i] {
			delete(s.vals, v) // so that memory follows lifetimes
		}
	}
	out := make([]*tensor.Tensor, len(g.Outputs))
	for i, v := range g.Outputs {
		var err error
		if out[i], err = s.lookup(v); err != nil {
			return nil, fmt.Errorf("graph %q output %d: %w", g.Name, i, err)
		}
	}
	return out, nil
}

// lastUses lists, per node index of g, the values that no later node needs.
func lastUses(g *graph.Graph) [][]*graph.Value {
	last := map[*graph.Value]int{}
	var see func(i int, n *graph.Node)
	see = func(i int, n *graph.Node) {
		for _, v := range n.In {
			if v != nil {
				last[v] = i
			}
		}
		for _, b := range n.Bodies {
			for _, v := range b.Outputs {
				last[v] = i
			}
			for _, m := range b.Nodes {
				see(i, m)
			}
		}
	}
	for i, n := range g.Nodes {
		see(i, n)
	}
	drop := make([][]*graph.Value, len(g.Nodes))
	for i, n := range g.Nodes {
		for _, v := range n.Out {
			if v != nil && !v.IsOutput() {
				if j, ok := last[v]; ok {
					drop[j] = append(drop[j], v)
				} else {
					drop[i] = append(drop[i], v)
				}
			}
		}
	}
	return drop
}

func (r *runner) node(n *graph.Node, s *scope, in []*tensor.Tensor) (out []*tensor.Tensor, err error) {
	op, err := r.table.Of(n)
	if err != nil {
		return nil, err
	}
	if op.Eval == nil {
		return nil, fmt.Errorf("%s: operator has no reference implementation", n)
	}
	// Eval functions index memory by the shapes they are given. A model whose
	// run-time shapes contradict each other must end as an error, not a crash.
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("%s: cannot be evaluated on %s: %s", n, describe(in), Reason(p))
		}
	}()
	out, err = op.Eval(&Call{
		Ctx: r.ctx, Node: n, In: in,
		Body: func(i int, in ...*tensor.Tensor) ([]*tensor.Tensor, error) {
			return r.graph(n.Bodies[i].Graph, s, in)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n, err)
	}
	if len(out) < len(n.Out) {
		return nil, fmt.Errorf("%s: computed %d outputs, want %d", n, len(out), len(n.Out))
	}
	return out, nil
}

func describe(in []*tensor.Tensor) string {
	s := "("
	for i, t := range in {
		if i > 0 {
			s += ", "
		}
		if t == nil {
			s += "-"
		} else {
			s += t.TypeString()
		}
	}
	return s + ")"
}
