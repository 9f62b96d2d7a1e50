package microsoft

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// deltaNetRows: the recurrence of Qwen3-Next and Kimi Linear with its gates.
func deltaNetRows() []*ops.Op {
	return []*ops.Op{composite("GatedDeltaNet", "LinearAttention of tokens [B*S,H,d] or [B,S,H,d], the states transposed ([B,H,dv,dk]); gates computed from their projections and heads of unit length on request",
		params("query", "key?", "value?", "cu_seqlens?", "decay?", "beta?", "initial_state?", "a_log?", "dt_bias?", "capture_count?", "state_update_active?"),
		params("output", "final_state?", "state_update?"),
		[]ops.Attr{attr("beta_activation", "none"), attr("chunk_size", int64(64)), attr("gate_activation", "none"), attr("gate_lower_bound", float32(-5)), attr("qk_l2_norm", int64(0)),
			attr("scale", float32(0)), attr("state_update_capacity", int64(0)), attr("update_rule", "gated_delta")},
		expandDeltaNet, ops.Case{Name: "gates", Static: true, NOut: 2, In: []*tensor.Tensor{wave(1, 1, 4, 2, 3), wave(2, 1, 4, 2, 3), wave(3, 1, 4, 2, 5), nil, wave(4, 1, 4, 2), wave(5, 1, 4, 2), wave(6, 1, 2, 5, 3), wave(7, 2), wave(8, 2)},
			Attrs: graph.Attrs{"gate_activation": "softplus", "beta_activation": "sigmoid", "qk_l2_norm": int64(1)}})}
}

// headsOf are the last two axes of a value, which must be numbers.
func (x *expansion) headsOf(v *graph.Value) (heads, size int64) {
	s := v.Type.Shape
	if len(s) < 3 {
		x.fail("a value of type %s where tokens of heads are expected", v.Type)
	}
	h, ok := s[len(s)-2].Const()
	d, ok2 := s[len(s)-1].Const()
	if !ok || !ok2 || h < 1 || d < 1 {
		x.fail("the heads of %s must have known sizes", v.Type)
	}
	return h, d
}

func expandDeltaNet(x *expansion) []*graph.Value {
	x.refuse(3, 9)
	x.refuseAttrs(0, "state_update_capacity")
	q, k, v, state := x.in(0), x.in(1), x.in(2), x.in(6)
	if k == nil || v == nil { // [tokens, q|k|v]
		if state == nil || x.rank(0) < 2 || x.rank(6) != 4 {
			x.fail("packed query %s needs initial_state for its heads' sizes", q.Type)
		}
		hv, dv := x.headsOf(x.transpose(state, 0, 3, 1, 2))
		_, dk := x.headsOf(state)
		width, ok := q.Type.Shape[q.Type.Rank()-1].Const()
		if !ok || (width-hv*dv)%(2*dk) != 0 || width <= hv*dv {
			x.fail("packed query %s does not fit initial_state %s", q.Type, state.Type)
		}
		hq := (width - hv*dv) / (2 * dk)
		p := x.node("Split", graph.Attrs{"axis": int64(-1)}, 3, q, x.ints(hq*dk, hq*dk, hv*dv))
		lead := make([]int64, q.Type.Rank()-1) // zeros: as they are
		split := func(v *graph.Value, h, d int64) *graph.Value {
			return x.reshape(v, append(lead[:len(lead):len(lead)], h, d)...)
		}
		q, k, v = split(p[0], hq, dk), split(p[1], hq, dk), split(p[2], hv, dv)
	}
	hq, dk := x.headsOf(q)
	hv, dv := x.headsOf(v)
	packed := q.Type.Rank() == 3
	if packed && state == nil {
		x.fail("query %s without initial_state: the batch is not known", q.Type)
	}
	// apart makes [B,S,n] of tokens that lie one behind the other.
	apart := func(v *graph.Value, n int64) *graph.Value {
		if v == nil || !packed && v.Type.Rank() == 3 {
			return v
		}
		if !packed {
			return x.reshape(v, 0, 0, n)
		}
		return x.op("Reshape", v, x.with("Concat", graph.Attrs{"axis": int64(0)}, x.dim(state, 0), x.ints(-1, n)))
	}
	d := q.Type.DType
	if x.int("qk_l2_norm", 0) != 0 {
		unit := func(v *graph.Value) *graph.Value {
			w := x.cast(v, tensor.Float32)
			length := x.op("Sqrt", x.op("Add", x.with("ReduceSumSquare", graph.Attrs{"keepdims": int64(1)}, w, x.ints(-1)), x.like(w, 1e-6)))
			return x.cast(x.op("Div", w, length), d)
		}
		q, k = unit(q), unit(k)
	}
	decay, beta := x.gates(hv, dk, packed)
	in := []*graph.Value{apart(q, hq*dk), apart(k, hq*dk), apart(v, hv*dv), nil, x.cast(apart(decay, x.perHead(decay, hv, packed)), d), x.cast(apart(beta, hv), d)}
	if state != nil {
		in[3] = x.cast(x.transpose(state, 0, 1, 3, 2), d)
	}
	a := graph.Attrs{"q_num_heads": hq, "kv_num_heads": hv, "update_rule": x.n.Attrs.Str("update_rule", "gated_delta"), "scale": x.float("scale", 0)}
	out := x.nodeOf(Domain, "LinearAttention", a, 2, in...)
	shape := []int64{0, 0, max(hq, hv), dv}
	if packed {
		shape = []int64{-1, max(hq, hv), dv}
	}
	return []*graph.Value{x.reshape(out[0], shape...), x.transpose(x.cast(out[1], tensor.Float32), 0, 1, 3, 2), nil}
}

// perHead is the width of the decays of one token: one for each head, or for each of its keys too.
func (x *expansion) perHead(decay *graph.Value, heads int64, packed bool) int64 {
	plain := 3
	if packed {
		plain = 2
	}
	if decay == nil || decay.Type.Rank() <= plain {
		return heads
	}
	_, d := x.headsOf(decay)
	return heads * d
}

// gates are decay and beta, computed in float.
func (x *expansion) gates(heads, keys int64, packed bool) (decay, beta *graph.Value) {
	decay, beta = x.cast(x.in(4), tensor.Float32), x.cast(x.in(5), tensor.Float32)
	byKey := x.perHead(decay, heads, packed) != heads
	logA, bias := x.in(7), x.in(8)
	if byKey && logA != nil {
		logA = x.reshape(logA, heads, 1)
	}
	if byKey && bias != nil {
		if n, ok := bias.Type.Len(); ok && n.Is(heads) {
			bias = x.reshape(bias, heads, 1)
		} else {
			bias = x.reshape(bias, heads, keys)
		}
	}
	switch name := x.n.Attrs.Str("gate_activation", "none"); {
	case name == "none":
	case decay == nil || logA == nil || bias == nil:
		x.fail("gate_activation=%q needs decay, a_log and dt_bias", name)
	case name == "softplus" || name == "qwen":
		decay = x.op("Neg", x.op("Mul", x.op("Exp", logA), x.op("Softplus", x.op("Add", decay, bias))))
	case name == "sigmoid" || name == "kda":
		s := x.op("Sigmoid", x.op("Mul", x.op("Exp", logA), x.op("Add", decay, bias)))
		decay = x.op("Mul", s, x.like(s, float64(x.float("gate_lower_bound", -5))))
	default:
		x.fail("gate_activation=%q, want none, softplus or sigmoid", name)
	}
	switch name := x.n.Attrs.Str("beta_activation", "none"); {
	case name == "sigmoid" && beta != nil:
		beta = x.op("Sigmoid", beta)
	case name != "none":
		x.fail("beta_activation=%q, want none, or sigmoid with beta", name)
	}
	return decay, beta
}
