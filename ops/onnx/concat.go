package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

func concatRows() []*ops.Op {
	return versions("Concat", []int{4, 11, 13}, ops.Op{
		Doc: "The inputs one after another along axis; other axes agree.",
		In:  params("inputs..."), Out: params("concat_result"), Attrs: []ops.Attr{attr("axis", nil)},
		Infer: func(c *ops.Infer) error {
			types := make([]graph.Type, len(c.Node.In))
			payload := make([]int, len(types))
			for i := range types {
				types[i], payload[i] = c.Type(i), i
			}
			t, err := concatType(c, types, c.Node.Attrs.Int("axis", 0))
			if err != nil {
				return err
			}
			setOut(c, 0, t)
			carryKnown(c, evalConcat, payload...)
			return nil
		},
		Eval: onBytes(evalConcat),
		Cases: []ops.Case{
			{Name: "rows", Attrs: graph.Attrs{"axis": int64(0)}, In: []*tensor.Tensor{tensor.Ints(1), tensor.Ints(), tensor.Ints(2, 3)}, Want: []*tensor.Tensor{tensor.Ints(1, 2, 3)}},
			{Name: "cols", Attrs: graph.Attrs{"axis": int64(-1)}, In: []*tensor.Tensor{tensor.From([]float32{1, 2}, 2, 1), tensor.From([]float32{3, 4, 5, 6}, 2, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 3, 4, 2, 5, 6}, 2, 3)}},
		},
	})
}

// concatType is the type of the concatenation of values of the given types.
func concatType(c *ops.Infer, types []graph.Type, axis int64) (graph.Type, error) {
	if len(types) == 0 {
		return graph.Type{}, c.Errorf("nothing to concatenate")
	}
	var shape []graph.Dim // of the ranked inputs so far; unknown ranks fresh the joined axis
	sum, ax, unknown := graph.D(0), 0, false
	for i, t := range types {
		if t.DType != types[0].DType {
			return graph.Type{}, c.Errorf("input %d is %s, input 0 is %s", i, t, types[0])
		}
		if !t.Ranked() {
			unknown = true
			continue
		}
		if shape == nil {
			var ok bool
			if ax, ok = axisOf(axis, t.Rank(), t.Rank()); !ok {
				return graph.Type{}, c.Errorf("axis %d is outside %s", axis, t)
			}
			shape = cloneDims(t.Shape)
		}
		if t.Rank() != len(shape) {
			return graph.Type{}, c.Errorf("input %d is %s, others have rank %d", i, t, len(shape))
		}
		sum = sum.Add(t.Shape[ax])
		for j, d := range t.Shape {
			if j == ax {
				continue
			}
			var ok bool
			if shape[j], ok = agree(shape[j], d); !ok {
				return graph.Type{}, c.Errorf("input %d is %s, which does not match length %v of axis %d", i, t, shape[j], j)
			}
		}
	}
	if shape == nil {
		return unranked(types[0].DType), nil
	}
	if shape[ax] = sum; unknown {
		shape[ax] = freshDim(c, 0, ax)
	}
	return graph.T(types[0].DType, shape...), nil
}

func evalConcat(c *ops.Call) ([]*tensor.Tensor, error) {
	t, err := concat(c.In, c.Node.Attrs.Int("axis", 0))
	if err != nil {
		return nil, err
	}
	return one(t), nil
}

// concat joins tensors of whole-byte or string elements.
func concat(in []*tensor.Tensor, axis int64) (*tensor.Tensor, error) {
	if len(in) == 0 {
		return nil, fmt.Errorf("nothing to concatenate")
	}
	first := in[0]
	ax, ok := axisOf(axis, first.Rank(), first.Rank())
	if !ok {
		return nil, fmt.Errorf("axis %d is outside %s", axis, first.TypeString())
	}
	shape := append([]int{}, first.Shape...)
	shape[ax] = 0
	for i, t := range in {
		if t.DType != first.DType || t.Rank() != len(shape) {
			return nil, fmt.Errorf("input %d is %s, input 0 is %s", i, t.TypeString(), first.TypeString())
		}
		for j, n := range t.Shape {
			if j == ax {
				shape[j] += n
			} else if n != shape[j] {
				return nil, fmt.Errorf("input %d is %s, input 0 is %s", i, t.TypeString(), first.TypeString())
			}
		}
	}
	out := tensor.New(first.DType, shape...)
	st, pos := strides(shape), 0
	for _, t := range in {
		moveND(out, pos*st[ax], st, t, 0, strides(t.Shape), t.Shape)
		pos += t.Shape[ax]
	}
	return out, nil
}
