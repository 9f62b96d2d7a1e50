package ops

import (
	"fmt"
	"slices"
	"strings"

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
			err = CheckAttrs(t, n)
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

// CheckAttrs reports an attribute or body that the operator does not have, and
// one that it must have but was not given. Rows that list none are not checked.
func CheckAttrs(t *Table, n *graph.Node) error {
	op, err := t.Of(n)
	if err != nil || op.Attrs == nil {
		return err
	}
	names := n.Attrs.Names()
	for _, b := range n.Bodies {
		names = append(names, b.Attr)
	}
	for _, name := range names {
		if !slices.ContainsFunc(op.Attrs, func(a Attr) bool { return a.Name == name }) {
			return fmt.Errorf("%s: unknown attribute %q; %s: remove it, or use a version of the operator that has it", n, name, op.attrNames())
		}
	}
	for _, a := range op.Attrs {
		if a.Default == nil && !a.Optional && !n.Attrs.Has(a.Name) && n.Body(a.Name) == nil {
			return fmt.Errorf("%s: attribute %q is missing", n, a.Name)
		}
	}
	return nil
}

// attrNames says in a message which attributes an operator has.
func (op *Op) attrNames() string {
	if len(op.Attrs) == 0 {
		return fmt.Sprintf("%s has none", op.ID)
	}
	names := make([]string, len(op.Attrs))
	for i, a := range op.Attrs {
		names[i] = a.Name
	}
	return fmt.Sprintf("%s has %s", op.ID, strings.Join(names, ", "))
}
