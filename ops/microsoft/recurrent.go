package microsoft

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// recurrentRows: linear attention and its surroundings, as ONNX Runtime had them
// before opset 27, with windows of states for speculative decoding.
func recurrentRows() []*ops.Op {
	attention := composite("LinearAttention", "ONNX's LinearAttention, which here may have fewer query and key heads than value heads; with state_window W the states are [W,B,H,dk,dv], those after the last W tokens",
		params("query", "key", "value", "past_state?", "decay?", "beta?"), params("output", "present_state"),
		[]ops.Attr{attr("chunk_size", int64(64)), attr("kv_num_heads", nil), attr("q_num_heads", nil), attr("scale", float32(0)), attr("state_window", int64(0)), attr("update_rule", "gated_delta")},
		expandLinearAttention)
	heads := graph.Attrs{"q_num_heads": int64(2), "kv_num_heads": int64(1), "update_rule": "gated"}
	window := graph.Attrs{"q_num_heads": int64(2), "kv_num_heads": int64(1), "update_rule": "gated", "state_window": int64(3)}
	in := []*tensor.Tensor{wave(1, 1, 4, 6), wave(2, 1, 4, 3), wave(3, 1, 4, 2), nil, wave(4, 1, 4, 1)}
	attention.Cases = []ops.Case{{Name: "gated", In: in, Attrs: heads, NOut: 2}, {Name: "window", In: in, Attrs: window, NOut: 2}}
	sharedHeads(attention)
	return []*ops.Op{
		attention,
		composite("LinearAttentionGate", "decay = decay_scale * softplus(a + dt_bias) and beta = sigmoid(b), computed in float",
			params("a", "dt_bias", "decay_scale", "b?"), params("decay", "beta?"), []ops.Attr{},
			func(x *expansion) []*graph.Value {
				d := x.in(0).Type.DType
				wide := x.in(1).Type.DType
				decay := x.cast(x.op("Mul", x.op("Softplus", x.op("Add", x.cast(x.in(0), wide), x.in(1))), x.in(2)), d)
				out := []*graph.Value{decay, nil}
				if b := x.in(3); b != nil {
					out[1] = x.op("Sigmoid", b)
				}
				return out
			}, ops.Case{Name: "both", In: []*tensor.Tensor{wave(1, 1, 4, 2), wave(2, 2), wave(3, 2), wave(4, 1, 4, 2)}, NOut: 2}),
		composite("CausalConvWithState", "ONNX's CausalConvWithState, also dilated, channels last, and with a window of states",
			params("input", "weight", "bias?", "past_state?"), params("output", "present_state", "state_update?"),
			[]ops.Attr{attr("activation", "none"), attr("channels_last", int64(0)), attr("dilation", int64(1)), attr("input_channel_offset", int64(0)), attr("input_channels", int64(0)),
				attr("ndim", int64(1)), attr("state_channels_last", int64(-1)), attr("state_length", int64(0)), attr("state_update_capacity", int64(0)), attr("state_window", int64(0))},
			expandCausalConv, ops.Case{Name: "plain", In: []*tensor.Tensor{wave(1, 1, 2, 5), wave(2, 2, 1, 3)}, NOut: 2},
			ops.Case{Name: "dilated, window", Static: true, In: []*tensor.Tensor{wave(1, 1, 2, 5), wave(2, 2, 1, 3), wave(3, 2), wave(4, 2, 1, 2, 4)}, NOut: 2, Attrs: graph.Attrs{"dilation": int64(2), "state_window": int64(2), "activation": "silu"}},
			ops.Case{Name: "channels last", In: []*tensor.Tensor{wave(1, 1, 5, 2), wave(2, 2, 1, 3), nil, wave(4, 1, 2, 2)}, NOut: 2, Attrs: graph.Attrs{"channels_last": int64(1)}}),
	}
}

// lastOf is slot W-1 of a window of states.
func (x *expansion) lastOf(past *graph.Value, window int64) *graph.Value {
	if past == nil || window == 0 {
		return past
	}
	return x.op("Gather", past, x.scalar(window-1))
}

// there is state where token number at (a vector of one element) exists, else zeros.
func (x *expansion) there(state, at *graph.Value) *graph.Value {
	return x.op("Where", x.op("GreaterOrEqual", at, x.scalar(0)), state, x.like(state, 0))
}

func (x *expansion) window() int64 {
	w := x.int("state_window", 0)
	if w < 0 || w > 8 {
		x.fail("attribute state_window is %d, want 0 to 8", w)
	}
	return w
}

func expandLinearAttention(x *expansion) []*graph.Value {
	w := x.window()
	shared := x.int("kv_num_heads", 0) > x.int("q_num_heads", 0)
	if shared && w == 0 {
		return nil // see sharedHeads
	}
	a := x.n.Attrs.Clone()
	delete(a, "state_window")
	recur := func(in ...*graph.Value) []*graph.Value {
		if !shared {
			return x.node("LinearAttention", a, 2, in...)
		}
		return x.nodeOf(Domain, "LinearAttention", a, 2, in...)
	}
	past := x.lastOf(x.in(3), w)
	all := recur(x.in(0), x.in(1), x.in(2), past, x.in(4), x.in(5))
	if w == 0 || !x.wants(1) {
		return all
	}
	// The states before the last one: all but the last tokens together, then one at a time.
	total := x.dim(x.in(0), 1)
	zero := x.ints(0)
	end := func(j int64) *graph.Value { return x.op("Max", x.op("Sub", total, x.ints(w-1-j)), zero) } // tokens of slot j
	part := func(i int, from, to *graph.Value) *graph.Value {
		if x.in(i) == nil {
			return nil
		}
		return x.slice(x.in(i), from, to, 1)
	}
	state, from := past, zero
	slots := make([]*graph.Value, w)
	for j := range w {
		slots[j] = all[1]
		if j < w-1 {
			to := end(j)
			out := recur(part(0, from, to), part(1, from, to), part(2, from, to), state, part(4, from, to), part(5, from, to))
			state, from = out[1], to
			slots[j] = x.there(state, x.op("Sub", total, x.ints(w-j)))
		}
		slots[j] = x.unsqueeze(slots[j], 0)
	}
	return []*graph.Value{all[0], x.with("Concat", graph.Attrs{"axis": int64(0)}, slots...)}
}

func expandCausalConv(x *expansion) []*graph.Value {
	w := x.window()
	x.refuseAttrs(0, "input_channel_offset", "input_channels", "state_length", "state_update_capacity")
	x.refuseAttrs(1, "ndim")
	x.refuseAttrs(-1, "state_channels_last")
	if x.rank(0) != 3 {
		x.fail("input is %s, want rank 3", x.in(0).Type)
	}
	v, weight, bias, past := x.in(0), x.in(1), x.in(2), x.lastOf(x.in(3), w)
	last := x.int("channels_last", 0) != 0
	if last {
		v = x.transpose(v, 0, 2, 1)
		if past != nil {
			past = x.transpose(past, 0, 2, 1)
		}
	}
	flip := func(s *graph.Value) *graph.Value {
		if last {
			return x.transpose(s, 0, 2, 1)
		}
		return s
	}
	dilation := x.int("dilation", 1)
	act := x.n.Attrs.Str("activation", "none")
	if dilation == 1 && w == 0 {
		out := x.node("CausalConvWithState", graph.Attrs{"activation": act}, 2, v, weight, bias, past)
		return []*graph.Value{flip(out[0]), flip(out[1]), nil}
	}
	k, ok := weight.Type.Shape[weight.Type.Rank()-1].Const()
	ch, ok2 := weight.Type.Shape[0].Const()
	if !ok || !ok2 || k < 1 || dilation < 1 {
		x.fail("weight %s with dilation %d: want constant lengths", weight.Type, dilation)
	}
	keep := (k - 1) * dilation
	var h *graph.Value
	if past != nil {
		h = x.with("Concat", graph.Attrs{"axis": int64(2)}, past, v)
	} else {
		h = x.op("Pad", v, x.ints(0, 0, keep, 0, 0, 0))
	}
	y := x.with("Conv", graph.Attrs{"group": ch, "dilations": []int64{dilation}}, h, weight, bias)
	if act == "silu" || act == "swish" {
		y = x.op("Swish", y)
	}
	total := x.dim(v, 2)
	states := make([]*graph.Value, max(w, 1))
	for j := range states {
		back := int64(len(states) - 1 - j) // tokens after this slot's last one
		from := x.op("Max", x.op("Sub", total, x.ints(back)), x.ints(0))
		s := x.slice(h, from, x.op("Add", from, x.ints(keep)), 2)
		if back > 0 {
			s = x.there(s, x.op("Sub", total, x.ints(back+1)))
		}
		states[j] = flip(s)
	}
	out := []*graph.Value{flip(y), states[0], nil}
	if w > 0 {
		for j := range states {
			states[j] = x.unsqueeze(states[j], 0)
		}
		out[1] = x.with("Concat", graph.Attrs{"axis": int64(0)}, states...)
	}
	return out
}
