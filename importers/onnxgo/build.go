package onnxgo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	gt "gorgonia.org/tensor"

	"github.com/ssdc-go/ssdc/backends/gorgonia/dense"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// attribute turns what onnx-go makes of an attribute into what ssdc calls it.
func attribute(v any) (any, error) {
	switch v := v.(type) {
	case float32, int64, string, []float32, []int64, []string:
		return v, nil
	case gt.Tensor:
		return dense.From(v)
	case struct{}:
		return nil, fmt.Errorf("the file does not say its type (IR version 1), and onnx-go drops its value")
	}
	return nil, fmt.Errorf("onnx-go gives a %T, which ssdc does not know", v)
}

// build makes ssdc's graph of what is needed for some values.
type build struct {
	g      *Graph
	leaves *leaves
	table  *ops.Table
	out    *graph.Graph
	values map[*Node]*graph.Value
	busy   map[*operation]bool // on the way down: a cycle when met again
}

func (b *build) value(n *Node) (*graph.Value, error) {
	if n == nil || n.name == "" && n.def == nil && n.tensor == nil {
		return nil, nil // omitted
	}
	if v := b.values[n]; v != nil {
		return v, nil
	}
	if n.def != nil {
		if err := b.operation(n.def); err != nil {
			return nil, err
		}
		return b.values[n], nil
	}
	src, constant, err := b.leaves.find(n)
	if err != nil {
		return nil, err
	}
	t, err := dense.From(src.tensor)
	if err != nil {
		return nil, fmt.Errorf("value %q: %w", n.name, err)
	}
	if constant {
		b.values[n] = b.out.AddConst(n.name, t)
	} else {
		b.values[n] = b.out.AddInput(n.name, graph.TypeOf(t))
	}
	return b.values[n], nil
}

// leaves finds the tensors of values that no operation computes.
type leaves struct {
	given map[string]*Node // by name: set by the caller
	// first is the first value that is computed. Onnx-go makes nodes of the inputs
	// first, then of inner values and outputs, then of the weights that are not
	// inputs too: what stands before it is an input, or a weight with two tensors.
	first int64
}

func (g *Graph) leaves() *leaves {
	l := &leaves{given: map[string]*Node{}, first: g.next}
	for _, n := range g.order {
		if n.def != nil {
			l.first = min(l.first, n.id)
		} else if n.given && n.name != "" {
			l.given[n.name] = n
		}
	}
	return l
}

// find gives the node that holds the value of n: the caller's, else the model's
// weight. Onnx-go gives every declared input a tensor of zeros before anything
// else, which must not pass for its value.
func (l *leaves) find(n *Node) (src *Node, constant bool, err error) {
	if n.given {
		return n, false, nil
	}
	// A model that declares a name twice, as input and output or in value_info,
	// gets a node for each; the caller sets one and operations read the other.
	if m := l.given[n.name]; m != nil {
		return m, false, nil
	}
	switch {
	case n.tensor == nil:
		return nil, false, fmt.Errorf("value %q is neither computed nor a weight: call SetInput before Run", n.name)
	case n.declared == 1 && n.id < l.first:
		return nil, false, fmt.Errorf("input %q (%v%v, as far as onnx-go says) is not set: call SetInput before Run", n.name, n.tensor.Dtype(), n.tensor.Shape())
	}
	return n, true, nil
}

func (b *build) operation(o *operation) error {
	if b.busy[o] {
		return fmt.Errorf("%s: its inputs depend on its outputs", o)
	}
	b.busy[o] = true
	defer delete(b.busy, o)
	row, err := b.g.row(b.table, o)
	if err != nil {
		return err
	}
	var in []*graph.Value
	if len(row.In) > 0 { // else onnx-go has made up an input: none of its operations are without
		for i, n := range o.in {
			v, err := b.value(n)
			if err != nil {
				return fmt.Errorf("%s: input %d: %w", o, i, err)
			}
			in = append(in, v)
		}
	}
	n := b.out.Add(row.ID, graph.Attrs(o.attr).Clone(), in, 0, "")
	n.TrimIn()
	for _, r := range o.out {
		if r.name == "" {
			n.Out = append(n.Out, nil)
			continue
		}
		if n.From == "" {
			n.From = r.name
		}
		v := &graph.Value{Name: b.out.UniqueName(r.name), Def: n}
		n.Out = append(n.Out, v)
		b.values[r] = v
	}
	if err := ops.InferNode(b.table, n); err != nil {
		return err
	}
	if row.ID.Is("", "Constant") && len(o.out) == 1 {
		t, err := ops.Eval(context.Background(), b.table, n, nil)
		if err != nil {
			return err
		}
		b.values[o.out[0]] = b.out.AddConst(o.out[0].name, t[0])
	}
	return nil
}

// row finds the operator of an operation, of which onnx-go says the name only.
func (g *Graph) row(t *ops.Table, o *operation) (*ops.Op, error) {
	if g.opt.opset > 0 {
		if r := t.Resolve("", o.name, g.opt.opset); r != nil {
			return r, nil
		}
	}
	var named, others []*ops.Op
	for _, r := range t.All() {
		switch {
		case r.ID.Name != o.name:
		case r.ID.Domain == "":
			named = append(named, r)
		default:
			others = append(others, r)
		}
	}
	if len(named) == 0 || g.opt.opset > 0 {
		named = others
	}
	if len(named) == 0 {
		return nil, fmt.Errorf("%s: ssdc has no operator of this name%s; add a plugin that defines it", o, atOpset(g.opt.opset))
	}
	for _, r := range slices.Backward(named) { // All lists versions upwards
		if o.fits(r) == "" {
			return r, nil
		}
	}
	newest := named[len(named)-1]
	return nil, fmt.Errorf("%s: no version of the operator fits; the newest, %s, %s", o, newest.ID, o.fits(newest))
}

func atOpset(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" in opset %d", n)
}

// fits says why o is not of version r, or nothing.
func (o *operation) fits(r *ops.Op) string {
	for name := range o.attr {
		if !slices.ContainsFunc(r.Attrs, func(a ops.Attr) bool { return a.Name == name }) {
			var have []string
			for _, a := range r.Attrs {
				have = append(have, a.Name)
			}
			return fmt.Sprintf("has no attribute %q, but %s", name, strings.Join(have, ", "))
		}
	}
	for _, a := range r.Attrs {
		if _, given := o.attr[a.Name]; !given && a.Default == nil && !a.Optional {
			return fmt.Sprintf("wants attribute %q", a.Name)
		}
	}
	if len(r.In) == 0 {
		return ""
	}
	given := o.in
	for len(given) > 0 && given[len(given)-1] != nil && given[len(given)-1].name == "" && given[len(given)-1].def == nil {
		given = given[:len(given)-1]
	}
	if last := r.In[len(r.In)-1]; len(given) > len(r.In) && !last.Variadic {
		return fmt.Sprintf("takes %d inputs, not %d", len(r.In), len(given))
	}
	for i, p := range r.In {
		if !p.Optional && !p.Variadic && i >= len(given) {
			return fmt.Sprintf("wants input %d (%s)", i, p.Name)
		}
	}
	return ""
}

// sinks are the values that no operation reads: what a run computes unless more
// is asked for.
func (g *Graph) sinks() []*Node {
	read := map[*Node]bool{}
	for _, o := range g.ops {
		for _, n := range o.in {
			read[n] = true
		}
	}
	var out []*Node
	for _, n := range g.order {
		if n.def != nil && !read[n] {
			out = append(out, n)
		}
	}
	return out
}

// signature tells apart the programs of a graph: types of the caller's inputs,
// and what is computed.
func signature(in []*tensor.Tensor, wanted []*Node) string {
	var s strings.Builder
	for _, t := range in {
		s.WriteString(t.TypeString())
	}
	for _, n := range wanted {
		fmt.Fprintf(&s, " %d", n.id)
	}
	return s.String()
}
