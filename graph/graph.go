// Package graph is ssdc's intermediate representation: typed SSA graphs of
// ONNX-style operators with symbolic dimensions.
//
// A Graph is a list of Nodes in topological order. Values connect them: a
// Value is a graph input, the output of one node, or a constant (Const set).
// Nodes of control flow own Bodies, graphs that may use values of the graphs
// around them. Operators are plain data (OpID); what they mean is the business
// of package ops, so a graph prints, parses and verifies with no registry.
//
// Change graphs through their methods: they keep the use lists exact.
package graph

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// OpID names an operator and the version of its definition: the opset in
// which it last changed (ONNX's since_version).
type OpID struct {
	Domain, Name string // Domain "" is ai.onnx
	Since        int
}

// String prints "Add-14" or "ssm.SSD-1".
func (o OpID) String() string {
	s := o.Name
	if o.Domain != "" {
		s = o.Domain + "." + o.Name
	}
	return fmt.Sprintf("%s-%d", s, o.Since)
}

// Is reports whether o is the operator of that domain and name, in any version.
func (o OpID) Is(domain, name string) bool { return o.Name == name && o.Domain == domain }

// Use is one place where a value is consumed: input Index of Node.
type Use struct {
	Node  *Node
	Index int
}

// OutUse is one graph output: Outputs[Index] of Graph.
type OutUse struct {
	Graph *Graph
	Index int
}

// Value is an SSA value.
type Value struct {
	Name string // unique within the outermost graph
	Type Type
	Def  *Node    // the node that makes it; nil for graph inputs and constants
	Uses []Use    // consuming nodes: exact, in no particular order
	Outs []OutUse // graph outputs that are this value
	// Const is the tensor of a constant (an initializer or a folded value).
	Const *tensor.Tensor
	// Known is the symbolic contents of a small integer or bool tensor, in
	// row-major order: what Shape, and arithmetic on shapes, compute.
	Known []Dim
}

// Body is a graph-valued attribute of a node.
type Body struct {
	Attr string // "body", "then_branch", ...
	*Graph
}

// Node applies an operator. A nil entry in In is an omitted optional input, a
// nil entry in Out an output that nobody asked for.
type Node struct {
	Op     OpID
	Attrs  Attrs
	In     []*Value
	Out    []*Value
	Bodies []Body
	From   string // name in the source model, for messages
	Graph  *Graph // the graph whose Nodes hold it
}

// Graph is a function from Inputs to Outputs.
type Graph struct {
	Name    string
	Inputs  []*Value
	Outputs []*Value
	Nodes   []*Node // topologically sorted
	Parent  *Node   // the node of which this is a body; nil for the outermost graph

	names  map[string]bool // names taken, kept by the outermost graph
	serial int
}

// New makes an empty graph.
func New(name string) *Graph { return &Graph{Name: name} }

// Root is the outermost graph around g.
func (g *Graph) Root() *Graph {
	for g.Parent != nil {
		g = g.Parent.Graph
	}
	return g
}

// UniqueName returns name, or name with a suffix when it is taken, and reserves it.
func (g *Graph) UniqueName(name string) string {
	r := g.Root()
	if r.names == nil {
		r.names = map[string]bool{}
		r.Walk(func(n *Node) {
			for _, v := range n.Out {
				if v != nil {
					r.names[v.Name] = true
				}
			}
			for _, v := range n.In {
				if v != nil {
					r.names[v.Name] = true
				}
			}
			for _, b := range n.Bodies {
				for _, v := range b.Inputs {
					r.names[v.Name] = true
				}
				for _, v := range b.Outputs {
					r.names[v.Name] = true
				}
			}
		})
		for _, v := range r.Inputs {
			r.names[v.Name] = true
		}
		for _, v := range r.Outputs { // constants among them have no node
			r.names[v.Name] = true
		}
	}
	if name == "" {
		name = "v"
	}
	unique := name
	for r.names[unique] {
		r.serial++
		unique = fmt.Sprintf("%s_%d", name, r.serial)
	}
	r.names[unique] = true
	return unique
}

// AddInput appends a graph input.
func (g *Graph) AddInput(name string, t Type) *Value {
	v := &Value{Name: g.UniqueName(name), Type: t}
	g.Inputs = append(g.Inputs, v)
	return v
}

// AddConst makes a constant. It belongs to g as long as something uses it.
func (g *Graph) AddConst(name string, t *tensor.Tensor) *Value {
	return &Value{Name: g.UniqueName(name), Type: TypeOf(t), Const: t}
}

// Add appends a node with nOut fresh outputs named after name; their types
// are set by inference (ops.InferNode) or by the caller.
func (g *Graph) Add(op OpID, attrs Attrs, in []*Value, nOut int, name string) *Node {
	n := &Node{Op: op, Attrs: attrs, Graph: g}
	if n.Attrs == nil {
		n.Attrs = Attrs{}
	}
	for i, v := range in {
		n.In = append(n.In, nil)
		n.SetIn(i, v)
	}
	for range nOut {
		n.Out = append(n.Out, &Value{Name: g.UniqueName(name), Def: n})
	}
	g.Nodes = append(g.Nodes, n)
	return n
}

// AddBody makes an empty body for the node.
func (n *Node) AddBody(attr, name string) *Graph {
	b := &Graph{Name: name, Parent: n}
	n.Bodies = append(n.Bodies, Body{attr, b})
	return b
}

// Body returns the body held by attribute attr, or nil.
func (n *Node) Body(attr string) *Graph {
	for _, b := range n.Bodies {
		if b.Attr == attr {
			return b.Graph
		}
	}
	return nil
}

// SetIn makes v (or nil) input i of n, which must exist.
func (n *Node) SetIn(i int, v *Value) {
	if old := n.In[i]; old != nil {
		old.dropUse(n, i)
	}
	n.In[i] = v
	if v != nil {
		v.Uses = append(v.Uses, Use{n, i})
	}
}

func (v *Value) dropUse(n *Node, i int) {
	for j, u := range v.Uses {
		if u.Node == n && u.Index == i {
			last := len(v.Uses) - 1
			v.Uses[j] = v.Uses[last]
			v.Uses = v.Uses[:last]
			return
		}
	}
}

// TrimIn drops omitted inputs from the end of the input list.
func (n *Node) TrimIn() {
	for len(n.In) > 0 && n.In[len(n.In)-1] == nil {
		n.In = n.In[:len(n.In)-1]
	}
}

// Input returns input i, or nil when it is omitted.
func (n *Node) Input(i int) *Value {
	if i < len(n.In) {
		return n.In[i]
	}
	return nil
}

// Output returns output i, or nil when nobody asked for it.
func (n *Node) Output(i int) *Value {
	if i < len(n.Out) {
		return n.Out[i]
	}
	return nil
}

// String identifies the node in messages: node "/layers.0/Mul" (Mul-14).
func (n *Node) String() string {
	name := n.From
	for _, v := range n.Out {
		if name == "" && v != nil {
			name = v.Name
		}
	}
	return fmt.Sprintf("node %q (%s)", name, n.Op)
}

// AddOutput appends v to the graph's outputs.
func (g *Graph) AddOutput(v *Value) {
	g.Outputs = append(g.Outputs, nil)
	g.SetOutput(len(g.Outputs)-1, v)
}

// SetOutput makes v output i of g, which must exist.
func (g *Graph) SetOutput(i int, v *Value) {
	if old := g.Outputs[i]; old != nil {
		for j, o := range old.Outs {
			if o.Graph == g && o.Index == i {
				old.Outs = append(old.Outs[:j], old.Outs[j+1:]...)
				break
			}
		}
	}
	g.Outputs[i] = v
	if v != nil {
		v.Outs = append(v.Outs, OutUse{g, i})
	}
}

// IsOutput reports whether v is an output of its graph or of a body.
func (v *Value) IsOutput() bool { return len(v.Outs) > 0 }

// Unused reports whether nothing consumes v.
func (v *Value) Unused() bool { return len(v.Uses) == 0 && len(v.Outs) == 0 }

// ReplaceWith makes every consumer of v, and every graph output that is v, use
// w instead. The graph may need Sort afterwards, when w is defined later.
func (v *Value) ReplaceWith(w *Value) {
	if v == w {
		return
	}
	for _, u := range v.Uses {
		u.Node.In[u.Index] = w
	}
	w.Uses = append(w.Uses, v.Uses...)
	v.Uses = nil
	for _, o := range v.Outs {
		o.Graph.Outputs[o.Index] = w
	}
	w.Outs = append(w.Outs, v.Outs...)
	v.Outs = nil
}

// Walk calls f for every node of g and of its bodies, outer before inner.
func (g *Graph) Walk(f func(*Node)) {
	for _, n := range g.Nodes {
		f(n)
		for _, b := range n.Bodies {
			b.Walk(f)
		}
	}
}
