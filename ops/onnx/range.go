package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// rangeRows: Range. Opset 27 added half-precision types, computed in float32.
func rangeRows() []*ops.Op {
	op := ops.Op{
		Doc: "start, start+delta, ... below limit (above it, for a negative delta): max(0, ceil((limit-start)/delta)) elements.",
		In:  params("start", "limit", "delta"), Out: params("output"), Attrs: noAttrs,
		Infer: inferRange, Eval: evalRange,
		Cases: []ops.Case{
			{Name: "up", In: []*tensor.Tensor{tensor.Scalar[float32](1), tensor.Scalar[float32](5), tensor.Scalar[float32](2)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 3}, 2)}},
			{Name: "down", In: []*tensor.Tensor{tensor.Scalar[int32](10), tensor.Scalar[int32](6), tensor.Scalar[int32](-3)}, Want: []*tensor.Tensor{tensor.From([]int32{10, 7}, 2)}},
			{Name: "empty", In: []*tensor.Tensor{tensor.Scalar[int64](3), tensor.Scalar[int64](3), tensor.Scalar[int64](1)}, Want: []*tensor.Tensor{tensor.Ints()}},
		},
	}
	op27 := op
	op27.Attrs = []ops.Attr{attr("stash_type", int64(1))}
	return append(versions("Range", []int{11}, op), versions("Range", []int{27}, op27)...)
}

func inferRange(c *ops.Infer) error {
	if err := same(c, numberTypes, 0, 1, 2); err != nil {
		return err
	}
	for i := range 3 {
		if n, ok := staticLen(c.Type(i)); ok && n != 1 {
			return c.Errorf("input %s is %s, want a scalar", inputName(c, i), c.Type(i))
		}
	}
	d := c.Type(0).DType
	if d.IsFloat() {
		n := freshDim(c, 0, 0)
		if a, b, s := c.Const(0), c.Const(1), c.Const(2); a != nil && b != nil && s != nil && s.At(0) != 0 {
			n = graph.D(int64(rangeLen(a.At(0), b.At(0), s.At(0))))
		}
		setOut(c, 0, graph.T(d, n))
		return nil
	}
	start, ok0 := c.Known(0)
	limit, ok1 := c.Known(1)
	delta, ok2 := c.Known(2)
	if !ok0 || !ok1 || !ok2 || len(start) != 1 || len(limit) != 1 || len(delta) != 1 {
		setOut(c, 0, graph.T(d, freshDim(c, 0, 0)))
		return nil
	}
	step, ok := delta[0].Const()
	if ok && step == 0 {
		return c.Errorf("delta is 0")
	}
	if !ok || step == -1<<63 {
		setOut(c, 0, graph.T(d, freshDim(c, 0, 0)))
		return nil
	}
	span := limit[0].Sub(start[0])
	if step < 0 {
		span = span.Neg()
	}
	n := span.CeilDiv(graph.D(max(step, -step))).Max(graph.D(0))
	var known []graph.Dim
	if m, ok := n.Const(); ok && m <= ops.MaxKnown {
		known = []graph.Dim{}
		for i := range m {
			known = append(known, start[0].Add(delta[0].Mul(graph.D(i))))
		}
	}
	c.OutKnown(0, graph.T(d, n), known)
	return nil
}

// rangeLen is the number of elements of a floating-point range.
func rangeLen(start, limit, delta float64) int {
	n := math.Ceil((limit - start) / delta)
	if !(n > 0) {
		return 0
	}
	return int(min(n, 1<<40))
}

func evalRange(c *ops.Call) ([]*tensor.Tensor, error) {
	for i := range 3 {
		if c.In[i].Len() != 1 {
			return nil, fmt.Errorf("input %d is %s, want a scalar", i, c.In[i].TypeString())
		}
	}
	d := c.In[0].DType
	if d.IsFloat() {
		start, limit, delta := c.In[0].At(0), c.In[1].At(0), c.In[2].At(0)
		if delta == 0 {
			return nil, fmt.Errorf("delta is 0")
		}
		out := tensor.New(d, rangeLen(start, limit, delta))
		for i := range out.Shape[0] {
			out.SetAt(i, start+float64(i)*delta)
		}
		return one(out), nil
	}
	start, limit, delta := c.In[0].IntAt(0), c.In[1].IntAt(0), c.In[2].IntAt(0)
	n := int64(0)
	switch {
	case delta == 0:
		return nil, fmt.Errorf("delta is 0")
	case delta > 0 && limit > start:
		n = (limit-start-1)/delta + 1
	case delta < 0 && limit < start:
		n = (start-limit-1)/-delta + 1
	}
	out := tensor.New(d, int(n))
	for i := range n {
		out.SetIntAt(int(i), start+i*delta)
	}
	return one(out), nil
}
