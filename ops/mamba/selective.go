package mamba

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

var (
	// selectiveScanFn is ops/selective_scan_interface.py: selective_scan_fn.
	selectiveScanFn = selective("selective_scan_fn")
	// selectiveScan is the same under the name that wrappers give it.
	selectiveScan = selective("selective_scan")
)

func selective(name string) *function {
	return &function{
		domain: Domain, name: name,
		doc: "mamba_ssm's Mamba-1 scan, channels first, in any domain: ssm.SelectiveScan per group; with B or C constant in time, ssm.LinearScan.",
		params: []param{
			{"u", "[B,D,L]", tensorKind, true}, {"delta", "[B,D,L]", tensorKind, true}, {"A", "[D,N], real", tensorKind, true},
			{"B", "[D,N], [B,N,L] or [B,G,N,L]", tensorKind, true}, {"C", "[D,N], [B,N,L] or [B,G,N,L]", tensorKind, true},
			{"D", "[D]", tensorKind, false}, {"z", "[B,D,L]", tensorKind, false}, {"delta_bias", "[D]", tensorKind, false},
			{"delta_softplus", "softplus of delta + delta_bias", boolKind, false}, {"return_last_state", "read off the outputs asked for", boolKind, false},
		},
		out:    []ops.Param{{Name: "out", Doc: "[B,D,L]"}, {Name: "last_state", Doc: "[B,D,N], float32 for activations of 16 bits", Optional: true}},
		expand: expandSelectiveScan,
	}
}

func expandSelectiveScan(x *call) []*graph.Value {
	x.shape("u", 3)
	x.shape("delta", 3)
	x.shape("z", 3)
	x.shape("D", 1)
	x.shape("delta_bias", 1)
	a, b, c := x.shape("A", 2), x.shape("B", 2, 3, 4), x.shape("C", 2, 3, 4)
	if !x.tensor("A").Type.DType.IsFloat() {
		x.fail("A is %s; only real decays have a form in ssdc", x.tensor("A").Type)
	}
	s := scan{u: x.transpose(x.tensor("u"), 0, 2, 1), dt: x.transpose(x.tensor("delta"), 0, 2, 1), a: x.tensor("A"), d: x.tensor("D"),
		z: x.transpose(x.tensor("z"), 0, 2, 1), bias: x.tensor("delta_bias"), softplus: x.flag("delta_softplus", false), final: x.wants(1)}
	var out []*graph.Value
	if len(b) == 2 || len(c) == 2 {
		out = x.linear(s, a)
	} else {
		s.b, s.c = x.grouped("B"), x.grouped("C")
		out = x.selective(s)
	}
	out[0] = x.transpose(out[0], 0, 2, 1)
	return out
}

// grouped is B or C as [B,L,G,N].
func (x *call) grouped(name string) *graph.Value {
	v := x.tensor(name)
	if v.Type.Rank() == 3 {
		return x.unsqueeze(x.transpose(v, 0, 2, 1), 2)
	}
	return x.transpose(v, 0, 3, 1, 2)
}

// scan is an ssm.SelectiveScan to be made, channels last: u, dt and z [B,L,D], b
// and c [B,L,G,N], each group of which serves D/G channels.
type scan struct {
	u, dt, a, b, c, d, z, bias, h0 *graph.Value
	softplus, final                bool
}

// selective gives y [B,L,D] and, if it is asked for, the last state [B,D,N].
func (x *call) selective(s scan) []*graph.Value {
	gb, gc := x.number(s.b.Type.Shape[2], "the number of groups of B"), x.number(s.c.Type.Shape[2], "the number of groups of C")
	groups := max(gb, gc)
	if gb <= 0 || gc <= 0 || groups%gb != 0 || groups%gc != 0 || gb != gc && min(gb, gc) != 1 {
		x.fail("B has %d groups and C %d; want the same number", gb, gc)
	}
	channels, known := s.a.Type.Shape[0].Const()
	if groups > 1 && (!known || channels%groups != 0) {
		x.fail("A is %s, whose %s channels cannot be divided among %d groups", s.a.Type, s.a.Type.Shape[0], groups)
	}
	attrs := graph.Attrs{}
	if s.softplus {
		attrs["dt_softplus"] = int64(1)
	}
	ut := s.u.Type
	s.h0 = x.state(s.h0, ut.DType, s.final, []graph.Dim{ut.Shape[0], ut.Shape[2], s.a.Type.Shape[1]}, s.u, s.a)
	u, dt, a, d, z, bias, h0 := x.shares(s.u, 2, groups), x.shares(s.dt, 2, groups), x.shares(s.a, 0, groups), x.shares(s.d, 0, groups),
		x.shares(s.z, 2, groups), x.shares(s.bias, 0, groups), x.shares(s.h0, 1, groups)
	bs, cs := x.shares(s.b, 2, gb), x.shares(s.c, 2, gc)
	outs := 1
	if s.final {
		outs = 2
	}
	parts := make([][]*graph.Value, outs)
	for g := range groups {
		b, c := x.squeeze(bs[g%gb], 2), x.squeeze(cs[g%gc], 2)
		for i, v := range x.node(ssm.Domain, "SelectiveScan", attrs.Clone(), outs, u[g], dt[g], a[g], b, c, d[g], z[g], bias[g], h0[g]) {
			parts[i] = append(parts[i], v)
		}
	}
	out := []*graph.Value{x.concat(2, parts[0])}
	if s.final {
		out = append(out, x.concat(1, parts[1]))
	}
	return out
}

// linear is the scan whose B or C [D,N] does not depend on the token, as in S4D:
// an ssm.LinearScan over [B,L,D,N].
func (x *call) linear(s scan, a []graph.Dim) []*graph.Value {
	dtype := s.u.Type.DType
	dt := s.dt
	if s.bias != nil {
		dt = x.op("Add", nil, dt, x.cast(s.bias, dt.Type.DType))
	}
	if s.softplus {
		dt = x.op("Softplus", nil, dt)
	}
	decay := x.op("Exp", nil, x.op("Mul", nil, x.unsqueeze(dt, 3), x.cast(s.a, dtype)))
	in := x.op("Mul", nil, x.unsqueeze(x.op("Mul", nil, dt, s.u), 3), x.perChannel("B", a[0]))
	ut := s.u.Type
	h0 := x.state(nil, dtype, s.final, []graph.Dim{ut.Shape[0], ut.Shape[2], a[1]}, s.u, s.a)
	outs := 1
	if s.final {
		outs = 2
	}
	h := append([]*graph.Value{}, x.node(ssm.Domain, "LinearScan", nil, outs, decay, in, h0)...)
	y := x.op("ReduceSum", graph.Attrs{"keepdims": int64(0)}, x.op("Mul", nil, h[0], x.perChannel("C", a[0])), x.b.Ints(3))
	if s.d != nil {
		y = x.op("Add", nil, y, x.op("Mul", nil, s.u, x.cast(s.d, dtype)))
	}
	if s.z != nil {
		y = x.op("Mul", nil, y, x.silu(s.z))
	}
	h[0] = y
	return h
}

// perChannel is B or C as it broadcasts to [B,L,D,N].
func (x *call) perChannel(name string, channels graph.Dim) *graph.Value {
	v := x.cast(x.tensor(name), x.tensor("u").Type.DType)
	if v.Type.Rank() == 2 {
		return v
	}
	v = x.grouped(name)
	g := v.Type.Shape[2]
	if g.Is(1) {
		return v
	}
	groups, d := x.number(g, "the number of groups of "+name), x.number(channels, "the number of channels")
	if groups <= 0 || d%groups != 0 {
		x.fail("%s is %s: its %d groups do not divide %d channels", name, x.tensor(name).Type, groups, d)
	}
	v = x.op("Expand", nil, x.unsqueeze(v, 3), x.b.Ints(1, 1, 1, d/groups, 1))
	return x.reshape(v, 0, 0, d, -1)
}
