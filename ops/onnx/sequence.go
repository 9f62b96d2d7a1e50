package onnx

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// A sequence value's Known, where set, is one dimension: the length of the
// sequence. With it a list that a loop fills and ConcatFromSequence stacks
// keeps its symbolic length, and an empty list takes the type of the first
// member put into it.

// sequenceRows: SequenceEmpty, SequenceConstruct, SequenceInsert,
// SequenceErase, SequenceAt, SequenceLength, ConcatFromSequence, SplitToSequence.
func sequenceRows() []*ops.Op {
	a, b := tensor.Ints(1, 2), tensor.Ints(3)
	ab := tensor.Seq(a, b)
	empty := ops.Op{
		Doc: "An empty sequence of tensors of element type dtype (float by default).",
		In:  params(), Out: params("output"), Attrs: []ops.Attr{attrOpt("dtype")},
		Infer: func(c *ops.Infer) error {
			d := c.Node.Attrs.Int("dtype", int64(tensor.Float32))
			if d <= 0 || d > 255 || !(castTypes | complexTypes).Has(tensor.DType(d)) {
				return c.Errorf("dtype %d is not an element type", d)
			}
			c.OutKnown(0, sequenceOf(unranked(tensor.DType(d))), graph.Ds(0))
			return nil
		},
		Eval:  func(*ops.Call) ([]*tensor.Tensor, error) { return one(tensor.Seq()), nil },
		Cases: []ops.Case{{Name: "float", Want: []*tensor.Tensor{tensor.Seq()}}},
	}
	construct := ops.Op{
		Doc: "The sequence of the inputs.",
		In:  params("inputs..."), Out: params("output_sequence"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			if len(c.Node.In) == 0 {
				return c.Errorf("no inputs")
			}
			t := c.Type(0)
			for i := 1; i < len(c.Node.In); i++ {
				var err error
				if t, err = joinTypes(c, t, c.Type(i), anyAxis); err != nil {
					return err
				}
			}
			c.OutKnown(0, sequenceOf(t), graph.Ds(int64(len(c.Node.In))))
			return nil
		},
		Eval:  func(c *ops.Call) ([]*tensor.Tensor, error) { return one(tensor.Seq(c.In...)), nil },
		Cases: []ops.Case{{Name: "two", In: []*tensor.Tensor{a, b}, Want: []*tensor.Tensor{ab}}},
	}
	insert := ops.Op{
		Doc: "The sequence with tensor inserted before position (at the end by default).",
		In:  params("input_sequence", "tensor", "position?"), Out: params("output_sequence"), Attrs: noAttrs,
		Infer: inferSequenceInsert,
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			elems := c.In[0].Elems
			at := int64(len(elems))
			if p := c.Arg(2); p != nil {
				if at = p.IntAt(0); at < 0 {
					at += int64(len(elems)) // -1 is before the last member
				}
			}
			if at < 0 || at > int64(len(elems)) {
				return nil, fmt.Errorf("position %d in a sequence of %d", at, len(elems))
			}
			return one(tensor.Seq(slices.Insert(slices.Clone(elems), int(at), c.In[1])...)), nil
		},
		Cases: []ops.Case{
			{Name: "end", In: []*tensor.Tensor{tensor.Seq(a), b}, Want: []*tensor.Tensor{ab}},
			{Name: "front", In: []*tensor.Tensor{tensor.Seq(b), a, tensor.Scalar[int64](0)}, Want: []*tensor.Tensor{ab}},
		},
	}
	erase := ops.Op{
		Doc: "The sequence without the member at position (the last by default).",
		In:  params("input_sequence", "position?"), Out: params("output_sequence"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			elem, err := wantSequence(c, 0)
			if err != nil {
				return err
			}
			c.OutKnown(0, sequenceOf(elem), lengthPlus(c, 0, -1))
			return want(c, 1, indexTypes)
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			elems, at := c.In[0].Elems, int64(-1)
			if p := c.Arg(1); p != nil {
				at = p.IntAt(0)
			}
			i, err := position(at, len(elems))
			if err != nil {
				return nil, err
			}
			return one(tensor.Seq(slices.Delete(slices.Clone(elems), i, i+1)...)), nil
		},
		Cases: []ops.Case{{Name: "last", In: []*tensor.Tensor{ab}, Want: []*tensor.Tensor{tensor.Seq(a)}}},
	}
	at := ops.Op{
		Doc: "The member of the sequence at position; negative positions count from the end.",
		In:  params("input_sequence", "position"), Out: params("tensor"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			elem, err := wantSequence(c, 0)
			if err != nil {
				return err
			}
			elem.Shape = slices.Clone(elem.Shape)
			for i, d := range elem.Shape {
				if d == anyLength {
					elem.Shape[i] = freshDim(c, 0, i)
				}
			}
			setOut(c, 0, elem)
			return want(c, 1, indexTypes)
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			i, err := position(c.In[1].IntAt(0), len(c.In[0].Elems))
			if err != nil {
				return nil, err
			}
			return one(c.In[0].Elems[i]), nil
		},
		Cases: []ops.Case{{Name: "last", In: []*tensor.Tensor{ab, tensor.Scalar[int64](-1)}, Want: []*tensor.Tensor{b}}},
	}
	length := ops.Op{
		Doc: "The number of members of the sequence.",
		In:  params("input_sequence"), Out: params("length"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			if _, err := wantSequence(c, 0); err != nil {
				return err
			}
			c.OutKnown(0, graph.T(tensor.Int64), lengthPlus(c, 0, 0))
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			return one(tensor.Scalar(int64(len(c.In[0].Elems)))), nil
		},
		Cases: []ops.Case{{Name: "two", In: []*tensor.Tensor{ab}, Want: []*tensor.Tensor{tensor.Scalar[int64](2)}}},
	}
	join := ops.Op{
		Doc: "The members joined along axis, or stacked along a new axis.",
		In:  params("input_sequence"), Out: params("concat_result"),
		Attrs: []ops.Attr{attr("axis", nil), attr("new_axis", int64(0))},
		Infer: inferConcatFromSequence, Eval: evalConcatFromSequence,
		Cases: []ops.Case{
			{Name: "join", Attrs: graph.Attrs{"axis": int64(0)}, In: []*tensor.Tensor{ab}, Want: []*tensor.Tensor{tensor.Ints(1, 2, 3)}},
			{Name: "stack", Attrs: graph.Attrs{"axis": int64(-1), "new_axis": int64(1)}, In: []*tensor.Tensor{tensor.Seq(a, a)}, Want: []*tensor.Tensor{tensor.From([]int64{1, 1, 2, 2}, 2, 2)}},
		},
	}
	split := ops.Op{
		Doc: "The parts of the input along axis: of length split (a scalar), of the lengths in split, or single positions.",
		In:  params("input", "split?"), Out: params("output_sequence"),
		Attrs: []ops.Attr{attr("axis", int64(0)), attr("keepdims", int64(1))},
		Infer: inferSplitToSequence, Eval: evalSplitToSequence,
		Cases: []ops.Case{
			{Name: "uneven", In: []*tensor.Tensor{tensor.Ints(1, 2, 3), tensor.Scalar[int64](2)}, Want: []*tensor.Tensor{ab}},
			{Name: "single", Attrs: graph.Attrs{"keepdims": int64(0)}, In: []*tensor.Tensor{a}, Want: []*tensor.Tensor{tensor.Seq(tensor.Scalar[int64](1), tensor.Scalar[int64](2))}},
		},
	}
	rows := versions("SequenceEmpty", []int{11}, empty)
	rows = append(rows, versions("SequenceConstruct", []int{11}, construct)...)
	rows = append(rows, versions("SequenceInsert", []int{11}, insert)...)
	rows = append(rows, versions("SequenceErase", []int{11}, erase)...)
	rows = append(rows, versions("SequenceAt", []int{11}, at)...)
	rows = append(rows, versions("SequenceLength", []int{11}, length)...)
	rows = append(rows, versions("ConcatFromSequence", []int{11}, join)...)
	return append(rows, versions("SplitToSequence", []int{11, 24}, split)...)
}

func sequenceOf(elem graph.Type) graph.Type { return graph.Type{DType: tensor.Sequence, Elem: &elem} }

// wantSequence returns the member type of input i, which must be a sequence.
func wantSequence(c *ops.Infer, i int) (graph.Type, error) {
	t := c.Type(i)
	if t.DType != tensor.Sequence || t.Elem == nil {
		return t, c.Errorf("input %s is %s, want a sequence", inputName(c, i), t)
	}
	elem, err := *t.Elem, error(nil)
	if k := c.Const(i); k != nil { // the type of a constant is that of its first member
		for _, m := range k.Elems {
			if elem, err = joinTypes(c, elem, graph.TypeOf(m), anyAxis); err != nil {
				return elem, err
			}
		}
	}
	return elem, nil
}

// lengthPlus is the known length of sequence input i, plus n.
func lengthPlus(c *ops.Infer, i int, n int64) []graph.Dim {
	if l, ok := sequenceLen(c.Node.Input(i)); ok {
		return []graph.Dim{l.Add(graph.D(n))}
	}
	return nil
}

func sequenceLen(v *graph.Value) (graph.Dim, bool) {
	switch {
	case v == nil:
	case v.Const != nil:
		return graph.D(int64(len(v.Const.Elems))), true
	case v.Type.DType == tensor.Sequence && len(v.Known) == 1:
		return v.Known[0], true
	}
	return graph.Dim{}, false
}

func inferSequenceInsert(c *ops.Infer) error {
	member, err := wantSequence(c, 0)
	if err != nil {
		return err
	}
	elem := c.Type(1)
	if l, ok := sequenceLen(c.Node.Input(0)); !ok || !l.Is(0) {
		if elem, err = joinTypes(c, member, elem, anyAxis); err != nil {
			return err
		}
	} else if d := member.DType; d != tensor.Undefined && d != elem.DType {
		return c.Errorf("inserting %s into %s", elem, c.Type(0))
	}
	c.OutKnown(0, sequenceOf(elem), lengthPlus(c, 0, 1))
	return want(c, 2, indexTypes)
}

func inferConcatFromSequence(c *ops.Infer) error {
	elem, err := wantSequence(c, 0)
	if err != nil {
		return err
	}
	a := c.Node.Attrs
	if !elem.Ranked() {
		setOut(c, 0, unranked(elem.DType))
		return nil
	}
	stack := int(a.Int("new_axis", 0))
	if stack != 0 && stack != 1 {
		return c.Errorf("new_axis is %d, want 0 or 1", stack)
	}
	rank := elem.Rank() + stack
	axis, ok := axisOf(a.Int("axis", 0), rank, rank)
	if !ok {
		return c.Errorf("axis %d is outside rank %d", a.Int("axis", 0), rank)
	}
	shape := cloneDims(elem.Shape)
	if stack == 1 {
		shape = slices.Insert(shape, axis, graph.D(1))
	}
	for i, d := range shape {
		if d == anyLength {
			shape[i] = freshDim(c, 0, i)
		}
	}
	n, ok := sequenceLen(c.Node.Input(0))
	if ok && !(stack == 0 && elem.Shape[axis] == anyLength) {
		shape[axis] = shape[axis].Mul(n)
	} else {
		shape[axis] = freshDim(c, 0, axis)
	}
	setOut(c, 0, graph.T(elem.DType, shape...))
	return nil
}

func evalConcatFromSequence(c *ops.Call) ([]*tensor.Tensor, error) {
	elems, a := c.In[0].Elems, c.Node.Attrs
	if len(elems) == 0 {
		return nil, fmt.Errorf("the sequence is empty")
	}
	axis := a.Int("axis", 0)
	join := concatAny
	if a.Int("new_axis", 0) != 0 {
		join = stack
	}
	t, err := join(elems, axis)
	return one(t), err
}

// concatAny is concat for every element type.
func concatAny(list []*tensor.Tensor, axis int64) (*tensor.Tensor, error) {
	out, err := onBytes(func(c *ops.Call) ([]*tensor.Tensor, error) {
		t, err := concat(c.In, axis)
		return one(t), err
	})(&ops.Call{In: list})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// stack joins tensors along a new axis.
func stack(list []*tensor.Tensor, axis int64) (*tensor.Tensor, error) {
	rows := make([]*tensor.Tensor, len(list))
	for i, t := range list {
		ax, ok := axisOf(axis, t.Rank()+1, t.Rank()+1)
		if !ok {
			return nil, fmt.Errorf("axis %d is outside rank %d", axis, t.Rank()+1)
		}
		rows[i] = t.Reshaped(slices.Insert(slices.Clone(t.Shape), ax, 1)...)
	}
	return concatAny(rows, axis)
}

func inferSplitToSequence(c *ops.Infer) error {
	t, a := c.Type(0), c.Node.Attrs
	if !t.Ranked() {
		setOut(c, 0, sequenceOf(unranked(t.DType)))
		return nil
	}
	axis, ok := axisOf(a.Int("axis", 0), t.Rank(), t.Rank())
	if !ok {
		return c.Errorf("axis %d is outside %s", a.Int("axis", 0), t)
	}
	n, shape := t.Shape[axis], cloneDims(t.Shape)
	var count []graph.Dim
	switch sizes, known := c.Known(1); {
	case !c.Has(1) && a.Int("keepdims", 1) == 0:
		shape, count = slices.Delete(shape, axis, axis+1), []graph.Dim{n}
	case !c.Has(1):
		shape[axis], count = graph.D(1), []graph.Dim{n}
	case !known || len(sizes) == 0:
		shape[axis] = anyLength
		if l, ok := vectorLen(c.Type(1)); ok && c.Type(1).Rank() == 1 {
			count = graph.Ds(int64(l))
		}
	case c.Type(1).Rank() == 0:
		s, ok := sizes[0].Const()
		if ok && s <= 0 {
			return c.Errorf("split %d is not positive", s)
		}
		shape[axis] = anyLength
		if ok {
			count = []graph.Dim{n.CeilDiv(sizes[0])}
			if n.CeilDiv(sizes[0]).Mul(sizes[0]) == n {
				shape[axis] = sizes[0]
			}
		}
	default:
		shape[axis], count = sizes[0], graph.Ds(int64(len(sizes)))
		for _, s := range sizes {
			if s != sizes[0] {
				shape[axis] = anyLength
			}
		}
	}
	c.OutKnown(0, sequenceOf(graph.T(t.DType, shape...)), count)
	return want(c, 1, indexTypes)
}

func evalSplitToSequence(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	axis, ok := axisOf(a.Int("axis", 0), x.Rank(), x.Rank())
	if !ok {
		return nil, fmt.Errorf("axis %d is outside %s", a.Int("axis", 0), x.TypeString())
	}
	split, part := c.Arg(1), int64(1)
	var sizes []int64
	if split != nil && split.Rank() > 0 {
		sizes = split.AsInts()
	} else {
		if split != nil {
			part = split.IntAt(0)
		}
		if part <= 0 {
			return nil, fmt.Errorf("split %d is not positive", part)
		}
		for left := int64(x.Shape[axis]); left > 0; left -= part {
			sizes = append(sizes, min(part, left))
		}
	}
	parts, err := onBytes(func(c *ops.Call) ([]*tensor.Tensor, error) { return cut(c.In[0], axis, sizes) })(c)
	if err != nil {
		return nil, err
	}
	if split == nil && a.Int("keepdims", 1) == 0 {
		for i, p := range parts {
			parts[i] = p.Reshaped(slices.Delete(slices.Clone(p.Shape), axis, axis+1)...)
		}
	}
	return one(tensor.Seq(parts...)), nil
}

// anyLength stands in member types of sequences for a length that differs
// between members.
var anyLength = graph.Sym("?any")

func anyAxis(int) graph.Dim { return anyLength }

// joinTypes is the most precise type that covers both a and b: lengths that
// differ become fresh, ranks that differ unknown.
func joinTypes(c *ops.Infer, a, b graph.Type, fresh func(axis int) graph.Dim) (graph.Type, error) {
	if a.DType == tensor.Optional && a.Elem != nil && b.DType != tensor.Optional {
		e, err := joinTypes(c, *a.Elem, b, fresh) // what is there is an optional too
		return graph.Type{DType: a.DType, Elem: &e}, err
	}
	if a.DType != b.DType {
		return a, c.Errorf("types %s and %s do not go together", a, b)
	}
	if a.Elem != nil && b.Elem != nil {
		e, err := joinTypes(c, *a.Elem, *b.Elem, anyAxis)
		return graph.Type{DType: a.DType, Elem: &e}, err
	}
	if !a.Ranked() || !b.Ranked() || a.Rank() != b.Rank() {
		return unranked(a.DType), nil
	}
	shape := cloneDims(a.Shape)
	for i, d := range b.Shape {
		if d != shape[i] {
			shape[i] = fresh(i)
		}
	}
	return graph.T(a.DType, shape...), nil
}
