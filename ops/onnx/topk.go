package onnx

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// topkRows: TopK with k as attribute (1) and as input (10 on).
func topkRows() []*ops.Op {
	x := tensor.From([]float32{3, 1, 4, 1, 5, 9}, 2, 3)
	topk1 := ops.Op{
		Doc: "The k largest elements along axis, in descending order, and their positions; equal elements in order of position.",
		In:  params("X"), Out: params("Values", "Indices"),
		Attrs: []ops.Attr{attr("axis", int64(-1)), attr("k", nil)},
		Infer: inferTopK, Eval: evalTopK,
		Cases: []ops.Case{{Name: "two", Attrs: graph.Attrs{"k": int64(2)}, In: []*tensor.Tensor{x}, NOut: 2,
			Want: []*tensor.Tensor{tensor.From([]float32{4, 3, 9, 5}, 2, 2), tensor.From([]int64{2, 0, 2, 1}, 2, 2)}}},
	}
	topk10 := topk1
	topk10.In, topk10.Attrs = params("X", "K"), []ops.Attr{attr("axis", int64(-1))}
	topk10.Cases = []ops.Case{
		{Name: "two", In: []*tensor.Tensor{x, tensor.Ints(2)}, NOut: 2, Want: []*tensor.Tensor{tensor.From([]float32{4, 3, 9, 5}, 2, 2), tensor.From([]int64{2, 0, 2, 1}, 2, 2)}},
	}
	topk11 := topk10
	topk11.Doc = "The k largest (or smallest) elements along axis, in order, and their positions; equal elements in order of position."
	topk11.Attrs = []ops.Attr{attr("axis", int64(-1)), attr("largest", int64(1)), attr("sorted", int64(1))}
	topk11.Cases = append([]ops.Case{
		{Name: "smallest", Attrs: graph.Attrs{"axis": int64(0), "largest": int64(0)}, In: []*tensor.Tensor{x, tensor.Ints(1)}, NOut: 2, Want: []*tensor.Tensor{tensor.From([]float32{1, 1, 4}, 1, 3), tensor.From([]int64{1, 0, 0}, 1, 3)}},
	}, topk10.Cases...)
	rows := versions("TopK", []int{1}, topk1)
	rows = append(rows, versions("TopK", []int{10}, topk10)...)
	return append(rows, versions("TopK", []int{11, 24}, topk11)...)
}

func inferTopK(c *ops.Infer) error {
	t, a := c.Type(0), c.Node.Attrs
	if err := want(c, 0, numberTypes); err != nil {
		return err
	}
	if !t.Ranked() {
		setOut(c, 0, t)
		setOut(c, 1, unranked(tensor.Int64))
		return nil
	}
	axis, ok := axisOf(a.Int("axis", -1), t.Rank(), t.Rank())
	if !ok {
		return c.Errorf("axis %d is outside %s", a.Int("axis", -1), t)
	}
	k := graph.D(a.Int("k", 0))
	if c.Has(1) {
		if dims, ok := c.Known(1); ok && len(dims) == 1 {
			k = dims[0]
		} else {
			k = freshDim(c, 0, axis)
		}
	}
	if n, ok := k.Const(); ok && n < 0 {
		return c.Errorf("k is %d", n)
	}
	if !t.Shape[axis].AtLeast(k) && k.IsConst() && t.Shape[axis].IsConst() {
		return c.Errorf("k is %v, axis %d of %s is shorter", k, axis, t)
	}
	shape := cloneDims(t.Shape)
	shape[axis] = k
	setOut(c, 0, graph.T(t.DType, shape...))
	setOut(c, 1, graph.T(tensor.Int64, shape...))
	return nil
}

// comparer orders the elements of a tensor; NaN is greater than any number.
func comparer(t *tensor.Tensor) func(i, j int) int {
	switch {
	case t.DType == tensor.String:
		return func(i, j int) int { return cmp.Compare(t.Strings[i], t.Strings[j]) }
	case t.DType == tensor.Uint64:
		v := tensor.Of[uint64](t)
		return func(i, j int) int { return cmp.Compare(v[i], v[j]) }
	case t.DType.IsFloat():
		v := floatsOf(t)
		return func(i, j int) int {
			switch a, b := math.IsNaN(v[i]), math.IsNaN(v[j]); {
			case a && b:
				return 0
			case a:
				return 1
			case b:
				return -1
			}
			return cmp.Compare(v[i], v[j])
		}
	}
	v := intsOf(t)
	return func(i, j int) int { return cmp.Compare(v[i], v[j]) }
}

func evalTopK(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	axis, ok := axisOf(a.Int("axis", -1), x.Rank(), x.Rank())
	if !ok {
		return nil, fmt.Errorf("axis %d is outside %s", a.Int("axis", -1), x.TypeString())
	}
	k, n := int(a.Int("k", 0)), x.Shape[axis]
	if t := c.Arg(1); t != nil {
		k = int(t.IntAt(0))
	}
	if k < 0 || k > n {
		return nil, fmt.Errorf("k is %d, axis %d of %s has length %d", k, axis, x.TypeString(), n)
	}
	shape := append([]int{}, x.Shape...)
	shape[axis] = k
	values, indices := tensor.New(x.DType, shape...), tensor.New(tensor.Int64, shape...)
	order, compare := make([]int, n), comparer(x)
	inner, largest := product(x.Shape[axis+1:]), a.Int("largest", 1) != 0
	for o := range product(x.Shape[:axis]) {
		for i := range inner {
			for j := range order {
				order[j] = j
			}
			base := o*n*inner + i
			slices.SortStableFunc(order, func(p, q int) int {
				d := compare(base+p*inner, base+q*inner)
				if largest {
					return -d
				}
				return d
			})
			for j, p := range order[:k] {
				at := (o*k+j)*inner + i
				copyRun(values, at, x, base+p*inner, 1)
				indices.SetIntAt(at, int64(p))
			}
		}
	}
	return []*tensor.Tensor{values, indices}, nil
}
