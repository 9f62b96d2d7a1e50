package graph

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Builder appends typed nodes to a graph. After the first error every call
// does nothing and returns nil values; check Err once at the end.
type Builder struct {
	Graph *Graph
	From  string // given to the nodes made
	Err   error
	// Resolve finds the newest version of an operator, and Infer types a
	// fresh node; ops.NewBuilder sets both.
	Resolve func(domain, name string) (OpID, error)
	Infer   func(*Node) error
}

// Node appends domain.name with nOut outputs and returns it, or nil after an error.
func (b *Builder) Node(domain, name string, attrs Attrs, nOut int, in ...*Value) *Node {
	if b.Err != nil {
		return nil
	}
	id, err := b.Resolve(domain, name)
	if err != nil {
		b.Err = err
		return nil
	}
	label := b.From
	if label == "" {
		label = name
	}
	n := b.Graph.Add(id, attrs, in, nOut, label)
	n.From = b.From
	n.TrimIn()
	if err := b.Infer(n); err != nil {
		b.Err = fmt.Errorf("building %s: %w", id, err)
	}
	return n
}

// Like appends a node with the operator version, attributes and number of
// outputs of n, on other inputs. It returns nil after an error.
func (b *Builder) Like(n *Node, in ...*Value) *Node {
	if b.Err != nil {
		return nil
	}
	label := b.From
	if label == "" {
		label = n.Op.Name
	}
	m := b.Graph.Add(n.Op, n.Attrs.Clone(), in, len(n.Out), label)
	m.From = b.From
	if err := b.Infer(m); err != nil {
		b.Err = fmt.Errorf("building %s: %w", n.Op, err)
	}
	return m
}

// Op appends an ONNX operator with one output and returns that.
func (b *Builder) Op(name string, attrs Attrs, in ...*Value) *Value {
	return b.op("", name, attrs, in)
}

// SSM appends an operator of the ssm domain with one output and returns that.
func (b *Builder) SSM(name string, attrs Attrs, in ...*Value) *Value {
	return b.op("ssm", name, attrs, in)
}

func (b *Builder) op(domain, name string, attrs Attrs, in []*Value) *Value {
	if n := b.Node(domain, name, attrs, 1, in...); n != nil {
		return n.Out[0]
	}
	return nil
}

// Const makes a constant.
func (b *Builder) Const(t *tensor.Tensor) *Value { return b.Graph.AddConst("c", t) }

// Ints makes an int64 vector constant.
func (b *Builder) Ints(v ...int64) *Value { return b.Const(tensor.Ints(v...)) }
