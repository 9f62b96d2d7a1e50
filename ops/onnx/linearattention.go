package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// linearAttentionRows are opset 27's recurrent operators: LinearAttention and
// the short causal convolution that precedes it in Mamba-like models.
func linearAttentionRows() []*ops.Op {
	seq := func(n int, scale float32, shape ...int) *tensor.Tensor {
		v := make([]float32, n)
		for i := range v {
			v[i] = scale * float32((i*7)%11-5)
		}
		return tensor.From(v, shape...)
	}
	heads := graph.Attrs{"q_num_heads": int64(2), "kv_num_heads": int64(1), "update_rule": "gated"}
	rows := versions("LinearAttention", []int{27}, ops.Op{
		Doc: "S_t = exp(g_t)*S_{t-1} + k_t (outer) v_t and o_t = scale * q_t^T S_t per head, the gate and the delta rule being chosen by " +
			"update_rule; query [B,T,Hq*dk], key [B,T,Hkv*dk], value [B,T,Hkv*dv], state [B,Hkv,dk,dv], decay [B,T,Hkv] or [B,T,Hkv*dk], " +
			"beta [B,T,Hkv] or [B,T,1]",
		In:  params("query", "key", "value", "past_state?", "decay?", "beta?"),
		Out: params("output", "present_state"),
		Attrs: []ops.Attr{attr("chunk_size", int64(64)), attr("kv_num_heads", nil), attr("q_num_heads", nil),
			attr("scale", float32(0)), attr("update_rule", "gated_delta")},
		Infer: inferLinearAttention, Eval: evalLinearAttention,
		Alias: map[int]int{1: 3},
		Cases: []ops.Case{
			{Name: "one step by hand", Attrs: graph.Attrs{"q_num_heads": int64(1), "kv_num_heads": int64(1), "scale": float32(1), "update_rule": "gated"}, NOut: 2,
				In: []*tensor.Tensor{tensor.From([]float32{1, 2}, 1, 1, 2), tensor.From([]float32{3, 4}, 1, 1, 2), tensor.From([]float32{5}, 1, 1, 1),
					tensor.From([]float32{2, 4}, 1, 1, 2, 1), tensor.From([]float32{-math.Ln2}, 1, 1, 1)},
				// S = [2,4]/2 + [3,4]*5 = [16,22], o = 16 + 44
				Want: []*tensor.Tensor{tensor.From([]float32{60}, 1, 1, 1), tensor.From([]float32{16, 22}, 1, 1, 2, 1)}},
			{Name: "gated, grouped queries", Attrs: heads, NOut: 2, In: []*tensor.Tensor{seq(24, 0.1, 1, 4, 6), seq(12, 0.2, 1, 4, 3), seq(8, 0.3, 1, 4, 2), nil, seq(12, 0.05, 1, 4, 3)}},
			{Name: "gated by key row, state", Attrs: heads, NOut: 2, In: []*tensor.Tensor{seq(60, 0.1, 2, 5, 6), seq(30, 0.2, 2, 5, 3), seq(350, 0.3, 2, 5, 35), seq(210, 1, 2, 1, 3, 35), seq(30, 0.05, 2, 5, 3)}},
			{Name: "linear, many steps", Attrs: graph.Attrs{"q_num_heads": int64(2), "kv_num_heads": int64(2), "update_rule": "linear"}, NOut: 2,
				In: []*tensor.Tensor{seq(240, 0.1, 1, 40, 6), seq(240, 0.1, 1, 40, 6), seq(2560, 0.1, 1, 40, 64)}},
			{Name: "delta, one rate for all heads", Attrs: graph.Attrs{"q_num_heads": int64(4), "kv_num_heads": int64(2), "update_rule": "delta"}, NOut: 2,
				In: []*tensor.Tensor{seq(72, 0.1, 1, 6, 12), seq(36, 0.1, 1, 6, 6), seq(24, 0.3, 1, 6, 4), nil, nil, seq(6, 0.1, 1, 6, 1)}},
			{Name: "gated delta", Attrs: graph.Attrs{"q_num_heads": int64(1), "kv_num_heads": int64(1)}, NOut: 2,
				In: []*tensor.Tensor{seq(12, 0.1, 1, 4, 3), seq(12, 0.1, 1, 4, 3), seq(8, 0.3, 1, 4, 2), seq(6, 1, 1, 1, 3, 2), seq(4, 0.05, 1, 4, 1), seq(4, 0.1, 1, 4, 1)}},
		},
	})
	return append(rows, versions("CausalConvWithState", []int{27}, ops.Op{
		Doc: "depthwise causal convolution of input [B,C,L] by weight [C,1,K] with bias [C]; past_state [B,C,K-1] precedes the input, " +
			"present_state is the last K-1 positions of both; activation silu or swish is applied to the result",
		In: params("input", "weight", "bias?", "past_state?"), Out: params("output", "present_state"),
		Attrs: []ops.Attr{attr("activation", "none")},
		Infer: inferCausalConv, Eval: evalCausalConv,
		Alias: map[int]int{1: 3},
		Cases: []ops.Case{
			{Name: "no state", NOut: 2, In: []*tensor.Tensor{tensor.From([]float32{1, 2, 3}, 1, 1, 3), tensor.From([]float32{1, 10}, 1, 1, 2)},
				Want: []*tensor.Tensor{tensor.From([]float32{10, 21, 32}, 1, 1, 3), tensor.From([]float32{3}, 1, 1, 1)}},
			{Name: "state, bias, silu", NOut: 2, Attrs: graph.Attrs{"activation": "silu"}, In: []*tensor.Tensor{
				seq(10, 0.3, 1, 2, 5), seq(8, 0.2, 2, 1, 4), seq(2, 1, 2), seq(6, 0.5, 1, 2, 3)}},
			{Name: "one step", NOut: 2, Attrs: graph.Attrs{"activation": "silu"}, In: []*tensor.Tensor{
				seq(2, 0.3, 1, 2, 1), seq(8, 0.2, 2, 1, 4), seq(2, 1, 2), seq(6, 0.5, 1, 2, 3)}},
		},
	})...)
}

// heads reads and checks the head counts.
func heads(a graph.Attrs) (hq, hkv int64, err error) {
	hq, hkv = a.Int("q_num_heads", 0), a.Int("kv_num_heads", 0)
	if hq < 1 || hkv < 1 || hq%hkv != 0 {
		return 0, 0, fmt.Errorf("q_num_heads=%d and kv_num_heads=%d, want a positive multiple of a positive number", hq, hkv)
	}
	return hq, hkv, nil
}

func updateRule(a graph.Attrs) (gated, delta bool, err error) {
	switch r := a.Str("update_rule", "gated_delta"); r {
	case "linear":
		return false, false, nil
	case "gated":
		return true, false, nil
	case "delta":
		return false, true, nil
	case "gated_delta":
		return true, true, nil
	default:
		return false, false, fmt.Errorf("attribute update_rule is %q, want linear, gated, delta or gated_delta", r)
	}
}

func inferLinearAttention(c *ops.Infer) error {
	if err := same(c, floatTypes, 0, 1, 2, 4, 5); err != nil {
		return err
	}
	if err := want(c, 3, floatTypes); err != nil {
		return err
	}
	hq, hkv, err := heads(c.Node.Attrs)
	if err != nil {
		return err
	}
	gated, delta, err := updateRule(c.Node.Attrs)
	if err != nil {
		return err
	}
	if c.Has(4) != gated || c.Has(5) != delta {
		return c.Errorf("update_rule %q with decay=%v and beta=%v: gated rules need decay, delta rules need beta, others refuse them",
			c.Node.Attrs.Str("update_rule", "gated_delta"), c.Has(4), c.Has(5))
	}
	for _, i := range []int{0, 1, 2, 4, 5} {
		if err := rankIs(c, i, 3); err != nil {
			return err
		}
	}
	q, v := c.Type(0), c.Type(2)
	stateType := q.DType
	if c.Has(3) {
		stateType = c.Type(3).DType
	}
	if !q.Ranked() || !v.Ranked() {
		c.Out(0, unranked(q.DType))
		c.Out(1, unranked(stateType))
		if s := c.Type(3); s.Ranked() {
			c.Out(1, s)
		}
		return nil
	}
	dk, err := headSize(q, hq)
	if err != nil {
		return err
	}
	if k := c.Type(1); k.Ranked() {
		kdk, err := headSize(k, hkv)
		if err != nil {
			return err
		}
		if kdk != dk && kdk.IsConst() && dk.IsConst() {
			return c.Errorf("query %s and key %s have heads of %v and %v", q, k, dk, kdk)
		}
	}
	dv, err := headSize(v, hkv)
	if err != nil {
		return err
	}
	state := graph.T(stateType, q.Shape[0], graph.D(hkv), dk, dv)
	if s := c.Type(3); s.Ranked() {
		if err := fitsType(s, state); err != nil {
			return c.Errorf("past_state: %v", err)
		}
	}
	c.Out(0, graph.T(q.DType, q.Shape[0], q.Shape[1], dv.Mul(graph.D(hq))))
	c.Out(1, state)
	return nil
}

// headSize splits the last axis of a [B,T,H*d] type.
func headSize(t graph.Type, h int64) (graph.Dim, error) {
	last := t.Shape[len(t.Shape)-1]
	if n, ok := last.Const(); ok && n%h != 0 {
		return graph.Dim{}, fmt.Errorf("last axis of %s is not a multiple of %d heads", t, h)
	}
	return last.FloorDiv(graph.D(h)), nil
}

// fitsType reports a rank or constant length of t that contradicts want.
func fitsType(t, want graph.Type) error {
	if t.Rank() != want.Rank() {
		return fmt.Errorf("%s, want %s", t, want)
	}
	for i, d := range t.Shape {
		if d != want.Shape[i] && d.IsConst() && want.Shape[i].IsConst() {
			return fmt.Errorf("%s, want %s", t, want)
		}
	}
	return nil
}

func evalLinearAttention(c *ops.Call) ([]*tensor.Tensor, error) {
	q, k, v, past, decay, beta := c.In[0], c.In[1], c.In[2], c.Arg(3), c.Arg(4), c.Arg(5)
	hq64, hkv64, err := heads(c.Node.Attrs)
	if err != nil {
		return nil, err
	}
	hq, hkv := int(hq64), int(hkv64)
	gated, delta, err := updateRule(c.Node.Attrs)
	if err != nil {
		return nil, err
	}
	if gated && decay == nil || delta && beta == nil {
		return nil, fmt.Errorf("update_rule %q lacks its decay or beta input", c.Node.Attrs.Str("update_rule", "gated_delta"))
	}
	batch, length := q.Shape[0], q.Shape[1]
	dk, dv := q.Shape[2]/hq, v.Shape[2]/hkv
	if k.Shape[2] != hkv*dk {
		return nil, fmt.Errorf("query %s and key %s do not agree with %d and %d heads", q.TypeString(), k.TypeString(), hq, hkv)
	}
	scale := float64(c.Node.Attrs.Float("scale", 0))
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(dk))
	}
	stateType := q.DType
	state := make([]float64, batch*hkv*dk*dv)
	if past != nil {
		stateType = past.DType
		copy(state, floatsOf(past))
	}
	qv, kv, vv := floatsOf(q), floatsOf(k), floatsOf(v)
	var gv, bv []float64
	gn, bn := 0, 0
	if gated {
		gv, gn = floatsOf(decay), decay.Shape[2]
		if gn != hkv && gn != hkv*dk {
			return nil, fmt.Errorf("decay %s, want a last axis of %d or %d", decay.TypeString(), hkv, hkv*dk)
		}
	}
	if delta {
		bv, bn = floatsOf(beta), beta.Shape[2]
	}
	out := make([]float64, batch*length*hq*dv)
	write := make([]float64, dv)
	for b := range batch {
		for t := range length {
			bt := b*length + t
			for h := range hkv {
				s := state[(b*hkv+h)*dk*dv : (b*hkv+h+1)*dk*dv]
				key := kv[(bt*hkv+h)*dk : (bt*hkv+h+1)*dk]
				copy(write, vv[(bt*hkv+h)*dv:(bt*hkv+h+1)*dv])
				if gated {
					for d := range dk {
						g := gv[bt*gn+h]
						if gn != hkv {
							g = gv[bt*gn+h*dk+d]
						}
						g = math.Exp(g)
						for m := range dv {
							s[d*dv+m] *= g
						}
					}
				}
				if delta { // write beta*(v - S^T k)
					for d, x := range key {
						for m := range dv {
							write[m] -= s[d*dv+m] * x
						}
					}
					rate := bv[bt*bn+h%bn]
					for m := range write {
						write[m] *= rate
					}
				}
				for d, x := range key {
					for m, y := range write {
						s[d*dv+m] += x * y
					}
				}
				for g := range hq / hkv {
					head := h*(hq/hkv) + g
					o := out[(bt*hq+head)*dv : (bt*hq+head+1)*dv]
					for d := range dk {
						x := scale * qv[(bt*hq+head)*dk+d]
						for m := range o {
							o[m] += x * s[d*dv+m]
						}
					}
				}
			}
		}
	}
	return []*tensor.Tensor{fromFloats(q.DType, out, batch, length, hq*dv), fromFloats(stateType, state, batch, hkv, dk, dv)}, nil
}

func inferCausalConv(c *ops.Infer) error {
	if err := same(c, floatTypes, 0, 1, 2, 3); err != nil {
		return err
	}
	if a := c.Node.Attrs.Str("activation", "none"); a != "none" && a != "silu" && a != "swish" {
		return c.Errorf("attribute activation is %q, want none, silu or swish", a)
	}
	for _, i := range []int{0, 1, 3} {
		if err := rankIs(c, i, 3); err != nil {
			return err
		}
	}
	x, w := c.Type(0), c.Type(1)
	if !x.Ranked() {
		c.Out(0, unranked(x.DType))
		c.Out(1, unranked(x.DType))
		if s := c.Type(3); s.Ranked() {
			c.Out(1, s)
		}
		return nil
	}
	c.Out(0, x)
	state := graph.T(x.DType, x.Shape[0], x.Shape[1], graph.D(0))
	switch {
	case w.Ranked():
		if err := fitsType(w, graph.T(x.DType, x.Shape[1], graph.D(1), w.Shape[2])); err != nil {
			return c.Errorf("weight: %v", err)
		}
		state.Shape[2] = w.Shape[2].Sub(graph.D(1))
	case c.Type(3).Ranked():
		state.Shape[2] = c.Type(3).Shape[2]
	case c.Node.Output(1) != nil:
		state.Shape[2] = c.Fresh(1, 2)
	}
	if s := c.Type(3); s.Ranked() {
		if err := fitsType(s, state); err != nil {
			return c.Errorf("past_state: %v", err)
		}
	}
	c.Out(1, state)
	return nil
}

func evalCausalConv(c *ops.Call) ([]*tensor.Tensor, error) {
	x, w, bias, past := c.In[0], c.In[1], c.Arg(2), c.Arg(3)
	batch, ch, length, k := x.Shape[0], x.Shape[1], x.Shape[2], w.Shape[2]
	if w.Shape[0] != ch || w.Shape[1] != 1 {
		return nil, fmt.Errorf("weight %s does not fit input %s", w.TypeString(), x.TypeString())
	}
	xv, wv := floatsOf(x), floatsOf(w)
	padded := make([]float64, length+k-1)
	out := make([]float64, batch*ch*length)
	present := make([]float64, batch*ch*(k-1))
	var bv, pv []float64
	if bias != nil {
		bv = floatsOf(bias)
	}
	if past != nil {
		if pv = floatsOf(past); len(pv) != len(present) {
			return nil, fmt.Errorf("past_state %s, want [%d,%d,%d]", past.TypeString(), batch, ch, k-1)
		}
	}
	silu := c.Node.Attrs.Str("activation", "none") != "none"
	for r := range batch * ch {
		clear(padded[:k-1])
		if past != nil {
			copy(padded, pv[r*(k-1):(r+1)*(k-1)])
		}
		copy(padded[k-1:], xv[r*length:(r+1)*length])
		for t := range length {
			s := 0.0
			for j := range k {
				s += wv[r%ch*k+j] * padded[t+j]
			}
			if bias != nil {
				s += bv[r%ch]
			}
			if silu {
				s *= sigmoid(s)
			}
			out[r*length+t] = s
		}
		copy(present[r*(k-1):], padded[length:])
	}
	return []*tensor.Tensor{fromFloats(x.DType, out, x.Shape...), fromFloats(x.DType, present, batch, ch, k-1)}, nil
}

// LinearAttentionRows lists the recurrent operators alone, for domains whose
// operators extend them.
func LinearAttentionRows() []*ops.Op { return linearAttentionRows() }
