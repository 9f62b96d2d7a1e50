package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// nonzeroRows: NonZero, Compress. How much they select, only running tells,
// except where all of NonZero's input is known to be non-zero.
func nonzeroRows() []*ops.Op {
	nonzero := ops.Op{
		Doc: "The positions of the elements that are not zero, in row-major order, as int64[rank, n].",
		In:  params("X"), Out: params("Y"), Attrs: noAttrs,
		Infer: inferNonZero, Eval: evalNonZero,
		Cases: []ops.Case{{Name: "matrix", In: []*tensor.Tensor{tensor.From([]bool{true, false, true, true}, 2, 2)}, Want: []*tensor.Tensor{tensor.From([]int64{0, 1, 1, 0, 0, 1}, 2, 3)}}},
	}
	compress := ops.Op{
		Doc: "The slices along axis (the elements, without axis) where condition holds; it may be shorter than the axis.",
		In:  params("input", "condition"), Out: params("output"), Attrs: []ops.Attr{attrOpt("axis")},
		Infer: inferCompress, Eval: onBytes(evalCompress),
		Cases: []ops.Case{
			{Name: "rows", Attrs: graph.Attrs{"axis": int64(0)}, In: []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4, 5, 6}, 3, 2), tensor.From([]bool{false, true, true}, 3)}, Want: []*tensor.Tensor{tensor.From([]float32{3, 4, 5, 6}, 2, 2)}},
			{Name: "flat", In: []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4}, 2, 2), tensor.From([]bool{false, true}, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{2}, 1)}},
		},
	}
	return append(versions("NonZero", []int{9, 13}, nonzero), versions("Compress", []int{9, 11, 28}, compress)...)
}

func inferNonZero(c *ops.Infer) error {
	t := c.Type(0)
	if err := want(c, 0, castTypes); err != nil {
		return err
	}
	if !t.Ranked() {
		setOut(c, 0, graph.T(tensor.Int64, freshShape(c, 0, 2)...))
		return nil
	}
	n := freshDim(c, 0, 1)
	if allNonZero(c.Node.Input(0)) {
		n, _ = t.Len()
	}
	out := graph.T(tensor.Int64, graph.D(int64(t.Rank())), n)
	if dims, ok := c.Known(0); ok {
		// Contents decide when each is a number or provably not zero.
		set := make([]int64, len(dims))
		count := int64(0)
		for i, d := range dims {
			switch {
			case d.Is(0):
			case d.IsConst() || d.AtLeast(graph.D(1)) || graph.D(-1).AtLeast(d):
				set[i] = 1
				count++
			default:
				setOut(c, 0, out)
				return nil
			}
		}
		out.Shape[1] = graph.D(count)
		if shape, ok := t.Static(); ok && product(shape) == len(set) {
			list := nonZeros(fromInts(tensor.Int64, set, shape...))
			c.OutKnown(0, out, graph.Ds(list.AsInts()...))
			return nil
		}
	}
	setOut(c, 0, out)
	return nil
}

// allNonZero recognises how exporters spell a range: the non-zero positions of
// a tensor of ones.
func allNonZero(v *graph.Value) bool {
	if v == nil || v.Def == nil {
		return false
	}
	switch n := v.Def; n.Op.Name {
	case "ConstantOfShape":
		t, err := fillValue(n.Attrs)
		return n.Op.Domain == "" && err == nil && numberTypes.Has(t.DType) && t.At(0) != 0
	case "Expand", "Identity":
		return n.Op.Domain == "" && allNonZero(n.Input(0))
	}
	return false
}

func evalNonZero(c *ops.Call) ([]*tensor.Tensor, error) { return one(nonZeros(c.In[0])), nil }

func nonZeros(x *tensor.Tensor) *tensor.Tensor {
	var at []int
	for i := range x.Len() {
		if x.DType == tensor.String && x.Strings[i] != "" || x.DType != tensor.String && x.At(i) != 0 {
			at = append(at, i)
		}
	}
	out := tensor.New(tensor.Int64, x.Rank(), len(at))
	st := strides(x.Shape)
	for a := range x.Shape {
		for j, i := range at {
			out.SetIntAt(a*len(at)+j, int64(i/st[a]%x.Shape[a]))
		}
	}
	return out
}

func inferCompress(c *ops.Infer) error {
	t, a := c.Type(0), c.Node.Attrs
	if err := want(c, 1, boolType); err != nil {
		return err
	}
	if err := rankIs(c, 1, 1); err != nil {
		return err
	}
	if !a.Has("axis") {
		setOut(c, 0, graph.T(t.DType, freshDim(c, 0, 0)))
		return nil
	}
	if !t.Ranked() {
		setOut(c, 0, t)
		return nil
	}
	axis, ok := axisOf(a.Int("axis", 0), t.Rank(), t.Rank())
	if !ok {
		return c.Errorf("axis %d is outside %s", a.Int("axis", 0), t)
	}
	shape := cloneDims(t.Shape)
	shape[axis] = freshDim(c, 0, axis)
	setOut(c, 0, graph.T(t.DType, shape...))
	return nil
}

func evalCompress(c *ops.Call) ([]*tensor.Tensor, error) {
	x, cond, a := c.In[0], c.In[1], c.Node.Attrs
	if !a.Has("axis") {
		x = x.Reshaped(x.Len())
	}
	axis, ok := axisOf(a.Int("axis", 0), x.Rank(), x.Rank())
	if !ok {
		return nil, fmt.Errorf("axis %d is outside %s", a.Int("axis", 0), x.TypeString())
	}
	var at []int64
	for i := range min(cond.Len(), x.Shape[axis]) {
		if cond.IntAt(i) != 0 {
			at = append(at, int64(i))
		}
	}
	return one(take(x, axis, at)), nil
}
