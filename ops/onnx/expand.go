package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// expandRows: Expand, Tile.
func expandRows() []*ops.Op {
	col := tensor.From([]float32{1, 2}, 2, 1)
	expand := ops.Op{
		Doc: "The input broadcast with shape, both ways: a 1 in shape keeps the input's length.",
		In:  params("input", "shape"), Out: params("output"), Attrs: noAttrs,
		Infer: inferExpand, Eval: onBytes(evalExpand),
		Cases: []ops.Case{
			{Name: "cols", In: []*tensor.Tensor{col, tensor.Ints(1, 3)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 1, 1, 2, 2, 2}, 2, 3)}},
			{Name: "scalar", In: []*tensor.Tensor{tensor.Scalar[int64](5), tensor.Ints(2)}, Want: []*tensor.Tensor{tensor.Ints(5, 5)}},
		},
	}
	tile := ops.Op{
		Doc: "The input repeated repeats[i] times along axis i.",
		In:  params("input", "repeats"), Out: params("output"), Attrs: noAttrs,
		Infer: inferTile, Eval: onBytes(evalTile),
		Cases: []ops.Case{
			{Name: "both", In: []*tensor.Tensor{col, tensor.Ints(2, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 1, 2, 2, 1, 1, 2, 2}, 4, 2)}},
		},
	}
	return append(versions("Expand", []int{8, 13}, expand), versions("Tile", []int{6, 13}, tile)...)
}

func inferExpand(c *ops.Infer) error {
	t := c.Type(0)
	if err := want(c, 1, indexTypes); err != nil {
		return err
	}
	target, ok := c.Known(1)
	if !ok {
		setOut(c, 0, expandUnknown(c, t))
		return nil
	}
	for _, d := range target {
		if n, ok := d.Const(); ok && n < 0 {
			return c.Errorf("shape %v has the negative length %d", target, n)
		}
	}
	if !t.Ranked() {
		setOut(c, 0, unranked(t.DType))
		return nil
	}
	shape, err := broadcastShapes(t.Shape, target)
	if err != nil {
		return err
	}
	setOut(c, 0, graph.T(t.DType, shape...))
	carryKnown(c, evalExpand, 0)
	return nil
}

// expandUnknown is the type for a target of which at most the length is known.
// Axes of the input that are known to be longer than 1 keep their length.
func expandUnknown(c *ops.Infer, t graph.Type) graph.Type {
	n, ok := vectorLen(c.Type(1))
	if !ok || !t.Ranked() {
		return unranked(t.DType)
	}
	shape := freshShape(c, 0, max(n, t.Rank()))
	for i, d := range t.Shape {
		at := len(shape) - t.Rank() + i
		if at < len(shape)-n || d.AtLeast(graph.D(2)) {
			shape[at] = d
		}
	}
	return graph.T(t.DType, shape...)
}

func evalExpand(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	target := make([]int, c.In[1].Len())
	for i, d := range c.In[1].AsInts() {
		if target[i] = int(d); d < 0 {
			return nil, fmt.Errorf("shape %v has the negative length %d", c.In[1].AsInts(), d)
		}
	}
	shape, err := broadcastSizes(x.Shape, target)
	if err != nil {
		return nil, err
	}
	out := tensor.New(x.DType, shape...)
	moveND(out, 0, strides(shape), x, 0, broadcastStrides(x.Shape, shape), shape)
	return one(out), nil
}

func inferTile(c *ops.Infer) error {
	t := c.Type(0)
	if err := want(c, 1, indexTypes); err != nil {
		return err
	}
	reps, ok := c.Known(1)
	if !t.Ranked() {
		if n, ok := vectorLen(c.Type(1)); ok {
			t = graph.T(t.DType, freshShape(c, 0, n)...)
		}
		setOut(c, 0, t)
		return nil
	}
	if n, known := vectorLen(c.Type(1)); known && n != t.Rank() {
		return c.Errorf("%d repeats for %s", n, t)
	}
	shape := freshShape(c, 0, t.Rank())
	if ok {
		if len(reps) != t.Rank() {
			return c.Errorf("%d repeats for %s", len(reps), t)
		}
		for i, r := range reps {
			if n, ok := r.Const(); ok && n < 0 {
				return c.Errorf("repeats %v are negative", reps)
			}
			shape[i] = t.Shape[i].Mul(r)
		}
	}
	setOut(c, 0, graph.T(t.DType, shape...))
	carryKnown(c, evalTile, 0)
	return nil
}

func evalTile(c *ops.Call) ([]*tensor.Tensor, error) {
	x, reps := c.In[0], c.In[1].AsInts()
	if len(reps) != x.Rank() {
		return nil, fmt.Errorf("%d repeats for %s", len(reps), x.TypeString())
	}
	// Seen as [r0, n0, r1, n1, ...], a tiling is an expansion of the r axes.
	shape, tiled, from, st := make([]int, x.Rank()), []int{}, []int{}, strides(x.Shape)
	for i, r := range reps {
		if r < 0 {
			return nil, fmt.Errorf("repeats %v are negative", reps)
		}
		shape[i] = x.Shape[i] * int(r)
		tiled = append(tiled, int(r), x.Shape[i])
		from = append(from, 0, st[i])
	}
	out := tensor.New(x.DType, shape...)
	moveND(out, 0, strides(tiled), x, 0, from, tiled)
	return one(out), nil
}
