package microsoft

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// moeRows: mixtures of experts. Every expert is written out as products of its
// own, so that its weights keep the formats that products have (4 bits among
// them), and computes all tokens; the tokens that did not choose it take nothing
// from it.
func moeRows() []*ops.Op {
	const docTail = "each token's k experts by the largest router_probs, weighted by their softmax over all experts (normalised over the k with normalize_routing_weights): " +
		"fc2(activation(fc1 x)), times fc3 x where that is given"
	attrs := []ops.Attr{attrOpt("activation_alpha"), attrOpt("activation_beta"), attr("activation_type", "relu"), attr("k", int64(1)), attr("normalize_routing_weights", int64(0)),
		attr("swiglu_fusion", int64(0)), attrOpt("swiglu_limit"), attr("swiglu_limit_after_activation", int64(0)), attr("use_sparse_mixer", int64(0))}
	packed := []ops.Attr{attr("accuracy_level", int64(0)), attr("block_size", int64(0)), attr("expert_weight_bits", int64(4)), attrOpt("fc1_expert_weight_bits"), attrOpt("fc2_expert_weight_bits"),
		attrOpt("fc3_expert_weight_bits"), attr("quant_type", "int"), attr("weights_prepacked", int64(-1))}
	x, router := wave(1, 3, 16), wave(2, 3, 4)
	return []*ops.Op{
		composite("MoE", "mixture of experts: "+docTail,
			params("input", "router_probs", "fc1_experts_weights", "fc1_experts_bias?", "fc2_experts_weights", "fc2_experts_bias?", "fc3_experts_weights?", "fc3_experts_bias?"),
			params("output"), attrs, func(x *expansion) []*graph.Value {
				fc := func(w int) layer { return x.plainLayer(w, w+1) }
				return one(x.experts(fc(2), fc(4), fc(6), nil))
			},
			ops.Case{Name: "silu, fc3", Static: true, In: []*tensor.Tensor{x, router, wave(3, 4, 8, 16), wave(4, 4, 8), wave(5, 4, 16, 8), nil, wave(6, 4, 8, 16)},
				Attrs: graph.Attrs{"k": int64(2), "activation_type": "silu", "normalize_routing_weights": int64(1)}},
			ops.Case{Name: "swiglu, constants", Static: true, Consts: []int{2, 4}, In: []*tensor.Tensor{x, router, wave(3, 4, 16, 16), nil, wave(5, 4, 16, 8)},
				Attrs: graph.Attrs{"k": int64(2), "activation_type": "swiglu", "swiglu_fusion": int64(1), "swiglu_limit": float32(0.5)}}),
		composite("QMoE", "mixture of experts whose weights are integers of 2, 4 or 8 bits, scaled by row or by blocks of a row: "+docTail+"; router_weights, when given, weigh instead of router_probs",
			params("input", "router_probs", "fc1_experts_weights", "fc1_scales?", "fc1_experts_bias?", "fc2_experts_weights", "fc2_scales?", "fc2_experts_bias?",
				"fc3_experts_weights?", "fc3_scales?", "fc3_experts_bias?", "fc1_zero_points?", "fc2_zero_points?", "fc3_zero_points?", "router_weights?",
				"fc1_global_scale?", "fc2_global_scale?", "fc1_act_scale?", "fc2_act_scale?", "fc1_act_block_scale?", "fc2_act_block_scale?"),
			params("output"), append(packed, attrs...), expandQMoE,
			ops.Case{Name: "4 bits", Static: true, Consts: []int{2, 5}, In: []*tensor.Tensor{x, router, nibbles(4, 8, 8), wave(3, 4, 8), nil, nibbles(4, 16, 4), wave(4, 4, 16)}, Attrs: graph.Attrs{"k": int64(2), "activation_type": "silu"}}),
	}
}

// layer is one projection of all experts: their number, and the product of v with the weights of expert e.
type layer struct {
	experts int
	apply   func(v *graph.Value, e int) *graph.Value
}

// expertsOf checks weights [E,N,K] and counts their experts; 0 for a layer that is left out.
func (x *expansion) expertsOf(weight int) int {
	w := x.in(weight)
	if w == nil {
		return 0
	}
	if x.rank(weight) != 3 {
		x.fail("the experts' weights are %s, want [E,N,K]", w.Type)
	}
	n, ok := w.Type.Shape[0].Const()
	if !ok || n < 1 || n > 1<<12 {
		x.fail("the experts' weights are %s: their number must be known, and at most %d", w.Type, 1<<12)
	}
	return int(n)
}

// part is v[e], of a constant without computing.
func (x *expansion) part(v *graph.Value, e int) *graph.Value {
	if v == nil {
		return nil
	}
	if t := v.Const; t != nil && t.Rank() > 0 && e < t.Shape[0] {
		if n := t.Len() / t.Shape[0]; t.DType != tensor.String && n*t.DType.Bits()%8 == 0 {
			size := t.DType.Bytes(n)
			return x.b.Const(&tensor.Tensor{DType: t.DType, Shape: t.Shape[1:], Data: t.Data[e*size : (e+1)*size]})
		}
	}
	return x.with("Gather", graph.Attrs{"axis": int64(0)}, v, x.scalar(int64(e)))
}

func (x *expansion) plainLayer(weight, bias int) layer {
	return layer{x.expertsOf(weight), func(v *graph.Value, e int) *graph.Value {
		return x.plus(x.op("MatMul", v, x.transpose(x.part(x.in(weight), e), 1, 0)), x.part(x.in(bias), e))
	}}
}

func expandQMoE(x *expansion) []*graph.Value {
	x.refuse(15, 16, 17, 18, 19, 20)
	if t := x.n.Attrs.Str("quant_type", "int"); t != "int" {
		x.fail("quant_type=%q is not supported, only int", t)
	}
	if p := x.int("weights_prepacked", -1); p > 0 {
		x.fail("weights_prepacked=%d: the weights lie as one provider of ONNX Runtime wants them; export with weights_prepacked=0", p)
	}
	fc := func(weight, scale, bias, zero int, bits string) layer {
		return x.packedLayer(weight, scale, bias, zero, x.int(bits, x.int("expert_weight_bits", 4)))
	}
	return one(x.experts(fc(2, 3, 4, 11, "fc1_expert_weight_bits"), fc(5, 6, 7, 12, "fc2_expert_weight_bits"), fc(8, 9, 10, 13, "fc3_expert_weight_bits"), x.in(14)))
}

// packedLayer: weights uint8 [E,N,K*bits/8], scales [E,N] or [E,N,blocks], zero
// points packed as the weights are, along N or along the blocks.
func (x *expansion) packedLayer(weight, scale, bias, zero int, bits int64) layer {
	experts := x.expertsOf(weight)
	if experts == 0 {
		return layer{}
	}
	d, ok := packedBits(bits)
	w, scales := x.in(weight).Const, x.in(scale)
	if !ok || w == nil || w.DType != tensor.Uint8 || scales == nil || !scales.Type.Ranked() {
		x.fail("weights of %d bits, input %d %s: want constant bytes that hold 2, 4 or 8 bits each, with scales", bits, weight, x.in(weight).Type)
	}
	N, K := w.Shape[1], w.Shape[2]*8/d.Bits()
	blocks, size := 1, int64(K)
	if b := x.int("block_size", 0); b > 0 {
		if blocks, size = K/int(b), b; int64(K)%b != 0 || K == 0 {
			x.fail("rows of %d elements are no multiple of block_size=%d", K, b)
		}
	}
	rows := experts * N * blocks
	q := &tensor.Tensor{DType: d, Shape: []int{experts, N, K}, Data: w.Data}
	var z *tensor.Tensor
	if v := x.in(zero); v == nil {
		z = tensor.New(d, experts, N, blocks)
		for i := range rows {
			z.SetIntAt(i, 1<<(bits-1))
		}
	} else if z = v.Const; z == nil {
		x.fail("the zero points are not constant")
	} else {
		per := blocks
		if x.int("block_size", 0) <= 0 {
			per = N
		}
		if z, ok = unpackRows(z, d, rows/max(per, 1), per); !ok {
			x.fail("zero points %s do not fit weights %s", v.Const.TypeString(), w.TypeString())
		}
		z = z.Reshaped(experts, N, blocks)
	}
	zeros := x.b.Const(z)
	return layer{experts, func(v *graph.Value, e int) *graph.Value {
		s := x.reshape(x.part(scales, e), int64(N), int64(blocks))
		wide := x.dequantize(x.part(x.b.Const(q), e), s, x.part(zeros, e), 1, size)
		return x.plus(x.op("MatMul", v, x.transpose(wide, 1, 0)), x.part(x.in(bias), e))
	}}
}

// experts is the mixture. fc3 without experts is left out; weigh, nil or as router_probs, gives the weights.
func (x *expansion) experts(fc1, fc2, fc3 layer, weigh *graph.Value) *graph.Value {
	x.refuseAttrs(0, "use_sparse_mixer", "swiglu_limit_after_activation")
	router, k, n := x.in(1), x.int("k", 1), fc1.experts
	if x.rank(0) < 2 || x.rank(1) != 2 || fc2.experts != n || fc3.experts != 0 && fc3.experts != n || k < 1 || k > int64(n) {
		x.fail("k=%d experts of %d in fc1 and %d in fc2, for input %s and router_probs %s", k, n, fc2.experts, x.in(0).Type, router.Type)
	}
	last := graph.Attrs{"axis": int64(-1)}
	score := x.with("Softmax", last, router)
	if weigh == nil {
		weigh = score
	}
	chosen := x.node("TopK", last, 2, router, x.ints(k))[1]
	share := x.with("GatherElements", last, weigh, chosen)
	if x.int("normalize_routing_weights", 0) != 0 {
		share = x.op("Div", share, x.op("ReduceSum", share, x.ints(-1)))
	}
	none := x.op("Expand", x.like(score, 0), x.op("Shape", score))
	gates := x.with("ScatterElements", last, none, chosen, share)
	of := []*graph.Value{gates}
	if n > 1 {
		parts := make([]int64, n)
		for i := range parts {
			parts[i] = 1
		}
		of = x.node("Split", last, n, gates, x.ints(parts...))
	}
	rows, r := x.in(0), int64(x.rank(0))
	if r > 2 {
		rows = x.op("Reshape", rows, x.with("Concat", graph.Attrs{"axis": int64(0)}, x.ints(-1), x.dim(rows, r-1)))
	}
	zero := x.like(rows, 0)
	var sum *graph.Value
	for e, gate := range of {
		y := x.op("Mul", fc2.apply(x.expert(fc1, fc3, rows, e), e), gate)
		// An expert that is not asked may overflow: its 0 * Inf is not part of the sum.
		y = x.op("Where", x.op("Equal", gate, zero), zero, y)
		if sum == nil {
			sum = y
		} else {
			sum = x.op("Add", sum, y)
		}
	}
	if r > 2 {
		sum = x.op("Reshape", sum, x.op("Shape", x.in(0)))
	}
	return sum
}

// expert is activation(fc1 v), gated as the attributes say.
func (x *expansion) expert(fc1, fc3 layer, v *graph.Value, e int) *graph.Value {
	h := fc1.apply(v, e)
	name := x.n.Attrs.Str("activation_type", "relu")
	if name == "swiglu" {
		return x.swiglu(h, fc3, v, e)
	}
	switch name {
	case "relu":
		h = x.op("Relu", h)
	case "gelu": // as ONNX Runtime computes it
		h = x.with("Gelu", graph.Attrs{"approximate": "tanh"}, h)
	case "silu":
		h = x.op("Swish", h)
	case "identity":
	default:
		x.fail("activation_type=%q is not supported, only relu, gelu, silu, swiglu and identity", name)
	}
	if fc3.experts > 0 {
		h = x.op("Mul", h, fc3.apply(v, e))
	}
	return h
}

// swiglu: gate and line alternate in the rows of fc1 (1), lie one behind the other (2), or the line is fc3 (0).
func (x *expansion) swiglu(h *graph.Value, fc3 layer, v *graph.Value, e int) *graph.Value {
	var line *graph.Value
	switch fusion := x.int("swiglu_fusion", 0); {
	case fusion == 0 && fc3.experts > 0:
		line = fc3.apply(v, e)
	case fusion == 1 && fc3.experts == 0:
		every := func(from int64) *graph.Value {
			return x.op("Slice", h, x.ints(from), x.ints(math.MaxInt64), x.ints(1), x.ints(2))
		}
		h, line = every(0), every(1)
	case fusion == 2 && fc3.experts == 0:
		p := x.node("Split", graph.Attrs{"axis": int64(1), "num_outputs": int64(2)}, 2, h)
		h, line = p[0], p[1]
	default:
		x.fail("swiglu_fusion=%d, with fc3: %t", fusion, fc3.experts > 0)
	}
	if x.n.Attrs.Has("swiglu_limit") {
		l := float64(x.float("swiglu_limit", 0))
		h, line = x.op("Min", h, x.like(h, l)), x.op("Clip", line, x.like(line, -l), x.like(line, l))
	}
	if beta := float64(x.float("activation_beta", 0)); beta != 0 {
		line = x.op("Add", line, x.like(line, beta))
	}
	return x.op("Mul", x.with("Swish", graph.Attrs{"alpha": x.float("activation_alpha", 1)}, h), line)
}
