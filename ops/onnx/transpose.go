package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

func transposeRows() []*ops.Op {
	return versions("Transpose", []int{1, 13, 21, 23, 24, 25}, ops.Op{
		Doc: "data with its axes in the order perm: result axis i is data axis perm[i]; without perm, reversed.",
		In:  params("data"), Out: params("transposed"), Attrs: []ops.Attr{attrOpt("perm")},
		Infer: func(c *ops.Infer) error {
			t := c.Type(0)
			if !t.Ranked() {
				if p := c.Node.Attrs.Ints("perm"); p != nil {
					setOut(c, 0, graph.T(t.DType, freshShape(c, 0, len(p))...))
					return nil
				}
				setOut(c, 0, unranked(t.DType))
				return nil
			}
			perm, err := permOf(c.Node.Attrs, t.Rank())
			if err != nil {
				return c.Errorf("%w, input is %s", err, t)
			}
			shape := make([]graph.Dim, len(perm))
			for i, p := range perm {
				shape[i] = t.Shape[p]
			}
			setOut(c, 0, graph.T(t.DType, shape...))
			carryKnown(c, evalTranspose, 0)
			return nil
		},
		Eval: onBytes(evalTranspose),
		Cases: []ops.Case{
			{Name: "matrix", In: []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4, 5, 6}, 2, 3)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 4, 2, 5, 3, 6}, 3, 2)}},
			{Name: "perm", Attrs: graph.Attrs{"perm": []int64{0, 2, 1}}, In: []*tensor.Tensor{tensor.From([]int64{1, 2, 3, 4}, 1, 2, 2)}, Want: []*tensor.Tensor{tensor.From([]int64{1, 3, 2, 4}, 1, 2, 2)}},
		},
	})
}

func permOf(a graph.Attrs, rank int) ([]int, error) {
	perm := make([]int, rank)
	list := a.Ints("perm")
	if list == nil {
		for i := range perm {
			perm[i] = rank - 1 - i
		}
		return perm, nil
	}
	seen := make([]bool, rank)
	if len(list) != rank {
		return nil, fmt.Errorf("perm %v needs rank %d", list, len(list))
	}
	for i, p := range list {
		x, ok := axisOf(p, rank, rank)
		if !ok || seen[x] {
			return nil, fmt.Errorf("perm %v is not a permutation", list)
		}
		seen[x], perm[i] = true, x
	}
	return perm, nil
}

func evalTranspose(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	perm, err := permOf(c.Node.Attrs, x.Rank())
	if err != nil {
		return nil, err
	}
	st := strides(x.Shape)
	shape, from := make([]int, len(perm)), make([]int, len(perm))
	for i, p := range perm {
		shape[i], from[i] = x.Shape[p], st[p]
	}
	out := tensor.New(x.DType, shape...)
	moveND(out, 0, strides(shape), x, 0, from, shape)
	return one(out), nil
}
