package onnx

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// sliceRows: Slice with attributes (opset 1) and with inputs (10 on).
func sliceRows() []*ops.Op {
	m := tensor.From([]int64{1, 2, 3, 4, 5, 6, 7, 8}, 2, 4)
	slice1 := ops.Op{
		Doc: "data[starts:ends] on the given axes; negative positions count from the end.",
		In:  params("data"), Out: params("output"),
		Attrs: []ops.Attr{attr("starts", nil), attr("ends", nil), attrOpt("axes")},
		Infer: inferSlice, Eval: onBytes(evalSlice),
		Cases: []ops.Case{{Name: "cols", Attrs: graph.Attrs{"starts": []int64{1}, "ends": []int64{-1}, "axes": []int64{1}}, In: []*tensor.Tensor{m}, Want: []*tensor.Tensor{tensor.From([]int64{2, 3, 6, 7}, 2, 2)}}},
	}
	slice10 := slice1
	slice10.Doc = "data[starts:ends:steps] on the given axes; negative positions count from the end, a negative step walks backward."
	slice10.In, slice10.Attrs = params("data", "starts", "ends", "axes?", "steps?"), noAttrs
	slice10.Cases = []ops.Case{
		{Name: "steps", In: []*tensor.Tensor{m, tensor.Ints(1, 0), tensor.Ints(2, 3), tensor.Ints(0, 1), tensor.Ints(1, 2)}, Want: []*tensor.Tensor{tensor.From([]int64{5, 7}, 1, 2)}},
		{Name: "reverse", In: []*tensor.Tensor{m, tensor.Ints(-1), tensor.Ints(-1 << 63), tensor.Ints(1), tensor.Ints(-1)}, Want: []*tensor.Tensor{tensor.From([]int64{4, 3, 2, 1, 8, 7, 6, 5}, 2, 4)}},
		{Name: "empty", In: []*tensor.Tensor{m, tensor.Ints(9), tensor.Ints(1<<63 - 1), tensor.Ints(1)}, Want: []*tensor.Tensor{tensor.New(tensor.Int64, 2, 0)}},
	}
	return append(versions("Slice", []int{1}, slice1), versions("Slice", []int{10, 11, 13}, slice10)...)
}

// far is the magnitude from which exporters mean "to the end" by a position.
const far = 1<<31 - 1

// sliceParam returns one of Slice's lists, from attribute or input.
func sliceParam(c *ops.Infer, name string, input int) (dims []graph.Dim, given, known bool) {
	if c.Node.Attrs.Has(name) {
		return graph.Ds(c.Node.Attrs.Ints(name)...), true, true
	}
	if !c.Has(input) {
		return nil, false, false
	}
	dims, known = c.Known(input)
	return dims, true, known
}

func inferSlice(c *ops.Infer) error {
	t := c.Type(0)
	for i := 1; i < 5; i++ {
		if err := want(c, i, indexTypes); err != nil {
			return err
		}
	}
	if !t.Ranked() {
		setOut(c, 0, t)
		return nil
	}
	starts, _, okS := sliceParam(c, "starts", 1)
	ends, _, okE := sliceParam(c, "ends", 2)
	steps, haveSteps, okT := sliceParam(c, "steps", 4)
	axes, known, err := sliceAxes(c, t)
	if err != nil {
		return err
	}
	shape := cloneDims(t.Shape)
	if !known {
		setOut(c, 0, graph.T(t.DType, freshShape(c, 0, t.Rank())...))
		return nil
	}
	if okS && len(starts) != len(axes) || okE && len(ends) != len(axes) || okT && len(steps) != len(axes) {
		return c.Errorf("%d axes with %d starts, %d ends, %d steps", len(axes), len(starts), len(ends), len(steps))
	}
	for i, a := range axes {
		step := int64(1)
		if haveSteps {
			ok := okT
			if okT {
				step, ok = steps[i].Const()
			}
			if !ok {
				shape[a] = freshDim(c, 0, a)
				continue
			}
		}
		if step == 0 {
			return c.Errorf("step on axis %d is 0", a)
		}
		if !okS || !okE {
			shape[a] = freshDim(c, 0, a)
			continue
		}
		shape[a] = sliceLen(shape[a], starts[i], ends[i], step)
	}
	setOut(c, 0, graph.T(t.DType, shape...))
	carryKnown(c, evalSlice, 0)
	return nil
}

// sliceAxes lists the sliced axes; known is false when their numbers are not.
func sliceAxes(c *ops.Infer, t graph.Type) (axes []int, known bool, err error) {
	dims, given, ok := sliceParam(c, "axes", 3)
	if !given {
		n := -1
		for i, name := range []string{"starts", "ends"} {
			if l, _, ok := sliceParam(c, name, i+1); ok {
				n = len(l)
			} else if l, ok := vectorLen(c.Type(i + 1)); ok {
				n = l
			}
		}
		if n > t.Rank() {
			return nil, false, c.Errorf("%d starts for %s", n, t)
		}
		for i := range n {
			axes = append(axes, i)
		}
		return axes, n >= 0, nil
	}
	list := make([]int64, len(dims))
	for i, d := range dims {
		if list[i], ok = d.Const(); !ok {
			return nil, false, nil
		}
	}
	if !ok && len(dims) == 0 {
		return nil, false, nil
	}
	if axes, err = axesOf(list, t.Rank()); err != nil {
		return nil, false, c.Errorf("%w of %s", err, t)
	}
	return axes, true, nil
}

// sliceLen is the length of [s:e:k] of an axis of length n.
//
// With s and e counted from the front, a forward slice has
// max(0, min(n,e)-max(0,s)) positions; the difference is written as a minimum
// of four differences, which simplifies far better: [-3:] gives min(n,3).
func sliceLen(n, s, e graph.Dim, k int64) graph.Dim {
	zero, one := graph.D(0), graph.D(1)
	s, e = fromFront(s, n), fromFront(e, n)
	if k > 0 {
		span := least(n, e, n.Sub(s), e.Sub(s)).Max(zero)
		return span.CeilDiv(graph.D(k))
	}
	if !s.AtLeast(zero) {
		s = s.Max(zero)
	}
	last := n.Sub(one) // s is at most last, e at least -1
	span := least(n, last.Sub(e), s.Add(one), s.Sub(e)).Max(zero)
	if k == -1<<63 {
		return span.Min(one)
	}
	return span.CeilDiv(graph.D(-k))
}

// least is the smallest of several dimensions; equal ones count once.
func least(dims ...graph.Dim) graph.Dim {
	d := dims[0]
	for i, m := range dims[1:] {
		if !slices.Contains(dims[:i+1], m) {
			d = d.Min(m)
		}
	}
	return d
}

// fromFront turns a position that may count from the end of an axis of length
// n into one from the front; positions out of range stay out of range.
func fromFront(p, n graph.Dim) graph.Dim {
	zero := graph.D(0)
	if v, ok := p.Const(); ok {
		switch {
		case v >= far: // not the number itself: min(n, 2^31) would not simplify
			return n
		case v <= -far:
			return graph.D(-1)
		case v < 0:
			return n.Add(p)
		}
		return p
	}
	if p.AtLeast(zero) {
		return p
	}
	if graph.D(-1).AtLeast(p) {
		return n.Add(p)
	}
	negative := p.Neg().Max(zero).Min(graph.D(1)) // 1 where p < 0, else 0
	return p.Add(n.Mul(negative))
}

func evalSlice(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	list := func(name string, input int) []int64 {
		if t := c.Arg(input); t != nil {
			return t.AsInts()
		}
		return a.Ints(name)
	}
	starts, ends, steps := list("starts", 1), list("ends", 2), list("steps", 4)
	axesList := list("axes", 3)
	if axesList == nil {
		for i := range starts {
			axesList = append(axesList, int64(i))
		}
	}
	axes, err := axesOf(axesList, x.Rank())
	if err != nil {
		return nil, err
	}
	if len(starts) != len(axes) || len(ends) != len(axes) || steps != nil && len(steps) != len(axes) {
		return nil, fmt.Errorf("%d axes with %d starts, %d ends, %d steps", len(axes), len(starts), len(ends), len(steps))
	}
	off, st := 0, strides(x.Shape)
	shape, from := append([]int{}, x.Shape...), append([]int{}, st...)
	for i, ax := range axes {
		step := int64(1)
		if steps != nil {
			step = steps[i]
		}
		if step == 0 {
			return nil, fmt.Errorf("step on axis %d is 0", ax)
		}
		start, n := sliceRange(int64(x.Shape[ax]), starts[i], ends[i], step)
		off += int(start) * st[ax]
		shape[ax] = int(n)
		from[ax] = st[ax] * int(step)
		if n <= 1 {
			from[ax] = 0 // a huge step must not overflow
		}
	}
	out := tensor.New(x.DType, shape...)
	moveND(out, 0, strides(shape), x, off, from, shape)
	return one(out), nil
}

// sliceRange clamps a slice to an axis of length n as the operator says.
func sliceRange(n, s, e, k int64) (start, count int64) {
	if s < 0 {
		s = max(s+n, -1)
	}
	if e < 0 {
		e = max(e+n, -1)
	}
	if n == 0 {
		return 0, 0
	}
	if k > 0 {
		s, e = min(max(s, 0), n), min(max(e, 0), n)
		if s >= e {
			return 0, 0
		}
		return s, (e-s-1)/k + 1
	}
	s, e = min(max(s, 0), n-1), min(max(e, -1), n-1)
	if s <= e {
		return 0, 0
	}
	if k == -1<<63 {
		return s, 1
	}
	return s, (s-e-1)/-k + 1
}
