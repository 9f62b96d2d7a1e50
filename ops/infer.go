package ops

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Infer is what an operator's Infer function sees and fills.
type Infer struct {
	Node  *graph.Node
	Table *Table
}

// MaxKnown is the largest tensor whose symbolic contents are tracked.
const MaxKnown = 64

// Type returns the type of input i; the zero Type when it is omitted.
func (c *Infer) Type(i int) graph.Type {
	if v := c.Node.Input(i); v != nil {
		return v.Type
	}
	return graph.Type{}
}

// Has reports whether input i is given.
func (c *Infer) Has(i int) bool { return c.Node.Input(i) != nil }

// Const returns the contents of input i when it is a constant, else nil.
func (c *Infer) Const(i int) *tensor.Tensor {
	if v := c.Node.Input(i); v != nil {
		return v.Const
	}
	return nil
}

// Known returns the contents of integer input i as dimensions, constant or
// symbolic; ok is false when they are not known.
func (c *Infer) Known(i int) (dims []graph.Dim, ok bool) { return KnownOf(c.Node.Input(i)) }

// KnownOf returns the contents of a small integer or bool value as dimensions.
func KnownOf(v *graph.Value) ([]graph.Dim, bool) {
	if v == nil {
		return nil, false
	}
	if t := v.Const; t != nil {
		if !(t.DType.IsInt() || t.DType == tensor.Bool) || t.Len() > MaxKnown {
			return nil, false
		}
		return graph.Ds(t.AsInts()...), true
	}
	return v.Known, v.Known != nil
}

// Ints returns the contents of integer input i when all of them are numbers.
func (c *Infer) Ints(i int) ([]int64, bool) {
	if t := c.Const(i); t != nil && t.DType.IsInt() {
		return t.AsInts(), true // of any size
	}
	dims, ok := c.Known(i)
	if !ok {
		return nil, false
	}
	out := make([]int64, len(dims))
	for j, d := range dims {
		if out[j], ok = d.Const(); !ok {
			return nil, false
		}
	}
	return out, true
}

// Out sets the type of output i, if somebody asked for it. A second inference
// that knows more replaces what the first knew.
func (c *Infer) Out(i int, t graph.Type) {
	if v := c.Node.Output(i); v != nil {
		v.Type = t
	}
}

// OutKnown sets the type and the symbolic contents of output i.
func (c *Infer) OutKnown(i int, t graph.Type, dims []graph.Dim) {
	if v := c.Node.Output(i); v != nil {
		v.Type, v.Known = t, nil
		if dims != nil && len(dims) <= MaxKnown {
			v.Known = dims
		}
	}
}

// Fresh is a new unknown length: axis a of output i, which only running tells.
func (c *Infer) Fresh(i, a int) graph.Dim {
	if c.Node.Output(i) == nil {
		return graph.Sym("?") // of an output that nobody asked for
	}
	return graph.Sym(fmt.Sprintf("?%s.%d", c.Node.Output(i).Name, a))
}

// Body infers body i, after the caller has set the types of its inputs.
func (c *Infer) Body(i int) error { return InferGraph(c.Table, c.Node.Bodies[i].Graph) }

// Errorf makes an error; the caller of Infer adds the node.
func (c *Infer) Errorf(format string, a ...any) error { return fmt.Errorf(format, a...) }

// InferNode sets the output types of one node from its input types.
func InferNode(t *Table, n *graph.Node) error {
	op, err := t.Of(n)
	if err != nil {
		return err
	}
	if err := checkArity(op, n); err != nil {
		return fmt.Errorf("%s: %w", n, err)
	}
	if err := onlyTensors(op, n); err != nil {
		return fmt.Errorf("%s: %w", n, err)
	}
	if err := op.Infer(&Infer{Node: n, Table: t}); err != nil {
		return fmt.Errorf("%s: %w", n, err)
	}
	return nil
}

// onlyTensors keeps sequences and maps from operators that would take them for scalars.
func onlyTensors(op *Op, n *graph.Node) error {
	if op.Traits&Containers != 0 || len(n.Bodies) > 0 {
		return nil
	}
	for i, v := range n.In {
		if v != nil && v.Type.DType.IsContainer() {
			return fmt.Errorf("input %d is %s, want a tensor", i, v.Type)
		}
	}
	return nil
}

func checkArity(op *Op, n *graph.Node) error {
	if op.In == nil && len(n.In) > 0 && op.Out == nil {
		return nil // a row without parameter lists is not checked
	}
	lo, hi := 0, len(op.In)
	for i, p := range op.In {
		if !p.Optional && !p.Variadic {
			lo = i + 1
		}
		if p.Variadic {
			hi = len(n.In)
		}
	}
	if len(n.In) < lo || len(n.In) > hi {
		return fmt.Errorf("%d inputs, want %d to %d", len(n.In), lo, hi)
	}
	for i := range min(lo, len(op.In)) {
		if n.In[i] == nil && !op.In[i].Optional {
			return fmt.Errorf("required input %d (%s) is missing", i, op.In[i].Name)
		}
	}
	return nil
}

// InferGraph infers every node of g, in order.
func InferGraph(t *Table, g *graph.Graph) error {
	for _, n := range g.Nodes {
		if err := InferNode(t, n); err != nil {
			return err
		}
	}
	return nil
}
