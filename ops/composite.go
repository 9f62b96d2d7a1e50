package ops

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// ByDecomposition completes rows whose meaning is their Decompose: Infer and
// Eval work on what it builds from the operators of table. Such rows carry the
// trait Composite, and passes/expand writes them out before anything else
// looks at the graph, so that one definition serves every backend. A Decompose
// that returns no values leaves a node as it is; the row then has an Infer and an
// Eval of its own for it.
func ByDecomposition(table func() *Table, rows ...*Op) []*Op {
	for _, r := range rows {
		r.Traits |= Composite
		r.Infer = func(c *Infer) error { return inferParts(c, table(), r) }
		r.Eval = func(c *Call) ([]*tensor.Tensor, error) { return evalParts(c, table(), r) }
	}
	return rows
}

// parts decomposes a copy of n, on stand-ins for its inputs, in a graph of its own.
func parts(t *Table, row *Op, n *graph.Node, in []*graph.Value, g *graph.Graph) ([]*graph.Value, error) {
	m := &graph.Node{Op: n.Op, Attrs: n.Attrs, From: n.From, Graph: g, In: in, Out: n.Out}
	b := NewBuilder(t, g)
	for _, v := range n.Out {
		if v != nil {
			// Fresh lengths are named after values: these names are no real value's.
			b.From = v.Name + "/" + n.Op.Name
			break
		}
	}
	out, err := row.Decompose(b, m)
	if err == nil {
		err = b.Err
	}
	if err != nil {
		return nil, err
	}
	if len(out) < len(n.Out) {
		return nil, fmt.Errorf("has %d outputs, the node asks for %d", len(out), len(n.Out))
	}
	return out, nil
}

func inferParts(c *Infer, t *Table, row *Op) error {
	g := graph.New(row.ID.String())
	in := make([]*graph.Value, len(c.Node.In))
	for i, v := range c.Node.In {
		switch {
		case v == nil:
		case v.Const != nil:
			in[i] = g.AddConst(v.Name, v.Const)
		default:
			in[i] = g.AddInput(v.Name, v.Type)
			in[i].Known = v.Known
		}
	}
	out, err := parts(t, row, c.Node, in, g)
	if err != nil {
		return err
	}
	for i := range c.Node.Out {
		if out[i] != nil {
			known, _ := KnownOf(out[i])
			c.OutKnown(i, out[i].Type, known)
		}
	}
	return nil
}

func evalParts(c *Call, t *Table, row *Op) ([]*tensor.Tensor, error) {
	g := graph.New(row.ID.String())
	in := make([]*graph.Value, len(c.In))
	for i, x := range c.In {
		if x != nil {
			in[i] = g.AddConst("in", x) // contents and all: a decomposition may depend on lengths
		}
	}
	out, err := parts(t, row, c.Node, in, g)
	if err != nil {
		return nil, err
	}
	for i, v := range c.Node.Out {
		if v != nil && out[i] != nil {
			g.AddOutput(out[i])
		}
	}
	if err := g.Sort(); err != nil {
		return nil, err
	}
	got, err := Run(c.Ctx, t, g, nil)
	if err != nil {
		return nil, err
	}
	res, next := make([]*tensor.Tensor, len(c.Node.Out)), 0
	for i, v := range c.Node.Out {
		if v != nil && out[i] != nil {
			res[i], next = got[next], next+1
		}
	}
	return res, nil
}

// Expand writes n with the operators of its decomposition, in n's graph, and
// makes every consumer use the new values. It reports false when the node stands
// for itself. The graph needs sorting and typing afterwards.
func Expand(t *Table, row *Op, n *graph.Node) (bool, error) {
	b := NewBuilder(t, n.Graph)
	b.From = n.From
	out, err := row.Decompose(b, n)
	if err == nil {
		err = b.Err
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", n, err)
	}
	if out == nil {
		return false, nil
	}
	for i, v := range n.Out {
		if v == nil || v.Unused() {
			continue
		}
		if i >= len(out) || out[i] == nil {
			return false, fmt.Errorf("%s: output %d is not computed", n, i)
		}
		w := out[i]
		if v.IsOutput() {
			if w.Def == nil || w.IsOutput() {
				w = b.Op("Identity", nil, w)
				if b.Err != nil {
					return false, b.Err
				}
			}
			v.Name, w.Name = w.Name, v.Name // outputs of the model keep their names
		}
		v.ReplaceWith(w)
	}
	return true, nil
}
