package microsoft

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// qlinearRows: operators on quantised tensors, each that of the numbers they
// stand for, quantised again.
func qlinearRows() []*ops.Op {
	half, zero := tensor.Scalar(float32(0.02)), tensor.Scalar(uint8(128))
	unary := []*tensor.Tensor{nibbles(2, 3), half, zero, tensor.Scalar(float32(0.01)), tensor.Scalar(uint8(3))}
	image := []*tensor.Tensor{nibbles(1, 2, 4, 4), half, zero, tensor.Scalar(float32(0.01)), tensor.Scalar(uint8(3))}
	pair := []*tensor.Tensor{nibbles(2, 3), half, zero, nibbles(3), half, zero, tensor.Scalar(float32(0.03)), zero}
	quantized := func(name, doc string, attrs []ops.Attr, f func(x *expansion, v *graph.Value) *graph.Value, c ops.Case) *ops.Op {
		return composite(name, doc+", on quantised numbers", params("X", "X_scale", "X_zero_point?", "Y_scale", "Y_zero_point?"), params("Y"), attrs,
			func(x *expansion) []*graph.Value {
				return one(x.quant(f(x, x.dequant(x.in(0), x.in(1), x.in(2), 1)), x.in(3), x.zero(4, 0)))
			}, c)
	}
	binary := func(name, op string) *ops.Op {
		return composite(name, op+" on quantised numbers, with broadcasting", params("A", "A_scale", "A_zero_point?", "B", "B_scale", "B_zero_point?", "C_scale", "C_zero_point?"),
			params("C"), sig.NoAttrs, func(x *expansion) []*graph.Value {
				y := x.op(op, x.dequant(x.in(0), x.in(1), x.in(2), 1), x.dequant(x.in(3), x.in(4), x.in(5), 1))
				return one(x.quant(y, x.in(6), x.zero(7, 0)))
			}, ops.Case{Name: "broadcast", In: pair})
	}
	return []*ops.Op{
		binary("QLinearAdd", "Add"), binary("QLinearMul", "Mul"),
		quantized("QLinearSigmoid", "Sigmoid", sig.NoAttrs, func(x *expansion, v *graph.Value) *graph.Value { return x.op("Sigmoid", v) }, ops.Case{Name: "2d", In: unary}),
		quantized("QLinearLeakyRelu", "LeakyRelu", []ops.Attr{attr("alpha", float32(0.01))}, func(x *expansion, v *graph.Value) *graph.Value {
			return x.with("LeakyRelu", graph.Attrs{"alpha": x.float("alpha", 0.01)}, v)
		}, ops.Case{Name: "2d", In: unary}),
		quantized("QLinearSoftmax", "Softmax of the opset that the attribute names", []ops.Attr{attr("axis", int64(-1)), attr("opset", nil)}, func(x *expansion, v *graph.Value) *graph.Value {
			if x.int("opset", 13) >= 13 {
				return x.with("Softmax", graph.Attrs{"axis": x.int("axis", -1)}, v)
			}
			flat := x.with("Flatten", graph.Attrs{"axis": x.int("axis", -1)}, v)
			return x.op("Reshape", x.op("Softmax", flat), x.op("Shape", v))
		}, ops.Case{Name: "2d", In: unary, Attrs: graph.Attrs{"opset": int64(13)}}),
		quantized("QLinearGlobalAveragePool", "GlobalAveragePool", []ops.Attr{attr("channels_last", int64(0))}, func(x *expansion, v *graph.Value) *graph.Value {
			if x.int("channels_last", 0) == 0 {
				return x.op("GlobalAveragePool", v)
			}
			return x.op("ReduceMean", v, x.spatial(v))
		}, ops.Case{Name: "4d", In: image}),
		quantized("QLinearAveragePool", "AveragePool", []ops.Attr{attr("auto_pad", "NOTSET"), attr("ceil_mode", int64(0)), attr("channels_last", int64(0)), attr("count_include_pad", int64(0)),
			attr("kernel_shape", nil), attrOpt("pads"), attrOpt("strides")}, func(x *expansion, v *graph.Value) *graph.Value {
			x.refuseAttrs(0, "channels_last")
			a := x.n.Attrs.Clone()
			delete(a, "channels_last")
			return x.with("AveragePool", a, v)
		}, ops.Case{Name: "2x2", In: image, Attrs: graph.Attrs{"kernel_shape": []int64{2, 2}}}),
		composite("QLinearConcat", "Concat of quantised tensors: Y_scale and Y_zero_point, then each with its scale and zero point",
			params("Y_scale", "Y_zero_point", "inputs..."), params("Y"), []ops.Attr{attr("axis", nil)},
			func(x *expansion) []*graph.Value {
				if len(x.n.In)%3 != 2 || len(x.n.In) < 5 {
					x.fail("%d inputs, want 2 and then 3 for each tensor", len(x.n.In))
				}
				var parts []*graph.Value
				for i := 2; i < len(x.n.In); i += 3 {
					parts = append(parts, x.dequant(x.in(i), x.in(i+1), x.in(i+2), 1))
				}
				return one(x.quant(x.with("Concat", graph.Attrs{"axis": x.int("axis", 0)}, parts...), x.in(0), x.in(1)))
			}, ops.Case{Name: "two", In: []*tensor.Tensor{half, zero, nibbles(2, 3), half, zero, nibbles(2, 2), half, zero}, Attrs: graph.Attrs{"axis": int64(1)}}),
		composite("QLinearConv", "ONNX's QLinearConv, also with channels last",
			params("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "B?"), params("y"),
			[]ops.Attr{attr("auto_pad", "NOTSET"), attr("channels_last", int64(0)), attrOpt("dilations"), attr("group", int64(1)), attrOpt("kernel_shape"), attrOpt("pads"), attrOpt("strides")},
			func(x *expansion) []*graph.Value {
				a, in := x.n.Attrs.Clone(), append([]*graph.Value{}, x.n.In...)
				delete(a, "channels_last")
				last := x.int("channels_last", 0) != 0
				if last {
					in[0] = x.transpose(in[0], 0, 3, 1, 2)
				}
				y := x.with("QLinearConv", a, in...)
				if last {
					y = x.transpose(y, 0, 2, 3, 1)
				}
				return one(y)
			}, ops.Case{Name: "channels last", In: []*tensor.Tensor{nibbles(1, 4, 4, 2), half, zero, nibbles(3, 2, 2, 2), half, zero, tensor.Scalar(float32(0.1)), zero}, Attrs: graph.Attrs{"channels_last": int64(1)}}),
	}
}

// zero is input i, or a zero of the element type of input like: a result has
// the type of its zero point.
func (x *expansion) zero(i, like int) *graph.Value {
	if v := x.in(i); v != nil {
		return v
	}
	return x.like(x.in(like), 0)
}

// spatial lists the axes between the first and the last.
func (x *expansion) spatial(v *graph.Value) *graph.Value {
	var axes []int64
	for a := 1; a < v.Type.Rank()-1; a++ {
		axes = append(axes, int64(a))
	}
	return x.ints(axes...)
}
