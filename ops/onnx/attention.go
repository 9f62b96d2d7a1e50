package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// attentionRows: scaled dot-product attention and rotary positions.
func attentionRows() []*ops.Op {
	seq := func(n int, shape ...int) *tensor.Tensor {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32((i*5)%7-3) / 4
		}
		return tensor.From(v, shape...)
	}
	qkv := []*tensor.Tensor{seq(24, 1, 2, 3, 4), seq(40, 1, 2, 5, 4), seq(20, 1, 2, 5, 2)}
	row := ops.Op{
		Doc: "softmax(scale*Q*K^T + mask)*V per head; Q, K, V are [B,H,S,d] or packed [B,S,H*d] with the head counts as attributes; " +
			"query heads share key/value heads in order; past keys and values come first",
		In:  params("Q", "K", "V", "attn_mask?", "past_key?", "past_value?"),
		Out: params("Y", "present_key?", "present_value?", "qk_matmul_output?"),
		Attrs: []ops.Attr{attr("is_causal", int64(0)), attrOpt("kv_num_heads"), attrOpt("q_num_heads"), attr("qk_matmul_output_mode", int64(0)),
			attrOpt("scale"), attr("softcap", float32(0)), attrOpt("softmax_precision")},
		Infer: inferAttention, Eval: evalAttention,
		Cases: []ops.Case{{Name: "4d", In: qkv}, {Name: "causal", Attrs: graph.Attrs{"is_causal": int64(1)}, In: qkv},
			{Name: "packed heads that share keys, after a past", NOut: 3, Attrs: graph.Attrs{"q_num_heads": int64(4), "kv_num_heads": int64(2), "scale": float32(0.5), "is_causal": int64(1)},
				In: []*tensor.Tensor{seq(16, 1, 2, 8), seq(8, 1, 2, 4), seq(12, 1, 2, 6), nil, seq(12, 1, 2, 3, 2), seq(18, 1, 2, 3, 3)}},
			{Name: "a Boolean mask that hides all keys from a query", In: append(qkv[:3:3], tensor.From([]bool{true, false, true, true, false, false, false, false, false, false, true, true, true, true, true}, 3, 5))},
			{Name: "soft cap and mask", Attrs: graph.Attrs{"softcap": float32(0.5)}, In: append(qkv[:3:3], seq(5, 1, 1, 1, 5))},
			{Name: "one key", In: []*tensor.Tensor{seq(4, 1, 1, 1, 4), seq(4, 1, 1, 1, 4), tensor.From([]float32{3, 5}, 1, 1, 1, 2)}, Want: one(tensor.From([]float32{3, 5}, 1, 1, 1, 2))}},
	}
	rows := versions("Attention", []int{23}, row)
	row.In = params("Q", "K", "V", "attn_mask?", "past_key?", "past_value?", "nonpad_kv_seqlen?")
	rows = append(rows, versions("Attention", []int{24}, row)...)
	row.Attrs = append(append([]ops.Attr{}, row.Attrs...), attr("left_window_size", int64(-1)), attr("right_window_size", int64(-1)))
	rows = append(rows, versions("Attention", []int{25}, row)...)
	return append(rows, rotaryRows()...)
}

// attentionGeometry is the shapes of one call with heads unpacked.
type attentionGeometry struct{ batch, hq, hkv, sq, skv, past, d, dv int }

// unpackHeads returns [B,H,S,d] for a 4-D type, or for [B,S,H*d] with h heads.
func unpackHeads(t graph.Type, h int64) ([]graph.Dim, error) {
	if t.Rank() == 4 {
		return t.Shape, nil
	}
	if h < 1 {
		return nil, fmt.Errorf("%s packs its heads, but q_num_heads and kv_num_heads are not both given", t)
	}
	d, err := headSize(t, h)
	return []graph.Dim{t.Shape[0], graph.D(h), t.Shape[1], d}, err
}

func inferAttention(c *ops.Infer) error {
	if err := same(c, floatTypes, 0, 1, 4); err != nil {
		return err
	}
	if err := same(c, floatTypes, 2, 5); err != nil {
		return err
	}
	if err := want(c, 3, floatTypes|intTypes|boolType); err != nil {
		return err
	}
	if c.Has(4) != c.Has(5) {
		return c.Errorf("past_key and past_value must be given together")
	}
	for i := range 3 {
		if err := rankIs(c, i, 3, 4); err != nil {
			return err
		}
	}
	q, k, v := c.Type(0), c.Type(1), c.Type(2)
	if !q.Ranked() || !k.Ranked() || !v.Ranked() {
		c.Out(0, unranked(q.DType))
		c.Out(1, unranked(k.DType))
		c.Out(2, unranked(v.DType))
		c.Out(3, unranked(q.DType))
		return nil
	}
	if q.Rank() != k.Rank() || q.Rank() != v.Rank() {
		return c.Errorf("Q %s, K %s and V %s, want one rank", q, k, v)
	}
	hq, hkv := c.Node.Attrs.Int("q_num_heads", 0), c.Node.Attrs.Int("kv_num_heads", 0)
	qs, err := unpackHeads(q, hq)
	if err != nil {
		return err
	}
	ks, err := unpackHeads(k, hkv)
	if err != nil {
		return err
	}
	vs, err := unpackHeads(v, hkv)
	if err != nil {
		return err
	}
	if qs[3] != ks[3] && qs[3].IsConst() && ks[3].IsConst() {
		return c.Errorf("Q %s and K %s have heads of %v and %v", q, k, qs[3], ks[3])
	}
	total := ks[2]
	if p := c.Type(4); c.Has(4) {
		if p.Rank() != 4 {
			if p.Ranked() {
				return c.Errorf("past_key %s, want rank 4", p)
			}
			total = graph.Sym("?" + c.Node.Input(4).Name + ".2").Add(total)
		} else {
			total = p.Shape[2].Add(total)
		}
	}
	if q.Rank() == 4 {
		c.Out(0, graph.T(q.DType, qs[0], qs[1], qs[2], vs[3]))
	} else {
		c.Out(0, graph.T(q.DType, qs[0], qs[2], vs[3].Mul(graph.D(hq))))
	}
	c.Out(1, graph.T(k.DType, ks[0], ks[1], total, ks[3]))
	c.Out(2, graph.T(v.DType, vs[0], vs[1], total, vs[3]))
	c.Out(3, graph.T(q.DType, qs[0], qs[1], qs[2], total))
	return nil
}

// headsFirst reads a tensor as [B,H,S,d].
func headsFirst(t *tensor.Tensor, h int) (v []float64, shape [4]int) {
	v = floatsOf(t)
	if t.Rank() == 4 {
		return v, [4]int(t.Shape)
	}
	b, s, d := t.Shape[0], t.Shape[1], t.Shape[2]/h
	return gatherAt(v, []int{b, h, s, d}, []int{s * h * d, d, h * d, 1}), [4]int{b, h, s, d}
}

// appendPast puts past [B,H,P,d] before v [B,H,S,d] along the third axis.
func appendPast(past *tensor.Tensor, v []float64, shape [4]int) ([]float64, [4]int, error) {
	if past == nil {
		return v, shape, nil
	}
	if past.Rank() != 4 || past.Shape[0] != shape[0] || past.Shape[1] != shape[1] || past.Shape[3] != shape[3] {
		return nil, shape, fmt.Errorf("past %s does not fit new keys or values %v", past.TypeString(), shape)
	}
	pv, p, s := floatsOf(past), past.Shape[2]*shape[3], shape[2]*shape[3]
	out := make([]float64, 0, len(pv)+len(v))
	for i := range shape[0] * shape[1] {
		out = append(append(out, pv[i*p:(i+1)*p]...), v[i*s:(i+1)*s]...)
	}
	shape[2] += past.Shape[2]
	return out, shape, nil
}

func evalAttention(c *ops.Call) ([]*tensor.Tensor, error) {
	a := c.Node.Attrs
	q, qs := headsFirst(c.In[0], int(a.Int("q_num_heads", 1)))
	k, ks := headsFirst(c.In[1], int(a.Int("kv_num_heads", 1)))
	v, vs := headsFirst(c.In[2], int(a.Int("kv_num_heads", 1)))
	g := attentionGeometry{batch: qs[0], hq: qs[1], hkv: ks[1], sq: qs[2], d: qs[3], dv: vs[3]}
	var err error
	if past := c.Arg(4); past != nil {
		g.past = past.Shape[2]
	}
	if k, ks, err = appendPast(c.Arg(4), k, ks); err != nil {
		return nil, err
	}
	if v, vs, err = appendPast(c.Arg(5), v, vs); err != nil {
		return nil, err
	}
	g.skv = ks[2]
	if g.hq%g.hkv != 0 || vs[1] != g.hkv || vs[2] != g.skv || ks[3] != g.d {
		return nil, fmt.Errorf("query %v, key %v and value %v (heads first, with the past) do not fit each other", qs, ks, vs)
	}
	bias, err := attentionBias(c, g)
	if err != nil {
		return nil, err
	}
	scale := 1 / math.Sqrt(float64(g.d))
	if a.Has("scale") {
		scale = float64(a.Float("scale", 0))
	}
	softcap := float64(a.Float("softcap", 0))
	mode := a.Int("qk_matmul_output_mode", 0)
	out := make([]float64, g.batch*g.hq*g.sq*g.dv)
	qk := make([]float64, g.batch*g.hq*g.sq*g.skv)
	row := make([]float64, g.skv)
	for b := range g.batch {
		for h := range g.hq {
			kv := b*g.hkv + h/(g.hq/g.hkv)
			for i := range g.sq {
				at := (b*g.hq+h)*g.sq + i
				dump := qk[at*g.skv : (at+1)*g.skv]
				masked := true
				for j := range row {
					s := 0.0
					for d := range g.d {
						s += q[at*g.d+d] * k[(kv*g.skv+j)*g.d+d]
					}
					row[j] = s * scale
				}
				if mode == 0 {
					copy(dump, row)
				}
				for j, s := range row {
					if softcap > 0 {
						s = softcap * math.Tanh(s/softcap)
					}
					if mode == 1 {
						dump[j] = s
					}
					w := bias[at*g.skv+j]
					masked = masked && math.IsInf(w, -1)
					row[j] = s + w
				}
				if mode == 2 {
					copy(dump, row)
				}
				if masked { // nothing to attend to gives zeros, not NaN
					clear(row)
				} else {
					softmax(row)
				}
				if mode == 3 {
					copy(dump, row)
				}
				o := out[at*g.dv : (at+1)*g.dv]
				for j, p := range row {
					if p == 0 {
						continue // a masked key contributes nothing, whatever it holds
					}
					for d := range o {
						o[d] += p * v[(kv*g.skv+j)*g.dv+d]
					}
				}
			}
		}
	}
	shape := []int{g.batch, g.hq, g.sq, g.dv}
	if c.In[0].Rank() == 3 {
		out = gatherAt(out, []int{g.batch, g.sq, g.hq, g.dv}, []int{g.hq * g.sq * g.dv, g.dv, g.sq * g.dv, 1})
		shape = []int{g.batch, g.sq, g.hq * g.dv}
	}
	d := c.In[0].DType
	return []*tensor.Tensor{fromFloats(d, out, shape...), fromFloats(c.In[1].DType, k, ks[:]...), fromFloats(c.In[2].DType, v, vs[:]...),
		fromFloats(d, qk, g.batch, g.hq, g.sq, g.skv)}, nil
}

// attentionBias adds up the mask, causality, the window and padding, as [B,H,Sq,Skv].
func attentionBias(c *ops.Call, g attentionGeometry) ([]float64, error) {
	full := []int{g.batch, g.hq, g.sq, g.skv}
	bias := make([]float64, product(full))
	if m := c.Arg(3); m != nil {
		if m.Rank() == 0 || m.Shape[m.Rank()-1] > g.skv {
			return nil, fmt.Errorf("attn_mask %s does not broadcast to %v", m.TypeString(), full)
		}
		// A mask may end early: what it does not cover is masked.
		covered := append([]int{}, full...)
		if n := m.Shape[m.Rank()-1]; n != 1 || g.skv == 1 {
			covered[3] = n
		}
		if s, err := broadcastSizes(m.Shape, covered); err != nil || product(s) != product(covered) {
			return nil, fmt.Errorf("attn_mask %s does not broadcast to %v", m.TypeString(), full)
		}
		st := broadcastStrides(m.Shape, covered)
		for i := range bias {
			x := unravel(i, full)
			if x[3] >= covered[3] {
				bias[i] = math.Inf(-1)
				continue
			}
			o := x[0]*st[0] + x[1]*st[1] + x[2]*st[2] + x[3]*st[3]
			switch {
			case m.DType != tensor.Bool:
				bias[i] = m.At(o)
			case m.IntAt(o) == 0:
				bias[i] = math.Inf(-1)
			}
		}
	}
	a, valid := c.Node.Attrs, c.Arg(6)
	left, right := a.Int("left_window_size", -1), a.Int("right_window_size", -1)
	causal := a.Int("is_causal", 0) != 0
	for i := range bias {
		x := unravel(i, full)
		offset := g.past
		if valid != nil {
			n := int(valid.IntAt(x[0]))
			if x[3] >= n {
				bias[i] = math.Inf(-1)
			}
			if c.Arg(4) == nil {
				offset = n - g.sq
			}
		}
		p := offset + x[2]
		if causal && x[3] > p || left >= 0 && x[3] < p-int(left) || right >= 0 && x[3] > p+int(right) {
			bias[i] = math.Inf(-1)
		}
	}
	return bias, nil
}

func rotaryRows() []*ops.Op {
	return versions("RotaryEmbedding", []int{23}, ops.Op{
		Doc: "rotates pairs of X's features by angles given as cosines and sines; X is [B,H,S,d] or [B,S,H*d]; a pair is (i, i+d/2), " +
			"or (2i, 2i+1) when interleaved; features past rotary_embedding_dim stay; caches are [B,S,d/2] or, with position_ids [B,S], [P,d/2]",
		In: params("X", "cos_cache", "sin_cache", "position_ids?"), Out: params("Y"),
		Attrs: []ops.Attr{attr("interleaved", int64(0)), attrOpt("num_heads"), attr("rotary_embedding_dim", int64(0))},
		Infer: func(c *ops.Infer) error {
			if err := same(c, floatTypes, 0, 1, 2); err != nil {
				return err
			}
			if err := want(c, 3, indexTypes); err != nil {
				return err
			}
			if err := rankIs(c, 0, 3, 4); err != nil {
				return err
			}
			if t := c.Type(0); t.Rank() == 3 && c.Node.Attrs.Int("num_heads", 0) < 1 {
				return c.Errorf("X %s packs its heads, but attribute num_heads is not given", t)
			}
			c.Out(0, c.Type(0))
			return nil
		},
		Eval: evalRotary,
		Cases: []ops.Case{
			{Name: "packed heads, part of the features", Attrs: graph.Attrs{"num_heads": int64(2), "rotary_embedding_dim": int64(4)},
				In: []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}, 1, 2, 12),
					tensor.From([]float32{1, 0.5, 0.25, -1}, 1, 2, 2), tensor.From([]float32{0, -0.5, 0.75, 0.25}, 1, 2, 2)}},
			{Name: "interleaved, by position", Attrs: graph.Attrs{"interleaved": int64(1)},
				In: []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4, 5, 6, 7, 8}, 1, 1, 2, 4), tensor.From([]float32{1, 0.5, 0.25, -1, 0.5, 0.5}, 3, 2),
					tensor.From([]float32{0, -0.5, 0.75, 0.25, 1, 1}, 3, 2), tensor.Ints(2, 0).Reshaped(1, 2)}},
			{Name: "quarter turn", In: []*tensor.Tensor{tensor.From([]float32{1, 2}, 1, 1, 1, 2), tensor.From([]float32{0}, 1, 1, 1), tensor.From([]float32{1}, 1, 1, 1)},
				Want: one(tensor.From([]float32{-2, 1}, 1, 1, 1, 2))}},
	})
}

func evalRotary(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a, ids := c.In[0], c.Node.Attrs, c.Arg(3)
	h := int(a.Int("num_heads", 0))
	var b, s, d int
	if x.Rank() == 4 {
		b, h, s, d = x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	} else {
		if h < 1 || x.Shape[2]%h != 0 || x.Shape[2] == 0 {
			return nil, fmt.Errorf("input X %s does not hold num_heads = %d heads", x.TypeString(), h)
		}
		b, s, d = x.Shape[0], x.Shape[1], x.Shape[2]/h
	}
	rot := int(a.Int("rotary_embedding_dim", 0))
	if rot == 0 {
		rot = d
	}
	if rot < 0 || rot > d || rot%2 != 0 {
		return nil, fmt.Errorf("rotary_embedding_dim = %d, want an even number of the %d features of a head", rot, d)
	}
	half := rot / 2
	cos, sin := floatsOf(c.In[1]), floatsOf(c.In[2])
	if w := c.In[1].Shape[c.In[1].Rank()-1]; w != half {
		return nil, fmt.Errorf("cos_cache %s, want a last axis of %d", c.In[1].TypeString(), half)
	}
	v := append([]float64{}, floatsOf(x)...)
	for bi := range b {
		for si := range s {
			pos := bi*s + si
			if ids != nil {
				pos = int(ids.IntAt(bi*s + si))
			}
			if pos < 0 || (pos+1)*half > len(cos) || (pos+1)*half > len(sin) {
				return nil, fmt.Errorf("position %d is outside the cache %s", pos, c.In[1].TypeString())
			}
			for hi := range h {
				base := ((bi*h+hi)*s + si) * d
				if x.Rank() == 3 {
					base = ((bi*s+si)*h + hi) * d
				}
				for i := range half {
					p, q := base+i, base+i+half
					if a.Int("interleaved", 0) != 0 {
						p, q = base+2*i, base+2*i+1
					}
					cs, sn := cos[pos*half+i], sin[pos*half+i]
					v[p], v[q] = cs*v[p]-sn*v[q], sn*v[p]+cs*v[q]
				}
			}
		}
	}
	return one(fromFloats(x.DType, v, x.Shape...)), nil
}
