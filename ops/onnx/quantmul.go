package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// quantMulRows are products of quantised matrices. 8-bit products summed in
// float64 are exact up to 2^53.
func quantMulRows() []*ops.Op {
	a, b := tensor.From([]uint8{11, 7, 3, 10, 6, 2}, 2, 3), tensor.From([]uint8{1, 4, 2, 5, 3, 6}, 3, 2)
	rows := versions("MatMulInteger", []int{10}, ops.Op{
		Doc: "int32 matrix product of (A - a_zero_point) and (B - b_zero_point); zero points are scalars, or per row of A and column of B",
		In:  params("A", "B", "a_zero_point?", "b_zero_point?"), Out: params("Y"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			if err := same(c, byteTypes, 0, 2); err != nil {
				return err
			}
			if err := same(c, byteTypes, 1, 3); err != nil {
				return err
			}
			shape, err := matmulShape(c)
			if err != nil {
				return err
			}
			c.Out(0, graph.Type{DType: tensor.Int32, Shape: shape})
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			v, shape, err := matmulOffset(c.In[0], c.In[1], c.Arg(2), c.Arg(3))
			if err != nil {
				return nil, err
			}
			return one(fromFloats(tensor.Int32, v, shape...)), nil
		},
		Cases: []ops.Case{{Name: "zero point 12", In: []*tensor.Tensor{a, b, tensor.From([]uint8{12}, 1)},
			Want: one(tensor.From([]int32{-38, -83, -44, -98}, 2, 2))}},
	})
	return append(rows, versions("QLinearMatMul", []int{10, 21}, ops.Op{
		Doc: "matrix product of quantised a and b, quantised again: round((a-za)*(b-zb) * sa*sb/sy) + zy",
		In:  params("a", "a_scale", "a_zero_point", "b", "b_scale", "b_zero_point", "y_scale", "y_zero_point"), Out: params("y"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			if err := same(c, quantTypes, 0, 2); err != nil {
				return err
			}
			if err := same(c, quantTypes, 3, 5); err != nil {
				return err
			}
			if err := want(c, 7, quantTypes); err != nil {
				return err
			}
			shape, err := matmulDims(c, c.Type(0), c.Type(3))
			if err != nil {
				return err
			}
			c.Out(0, graph.Type{DType: c.Type(7).DType, Shape: shape})
			return nil
		},
		Eval: evalQLinearMatMul,
		Cases: []ops.Case{{Name: "unit scales", In: []*tensor.Tensor{a, tensor.Scalar(float32(1)), tensor.Scalar(uint8(10)), b, tensor.Scalar(float32(1)), tensor.Scalar(uint8(0)),
			tensor.Scalar(float32(0.5)), tensor.Scalar(uint8(100))}}},
	})...)
}

// perRow reads a per-row parameter as one that broadcasts to [...,M,N]: a
// vector belongs to the rows.
func perRow(t *tensor.Tensor) *tensor.Tensor {
	if t.Rank() == 1 && t.Len() > 1 {
		return t.Reshaped(t.Len(), 1)
	}
	if t.Rank() == 1 {
		return t.Reshaped()
	}
	return t
}

// offsetBy returns x - zero in float64; zero broadcasts to x.
func offsetBy(x, zero *tensor.Tensor) ([]float64, error) {
	v := append([]float64{}, floatsOf(x)...)
	if zero == nil {
		return v, nil
	}
	if s, err := broadcastSizes(x.Shape, zero.Shape); err != nil || product(s) != len(v) {
		return nil, fmt.Errorf("zero point %s does not broadcast to %s", zero.TypeString(), x.TypeString())
	}
	if zero.Rank() > x.Rank() {
		zero = zero.Reshaped()
	}
	for i, o := range offsets(x.Shape, broadcastStrides(zero.Shape, x.Shape)) {
		v[i] -= zero.At(o)
	}
	return v, nil
}

func matmulOffset(a, b, za, zb *tensor.Tensor) ([]float64, []int, error) {
	if za != nil && a.Rank() > 1 {
		za = perRow(za)
	}
	av, err := offsetBy(a, za)
	if err != nil {
		return nil, nil, err
	}
	bv, err := offsetBy(b, zb)
	if err != nil {
		return nil, nil, err
	}
	return matmul(a, b, av, bv)
}

func evalQLinearMatMul(c *ops.Call) ([]*tensor.Tensor, error) {
	v, shape, err := matmulOffset(c.In[0], c.In[3], c.In[2], c.In[5])
	if err != nil {
		return nil, err
	}
	sa, sb, sy, zy := perRow(c.In[1]), c.In[4], perRow(c.In[6]), perRow(c.In[7])
	out := tensor.New(c.In[7].DType, shape...)
	var at [4][]int
	for k, t := range []*tensor.Tensor{sa, sb, sy, zy} {
		if t.Len() == 1 {
			t = t.Reshaped()
		}
		if _, err := broadcastSizes(shape, t.Shape); err != nil || t.Rank() > len(shape) {
			return nil, fmt.Errorf("scale or zero point %s does not broadcast to %v", t.TypeString(), shape)
		}
		at[k] = offsets(shape, broadcastStrides(t.Shape, shape))
	}
	d := sa.DType // scales are multiplied in their own precision
	for i, x := range v {
		f := roundTo(d, roundTo(d, sa.At(at[0][i])*sb.At(at[1][i]))/sy.At(at[2][i]))
		quantize(out, i, x*f, zy.At(at[3][i]), true)
	}
	return one(out), nil
}

func convIntegerRows() []*ops.Op {
	x, w := tensor.From([]uint8{2, 3, 4, 5, 6, 7, 8, 9, 10}, 1, 1, 3, 3), tensor.From([]uint8{1, 1, 1, 1}, 1, 1, 2, 2)
	rows := versions("ConvInteger", []int{10}, ops.Op{
		Doc: "int32 convolution of (x - x_zero_point) and (w - w_zero_point); w_zero_point is a scalar or per output channel",
		In:  params("x", "w", "x_zero_point?", "w_zero_point?"), Out: params("y"), Attrs: windowAttrs,
		Infer: func(c *ops.Infer) error {
			if err := same(c, byteTypes, 0, 2); err != nil {
				return err
			}
			if err := same(c, byteTypes, 1, 3); err != nil {
				return err
			}
			return inferConv(c, 0, 1, tensor.Int32)
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			v, shape, err := convolveOffset(c, c.In[0], c.In[1], c.Arg(2), c.Arg(3))
			if err != nil {
				return nil, err
			}
			return one(fromFloats(tensor.Int32, v, shape...)), nil
		},
		Cases: []ops.Case{{Name: "zero point 1", In: []*tensor.Tensor{x, w, tensor.Scalar(uint8(1))}, Want: one(tensor.From([]int32{12, 16, 24, 28}, 1, 1, 2, 2))}},
	})
	return append(rows, versions("QLinearConv", []int{10}, ops.Op{
		Doc: "convolution of quantised x and w plus int32 bias, quantised again; w's scale and zero point may be per output channel",
		In:  params("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "B?"), Out: params("y"), Attrs: windowAttrs,
		Infer: func(c *ops.Infer) error {
			if err := same(c, byteTypes, 0, 2); err != nil {
				return err
			}
			if err := same(c, byteTypes, 3, 5); err != nil {
				return err
			}
			if err := want(c, 8, setOf(tensor.Int32)); err != nil {
				return err
			}
			return inferConv(c, 0, 3, c.Type(7).DType)
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			v, shape, err := convolveOffset(c, c.In[0], c.In[3], c.In[2], c.In[5])
			if err != nil {
				return nil, err
			}
			if b := c.Arg(8); b != nil {
				addChannelBias(v, shape, floatsOf(b))
			}
			out := tensor.New(c.In[7].DType, shape...)
			sx, sw, sy := c.In[1].At(0), c.In[4], c.In[6].At(0)
			n := product(shape[2:])
			for i := range v {
				m := 0
				if sw.Len() > 1 {
					m = i / n % shape[1]
				}
				quantize(out, i, v[i]*(sx*sw.At(m)/sy), c.In[7].At(0), true)
			}
			return one(out), nil
		},
		Cases: []ops.Case{{Name: "halved", In: []*tensor.Tensor{x, tensor.Scalar(float32(1)), tensor.Scalar(uint8(1)), w, tensor.Scalar(float32(0.5)), tensor.Scalar(uint8(0)),
			tensor.Scalar(float32(1)), tensor.Scalar(uint8(10))}, Want: one(tensor.From([]uint8{16, 18, 22, 24}, 1, 1, 2, 2))}},
	})...)
}

func convolveOffset(c *ops.Call, x, w, zx, zw *tensor.Tensor) ([]float64, []int, error) {
	if zw != nil && zw.Len() > 1 {
		zw = zw.Reshaped(append([]int{zw.Len()}, ones(w.Rank()-1)...)...)
	} else if zw != nil {
		zw = zw.Reshaped()
	}
	if zx != nil {
		zx = zx.Reshaped()
	}
	xv, err := offsetBy(x, zx)
	if err != nil {
		return nil, nil, err
	}
	wv, err := offsetBy(w, zw)
	if err != nil {
		return nil, nil, err
	}
	return convolve(c.Node.Attrs, x.Shape, w.Shape, xv, wv)
}

func ones(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = 1
	}
	return out
}
