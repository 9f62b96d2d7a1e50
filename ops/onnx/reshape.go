package onnx

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// reshapeRows: Reshape, Flatten, Squeeze, Unsqueeze. All keep the row-major
// order of the elements.
func reshapeRows() []*ops.Op {
	m23 := tensor.New(tensor.Float32, 2, 3)
	reshape := ops.Op{
		Doc: "data with the lengths that shape lists: 0 keeps the length of that axis (unless allowzero), one -1 takes what is left.",
		In:  params("data", "shape"), Out: params("reshaped"), Attrs: noAttrs,
		Traits: ops.View,
		Infer:  inferReshape, Eval: evalReshape,
		Cases: []ops.Case{
			{Name: "minus", In: []*tensor.Tensor{m23, tensor.Ints(-1, 2)}, Want: []*tensor.Tensor{m23.Reshaped(3, 2)}},
			{Name: "zero", In: []*tensor.Tensor{m23, tensor.Ints(0, 1, -1)}, Want: []*tensor.Tensor{m23.Reshaped(2, 1, 3)}},
			{Name: "scalar", In: []*tensor.Tensor{tensor.Ints(7), tensor.Ints()}, Want: []*tensor.Tensor{tensor.Scalar[int64](7)}},
		},
	}
	reshape14 := reshape
	reshape14.Attrs = []ops.Attr{attr("allowzero", int64(0))}
	flatten := ops.Op{
		Doc: "A matrix: the axes before axis joined, and the rest joined.",
		In:  params("input"), Out: params("output"), Attrs: []ops.Attr{attr("axis", int64(1))},
		Traits: ops.View,
		Infer:  inferFlatten,
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x := c.In[0]
			a, ok := axisOf(c.Node.Attrs.Int("axis", 1), x.Rank(), x.Rank()+1)
			if !ok {
				return nil, fmt.Errorf("axis %d is outside rank %d", c.Node.Attrs.Int("axis", 1), x.Rank())
			}
			return one(x.Reshaped(product(x.Shape[:a]), product(x.Shape[a:]))), nil
		},
		Cases: []ops.Case{{Name: "axis1", In: []*tensor.Tensor{tensor.New(tensor.Float32, 2, 3, 4)}, Want: []*tensor.Tensor{tensor.New(tensor.Float32, 2, 12)}}},
	}
	squeeze := ops.Op{
		Doc: "data without the given axes, which have length 1; without axes, without every axis of length 1.",
		In:  params("data"), Out: params("squeezed"), Attrs: []ops.Attr{attrOpt("axes")},
		Traits: ops.View,
		Infer:  inferSqueeze, Eval: evalSqueeze,
		Cases: []ops.Case{
			{Name: "one", Attrs: graph.Attrs{"axes": []int64{1}}, In: []*tensor.Tensor{m23.Reshaped(2, 1, 3, 1)}, Want: []*tensor.Tensor{m23.Reshaped(2, 3, 1)}},
			{Name: "all", In: []*tensor.Tensor{m23.Reshaped(2, 1, 3, 1)}, Want: []*tensor.Tensor{m23}},
		},
	}
	squeeze13 := squeeze
	squeeze13.In, squeeze13.Attrs = params("data", "axes?"), noAttrs
	squeeze13.Cases = []ops.Case{
		{Name: "one", In: []*tensor.Tensor{m23.Reshaped(2, 1, 3, 1), tensor.Ints(-1)}, Want: []*tensor.Tensor{m23.Reshaped(2, 1, 3)}},
		{Name: "all", In: []*tensor.Tensor{m23.Reshaped(2, 1, 3, 1)}, Want: []*tensor.Tensor{m23}},
	}
	unsqueeze := ops.Op{
		Doc: "data with axes of length 1 inserted, at the given positions of the result.",
		In:  params("data"), Out: params("expanded"), Attrs: []ops.Attr{attr("axes", nil)},
		Traits: ops.View,
		Infer:  inferUnsqueeze, Eval: evalUnsqueeze,
		Cases: []ops.Case{{Name: "two", Attrs: graph.Attrs{"axes": []int64{0, 3}}, In: []*tensor.Tensor{m23}, Want: []*tensor.Tensor{m23.Reshaped(1, 2, 3, 1)}}},
	}
	unsqueeze13 := unsqueeze
	unsqueeze13.In, unsqueeze13.Attrs = params("data", "axes"), noAttrs
	unsqueeze13.Cases = []ops.Case{
		{Name: "two", In: []*tensor.Tensor{m23, tensor.Ints(-1, 0)}, Want: []*tensor.Tensor{m23.Reshaped(1, 2, 3, 1)}},
		{Name: "scalar", In: []*tensor.Tensor{tensor.Scalar[int64](3), tensor.Ints(0)}, Want: []*tensor.Tensor{tensor.Ints(3)}},
	}
	rows := versions("Reshape", []int{5, 13}, reshape)
	rows = append(rows, versions("Reshape", []int{14, 19, 21, 23, 24, 25}, reshape14)...)
	rows = append(rows, versions("Flatten", []int{1, 9, 11, 13, 21, 23, 24, 25}, flatten)...)
	rows = append(rows, versions("Squeeze", []int{1, 11}, squeeze)...)
	rows = append(rows, versions("Squeeze", []int{13, 21, 23, 24, 25}, squeeze13)...)
	rows = append(rows, versions("Unsqueeze", []int{1, 11}, unsqueeze)...)
	return append(rows, versions("Unsqueeze", []int{13, 21, 23, 24, 25}, unsqueeze13)...)
}

func inferReshape(c *ops.Infer) error {
	t := c.Type(0)
	if err := want(c, 1, indexTypes); err != nil {
		return err
	}
	target, ok := c.Known(1)
	if !ok {
		out := unranked(t.DType)
		if n, ok := vectorLen(c.Type(1)); ok {
			out.Shape = freshShape(c, 0, n)
		}
		keepKnown(c, out)
		return nil
	}
	shape, err := reshapeTo(c, t, target, c.Node.Attrs.Int("allowzero", 0) != 0)
	if err != nil {
		return err
	}
	keepKnown(c, graph.Type{DType: t.DType, Shape: shape})
	return nil
}

// reshapeTo resolves 0 and -1 in the target of a Reshape.
func reshapeTo(c *ops.Infer, t graph.Type, target []graph.Dim, allowZero bool) ([]graph.Dim, error) {
	shape := cloneDims(target)
	minus, rest := -1, graph.D(1)
	for i, d := range shape {
		switch {
		case d.Is(-1) && minus >= 0:
			return nil, c.Errorf("shape %v has two -1", target)
		case d.Is(-1):
			minus = i
			continue
		case d.Is(0) && !allowZero && !t.Ranked():
			shape[i] = freshDim(c, 0, i)
		case d.Is(0) && !allowZero && i >= t.Rank():
			return nil, c.Errorf("shape %v copies axis %d of %s, which has no such axis", target, i, t)
		case d.Is(0) && !allowZero:
			shape[i] = t.Shape[i]
		case !d.IsConst() && !allowZero && !d.AtLeast(graph.D(1)) && !copiesItself(t, target, i):
			shape[i] = freshDim(c, 0, i)
		default:
			if n, ok := d.Const(); ok && n < 0 {
				return nil, c.Errorf("shape %v has the negative length %d", target, n)
			}
		}
		rest = rest.Mul(shape[i])
	}
	total, ranked := t.Len()
	switch {
	case minus >= 0 && !ranked:
		shape[minus] = freshDim(c, 0, minus)
	case minus >= 0:
		q, ok := quotient(t.Shape, slices.Delete(slices.Clone(shape), minus, minus+1))
		if !ok {
			return nil, c.Errorf("%s does not divide into shape %v", t, target)
		}
		shape[minus] = q
	case ranked && total.IsConst() && rest.IsConst() && total != rest:
		return nil, c.Errorf("%s has %v elements, shape %v has %v", t, total, target, rest)
	}
	return shape, nil
}

// copiesItself: a computed length that may turn out to be 0 stands for the
// input's axis then. It can be taken as it is all the same when that axis is
// it, when the input is then empty and nothing else in the target could be, or
// when with the input's axis in its place the numbers of elements would differ.
func copiesItself(t graph.Type, target []graph.Dim, i int) bool {
	if i >= t.Rank() || t.Shape[i] == target[i] {
		return t.Ranked() // there is no axis to stand for: the run would fail
	}
	others, copied := true, t.Shape[i]
	for j, d := range target {
		if j != i {
			others = others && d.AtLeast(graph.D(1))
			copied = copied.Mul(d)
		}
	}
	if others && slices.Contains(t.Shape, target[i]) {
		return true
	}
	total, _ := t.Len()
	return others && (copied.Sub(total).AtLeast(graph.D(1)) || total.Sub(copied).AtLeast(graph.D(1)))
}

// quotient divides the product of a by the product of b. Lengths that occur on
// both sides cancel first: that is exact where division of polynomials may not
// see it. It fails on numbers that do not divide.
func quotient(a, b []graph.Dim) (graph.Dim, bool) {
	num, den := slices.Clone(a), graph.D(1)
	for _, d := range b {
		if i := slices.Index(num, d); i >= 0 && !d.Is(0) {
			num = slices.Delete(num, i, i+1)
		} else {
			den = den.Mul(d)
		}
	}
	total := graph.D(1)
	for _, d := range num {
		total = total.Mul(d)
	}
	if q, ok := total.DivExact(den); ok {
		return q, true
	}
	if den.Is(0) || total.IsConst() && den.IsConst() {
		return graph.Dim{}, false
	}
	return total.FloorDiv(den), true
}

func evalReshape(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	shape, minus, rest := make([]int, c.In[1].Len()), -1, 1
	for i, d := range c.In[1].AsInts() {
		switch {
		case d == -1 && minus < 0:
			minus = i
			continue
		case d == 0 && c.Node.Attrs.Int("allowzero", 0) == 0 && i < x.Rank():
			shape[i] = x.Shape[i]
		case d < 0 || d == 0 && c.Node.Attrs.Int("allowzero", 0) == 0:
			return nil, fmt.Errorf("cannot reshape %s to %v", x.TypeString(), c.In[1].AsInts())
		default:
			shape[i] = int(d)
		}
		rest *= shape[i]
	}
	if minus >= 0 && rest > 0 {
		shape[minus] = x.Len() / rest
		rest *= shape[minus]
	} else if minus >= 0 {
		return nil, fmt.Errorf("cannot reshape %s to %v: -1 can be anything", x.TypeString(), c.In[1].AsInts())
	}
	if rest != x.Len() {
		return nil, fmt.Errorf("cannot reshape %s to %v", x.TypeString(), c.In[1].AsInts())
	}
	return one(x.Reshaped(shape...)), nil
}

func inferFlatten(c *ops.Infer) error {
	t := c.Type(0)
	if !t.Ranked() {
		keepKnown(c, graph.T(t.DType, freshShape(c, 0, 2)...))
		return nil
	}
	axis := c.Node.Attrs.Int("axis", 1)
	a, ok := axisOf(axis, t.Rank(), t.Rank()+1)
	if !ok {
		return c.Errorf("axis %d is outside %s", axis, t)
	}
	rows, _ := graph.T(t.DType, t.Shape[:a]...).Len()
	cols, _ := graph.T(t.DType, t.Shape[a:]...).Len()
	keepKnown(c, graph.T(t.DType, rows, cols))
	return nil
}

// axesParam returns the axes that came as an attribute (before opset 13) or as
// input 1. given: there are axes; known: their numbers are known.
func axesParam(c *ops.Infer) (axes []int64, given, known bool) {
	if c.Node.Attrs.Has("axes") {
		return c.Node.Attrs.Ints("axes"), true, true
	}
	if !c.Has(1) {
		return nil, false, true
	}
	axes, ok := c.Ints(1)
	return axes, true, ok
}

func axesArg(c *ops.Call) (axes []int64, given bool) {
	if t := c.Arg(1); t != nil {
		return t.AsInts(), true
	}
	return c.Node.Attrs.Ints("axes"), c.Node.Attrs.Has("axes")
}

func inferSqueeze(c *ops.Infer) error {
	t := c.Type(0)
	axes, given, known := axesParam(c)
	out := unranked(t.DType)
	switch {
	case !t.Ranked():
	case !known:
		if n, ok := vectorLen(c.Type(1)); ok && n <= t.Rank() {
			out.Shape = freshShape(c, 0, t.Rank()-n)
		}
	case given:
		drop, err := axesOf(axes, t.Rank())
		if err != nil {
			return c.Errorf("%w of %s", err, t)
		}
		out.Shape = []graph.Dim{}
		for i, d := range t.Shape {
			switch {
			case !slices.Contains(drop, i):
				out.Shape = append(out.Shape, d)
			case d.IsConst() && !d.Is(1):
				return c.Errorf("axis %d of %s has length %v, want 1", i, t, d)
			}
		}
	default:
		out.Shape = []graph.Dim{}
		for _, d := range t.Shape {
			switch {
			case !d.IsConst() && !d.AtLeast(graph.D(2)):
				keepKnown(c, unranked(t.DType)) // may be 1 at run time: the rank depends on it
				return nil
			case !d.Is(1):
				out.Shape = append(out.Shape, d)
			}
		}
	}
	keepKnown(c, out)
	return nil
}

func evalSqueeze(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	list, given := axesArg(c)
	axes, err := axesOf(list, x.Rank())
	if err != nil {
		return nil, err
	}
	shape := []int{}
	for i, n := range x.Shape {
		switch listed := slices.Contains(axes, i); {
		case listed && n != 1:
			return nil, fmt.Errorf("axis %d of %s has length %d, want 1", i, x.TypeString(), n)
		case !listed && (given || n != 1):
			shape = append(shape, n)
		}
	}
	return one(x.Reshaped(shape...)), nil
}

func inferUnsqueeze(c *ops.Infer) error {
	t := c.Type(0)
	list, given, known := axesParam(c)
	if !given {
		return c.Errorf("axes are missing")
	}
	if !t.Ranked() {
		keepKnown(c, unranked(t.DType))
		return nil
	}
	if !known {
		out := unranked(t.DType)
		if n, ok := vectorLen(c.Type(1)); ok {
			out.Shape = freshShape(c, 0, t.Rank()+n)
		}
		keepKnown(c, out)
		return nil
	}
	rank := t.Rank() + len(list)
	axes, err := axesOf(list, rank)
	if err != nil {
		return c.Errorf("%w of the result", err)
	}
	shape, rest := make([]graph.Dim, rank), t.Shape
	for i := range shape {
		if slices.Contains(axes, i) {
			shape[i] = graph.D(1)
		} else {
			shape[i], rest = rest[0], rest[1:]
		}
	}
	keepKnown(c, graph.T(t.DType, shape...))
	return nil
}

func evalUnsqueeze(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	list, _ := axesArg(c)
	rank := x.Rank() + len(list)
	axes, err := axesOf(list, rank)
	if err != nil {
		return nil, err
	}
	shape, rest := make([]int, rank), x.Shape
	for i := range shape {
		if slices.Contains(axes, i) {
			shape[i] = 1
		} else {
			shape[i], rest = rest[0], rest[1:]
		}
	}
	return one(x.Reshaped(shape...)), nil
}
