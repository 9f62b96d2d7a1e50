package onnxgo

import (
	"fmt"
	"slices"

	"github.com/owulveryck/onnx-go"
	"github.com/owulveryck/onnx-go/backend"
	"gonum.org/v1/gonum/graph"
	"gonum.org/v1/gonum/graph/iterator"
	gt "gorgonia.org/tensor"
)

var (
	_ backend.ComputationBackend = (*Graph)(nil)
	_ onnx.Namer                 = (*Node)(nil)
	_ onnx.DataCarrier           = (*Node)(nil)
)

// Graph implements backend.ComputationBackend. Its nodes are values; edges run
// from what an operation computes to what it reads, and the weight of an edge
// is the number of the input. One node may be several inputs (Mul(x,x)), so the
// graph keeps parallel edges. It is not safe for concurrent use.
type Graph struct {
	opt   options
	nodes map[int64]*Node
	order []*Node // as added
	next  int64
	edges map[int64][]edge // by their first node
	fresh map[int64][]edge // not claimed by an operation yet
	ops   []*operation
	err   error // of a call that cannot return one
	run   runner
}

// Node is a value of the model: an input, a weight or a result.
type Node struct {
	g      *Graph
	id     int64
	name   string // "" stands for an omitted input or output, in all operations
	def    *operation
	tensor gt.Tensor
	// declared counts tensors set before the first operation: while a model is
	// read, first the placeholders of what the file declares, then its weights.
	declared int
	given    bool // a tensor was set later: the caller's
	computed int  // number of the run that set tensor
}

// operation is a node of the model.
type operation struct {
	name string
	attr map[string]any
	in   []*Node // nil: a gap
	out  []*Node
}

type edge struct {
	from, to *Node
	weight   float64
}

// From implements graph.Edge.
func (e edge) From() graph.Node { return e.from }

// To implements graph.Edge.
func (e edge) To() graph.Node { return e.to }

// ReversedEdge implements graph.Edge; the direction means something, so it is kept.
func (e edge) ReversedEdge() graph.Edge { return e }

// Weight implements graph.WeightedEdge: the number of the input.
func (e edge) Weight() float64 { return e.weight }

// NewGraph makes an empty graph, for onnx.NewModel.
func NewGraph(opts ...Option) *Graph {
	g := &Graph{nodes: map[int64]*Node{}, edges: map[int64][]edge{}, fresh: map[int64][]edge{}}
	for _, o := range opts {
		o(&g.opt)
	}
	return g
}

// ID implements graph.Node.
func (n *Node) ID() int64 { return n.id }

// SetName implements onnx.Namer.
func (n *Node) SetName(name string) { n.name = name }

// GetName implements onnx.Namer.
func (n *Node) GetName() string { return n.name }

// SetTensor implements onnx.DataCarrier.
func (n *Node) SetTensor(t gt.Tensor) error {
	if t == nil {
		return fmt.Errorf("value %q: the tensor is nil", n.name)
	}
	n.tensor = t
	if len(n.g.ops) == 0 {
		n.declared++
	} else {
		n.given = true
	}
	return nil
}

// GetTensor implements onnx.DataCarrier. After a Run it gives the result of
// that run; a value that the run did not need is computed now. When that fails
// the tensor is nil, and Err says why.
func (n *Node) GetTensor() gt.Tensor {
	if n.def != nil && n.g.run.count > 0 && n.computed != n.g.run.count {
		if err := n.g.alsoCompute(n); err != nil {
			n.g.run.err = err
			return nil
		}
	}
	if n.def == nil && !n.given && n.name != "" {
		// A name declared twice has two nodes: an input that is an output too.
		for _, m := range n.g.order {
			if m != n && m.name == n.name && (m.given || m.def != nil) {
				return m.GetTensor()
			}
		}
	}
	return n.tensor
}

// Err is the first error of a call that could not return it: one that built the
// graph, or a GetTensor since the last Run.
func (g *Graph) Err() error {
	if g.err != nil {
		return g.err
	}
	return g.run.err
}

func (g *Graph) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

// Node implements graph.Graph.
func (g *Graph) Node(id int64) graph.Node {
	if n, ok := g.nodes[id]; ok {
		return n
	}
	return nil
}

// Nodes implements graph.Graph, in the order of creation.
func (g *Graph) Nodes() graph.Nodes { return list(g.order) }

func list(nodes []*Node) graph.Nodes {
	out := make([]graph.Node, len(nodes))
	for i, n := range nodes {
		out[i] = n
	}
	return iterator.NewOrderedNodes(out)
}

// From implements graph.Graph: the inputs of what computes a value, each once.
func (g *Graph) From(id int64) graph.Nodes {
	var out []*Node
	for _, e := range g.edges[id] {
		if !slices.Contains(out, e.to) {
			out = append(out, e.to)
		}
	}
	return list(out)
}

// To implements graph.Directed: the values computed from a value, each once.
func (g *Graph) To(id int64) graph.Nodes {
	var out []*Node
	for _, n := range g.order {
		if g.HasEdgeFromTo(n.id, id) {
			out = append(out, n)
		}
	}
	return list(out)
}

// HasEdgeBetween implements graph.Graph.
func (g *Graph) HasEdgeBetween(x, y int64) bool {
	return g.HasEdgeFromTo(x, y) || g.HasEdgeFromTo(y, x)
}

// HasEdgeFromTo implements graph.Directed.
func (g *Graph) HasEdgeFromTo(u, v int64) bool { return g.WeightedEdge(u, v) != nil }

// Edge implements graph.Graph.
func (g *Graph) Edge(u, v int64) graph.Edge {
	if e := g.WeightedEdge(u, v); e != nil {
		return e
	}
	return nil
}

// WeightedEdge implements graph.Weighted: the first of several parallel edges.
func (g *Graph) WeightedEdge(u, v int64) graph.WeightedEdge {
	for _, e := range g.edges[u] {
		if e.to.id == v {
			return e
		}
	}
	return nil
}

// Weight implements graph.Weighted.
func (g *Graph) Weight(u, v int64) (float64, bool) {
	if e := g.WeightedEdge(u, v); e != nil {
		return e.Weight(), true
	}
	return 0, u == v
}

// NewNode implements graph.NodeAdder. Numbers follow the order of the calls:
// Model.SetInput(i) looks for node i.
func (g *Graph) NewNode() graph.Node {
	n := &Node{g: g, id: g.next}
	g.next++
	return n
}

// AddNode implements graph.NodeAdder. It takes nodes that NewNode made.
func (g *Graph) AddNode(n graph.Node) {
	m, ok := n.(*Node)
	switch {
	case !ok || m.g != g:
		g.fail(fmt.Errorf("AddNode: a %T is not a node that this graph's NewNode made", n))
	case g.nodes[m.id] != nil:
		g.fail(fmt.Errorf("AddNode: node %d (%q) is in the graph already", m.id, m.name))
	default:
		g.nodes[m.id] = m
		g.order = append(g.order, m)
	}
}

// NewWeightedEdge implements graph.WeightedEdgeAdder.
func (g *Graph) NewWeightedEdge(from, to graph.Node, weight float64) graph.WeightedEdge {
	a, okA := from.(*Node)
	b, okB := to.(*Node)
	if !okA || !okB || a.g != g || b.g != g {
		g.fail(fmt.Errorf("NewWeightedEdge: %T and %T are not nodes of this graph", from, to))
		return nil
	}
	return edge{a, b, weight}
}

// SetWeightedEdge implements graph.WeightedEdgeAdder.
func (g *Graph) SetWeightedEdge(e graph.WeightedEdge) {
	x, ok := e.(edge)
	if !ok {
		if e == nil {
			return // NewWeightedEdge has failed
		}
		if e, ok := g.NewWeightedEdge(e.From(), e.To(), e.Weight()).(edge); ok {
			g.SetWeightedEdge(e)
		}
		return
	}
	for _, n := range []*Node{x.from, x.to} {
		if g.nodes[n.id] == nil {
			g.AddNode(n)
		}
	}
	g.edges[x.from.id] = append(g.edges[x.from.id], x)
	g.fresh[x.from.id] = append(g.fresh[x.from.id], x)
}

// ApplyOperation implements onnx.OperationCarrier: outs are what op computes,
// from the nodes to which edges were set since the operation before.
func (g *Graph) ApplyOperation(op onnx.Operation, outs ...graph.Node) error {
	if g.err != nil {
		return g.err
	}
	o := &operation{name: op.Name, attr: map[string]any{}}
	for _, n := range outs {
		m, ok := n.(*Node)
		if !ok || g.nodes[n.ID()] != m {
			return fmt.Errorf("operation %s: a %T is not a node of this graph", op.Name, n)
		}
		if m.name != "" && m.def != nil {
			return fmt.Errorf("operation %s: value %q is computed by %s already", op.Name, m.name, m.def.name)
		}
		o.out = append(o.out, m)
		for _, e := range g.fresh[m.id] {
			i := int(e.weight)
			if e.weight < 0 || float64(i) != e.weight || i >= maxInputs {
				return fmt.Errorf("operation %s computing %q: an edge has weight %v, want the number of an input", op.Name, m.name, e.weight)
			}
			for len(o.in) <= i {
				o.in = append(o.in, nil)
			}
			if o.in[i] != nil && o.in[i] != e.to {
				return fmt.Errorf("operation %s computing %q: input %d is both %q and %q", op.Name, m.name, i, o.in[i].name, e.to.name)
			}
			o.in[i] = e.to
		}
	}
	for _, m := range o.out {
		delete(g.fresh, m.id)
	}
	for name, v := range op.Attributes {
		a, err := attribute(v)
		if err != nil {
			return fmt.Errorf("%s: attribute %q: %w", o, name, err)
		}
		o.attr[name] = a
	}
	for _, m := range o.out {
		if m.name != "" {
			m.def = o
		}
	}
	g.ops = append(g.ops, o)
	g.run.reset()
	return nil
}

// maxInputs bounds the inputs of an operation, against hostile weights.
const maxInputs = 1 << 20

// String identifies the operation in messages.
func (o *operation) String() string {
	for _, n := range o.out {
		if n.name != "" {
			return fmt.Sprintf("node %q (%s)", n.name, o.name)
		}
	}
	return fmt.Sprintf("node (%s)", o.name)
}
