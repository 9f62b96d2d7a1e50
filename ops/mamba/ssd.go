package mamba

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// chunkScan is ops/triton/ssd_combined.py: mamba_chunk_scan_combined.
var chunkScan = &function{
	domain: Domain, name: "mamba_chunk_scan_combined",
	doc: "mamba_ssm's Mamba-2 scan, in any domain: ssm.SSD with D, z, dt_bias, dt_softplus, dt_limit (from 0 on by default), initial states and sequences.",
	params: []param{
		{"x", "[B,L,H,P]", tensorKind, true}, {"dt", "[B,L,H]", tensorKind, true}, {"A", "[H]", tensorKind, true},
		{"B", "[B,L,G,N]", tensorKind, true}, {"C", "[B,L,G,N]", tensorKind, true}, {"chunk_size", "a hint", intKind, true},
		{"D", "[H] or [H,P]", tensorKind, false}, {"z", "[B,L,H,P]", tensorKind, false}, {"dt_bias", "[H]", tensorKind, false},
		{"initial_states", "[B,H,P,N]", tensorKind, false}, {"seq_idx", "[B,L], integers; negative ones are padding", tensorKind, false},
		{"cu_seqlens", "refused", tensorKind, false}, {"dt_softplus", "softplus of dt + dt_bias", boolKind, false},
		{"dt_limit", "clamp of dt, after the softplus; (0, inf) by default", pairKind, false},
		{"return_final_states", "read off the outputs asked for", boolKind, false}, {"return_varlen_states", "refused", boolKind, false},
		{"state_dtype", "of the states between chunks; ssdc keeps them in float32", intKind, false},
	},
	out:    []ops.Param{{Name: "out", Doc: "[B,L,H,P]"}, finalOut},
	expand: expandChunkScan,
}

func expandChunkScan(x *call) []*graph.Value {
	x.refuse("states at the ends of packed sequences have no form in ssdc; give seq_idx, and the sequences' states one by one", "cu_seqlens", "return_varlen_states")
	x.shape("x", 4)
	x.shape("dt", 3)
	x.shape("A", 1)
	x.shape("B", 4)
	x.shape("C", 4)
	x.shape("D", 1, 2)
	x.shape("z", 4)
	x.shape("dt_bias", 1)
	x.shape("initial_states", 4)
	x.shape("seq_idx", 2)
	s := ssd{x: x.tensor("x"), dt: x.tensor("dt"), a: x.tensor("A"), b: x.tensor("B"), c: x.tensor("C"), d: x.tensor("D"), z: x.tensor("z"),
		bias: x.tensor("dt_bias"), h0: x.tensor("initial_states"), seq: x.tensor("seq_idx"), softplus: x.flag("dt_softplus", false), final: x.wants(1)}
	return x.ssd(s)
}

// ssd is an ssm.SSD to be made.
type ssd struct {
	x, dt, a, b, c, d, z, bias, h0, seq *graph.Value
	softplus, final                     bool
}

// ssd gives y and, if it is asked for, the final state.
func (x *call) ssd(s ssd) []*graph.Value {
	lo, hi := x.limits()
	attrs := graph.Attrs{}
	if s.softplus {
		attrs["dt_softplus"] = int64(1)
	}
	if lo > 0 || !s.softplus && !math.IsInf(lo, -1) { // softplus is above 0 anyway
		attrs["dt_min"] = float32(lo)
	}
	if !math.IsInf(hi, 1) {
		attrs["dt_max"] = float32(hi)
	}
	if q := x.positive("chunk_size"); q > 0 {
		attrs["chunk_size"] = q
	}
	xt, bt := s.x.Type, s.b.Type
	s.h0 = x.state(s.h0, xt.DType, s.final, []graph.Dim{xt.Shape[0], xt.Shape[2], xt.Shape[3], bt.Shape[3]}, s.x, s.b)
	if s.seq != nil {
		x.sequences(&s)
	}
	outs := 1
	if s.final {
		outs = 2
	}
	out := x.node(ssm.Domain, "SSD", attrs, outs, s.x, s.dt, s.a, s.b, s.c, s.d, s.z, s.bias, s.h0, s.seq)
	return append([]*graph.Value{}, out...)
}

// sequences keeps two rules of the kernels: they count sequences from 0, so an
// initial state belongs to a first token of sequence 0 alone; and padding (below
// 0) leaves no trace in the states.
func (x *call) sequences(s *ssd) {
	if !s.seq.Type.DType.IsInt() {
		x.fail("seq_idx is %s, want integers", s.seq.Type)
	}
	s.seq = x.cast(s.seq, tensor.Int32)
	zero := x.b.Const(tensor.Scalar(int32(0)))
	if s.h0 != nil {
		first := x.op("Equal", nil, x.op("Slice", nil, s.seq, x.b.Ints(0), x.b.Ints(1), x.b.Ints(1)), zero) // [B,1]
		s.h0 = x.op("Where", nil, x.unsqueeze(first, 2, 3), s.h0, x.b.Const(tensor.New(s.h0.Type.DType)))
	}
	s.b = x.op("Where", nil, x.unsqueeze(x.op("Less", nil, s.seq, zero), 2, 3), x.b.Const(tensor.New(s.b.Type.DType)), s.b)
}

// splitConvScan is ops/triton/ssd_combined.py: mamba_split_conv1d_scan_combined.
var splitConvScan = &function{
	domain: Domain, name: "mamba_split_conv1d_scan_combined",
	doc: "mamba_ssm's fused Mamba-2 block, in any domain: split, ssm.CausalConv, ssm.SSD, ssm.GatedRMSNorm, SwiGLU of the part beside the scan, output projection.",
	params: []param{
		{"zxbcdt", "[B,L,2*M+2*H*P+2*G*N+H]", tensorKind, true}, {"conv1d_weight", "[H*P+2*G*N,K]", tensorKind, true},
		{"conv1d_bias", "[H*P+2*G*N]", tensorKind, false}, {"dt_bias", "[H]", tensorKind, true}, {"A", "[H]", tensorKind, true},
		{"D", "[H] or [H,P]", tensorKind, true}, {"chunk_size", "a hint", intKind, true},
		{"initial_states", "[B,H,P,N]", tensorKind, false}, {"seq_idx", "refused", tensorKind, false},
		{"dt_limit", "clamp of dt, after the softplus; (0, inf) by default", pairKind, false},
		{"return_final_states", "read off the outputs asked for", boolKind, false},
		{"activation", "silu (by default), swish or none, of the convolution", stringKind, false},
		{"rmsnorm_weight", "[H*P]", tensorKind, false}, {"rmsnorm_eps", "1e-6 by default", floatKind, false},
		{"outproj_weight", "[O,M+H*P]", tensorKind, false}, {"outproj_bias", "[O]", tensorKind, false},
		{"headdim", "P; needed when D is [H]", intKind, false}, {"ngroups", "G, 1 by default", intKind, false},
		{"norm_before_gate", "1 by default", boolKind, false}, {"state_dtype", "of the states between chunks; ssdc keeps them in float32", intKind, false},
	},
	out:    []ops.Param{{Name: "out", Doc: "[B,L,M+H*P], or [B,L,O]"}, finalOut},
	expand: expandSplitConvScan,
}

func expandSplitConvScan(x *call) []*graph.Value {
	x.refuse("the convolution would have to stop at the sequences' ends; export the sequences one by one", "seq_idx")
	in, w := x.shape("zxbcdt", 3), x.shape("conv1d_weight", 2)
	x.shape("conv1d_bias", 1)
	x.shape("dt_bias", 1)
	x.shape("A", 1)
	x.shape("rmsnorm_weight", 1)
	x.shape("outproj_weight", 2)
	x.shape("outproj_bias", 1)
	x.shape("initial_states", 4)
	d := x.shape("D", 1, 2)
	heads := x.number(d[0], "the length of D")
	headdim := x.positive("headdim")
	if len(d) == 2 {
		p := x.number(d[1], "the second length of D")
		if headdim != 0 && headdim != p {
			x.fail("headdim is %d, but D is %s", headdim, x.tensor("D").Type)
		}
		headdim = p
	}
	if headdim == 0 {
		x.fail("headdim is missing; D %s does not tell it", x.tensor("D").Type)
	}
	groups := x.int("ngroups", 1)
	if groups <= 0 || heads%groups != 0 {
		x.fail("ngroups is %d, which does not divide %d heads", groups, heads)
	}
	dim, conv, width := heads*headdim, x.number(w[0], "the length of conv1d_weight"), x.number(in[2], "the last length of zxbcdt")
	state := (conv - dim) / (2 * groups)
	if state <= 0 || state*2*groups != conv-dim {
		x.fail("conv1d_weight is %s; want H*P + 2*G*N = %d + 2*%d*N channels", x.tensor("conv1d_weight").Type, dim, groups)
	}
	mlp := width - dim - conv - heads
	if mlp < 0 || mlp%2 != 0 {
		x.fail("zxbcdt is %s; want 2*M + 2*H*P + 2*G*N + H = 2*M + %d channels", x.tensor("zxbcdt").Type, dim+conv+heads)
	}
	sizes := []int64{dim, conv, heads}
	if mlp > 0 {
		sizes = append([]int64{mlp / 2, mlp / 2}, sizes...)
	}
	parts := x.split(x.tensor("zxbcdt"), -1, sizes...)
	z, xbc, dt := parts[len(parts)-3], parts[len(parts)-2], parts[len(parts)-1]
	xbc = x.node(ssm.Domain, "CausalConv", graph.Attrs{"activation": x.activation("silu")}, 1, xbc, x.tensor("conv1d_weight"), x.tensor("conv1d_bias"))[0]
	p := x.split(xbc, -1, dim, groups*state, groups*state)
	s := ssd{x: x.reshape(p[0], 0, 0, heads, headdim), dt: dt, a: x.tensor("A"), b: x.reshape(p[1], 0, 0, groups, state), c: x.reshape(p[2], 0, 0, groups, state),
		d: x.tensor("D"), bias: x.tensor("dt_bias"), h0: x.tensor("initial_states"), softplus: true, final: x.wants(1)}
	norm := x.tensor("rmsnorm_weight")
	if norm == nil {
		s.z = x.reshape(z, 0, 0, heads, headdim)
	}
	out := x.ssd(s)
	y := x.reshape(out[0], 0, 0, dim)
	if norm != nil {
		before := int64(1)
		if !x.flag("norm_before_gate", true) {
			before = 0
		}
		y = x.node(ssm.Domain, "GatedRMSNorm", graph.Attrs{"epsilon": float32(x.float("rmsnorm_eps", 1e-6)), "norm_before_gate": before, "group_size": dim / groups}, 1, y, z, norm)[0]
	}
	if mlp > 0 {
		y = x.op("Concat", graph.Attrs{"axis": int64(-1)}, x.op("Mul", nil, x.silu(parts[0]), parts[1]), y)
	}
	bias := x.tensor("outproj_bias")
	if weight := x.tensor("outproj_weight"); weight != nil {
		y = x.op("MatMul", nil, y, x.transpose(weight, 1, 0))
		if bias != nil {
			y = x.op("Add", nil, y, bias)
		}
	} else if bias != nil {
		x.fail("outproj_bias is given without outproj_weight")
	}
	out[0] = y
	return out
}
