package microsoft

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// quantRows: quantisation and products of 8-bit matrices with float results.
func quantRows() []*ops.Op {
	b := nibbles(4, 5)
	return []*ops.Op{
		composite("QuantizeLinear", "ONNX's QuantizeLinear, of 16-bit types too; without axis one scale serves all",
			params("x", "y_scale", "y_zero_point?"), params("y"), []ops.Attr{attrOpt("axis")},
			func(x *expansion) []*graph.Value {
				return one(x.with("QuantizeLinear", graph.Attrs{"axis": x.int("axis", 1)}, x.in(0), x.in(1), x.in(2)))
			}, ops.Case{Name: "uint16", In: []*tensor.Tensor{wave(1, 2, 4), tensor.Scalar(float32(0.01)), tensor.Scalar(uint16(100))}}),
		composite("DequantizeLinear", "ONNX's DequantizeLinear, of 16-bit types too; without axis one scale serves all",
			params("x", "x_scale", "x_zero_point?"), params("y"), []ops.Attr{attrOpt("axis")},
			func(x *expansion) []*graph.Value {
				return one(x.with("DequantizeLinear", graph.Attrs{"axis": x.int("axis", 1)}, x.in(0), x.in(1), x.in(2)))
			}, ops.Case{Name: "uint8", In: []*tensor.Tensor{b, tensor.Scalar(float32(0.01)), tensor.Scalar(uint8(100))}}),
		composite("DynamicQuantizeMatMul", "A, quantised to uint8 by its range, times B, both with their scales, plus bias",
			params("A", "B", "b_scale", "b_zero_point?", "bias?"), params("Y"), sig.NoAttrs,
			func(x *expansion) []*graph.Value {
				q := x.node("DynamicQuantizeLinear", nil, 3, x.in(0))
				return one(x.scaledProduct(q[0], x.in(1), q[1], x.in(2), q[2], x.in(3), x.in(4)))
			}, ops.Case{Name: "bias", In: []*tensor.Tensor{wave(1, 3, 4), b, tensor.Scalar(float32(0.02)), tensor.Scalar(uint8(120)), wave(2, 5)}}),
		composite("MatMulIntegerToFloat", "the integer product of A and B, less their zero points, times both scales, plus bias",
			params("A", "B", "a_scale", "b_scale", "a_zero_point?", "b_zero_point?", "bias?"), params("Y"), sig.NoAttrs,
			func(x *expansion) []*graph.Value {
				return one(x.scaledProduct(x.in(0), x.in(1), x.in(2), x.in(3), x.in(4), x.in(5), x.in(6)))
			}, ops.Case{Name: "per column", In: []*tensor.Tensor{nibbles(3, 4), b, tensor.Scalar(float32(0.02)), wave(3, 5), tensor.Scalar(uint8(7))}}),
		composite("QGemm", "Gemm of 8-bit matrices: alpha times the product of (A-za)*sa and (B-zb)*sb, plus C at that scale, quantised when y_scale is given",
			params("A", "a_scale", "a_zero_point", "B", "b_scale", "b_zero_point", "C?", "y_scale?", "y_zero_point?"), params("Y"),
			[]ops.Attr{attr("alpha", float32(1)), attr("transA", int64(0)), attr("transB", int64(0))}, expandQGemm,
			ops.Case{Name: "float", In: []*tensor.Tensor{nibbles(3, 4), tensor.Scalar(float32(0.02)), tensor.Scalar(uint8(7)), b, tensor.Scalar(float32(0.1)), tensor.Scalar(uint8(9))}},
			ops.Case{Name: "bytes", In: []*tensor.Tensor{nibbles(3, 5), tensor.Scalar(float32(0.02)), tensor.Scalar(uint8(7)), tensor.From([]int8{1, -2, 3, 4, 5, 6, -7, 8, 9, -128}, 2, 5), tensor.From([]float32{0.1, 0.2}, 2), tensor.From([]int8{0, 0}, 2),
				tensor.From([]int32{40, -60}, 2), tensor.Scalar(float32(0.05)), tensor.Scalar(uint8(128))}, Attrs: graph.Attrs{"transB": int64(1)}}),
		composite("QAttention", "Attention on 8-bit input and weights",
			params("input", "weight", "bias", "input_scale", "weight_scale", "mask_index?", "input_zero_point?", "weight_zero_point?", "past?"), params("output", "present?"),
			[]ops.Attr{attr("do_rotary", int64(0)), attr("mask_filter_value", float32(-10000)), attr("num_heads", nil), attr("past_present_share_buffer", int64(0)), attrOpt("scale"), attr("unidirectional", int64(0))},
			func(x *expansion) []*graph.Value {
				in := x.dequant(x.in(0), x.in(3), x.in(6), 1)
				w := x.dequant(x.in(1), x.in(4), x.in(7), 1)
				return x.nodeOf(Domain, "Attention", x.n.Attrs.Clone(), len(x.n.Out), in, w, x.in(2), x.in(5), x.in(8))
			}, ops.Case{Name: "one head", In: []*tensor.Tensor{nibbles(1, 2, 4), nibbles(4, 12), wave(1, 12), tensor.Scalar(float32(0.01)), tensor.Scalar(float32(0.01)), nil, tensor.Scalar(uint8(128)), tensor.Scalar(uint8(100))},
				Attrs: graph.Attrs{"num_heads": int64(1)}}),
	}
}

// scaledProduct is MatMulInteger with its scales and a bias.
func (x *expansion) scaledProduct(a, b, aScale, bScale, aZero, bZero, bias *graph.Value) *graph.Value {
	y := x.cast(x.op("MatMulInteger", a, b, aZero, bZero), tensor.Float32)
	return x.plus(x.op("Mul", y, x.op("Mul", aScale, bScale)), bias)
}

// dequant is DequantizeLinear along an axis.
func (x *expansion) dequant(v, scale, zero *graph.Value, axis int64) *graph.Value {
	if v != nil && (scale.Type.Rank() == 0 || v.Type.Rank() <= int(axis)) {
		return x.op("DequantizeLinear", v, scale, zero)
	}
	return x.with("DequantizeLinear", graph.Attrs{"axis": axis}, v, scale, zero)
}

// quant is QuantizeLinear to the zero point's type, or to uint8.
func (x *expansion) quant(v, scale, zero *graph.Value) *graph.Value {
	return x.op("QuantizeLinear", v, scale, zero)
}

func expandQGemm(x *expansion) []*graph.Value {
	side := func(i int, flag string) *graph.Value {
		axis := int64(1)
		if x.int(flag, 0) != 0 {
			axis = 0
		}
		v := x.dequant(x.in(i), x.in(i+1), x.in(i+2), axis)
		if axis == 0 {
			v = x.transpose(v, 1, 0)
		}
		return v
	}
	y := x.op("MatMul", side(0, "transA"), side(3, "transB"))
	if c := x.in(6); c != nil { // int32, at the scale of the product
		y = x.op("Add", y, x.op("Mul", x.cast(c, tensor.Float32), x.op("Mul", x.in(1), x.in(4))))
	}
	if alpha := x.float("alpha", 1); alpha != 1 {
		y = x.op("Mul", y, x.like(y, float64(alpha)))
	}
	if x.in(7) != nil {
		y = x.quant(y, x.in(7), x.in(8))
	}
	return one(y)
}
