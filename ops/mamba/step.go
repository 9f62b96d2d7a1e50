package mamba

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// stateUpdate is ops/triton/selective_state_update.py: selective_state_update.
// The mixers of Mamba-2 hand A, dt, dt_bias and D repeated over the channels of a
// head; where the graph shows that, the step is one of ssm.SSD.
var stateUpdate = &function{
	domain: Domain, name: "selective_state_update",
	doc: "mamba_ssm's decode step, in any domain: ssm.SSD of one token when A, dt and dt_bias are repeated over the channels of each head, else ssm.SelectiveScan; the new state is the second output.",
	params: []param{
		{"state", "[B,D,N] or [B,H,P,N]", tensorKind, true}, {"x", "[B,D] or [B,H,P]", tensorKind, true}, {"dt", "[B,D] or [B,H,P]", tensorKind, true},
		{"A", "[D,N] or [H,P,N]", tensorKind, true}, {"B", "[B,N] or [B,G,N]", tensorKind, true}, {"C", "[B,N] or [B,G,N]", tensorKind, true},
		{"D", "[D] or [H,P]", tensorKind, false}, {"z", "[B,D] or [B,H,P]", tensorKind, false}, {"dt_bias", "[D] or [H,P]", tensorKind, false},
		{"dt_softplus", "softplus of dt + dt_bias", boolKind, false}, {"state_batch_indices", "refused", tensorKind, false},
	},
	out:    []ops.Param{{Name: "out", Doc: "[B,D] or [B,H,P]"}, {Name: "new_state", Doc: "like state", Optional: true}},
	expand: expandStateUpdate,
}

func expandStateUpdate(x *call) []*graph.Value {
	x.refuse("states in slots of a pool have no form in ssdc; gather them before the step", "state_batch_indices")
	r := len(x.shape("state", 3, 4))
	x.shape("x", r-1)
	x.shape("dt", r-1)
	x.shape("z", r-1)
	x.shape("A", r-1)
	x.shape("D", r-2)
	x.shape("dt_bias", r-2)
	b, c := x.shape("B", 2, 3), x.shape("C", 2, 3)
	if len(b) != len(c) {
		x.fail("B is %s and C %s; want the same shape", x.tensor("B").Type, x.tensor("C").Type)
	}
	// One token: [B,G,N] with an axis of length 1 for time.
	bt, ct := x.unsqueeze(x.tensor("B"), 1), x.unsqueeze(x.tensor("C"), 1)
	if len(b) == 2 {
		bt, ct = x.unsqueeze(x.tensor("B"), 1, 2), x.unsqueeze(x.tensor("C"), 1, 2)
	}
	u, z := x.unsqueeze(x.tensor("x"), 1), x.unsqueeze(x.tensor("z"), 1)
	softplus, final := x.flag("dt_softplus", false), x.wants(1)
	h0, skip, bias := x.tensor("state"), x.tensor("D"), x.tensor("dt_bias")
	if r == 4 {
		a, dt, db := x.tied(x.tensor("A"), 1, 2), x.tied(x.tensor("dt"), 2), bias
		if bias != nil {
			db = x.tied(bias, 1)
		}
		if a != nil && dt != nil && (bias == nil || db != nil) {
			if s := x.tied(skip, 1); s != nil {
				skip = s
			}
			// No clamp: the step has no dt_limit.
			attrs := graph.Attrs{}
			if softplus {
				attrs["dt_softplus"] = int64(1)
			}
			out := slices.Clone(x.node("ssm", "SSD", attrs, 2, u, x.unsqueeze(dt, 1), a, bt, ct, skip, z, db, h0))
			out[0] = x.squeeze(out[0], 1)
			return out
		}
	}
	s := scan{u: u, dt: x.unsqueeze(x.tensor("dt"), 1), a: x.tensor("A"), b: bt, c: ct, d: skip, z: z, bias: bias, h0: h0, softplus: softplus, final: final}
	if r == 4 {
		s.u, s.dt, s.z = x.reshape(s.u, 0, 1, -1), x.reshape(s.dt, 0, 1, -1), x.reshape(s.z, 0, 1, -1)
		n := x.number(h0.Type.Shape[3], "the last length of state")
		s.a, s.d, s.bias, s.h0 = x.reshape(s.a, -1, n), x.reshape(s.d, -1), x.reshape(s.bias, -1), x.reshape(s.h0, 0, -1, n)
	}
	keep := h0.Type.DType
	out := x.selective(s)
	out[0] = x.squeeze(out[0], 1)
	if r == 4 {
		h, p := x.number(h0.Type.Shape[1], "the number of heads"), x.number(h0.Type.Shape[2], "the head dimension")
		out[0] = x.reshape(out[0], 0, h, p)
		if final {
			out[1] = x.reshape(out[1], 0, h, p, -1)
		}
	}
	if final { // the state is kept in its own type, rounded in every step
		out[1] = x.cast(out[1], keep)
	}
	return out
}

// tied is v without axes along which all its elements are seen to be equal; nil
// when they are not.
func (x *call) tied(v *graph.Value, axes ...int64) *graph.Value {
	if v == nil {
		return nil
	}
	if v.Const != nil {
		if t := sliceIfEqual(v.Const, axes); t != nil {
			return x.b.Const(t)
		}
		return nil
	}
	for u := v; ; u = u.Def.In[0] {
		flat := u.Type.Rank() == v.Type.Rank()
		for a := range v.Type.Shape {
			want := v.Type.Shape[a]
			if slices.Contains(axes, int64(a)) {
				want = graph.D(1)
			}
			flat = flat && u.Type.Rank() == v.Type.Rank() && u.Type.Shape[a] == want
		}
		if flat {
			return x.squeeze(x.cast(u, v.Type.DType), axes...)
		}
		if u.Def == nil || !u.Def.Op.Is("", "Expand") && !u.Def.Op.Is("", "Identity") && !u.Def.Op.Is("", "Cast") {
			return nil
		}
	}
}

// sliceIfEqual is t without the given axes, nil when its elements differ along them.
func sliceIfEqual(t *tensor.Tensor, axes []int64) *tensor.Tensor {
	var shape []int
	for a, n := range t.Shape {
		if !slices.Contains(axes, int64(a)) {
			shape = append(shape, n)
		}
	}
	out := tensor.New(t.DType, shape...)
	if t.Len() == 0 {
		return nil
	}
	seen := make([]bool, out.Len())
	at := make([]int, t.Rank())
	for i := range t.Len() {
		o := 0
		for a, n := range t.Shape {
			if !slices.Contains(axes, int64(a)) {
				o = o*n + at[a]
			}
		}
		switch {
		case !seen[o]:
			seen[o] = true
			out.SetAt(o, t.At(i))
		case out.At(o) != t.At(i):
			return nil
		}
		for a := t.Rank() - 1; a >= 0; a-- {
			if at[a]++; at[a] < t.Shape[a] {
				break
			}
			at[a] = 0
		}
	}
	return out
}
