package ops

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
)

// Verify checks the graph's structure, and that every operator is known, has
// only attributes it knows, and produces the types that the graph says.
func Verify(t *Table, g *graph.Graph) error {
	if err := g.Verify(); err != nil {
		return err
	}
	type was struct {
		v *graph.Value
		t graph.Type
	}
	var before []was
	var err error
	g.Walk(func(n *graph.Node) {
		for _, v := range n.Out {
			if v != nil {
				before = append(before, was{v, v.Type})
			}
		}
		if err == nil {
			err = checkAttrs(t, n)
		}
	})
	if err != nil {
		return err
	}
	err = InferGraph(t, g)
	for _, w := range before {
		if err == nil && !w.t.Equal(w.v.Type) {
			err = fmt.Errorf("%s: %q is declared %s but computes %s", w.v.Def, w.v.Name, w.t, w.v.Type)
		}
		w.v.Type = w.t
	}
	return err
}

func checkAttrs(t *Table, n *graph.Node) error {
	op, err := t.Of(n)
	if err != nil || op.Attrs == nil {
		return err
	}
next:
	for _, name := range n.Attrs.Names() {
		for _, a := range op.Attrs {
			if a.Name == name {
				continue next
			}
		}
		return fmt.Errorf("%s: unknown attribute %q", n, name)
	}
	for _, a := range op.Attrs {
		if a.Default == nil && !a.Optional && !n.Attrs.Has(a.Name) && n.Body(a.Name) == nil {
			return fmt.Errorf("%s: attribute %q is missing", n, a.Name)
		}
	}
	return nil
}
