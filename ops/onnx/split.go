package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// splitRows: Split with sizes as attribute (2, 11), as input (13), and with
// num_outputs, which allows a smaller last part (18).
func splitRows() []*ops.Op {
	v := tensor.Ints(1, 2, 3, 4, 5, 6)
	split2 := ops.Op{
		Doc: "The input cut along axis into parts of the given sizes, or into equal parts.",
		In:  params("input"), Out: params("outputs..."),
		Attrs: []ops.Attr{attr("axis", int64(0)), attrOpt("split")},
		Infer: inferSplit, Eval: onBytes(evalSplit),
		Cases: []ops.Case{{Name: "equal", In: []*tensor.Tensor{v}, NOut: 2, Want: []*tensor.Tensor{tensor.Ints(1, 2, 3), tensor.Ints(4, 5, 6)}}},
	}
	split13 := split2
	split13.In, split13.Attrs = params("input", "split?"), []ops.Attr{attr("axis", int64(0))}
	split13.Cases = []ops.Case{{Name: "sizes", In: []*tensor.Tensor{v, tensor.Ints(1, 0, 5)}, NOut: 3, Want: []*tensor.Tensor{tensor.Ints(1), tensor.Ints(), tensor.Ints(2, 3, 4, 5, 6)}}}
	split18 := split13
	split18.Attrs = []ops.Attr{attr("axis", int64(0)), attrOpt("num_outputs")}
	split18.Cases = append([]ops.Case{{Name: "uneven", Attrs: graph.Attrs{"num_outputs": int64(4)}, In: []*tensor.Tensor{tensor.Ints(1, 2, 3, 4, 5, 6, 7)}, NOut: 4, Want: []*tensor.Tensor{tensor.Ints(1, 2), tensor.Ints(3, 4), tensor.Ints(5, 6), tensor.Ints(7)}}}, split13.Cases...)
	rows := versions("Split", []int{2, 11}, split2)
	rows = append(rows, versions("Split", []int{13}, split13)...)
	return append(rows, versions("Split", []int{18}, split18)...)
}

func inferSplit(c *ops.Infer) error {
	t, a := c.Type(0), c.Node.Attrs
	if err := want(c, 1, indexTypes); err != nil {
		return err
	}
	parts := len(c.Node.Out)
	if n := a.Int("num_outputs", int64(parts)); n != int64(parts) {
		return c.Errorf("num_outputs is %d, the node has %d outputs", n, parts)
	}
	if !t.Ranked() {
		for i := range parts {
			setOut(c, i, unranked(t.DType))
		}
		return nil
	}
	axis, ok := axisOf(a.Int("axis", 0), t.Rank(), t.Rank())
	if !ok {
		return c.Errorf("axis %d is outside %s", a.Int("axis", 0), t)
	}
	sizes, err := splitSizes(c, t.Shape[axis], parts, axis)
	if err != nil {
		return err
	}
	for i, n := range sizes {
		shape := cloneDims(t.Shape)
		shape[axis] = n
		setOut(c, i, graph.T(t.DType, shape...))
	}
	carryKnown(c, evalSplit, 0)
	return nil
}

func splitSizes(c *ops.Infer, n graph.Dim, parts, axis int) ([]graph.Dim, error) {
	sizes, ok := graph.Ds(c.Node.Attrs.Ints("split")...), c.Node.Attrs.Has("split")
	if c.Has(1) {
		if sizes, ok = c.Known(1); !ok {
			for i := range parts {
				sizes = append(sizes, freshDim(c, i, axis))
			}
			return sizes, nil
		}
	}
	if !ok {
		sizes = make([]graph.Dim, parts)
		part := n.CeilDiv(graph.D(int64(parts)))
		for i := range sizes {
			sizes[i] = part
		}
		switch whole := part.Mul(graph.D(int64(parts))); {
		case whole == n:
		case !c.Node.Attrs.Has("num_outputs") && n.IsConst():
			return nil, c.Errorf("axis %d of %s does not split into %d equal parts", axis, c.Type(0), parts)
		case !c.Node.Attrs.Has("num_outputs"): // before opset 18 the parts are equal, so n is divisible
			for i := range sizes {
				sizes[i] = n.FloorDiv(graph.D(int64(parts)))
			}
		default:
			for i := range sizes { // the last parts get what is left
				sizes[i] = n.Sub(part.Mul(graph.D(int64(i)))).Min(part).Max(graph.D(0))
			}
		}
		return sizes, nil
	}
	if len(sizes) != parts {
		return nil, c.Errorf("%d sizes for %d outputs", len(sizes), parts)
	}
	sum := graph.D(0)
	for _, s := range sizes {
		if v, ok := s.Const(); ok && v < 0 {
			return nil, c.Errorf("split sizes %v are negative", sizes)
		}
		sum = sum.Add(s)
	}
	if d, ok := sum.Sub(n).Const(); ok && d != 0 {
		return nil, c.Errorf("split sizes %v add up to %v, axis %d of %s has length %v", sizes, sum, axis, c.Type(0), n)
	}
	return sizes, nil
}

func evalSplit(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	axis, ok := axisOf(a.Int("axis", 0), x.Rank(), x.Rank())
	if !ok {
		return nil, fmt.Errorf("axis %d is outside %s", a.Int("axis", 0), x.TypeString())
	}
	n, parts := x.Shape[axis], max(len(c.Node.Out), 1)
	sizes := a.Ints("split")
	if t := c.Arg(1); t != nil {
		sizes = t.AsInts()
	}
	if sizes == nil {
		part, left := (n+parts-1)/parts, n
		if part*parts != n && !a.Has("num_outputs") {
			return nil, fmt.Errorf("axis %d of %s does not split into %d equal parts", axis, x.TypeString(), parts)
		}
		for range parts {
			sizes = append(sizes, int64(min(part, left)))
			left -= min(part, left)
		}
	}
	return cut(x, axis, sizes)
}

// cut divides x along an axis into consecutive parts.
func cut(x *tensor.Tensor, axis int, sizes []int64) ([]*tensor.Tensor, error) {
	out, pos, st := make([]*tensor.Tensor, len(sizes)), 0, strides(x.Shape)
	for i, n := range sizes {
		if n < 0 || pos+int(n) > x.Shape[axis] {
			return nil, fmt.Errorf("split sizes %v do not fit axis %d of %s", sizes, axis, x.TypeString())
		}
		shape := append([]int{}, x.Shape...)
		shape[axis] = int(n)
		out[i] = tensor.New(x.DType, shape...)
		moveND(out[i], 0, strides(shape), x, pos*st[axis], st, shape)
		pos += int(n)
	}
	if pos != x.Shape[axis] {
		return nil, fmt.Errorf("split sizes %v do not add up to axis %d of %s", sizes, axis, x.TypeString())
	}
	return out, nil
}
