package onnx

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

func uniqueRows() []*ops.Op {
	return versions("Unique", []int{11, 28}, ops.Op{
		Doc: "The distinct elements (slices, with axis) of X, sorted or by first occurrence; where each first occurs, which one each element of X is, and how often each occurs.",
		In:  params("X"), Out: params("Y", "indices?", "inverse_indices?", "counts?"),
		Attrs: []ops.Attr{attrOpt("axis"), attr("sorted", int64(1))},
		Infer: inferUnique, Eval: onBytes(evalUnique),
		Cases: []ops.Case{
			{Name: "first", Attrs: graph.Attrs{"sorted": int64(0)}, In: []*tensor.Tensor{tensor.Ints(2, 1, 1, 3, 4, 3)}, NOut: 4, Want: []*tensor.Tensor{tensor.Ints(2, 1, 3, 4), tensor.Ints(0, 1, 3, 4), tensor.Ints(0, 1, 1, 2, 3, 2), tensor.Ints(1, 2, 2, 1)}},
			{Name: "rows", Attrs: graph.Attrs{"axis": int64(0)}, In: []*tensor.Tensor{tensor.From([]float32{2, 3, 1, 0, 2, 3}, 3, 2)}, NOut: 4, Want: []*tensor.Tensor{tensor.From([]float32{1, 0, 2, 3}, 2, 2), tensor.Ints(1, 0), tensor.Ints(1, 0, 1), tensor.Ints(1, 2)}},
		},
	})
}

func inferUnique(c *ops.Infer) error {
	t, a := c.Type(0), c.Node.Attrs
	if err := want(c, 0, castTypes); err != nil {
		return err
	}
	// One symbol for the count, whichever outputs are asked for.
	n := graph.Sym("?")
	for i, v := range c.Node.Out {
		if v != nil {
			n = freshDim(c, i, 0)
			break
		}
	}
	all, ok := t.Len()
	if !ok {
		all = freshDim(c, 2, 0)
	}
	y := graph.T(t.DType, n)
	if a.Has("axis") {
		if y = t; t.Ranked() {
			axis, ok := axisOf(a.Int("axis", 0), t.Rank(), t.Rank())
			if !ok {
				return c.Errorf("axis %d is outside %s", a.Int("axis", 0), t)
			}
			y.Shape = cloneDims(t.Shape)
			all, y.Shape[axis] = t.Shape[axis], n
		}
	}
	setOut(c, 0, y)
	setOut(c, 1, graph.T(tensor.Int64, n))
	setOut(c, 2, graph.T(tensor.Int64, all))
	setOut(c, 3, graph.T(tensor.Int64, n))
	return nil
}

func evalUnique(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	flat := x
	axis := 0
	if a.Has("axis") {
		var ok bool
		if axis, ok = axisOf(a.Int("axis", 0), x.Rank(), x.Rank()); !ok {
			return nil, fmt.Errorf("axis %d is outside %s", a.Int("axis", 0), x.TypeString())
		}
	} else {
		flat = x.Reshaped(x.Len())
	}
	n, inner, outer := flat.Shape[axis], product(flat.Shape[axis+1:]), product(flat.Shape[:axis])
	element := comparer(flat)
	compare := func(i, j int) int { // of slices i and j, element by element
		for o := range outer {
			for k := range inner {
				if d := element((o*n+i)*inner+k, (o*n+j)*inner+k); d != 0 {
					return d
				}
			}
		}
		return 0
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, compare)
	var groups [][]int // slices that are equal, in order of position
	for i, s := range order {
		if i == 0 || compare(order[i-1], s) != 0 {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], s)
	}
	if a.Int("sorted", 1) == 0 {
		slices.SortFunc(groups, func(p, q []int) int { return p[0] - q[0] })
	}
	first, counts := make([]int64, len(groups)), make([]int64, len(groups))
	inverse := make([]int64, n)
	for g, members := range groups {
		first[g], counts[g] = int64(members[0]), int64(len(members))
		for _, m := range members {
			inverse[m] = int64(g)
		}
	}
	return []*tensor.Tensor{take(flat, axis, first), tensor.Ints(first...), tensor.Ints(inverse...), tensor.Ints(counts...)}, nil
}
