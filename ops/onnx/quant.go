package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

var quantTypes = byteTypes | packedInts | float8Types | setOf(tensor.Int16, tensor.Uint16)

// quantRows map between numbers and scaled small types:
// real = (quantised - zero_point) * scale.
func quantRows() []*ops.Op {
	axis, sat, block := attr("axis", int64(1)), attr("saturate", int64(1)), attr("block_size", int64(0))
	dtype := attr("output_dtype", int64(0))
	f := tensor.From([]float32{0, 2, 3, 1000, -254, -1000}, 6)
	scale, zero := tensor.Scalar(float32(2)), tensor.Scalar(uint8(128))
	q := tensor.From([]uint8{128, 129, 130, 255, 1, 0}, 6)
	quant := ops.Op{Doc: "saturate(round(x / y_scale) + y_zero_point), halves to even; one scale, one per slice of axis, or one per block along axis",
		In: params("x", "y_scale", "y_zero_point?"), Out: params("y"), Infer: inferQuantize, Eval: evalQuantize,
		Cases: []ops.Case{{Name: "per tensor", In: []*tensor.Tensor{f, scale, zero}, Want: one(q)}}}
	dequant := ops.Op{Doc: "(x - x_zero_point) * x_scale, with scales as in QuantizeLinear",
		In: params("x", "x_scale", "x_zero_point?"), Out: params("y"), Infer: inferDequantize, Eval: evalDequantize,
		Cases: []ops.Case{{Name: "per tensor", In: []*tensor.Tensor{q, scale, zero}, Want: one(tensor.From([]float32{0, 2, 4, 254, -254, -256}, 6))}}}
	var rows []*ops.Op
	for _, v := range []struct {
		since []int
		q, d  []ops.Attr
	}{
		{[]int{10}, noAttrs, noAttrs},
		{[]int{13}, []ops.Attr{axis}, []ops.Attr{axis}},
		{[]int{19}, []ops.Attr{axis, sat}, []ops.Attr{axis}},
		{[]int{21}, []ops.Attr{axis, sat, block, dtype}, []ops.Attr{axis, block}},
		{[]int{23, 24, 25, 28}, []ops.Attr{axis, sat, block, dtype, attr("precision", int64(0))}, []ops.Attr{axis, block, dtype}},
	} {
		quant.Attrs, dequant.Attrs = v.q, v.d
		rows = append(append(rows, versions("QuantizeLinear", v.since, quant)...), versions("DequantizeLinear", v.since, dequant)...)
	}
	return append(rows, versions("DynamicQuantizeLinear", []int{11}, ops.Op{
		Doc: "uint8 quantisation with the scale and zero point that cover the input's range and zero",
		In:  params("x"), Out: params("y", "y_scale", "y_zero_point"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			if err := want(c, 0, setOf(tensor.Float32)); err != nil {
				return err
			}
			c.Out(0, withDType(c.Type(0), tensor.Uint8))
			c.Out(1, graph.T(tensor.Float32))
			c.Out(2, graph.T(tensor.Uint8))
			return nil
		},
		Eval: evalDynamicQuantize,
		Cases: []ops.Case{{Name: "vector", NOut: 3, In: one(tensor.From([]float32{0, 2, -3, -2.5, 1.34, 0.5}, 6)),
			Want: []*tensor.Tensor{tensor.From([]uint8{153, 255, 0, 26, 221, 179}, 6), tensor.Scalar(float32(0.019607844)), tensor.Scalar(uint8(153))}}},
	})...)
}

func inferQuantize(c *ops.Infer) error {
	if err := want(c, 0, floatTypes|setOf(tensor.Int32)); err != nil {
		return err
	}
	if err := want(c, 1, floatTypes|float8Types|setOf(tensor.Int32)); err != nil {
		return err
	}
	if err := want(c, 2, quantTypes); err != nil {
		return err
	}
	d := tensor.DType(c.Node.Attrs.Int("output_dtype", 0))
	switch z := c.Type(2).DType; {
	case c.Has(2) && d != 0 && z != d && z != tensor.Undefined:
		return c.Errorf("output_dtype %v does not agree with y_zero_point %s", d, c.Type(2))
	case c.Has(2):
		d = z
	case d == 0:
		d = tensor.Uint8
	}
	if d != tensor.Undefined && !quantTypes.Has(d) {
		return c.Errorf("cannot quantise to %v, want one of %v", d, quantTypes)
	}
	c.Out(0, withDType(c.Type(0), d))
	return nil
}

func inferDequantize(c *ops.Infer) error {
	if err := same(c, quantTypes|setOf(tensor.Int32), 0, 2); err != nil {
		return err
	}
	if err := want(c, 1, floatTypes|float8Types); err != nil {
		return err
	}
	d := c.Type(1).DType
	if o := tensor.DType(c.Node.Attrs.Int("output_dtype", 0)); o != 0 {
		d = o
	}
	c.Out(0, withDType(c.Type(0), d))
	return nil
}

// granularity returns, for every element of x, the index into a scale tensor.
func granularity(x, scale *tensor.Tensor, a graph.Attrs) (func(i int) int, error) {
	if scale.Len() == 1 {
		return func(int) int { return 0 }, nil
	}
	axis, ok := axisOf(a.Int("axis", 1), x.Rank(), x.Rank())
	if !ok {
		return nil, errAxis(a.Int("axis", 1), x)
	}
	_, n, inner := lanes(x.Shape, axis)
	if scale.Rank() == 1 && (x.Rank() > 1 || scale.Len() == n) {
		if scale.Len() != n {
			return nil, fmt.Errorf("scale %s for axis %d of %s, want %d values", scale.TypeString(), axis, x.TypeString(), n)
		}
		return func(i int) int { return i / inner % n }, nil
	}
	block := int(a.Int("block_size", 0))
	if scale.Rank() != x.Rank() || block < 1 {
		return nil, fmt.Errorf("scale %s with block_size=%d does not fit %s", scale.TypeString(), block, x.TypeString())
	}
	m := scale.Shape[axis]
	if (n+block-1)/block != m {
		return nil, fmt.Errorf("scale %s with block_size=%d does not cover axis %d of %s", scale.TypeString(), block, axis, x.TypeString())
	}
	return func(i int) int { return (i/(inner*n)*m+i/inner%n/block)*inner + i%inner }, nil
}

func evalQuantize(c *ops.Call) ([]*tensor.Tensor, error) {
	x, scale, zero, a := c.In[0], c.In[1], c.Arg(2), c.Node.Attrs
	at, err := granularity(x, scale, a)
	if err != nil {
		return nil, err
	}
	d := tensor.DType(a.Int("output_dtype", 0))
	switch {
	case zero != nil:
		d = zero.DType
	case d == 0:
		d = tensor.Uint8
	}
	precision := tensor.DType(a.Int("precision", 0))
	if precision == 0 {
		precision = scale.DType
		if !floatTypes.Has(precision) || precision.Size() < x.DType.Size() {
			precision = tensor.Float32
		}
	}
	out := tensor.New(d, x.Shape...)
	for i := range x.Len() {
		k := at(i)
		v := roundTo(precision, roundTo(precision, x.At(i))/roundTo(precision, scale.At(k)))
		z := 0.0
		if zero != nil {
			z = zero.At(k)
		}
		quantize(out, i, v, z, a.Int("saturate", 1) != 0)
	}
	return one(out), nil
}

// quantize stores v + zero, rounded and saturated to the type of out.
func quantize(out *tensor.Tensor, i int, v, zero float64, saturate bool) {
	if !out.DType.IsFloat() {
		lo, hi := intRange(out.DType)
		out.SetIntAt(i, int64(clamp(math.RoundToEven(v)+zero, float64(lo), float64(hi))))
		return
	}
	out.SetAt(i, v+zero)
	if b, over := float8Overflow(out.DType, v+zero); over && !saturate && out.DType != tensor.Float4E2M1 {
		out.Data[i] = b
	}
}

func evalDequantize(c *ops.Call) ([]*tensor.Tensor, error) {
	x, scale, zero := c.In[0], c.In[1], c.Arg(2)
	at, err := granularity(x, scale, c.Node.Attrs)
	if err != nil {
		return nil, err
	}
	d := scale.DType
	if o := tensor.DType(c.Node.Attrs.Int("output_dtype", 0)); o != 0 {
		d = o
	}
	out := tensor.New(d, x.Shape...)
	run := dequantizeRun(x, scale, c.Node.Attrs)
	for i := 0; i < x.Len(); i += run {
		k, z := at(i), 0.0
		if zero != nil {
			z = zero.At(k)
		}
		s := scale.At(k)
		for j := i; j < i+run; j++ {
			out.SetAt(j, (x.At(j)-z)*s)
		}
	}
	return one(out), nil
}

// dequantizeRun is how many elements in a row surely share a scale: whole weights pass here.
func dequantizeRun(x, scale *tensor.Tensor, a graph.Attrs) int {
	axis, ok := axisOf(a.Int("axis", 1), x.Rank(), x.Rank())
	block := int(a.Int("block_size", 0))
	if !ok || axis != x.Rank()-1 || block < 1 || scale.Rank() != x.Rank() || x.Shape[axis]%block != 0 {
		return 1
	}
	return block
}

// evalDynamicQuantize follows the definition's float32 arithmetic step by step.
func evalDynamicQuantize(c *ops.Call) ([]*tensor.Tensor, error) {
	x := tensor.Of[float32](c.In[0])
	var lo, hi float32
	for _, v := range x {
		lo, hi = min(lo, v), max(hi, v)
	}
	scale := (hi - lo) / 255
	if hi == lo {
		scale = float32(1) / 255
	}
	zero := math.RoundToEven(clamp(float64(-lo/scale), 0, 255))
	out := tensor.New(tensor.Uint8, c.In[0].Shape...)
	for i, v := range x {
		quantize(out, i, float64(v/scale), zero, true)
	}
	return []*tensor.Tensor{out, tensor.Scalar(scale), tensor.Scalar(uint8(zero))}, nil
}
