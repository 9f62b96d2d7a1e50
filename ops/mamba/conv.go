package mamba

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// causalConv is causal_conv1d_interface.py: causal_conv1d_fn.
var causalConv = &function{
	domain: ConvDomain, name: "causal_conv1d_fn",
	doc: "causal_conv1d's depthwise convolution, channels first, in any domain: ssm.CausalConv.",
	params: []param{
		{"x", "[B,C,L]", tensorKind, true}, {"weight", "[C,K]", tensorKind, true}, {"bias", "[C]", tensorKind, false},
		{"seq_idx", "refused", tensorKind, false}, {"initial_states", "[B,C,K-1]", tensorKind, false},
		{"return_final_states", "read off the outputs asked for", boolKind, false}, {"final_states_out", "refused", tensorKind, false},
		{"activation", "silu, swish or none (by default)", stringKind, false},
	},
	out: []ops.Param{{Name: "out", Doc: "[B,C,L]"}, {Name: "final_states", Doc: "[B,C,K-1]", Optional: true}},
	expand: func(x *call) []*graph.Value {
		x.refuse("the convolution would have to stop at the sequences' ends; export the sequences one by one", "seq_idx")
		x.refuse("a graph does not write to its inputs; the states are the second output", "final_states_out")
		x.shape("x", 3)
		w := x.shape("weight", 2)
		x.shape("bias", 1)
		if s := x.shape("initial_states", 3); s != nil {
			k, n := x.number(w[1], "the width of weight"), x.number(s[2], "the width of initial_states")
			if n != k-1 {
				x.fail("initial_states is %s; a kernel of %d taps wants [B,C,%d]", x.tensor("initial_states").Type, k, k-1)
			}
		}
		return x.conv(x.tensor("x"), x.tensor("initial_states"))
	},
}

// convUpdate is causal_conv1d_interface.py: causal_conv1d_update.
var convUpdate = &function{
	domain: ConvDomain, name: "causal_conv1d_update",
	doc: "causal_conv1d's decode step, in any domain: ssm.CausalConv with a state of W >= K-1 columns; the new state is the second output.",
	params: []param{
		{"x", "[B,C] or [B,C,L]", tensorKind, true}, {"conv_state", "[B,C,W], W >= K-1", tensorKind, true}, {"weight", "[C,K]", tensorKind, true},
		{"bias", "[C]", tensorKind, false}, {"activation", "silu, swish or none (by default)", stringKind, false},
		{"cache_seqlens", "refused", tensorKind, false}, {"conv_state_indices", "refused", tensorKind, false},
	},
	out: []ops.Param{{Name: "out", Doc: "like x"}, {Name: "new_conv_state", Doc: "like conv_state", Optional: true}},
	expand: func(x *call) []*graph.Value {
		x.refuse("states in circular buffers and in slots of a pool have no form in ssdc; bring them in order before the step", "cache_seqlens", "conv_state_indices")
		rank := len(x.shape("x", 2, 3))
		x.shape("bias", 1)
		w, s := x.shape("weight", 2), x.shape("conv_state", 3)
		if k, n := x.number(w[1], "the width of weight"), x.number(s[2], "the width of conv_state"); n < k-1 {
			x.fail("conv_state is %s; a kernel of %d taps wants %d columns or more", x.tensor("conv_state").Type, k, k-1)
		}
		in := x.tensor("x")
		if rank == 2 {
			in = x.unsqueeze(in, 2)
		}
		out := x.conv(in, x.tensor("conv_state"))
		if rank == 2 {
			out[0] = x.squeeze(out[0], 2)
		}
		return out
	},
}

// conv is the convolution of in [B,C,L] and the state after it.
func (x *call) conv(in, state *graph.Value) []*graph.Value {
	a := graph.Attrs{"activation": x.activation("none")}
	out := slices.Clone(x.node(ssm.Domain, "CausalConv", a, 2, x.transpose(in, 0, 2, 1), x.tensor("weight"), x.tensor("bias"), state))
	out[0] = x.transpose(out[0], 0, 2, 1)
	return out
}
