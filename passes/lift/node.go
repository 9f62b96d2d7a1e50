package lift

import (
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// node gives the sequence of a value from those of its node's inputs.
func (l *Lifter) node(v *graph.Value) (Seq, error) {
	n := v.Def
	if n == nil {
		return Seq{}, errorf(&graph.Node{From: v.Name}, "is an input of the body that no step sets")
	}
	if len(n.Bodies) > 0 {
		return Seq{}, errorf(n, "has a body of its own; only a branch whose condition is known is followed")
	}
	if n.Op.Domain == "" {
		if s, ok, err := l.element(n); ok || err != nil {
			return s, err
		}
	}
	in := make([]Seq, len(n.In))
	timed := false
	for i, u := range n.In {
		if u == nil || i > 0 && shaped[n.Op.Name] { // the result's type says it
			continue
		}
		s, err := l.Of(u)
		if err != nil {
			return Seq{}, err
		}
		in[i] = s
		timed = timed || s.Timed()
	}
	if !timed {
		return l.same(n, v)
	}
	op := l.Table.Lookup(n.Op)
	if op == nil {
		return Seq{}, errorf(n, "is an unknown operator")
	}
	rule := rule(n.Op.Name)
	switch {
	case op.Traits&ops.Random != 0:
		return Seq{}, errorf(n, "draws random numbers in every step")
	case n.Op.Domain != "":
	case rule != nil:
		return rule(l, n, in, v)
	case strings.HasPrefix(n.Op.Name, "Reduce"):
		return l.reduce(n, in)
	case op.Traits&ops.Elementwise != 0, variadic[n.Op.Name]:
		if len(n.Out) == 1 {
			return l.Elementwise(n.Op.Name, n, in...), nil
		}
	}
	return Seq{}, errorf(n, "has no known form over whole sequences, and is computed from what changes with time")
}

// shaped operators take their target shape from the result's type.
var shaped = map[string]bool{"Reshape": true, "Expand": true, "Squeeze": true, "Unsqueeze": true, "Flatten": true}

var variadic = map[string]bool{"Sum": true, "Mean": true, "Max": true, "Min": true}

// same copies a node whose inputs are the same in every step.
func (l *Lifter) same(n *graph.Node, v *graph.Value) (Seq, error) {
	args := make([]*graph.Value, len(n.In))
	for i, u := range n.In {
		if u == nil {
			continue
		}
		s, err := l.Of(u)
		if err != nil {
			return Seq{}, err
		}
		if s.Timed() {
			return Seq{}, errorf(n, "takes a shape that changes with time")
		}
		args[i] = s.V
	}
	m := l.B.Like(n, args...)
	if m == nil || l.B.Err != nil {
		return Seq{}, l.B.Err
	}
	for i, o := range n.Out {
		if o != nil && o != v {
			l.seqs[o] = Seq{m.Out[i], -1}
		}
	}
	for i, o := range n.Out {
		if o == v {
			return Seq{m.Out[i], -1}, nil
		}
	}
	return Seq{}, errorf(n, "does not make %q", v.Name)
}

// rule is how an operator gets a time axis; nil when it has no rule of its own.
func rule(name string) func(l *Lifter, n *graph.Node, in []Seq, v *graph.Value) (Seq, error) {
	switch name {
	case "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand":
		return func(l *Lifter, n *graph.Node, in []Seq, _ *graph.Value) (Seq, error) { return l.View(n, in[0]) }
	case "CastLike":
		return func(l *Lifter, _ *graph.Node, in []Seq, v *graph.Value) (Seq, error) {
			return l.Cast(in[0], v.Type.DType), nil
		}
	case "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization":
		return (*Lifter).along
	case "MatMul":
		return func(l *Lifter, _ *graph.Node, in []Seq, _ *graph.Value) (Seq, error) {
			return l.MatMul(in[0], in[1]), nil
		}
	case "Gemm":
		return (*Lifter).gemm
	case "Einsum":
		return (*Lifter).einsum
	case "Concat":
		return (*Lifter).concat
	case "Split":
		return (*Lifter).split
	case "Slice":
		return (*Lifter).slice
	case "Gather":
		return (*Lifter).gather
	case "Pad":
		return (*Lifter).pad
	case "Tile":
		return (*Lifter).tile
	case "Trilu":
		return (*Lifter).trilu
	case "CumSum":
		return (*Lifter).cumsum
	}
	return nil
}

// View applies a layout operator of the body to a sequence that broadcasts to
// its input.
func (l *Lifter) View(n *graph.Node, s Seq) (Seq, error) {
	from, to := n.In[0].Type, n.Out[0].Type
	if !from.Ranked() || !to.Ranked() {
		return Seq{}, errorf(n, "has a result of unknown rank")
	}
	s = l.Pad(s, from.Rank())
	switch n.Op.Name {
	case "Identity":
		return s, nil
	case "Transpose":
		perm := n.Attrs.Ints("perm")
		if perm == nil {
			for a := from.Rank() - 1; a >= 0; a-- {
				perm = append(perm, int64(a))
			}
		}
		return l.Transpose(s, perm), nil
	case "Expand":
		if slices.Equal(from.Shape, to.Shape) {
			return s, nil
		}
		return l.Expand(s, to.Shape), nil
	case "Unsqueeze", "Squeeze":
		rank := max(from.Rank(), to.Rank())
		if axes, ok := axesOf(n, 1, rank); ok {
			if n.Op.Name == "Squeeze" {
				return l.Squeeze(s, axes), nil
			}
			return l.Unsqueeze(s, axes), nil
		}
	}
	return l.Reshape(s, from.Shape, to.Shape), nil
}

// axesOf reads the axes of a node from attribute or constant input i.
func axesOf(n *graph.Node, i, rank int) ([]int, bool) {
	list := n.Attrs.Ints("axes")
	if list == nil && n.Input(i) != nil {
		k, ok := ops.KnownOf(n.In[i])
		if !ok {
			return nil, false
		}
		for _, d := range k {
			a, ok := d.Const()
			if !ok {
				return nil, false
			}
			list = append(list, a)
		}
	}
	if list == nil {
		return nil, false
	}
	out := make([]int, len(list))
	for i, a := range list {
		if a < 0 {
			a += int64(rank)
		}
		if a < 0 || a >= int64(rank) {
			return nil, false
		}
		out[i] = int(a)
	}
	return out, true
}
