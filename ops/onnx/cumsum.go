package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// cumulativeRows: CumSum, CumProd.
func cumulativeRows() []*ops.Op {
	row := func(name string, first float64, mul bool) ops.Op {
		return ops.Op{
			Doc: name + ": running sum (or product) along axis; exclusive leaves the element itself out, reverse runs from the end.",
			In:  params("x", "axis"), Out: params("y"),
			Attrs: []ops.Attr{attr("exclusive", int64(0)), attr("reverse", int64(0))},
			Infer: func(c *ops.Infer) error {
				if err := want(c, 0, numberTypes); err != nil {
					return err
				}
				if err := want(c, 1, indexTypes); err != nil {
					return err
				}
				t := c.Type(0)
				if axis, ok := c.Ints(1); ok && len(axis) == 1 && t.Ranked() {
					if _, ok := axisOf(axis[0], t.Rank(), t.Rank()); !ok {
						return c.Errorf("axis %d is outside %s", axis[0], t)
					}
				}
				setOut(c, 0, t)
				if dims, ok := c.Known(0); ok && t.Rank() == 1 {
					c.OutKnown(0, t, cumulate(dims, c.Node.Attrs, graph.D(int64(first)), func(a, b graph.Dim) graph.Dim {
						if mul {
							return a.Mul(b)
						}
						return a.Add(b)
					}))
				}
				return nil
			},
			Eval: func(c *ops.Call) ([]*tensor.Tensor, error) { return evalCumulative(c, first, mul) },
		}
	}
	v := tensor.From([]float32{1, 2, 3, 4}, 4)
	sum, prod := row("CumSum", 0, false), row("CumProd", 1, true)
	sum.Cases = []ops.Case{
		{Name: "forward", In: []*tensor.Tensor{v, tensor.Scalar[int64](0)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 3, 6, 10}, 4)}},
		{Name: "exclusive", Attrs: graph.Attrs{"exclusive": int64(1)}, In: []*tensor.Tensor{v, tensor.Scalar[int64](0)}, Want: []*tensor.Tensor{tensor.From([]float32{0, 1, 3, 6}, 4)}},
		{Name: "reverse", Attrs: graph.Attrs{"exclusive": int64(1), "reverse": int64(1)}, In: []*tensor.Tensor{v.Reshaped(1, 4), tensor.Scalar[int64](-1)}, Want: []*tensor.Tensor{tensor.From([]float32{9, 7, 4, 0}, 1, 4)}},
	}
	prod.Cases = []ops.Case{
		{Name: "forward", In: []*tensor.Tensor{v, tensor.Scalar[int64](0)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 2, 6, 24}, 4)}},
	}
	return append(versions("CumSum", []int{11, 14}, sum), versions("CumProd", []int{26}, prod)...)
}

// cumulate runs add over v from the front or the back, starting from zero.
func cumulate[T any](v []T, a graph.Attrs, zero T, add func(a, b T) T) []T {
	out, acc := make([]T, len(v)), zero
	exclusive, reverse := a.Int("exclusive", 0) != 0, a.Int("reverse", 0) != 0
	for i := range v {
		if reverse {
			i = len(v) - 1 - i
		}
		if exclusive {
			out[i] = acc
		}
		acc = add(acc, v[i])
		if !exclusive {
			out[i] = acc
		}
	}
	return out
}

func evalCumulative(c *ops.Call, first float64, mul bool) ([]*tensor.Tensor, error) {
	x := c.In[0]
	if c.In[1].Len() != 1 {
		return nil, fmt.Errorf("axis is %s, want a scalar", c.In[1].TypeString())
	}
	axis, ok := axisOf(c.In[1].IntAt(0), x.Rank(), x.Rank())
	if !ok {
		return nil, fmt.Errorf("axis %d is outside %s", c.In[1].IntAt(0), x.TypeString())
	}
	out := tensor.New(x.DType, x.Shape...)
	n, inner := x.Shape[axis], product(x.Shape[axis+1:])
	for o := range product(x.Shape[:axis]) {
		for i := range inner {
			base := o*n*inner + i
			if x.DType.IsFloat() {
				line := make([]float64, n)
				for j := range line {
					line[j] = x.At(base + j*inner)
				}
				for j, v := range cumulate(line, c.Node.Attrs, first, func(a, b float64) float64 {
					if mul {
						return roundTo(x.DType, a*b)
					}
					return roundTo(x.DType, a+b)
				}) {
					out.SetAt(base+j*inner, v)
				}
				continue
			}
			line := make([]int64, n)
			for j := range line {
				line[j] = x.IntAt(base + j*inner)
			}
			for j, v := range cumulate(line, c.Node.Attrs, int64(first), func(a, b int64) int64 {
				if mul {
					return a * b
				}
				return a + b
			}) {
				out.SetIntAt(base+j*inner, v)
			}
		}
	}
	return one(out), nil
}
