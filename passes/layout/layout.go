// Package layout looks through operators that only move or repeat elements:
// reshapes, transposes, broadcasts, padding. Recognisers see past them to the
// values that matter, and rebuild them around what they put in place.
package layout

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// Is reports operators that only move or repeat elements of input 0.
func Is(n *graph.Node) bool {
	if n.Op.Domain != "" {
		return false
	}
	switch n.Op.Name {
	case "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Identity":
		return true
	case "Expand", "Tile", "Pad":
		return true
	case "Gather": // a constant index vector: repetition or permutation of an axis
		return n.In[1].Const != nil && n.In[1].Const.Rank() == 1
	}
	return false
}

// Chain lists v and what it is a layout of, outermost first.
func Chain(v *graph.Value) []*graph.Value {
	out := []*graph.Value{v}
	for v.Def != nil && Is(v.Def) {
		v = v.Def.In[0]
		out = append(out, v)
	}
	return out
}

// Deepest is the last value of the chain.
func Deepest(v *graph.Value) *graph.Value {
	c := Chain(v)
	return c[len(c)-1]
}

// Product multiplies dimensions.
func Product(ds ...graph.Dim) graph.Dim {
	p := graph.D(1)
	for _, d := range ds {
		p = p.Mul(d)
	}
	return p
}

// Numel is the number of elements.
func Numel(v *graph.Value) graph.Dim { return Product(v.Type.Shape...) }

// Reshape gives v another shape of as many elements, or v itself.
func Reshape(b *graph.Builder, v *graph.Value, shape []graph.Dim) *graph.Value {
	if b.Err != nil || v.Type.Equal(graph.Type{DType: v.Type.DType, Shape: shape}) {
		return v
	}
	var attrs graph.Attrs
	for i, d := range shape {
		if !d.IsConst() && (i >= v.Type.Rank() || v.Type.Shape[i] != d) { // where it is 0, that is no request to copy a length
			attrs = graph.Attrs{"allowzero": int64(1)}
		}
	}
	return b.Op("Reshape", attrs, v, Shape(b, shape, v))
}

// Shape makes a shape vector from the shapes of the model's inputs or of the given values.
func Shape(b *graph.Builder, dims []graph.Dim, from ...*graph.Value) *graph.Value {
	return ssm.ShapeOf(b, dims, append(append([]*graph.Value{}, b.Graph.Root().Inputs...), from...)...)
}

// Transpose permutes axes, or returns v for the identity.
func Transpose(b *graph.Builder, v *graph.Value, perm ...int64) *graph.Value {
	for i, p := range perm {
		if int64(i) != p {
			return b.Op("Transpose", graph.Attrs{"perm": perm}, v)
		}
	}
	return v
}

// Path lists the layout nodes from v down to the value before them.
func Path(v *graph.Value) (nodes []*graph.Node, root *graph.Value) {
	for v.Def != nil && Is(v.Def) && v.Def.Op.Name != "Pad" {
		nodes = append(nodes, v.Def)
		v = v.Def.In[0]
	}
	return nodes, v
}

// Replay applies the layouts of path to another value of the root's shape.
func Replay(b *graph.Builder, nodes []*graph.Node, v *graph.Value) *graph.Value {
	for i := len(nodes) - 1; i >= 0 && b.Err == nil; i-- {
		n := nodes[i]
		m := b.Like(n, append([]*graph.Value{v}, n.In[1:]...)...)
		if b.Err != nil {
			return nil
		}
		v = m.Out[0]
	}
	return v
}

// After follows y through layouts that only it feeds to its one consumer.
func After(y *graph.Value) (nodes []*graph.Node, last *graph.Value, use graph.Use, ok bool) {
	last = y
	for len(last.Uses) == 1 && !last.IsOutput() {
		u := last.Uses[0]
		if !Is(u.Node) || u.Index != 0 || u.Node.Op.Name == "Pad" || u.Node.Op.Name == "Expand" {
			return nodes, last, u, true
		}
		nodes = append([]*graph.Node{u.Node}, nodes...) // outermost first, as path gives them
		last = u.Node.Out[0]
	}
	return nil, nil, graph.Use{}, false
}

// Undo undoes layouts: transposes by their inverse, reshapes by reshaping back.
func Undo(b *graph.Builder, nodes []*graph.Node, v *graph.Value, want []graph.Dim) *graph.Value {
	for _, n := range nodes {
		switch n.Op.Name {
		case "Transpose":
			p := n.Attrs.Ints("perm")
			if p == nil {
				return nil
			}
			inv := make([]int64, len(p))
			for i, a := range p {
				inv[a] = int64(i)
			}
			v = Transpose(b, v, inv...)
		case "Reshape", "Squeeze", "Unsqueeze", "Flatten":
			v = Reshape(b, v, n.In[0].Type.Shape)
		default:
			return nil
		}
		if b.Err != nil {
			return nil
		}
	}
	return Reshape(b, v, want)
}
