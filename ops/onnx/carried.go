package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Inference of values that a loop carries from one run of its body to the next.

// carried describes one such value: the body reads in and makes out.
type carried struct {
	in, out *graph.Value
	init    *graph.Value // outside; nil when omitted
	typ     graph.Type   // holds in every iteration, once inferCarried is done
	grow    graph.Dim    // of a sequence: members added per iteration
	grows   bool         // grow is known
}

// inferCarried infers the body with ever weaker types of the carried values
// until they hold in every iteration: an axis whose length the body changes
// becomes unknown, and so on. It ends, because types only get weaker.
func inferCarried(c *ops.Infer, body int, vals []*carried, allowed map[string]bool) error {
	g := c.Node.Bodies[body].Graph
	empty := make([]bool, len(vals)) // a list that is still empty takes the first type put into it
	for i, v := range vals {
		n, ok := sequenceLen(v.init)
		empty[i] = ok && n.Is(0) && v.init.Type.DType == tensor.Sequence
	}
	for stable := false; !stable; {
		for i, v := range vals {
			v.in.Type, v.in.Known = v.typ, nil
			switch {
			case empty[i]:
				v.in.Known = graph.Ds(0)
			case v.typ.DType == tensor.Sequence:
				v.in.Known = []graph.Dim{lengthSymbol(v.in)}
			case v.in == v.out:
				v.in.Known, _ = ops.KnownOf(v.init) // the body passes it on unchanged
			}
		}
		forget(g)
		if err := c.Body(body); err != nil {
			return err
		}
		stable = true
		for i, v := range vals {
			if empty[i] {
				empty[i], stable = false, false
				v.typ = outerType(v.out.Type, allowed, anyAxis)
				continue
			}
			t, err := joinTypes(c, v.typ, v.out.Type, func(axis int) graph.Dim { return axisSymbol(v.in, axis) })
			if err != nil {
				return fmt.Errorf("carried value %q: %w", v.in.Name, err)
			}
			stable = stable && t.Equal(v.typ)
			v.typ = t
		}
	}
	for _, v := range vals {
		if n, ok := sequenceLen(v.out); ok && v.typ.DType == tensor.Sequence {
			v.grow = n.Sub(lengthSymbol(v.in))
			v.grows = v.grow.IsConst()
		}
	}
	return nil
}

// axisSymbol and lengthSymbol name lengths that differ between iterations.
func axisSymbol(v *graph.Value, axis int) graph.Dim {
	return graph.Sym(fmt.Sprintf("?%s.%d", v.Name, axis))
}

func lengthSymbol(v *graph.Value) graph.Dim { return graph.Sym("?" + v.Name + ".len") }

// outCarried sets output i of the loop to the final value of v; trips is the
// number of iterations, when known.
func outCarried(c *ops.Infer, i int, v *carried, allowed map[string]bool, trips graph.Dim, tripsKnown bool) {
	t := v.typ
	if t.DType == tensor.Optional && v.out.Type.DType != tensor.Optional {
		t = v.out.Type // an optional at the start that every iteration fills
	}
	t = outerType(t, allowed, func(axis int) graph.Dim { return freshDim(c, i, axis) })
	var known []graph.Dim
	n, ok := sequenceLen(v.init)
	switch {
	case v.typ.DType == tensor.Sequence && ok && v.grows && v.grow.Is(0):
		known = []graph.Dim{n}
	case v.typ.DType == tensor.Sequence && ok && v.grows && tripsKnown:
		known = []graph.Dim{n.Add(v.grow.Mul(trips))}
	case v.in == v.out:
		known, _ = ops.KnownOf(v.init)
	}
	c.OutKnown(i, t, known)
}

// forget clears what an earlier inference found inside a body.
func forget(g *graph.Graph) {
	g.Walk(func(n *graph.Node) {
		for _, v := range n.Out {
			if v != nil {
				v.Type, v.Known = graph.Type{}, nil
			}
		}
	})
}

// outerSymbols collects the symbols that mean something outside the body: those
// of the node's inputs and of the outer values that the body uses.
func outerSymbols(n *graph.Node, body *graph.Graph) map[string]bool {
	inner := map[*graph.Value]bool{}
	for _, v := range body.Inputs {
		inner[v] = true
	}
	body.Walk(func(m *graph.Node) {
		for _, v := range m.Out {
			inner[v] = true
		}
		for _, b := range m.Bodies {
			for _, v := range b.Inputs {
				inner[v] = true
			}
		}
	})
	set := map[string]bool{}
	add := func(vs []*graph.Value) {
		for _, v := range vs {
			if v != nil && !inner[v] {
				typeSymbols(v.Type, set)
				for _, d := range v.Known {
					dimSymbols(d, set)
				}
			}
		}
	}
	add(n.In)
	add(body.Outputs)
	body.Walk(func(m *graph.Node) {
		add(m.In)
		for _, b := range m.Bodies {
			add(b.Outputs)
		}
	})
	return set
}

func typeSymbols(t graph.Type, set map[string]bool) {
	for _, d := range t.Shape {
		dimSymbols(d, set)
	}
	if t.Elem != nil {
		typeSymbols(*t.Elem, set)
	}
}

func dimSymbols(d graph.Dim, set map[string]bool) {
	for _, s := range d.Symbols() {
		set[s] = true
	}
}

// outerType replaces lengths that only mean something inside the body.
func outerType(t graph.Type, allowed map[string]bool, fresh func(axis int) graph.Dim) graph.Type {
	if t.Elem != nil {
		e := outerType(*t.Elem, allowed, anyAxis)
		t.Elem = &e
	}
	if !t.Ranked() {
		return t
	}
	shape := cloneDims(t.Shape)
	for i, d := range shape {
		for _, s := range d.Symbols() {
			if !allowed[s] && d != anyLength {
				shape[i] = fresh(i)
				break
			}
		}
	}
	t.Shape = shape
	return t
}
