package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

func triluRows() []*ops.Op {
	m := tensor.From([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	return versions("Trilu", []int{14}, ops.Op{
		Doc: "The upper (column-row >= k) or lower (column-row <= k) triangle of the last two axes; zeros elsewhere.",
		In:  params("input", "k?"), Out: params("output"), Attrs: []ops.Attr{attr("upper", int64(1))},
		Infer: func(c *ops.Infer) error {
			if err := rankAtLeast(c, 0, 2); err != nil {
				return err
			}
			setOut(c, 0, c.Type(0))
			carryKnown(c, evalTrilu, 0)
			return want(c, 1, indexTypes)
		},
		Eval: onBytes(evalTrilu),
		Cases: []ops.Case{
			{Name: "upper", In: []*tensor.Tensor{m, tensor.Scalar[int64](1)}, Want: []*tensor.Tensor{tensor.From([]float32{0, 2, 3, 0, 0, 6}, 2, 3)}},
			{Name: "lower", Attrs: graph.Attrs{"upper": int64(0)}, In: []*tensor.Tensor{m}, Want: []*tensor.Tensor{tensor.From([]float32{1, 0, 0, 4, 5, 0}, 2, 3)}},
		},
	})
}

func evalTrilu(c *ops.Call) ([]*tensor.Tensor, error) {
	x, k := c.In[0], int64(0)
	if x.Rank() < 2 {
		return nil, fmt.Errorf("input is %s, want rank 2 or more", x.TypeString())
	}
	if t := c.Arg(1); t != nil && t.Len() > 0 {
		k = t.IntAt(0)
	}
	rows, cols := x.Shape[x.Rank()-2], x.Shape[x.Rank()-1]
	k = min(max(k, int64(-rows)), int64(cols)) // farther diagonals change nothing
	upper := c.Node.Attrs.Int("upper", 1) != 0
	out := tensor.New(x.DType, x.Shape...)
	for r := range product(x.Shape[:x.Rank()-1]) {
		edge := r%max(rows, 1) + int(k) // the column of the diagonal in this row
		lo, hi := 0, min(max(edge+1, 0), cols)
		if upper {
			lo, hi = min(max(edge, 0), cols), cols
		}
		copyRun(out, r*cols+lo, x, r*cols+lo, hi-lo)
	}
	return one(out), nil
}
