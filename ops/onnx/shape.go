package onnx

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// shapeRows: Shape, Size, Identity.
func shapeRows() []*ops.Op {
	shape := ops.Op{
		Doc: "The lengths of the axes of data, from axis start up to end, as int64[n].",
		In:  params("data"), Out: params("shape"), Attrs: noAttrs,
		Traits: ops.ShapeOnly,
		Infer:  inferShape, Eval: evalShape,
		Cases: []ops.Case{
			{Name: "rank3", In: []*tensor.Tensor{tensor.New(tensor.Float32, 2, 3, 4)}, Want: []*tensor.Tensor{tensor.Ints(2, 3, 4)}},
			{Name: "scalar", In: []*tensor.Tensor{tensor.Scalar[float32](1)}, Want: []*tensor.Tensor{tensor.Ints()}},
		},
	}
	shape15 := shape
	shape15.Attrs = []ops.Attr{attr("start", int64(0)), attrOpt("end")}
	shape15.Cases = append([]ops.Case{
		{Name: "range", Attrs: graph.Attrs{"start": int64(1), "end": int64(-1)}, In: []*tensor.Tensor{tensor.New(tensor.Float32, 2, 3, 4, 5)}, Want: []*tensor.Tensor{tensor.Ints(3, 4)}},
		{Name: "clamped", Attrs: graph.Attrs{"start": int64(-9), "end": int64(9)}, In: []*tensor.Tensor{tensor.New(tensor.Float32, 2, 3)}, Want: []*tensor.Tensor{tensor.Ints(2, 3)}},
	}, shape.Cases...)
	size := ops.Op{
		Doc: "The number of elements of data, as a scalar int64.",
		In:  params("data"), Out: params("size"), Attrs: noAttrs,
		Traits: ops.ShapeOnly,
		Infer: func(c *ops.Infer) error {
			n, ok := c.Type(0).Len()
			if !ok {
				setOut(c, 0, graph.T(tensor.Int64))
				return nil
			}
			c.OutKnown(0, graph.T(tensor.Int64), []graph.Dim{n})
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			return one(tensor.Scalar(int64(c.In[0].Len()))), nil
		},
		Cases: []ops.Case{{Name: "rank2", In: []*tensor.Tensor{tensor.New(tensor.Bool, 2, 3)}, Want: []*tensor.Tensor{tensor.Scalar[int64](6)}}},
	}
	identity := ops.Op{
		Doc: "The input itself: a tensor, sequence or optional.",
		In:  params("input"), Out: params("output"), Attrs: noAttrs,
		Traits: ops.View,
		Infer: func(c *ops.Infer) error {
			keepKnown(c, c.Type(0))
			return nil
		},
		Eval:  func(c *ops.Call) ([]*tensor.Tensor, error) { return one(c.In[0]), nil },
		Cases: []ops.Case{{Name: "vector", In: []*tensor.Tensor{tensor.Ints(1, 2)}, Want: []*tensor.Tensor{tensor.Ints(1, 2)}}},
	}
	rows := versions("Shape", []int{1, 13}, shape)
	rows = append(rows, versions("Shape", []int{15, 19, 21, 23, 24, 25}, shape15)...)
	rows = append(rows, versions("Size", []int{1, 13, 19, 21, 23, 24, 25}, size)...)
	return append(rows, versions("Identity", []int{1, 13, 14, 16, 19, 21, 23, 24, 25}, identity)...)
}

// shapeRange gives the half-open range of axes that Shape reports.
func shapeRange(a graph.Attrs, rank int) (start, end int) {
	clamp := func(v int64) int {
		if v < 0 {
			v += int64(rank)
		}
		return int(min(max(v, 0), int64(rank)))
	}
	start, end = clamp(a.Int("start", 0)), clamp(a.Int("end", int64(rank)))
	return start, max(start, end)
}

func inferShape(c *ops.Infer) error {
	t := c.Type(0)
	if !t.Ranked() {
		setOut(c, 0, graph.T(tensor.Int64, freshDim(c, 0, 0)))
		return nil
	}
	s, e := shapeRange(c.Node.Attrs, t.Rank())
	c.OutKnown(0, graph.T(tensor.Int64, graph.D(int64(e-s))), cloneDims(t.Shape[s:e]))
	return nil
}

func evalShape(c *ops.Call) ([]*tensor.Tensor, error) {
	shape := c.In[0].Shape
	s, e := shapeRange(c.Node.Attrs, len(shape))
	out := tensor.New(tensor.Int64, e-s)
	for i, n := range shape[s:e] {
		out.SetIntAt(i, int64(n))
	}
	return one(out), nil
}
