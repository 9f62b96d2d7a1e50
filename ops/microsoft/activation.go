package microsoft

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// activationRows: pointwise functions with a bias.
func activationRows() []*ops.Op {
	v, bias := wave(1, 2, 3, 8), wave(2, 8)
	tanh := graph.Attrs{"approximate": "tanh"}
	return []*ops.Op{
		composite("Gelu", "x * Phi(x)", params("X"), params("Y"), sig.NoAttrs,
			func(x *expansion) []*graph.Value { return one(x.op("Gelu", x.in(0))) }, ops.Case{Name: "3d", In: []*tensor.Tensor{v}}),
		composite("BiasGelu", "Gelu of A + B", params("A", "B"), params("C"), sig.NoAttrs,
			func(x *expansion) []*graph.Value { return one(x.op("Gelu", x.plus(x.in(0), x.in(1)))) }, ops.Case{Name: "3d", In: []*tensor.Tensor{v, bias}}),
		composite("FastGelu", "Gelu of X + bias by its tanh approximation", params("X", "bias?"), params("Y"), sig.NoAttrs,
			func(x *expansion) []*graph.Value { return one(x.with("Gelu", tanh, x.plus(x.in(0), x.in(1)))) }, ops.Case{Name: "bias", In: []*tensor.Tensor{v, bias}}),
		composite("QuickGelu", "x * sigmoid(alpha*x)", params("X"), params("Y"), []ops.Attr{attr("alpha", float32(1.702))},
			func(x *expansion) []*graph.Value {
				return one(x.with("Swish", graph.Attrs{"alpha": x.float("alpha", 1.702)}, x.in(0)))
			}, ops.Case{Name: "3d", In: []*tensor.Tensor{v}}),
		composite("BiasAdd", "X + bias + skip", params("X", "bias", "skip"), params("Y"), sig.NoAttrs,
			func(x *expansion) []*graph.Value { return one(x.plus(x.in(0), x.in(1), x.in(2))) }, ops.Case{Name: "3d", In: []*tensor.Tensor{v, bias, wave(3, 2, 3, 8)}}),
		composite("BiasSplitGelu", "the first half of X + bias times Gelu of the second", params("X", "bias"), params("Y"), sig.NoAttrs,
			func(x *expansion) []*graph.Value {
				h := x.node("Split", graph.Attrs{"axis": int64(-1), "num_outputs": int64(2)}, 2, x.plus(x.in(0), x.in(1)))
				return one(x.op("Mul", h[0], x.op("Gelu", h[1])))
			}, ops.Case{Name: "3d", In: []*tensor.Tensor{v, bias}}),
		composite("ScaledSiLU", "z * sigmoid(z) for z = scale * X", params("X", "scale?"), params("Y"), []ops.Attr{attr("alpha", float32(1))},
			func(x *expansion) []*graph.Value {
				by := x.in(1)
				if by == nil {
					by = x.like(x.in(0), float64(x.float("alpha", 1)))
				}
				return one(x.op("Swish", x.op("Mul", x.in(0), x.cast(by, x.in(0).Type.DType))))
			}, ops.Case{Name: "alpha", In: []*tensor.Tensor{v}, Attrs: graph.Attrs{"alpha": float32(2)}}),
		composite("SwiGLU", "g * sigmoid(activation_alpha*g) * (up + activation_beta), both halves clamped to limit when it is positive; one input holds both halves",
			params("gate", "up?"), params("output"),
			[]ops.Attr{attr("activation_alpha", float32(1)), attr("activation_beta", float32(0)), attr("limit", float32(0)), attr("round_activation", int64(0))},
			func(x *expansion) []*graph.Value {
				g, up := x.in(0), x.in(1)
				if up == nil {
					h := x.node("Split", graph.Attrs{"axis": int64(-1), "num_outputs": int64(2)}, 2, g)
					g, up = h[0], h[1]
				}
				if l := float64(x.float("limit", 0)); l > 0 {
					g, up = x.op("Min", g, x.like(g, l)), x.op("Clip", up, x.like(up, -l), x.like(up, l))
				}
				if beta := float64(x.float("activation_beta", 0)); beta != 0 {
					up = x.op("Add", up, x.like(up, beta))
				}
				return one(x.op("Mul", x.with("Swish", graph.Attrs{"alpha": x.float("activation_alpha", 1)}, g), up))
			}, ops.Case{Name: "clamped", In: []*tensor.Tensor{v, wave(5, 2, 3, 8)}, Attrs: graph.Attrs{"limit": float32(0.5), "activation_beta": float32(1)}}),
	}
}

// activate applies the activation that a fused operator names.
func (x *expansion) activate(y *graph.Value, params []float32) *graph.Value {
	at := func(i int, def float32) float32 {
		if i < len(params) {
			return params[i]
		}
		return def
	}
	name := x.n.Attrs.Str("activation", "")
	switch name {
	case "":
		return y
	case "Relu", "Sigmoid", "Tanh", "Softplus", "HardSwish", "Swish": // the last two are what passes/fuse adds
		return x.op(name, y)
	case "LeakyRelu":
		return x.with(name, graph.Attrs{"alpha": at(0, 0.01)}, y)
	case "HardSigmoid":
		return x.with(name, graph.Attrs{"alpha": at(0, 0.2), "beta": at(1, 0.5)}, y)
	case "Clip":
		return x.op(name, y, x.like(y, float64(at(0, -3.4028234663852886e38))), x.like(y, float64(at(1, 3.4028234663852886e38))))
	}
	x.fail("attribute activation is %q, want Relu, LeakyRelu, Sigmoid, HardSigmoid, Tanh, Softplus, HardSwish, Swish or Clip", name)
	return nil
}
