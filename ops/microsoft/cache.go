package microsoft

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// cacheRows: attention of language models, whose keys and values are kept in a
// cache that each sequence fills on its own.
func cacheRows() []*ops.Op {
	a := graph.Attrs{"num_heads": int64(4), "kv_num_heads": int64(2), "do_rotary": int64(1)}
	in := func(past int, seqlens ...int32) []*tensor.Tensor {
		total := tensor.Scalar(int32(past + 2))
		return []*tensor.Tensor{wave(1, 2, 2, 16), wave(2, 2, 2, 8), wave(3, 2, 2, 8), wave(4, 2, 2, past, 4), wave(5, 2, 2, past, 4),
			tensor.From(seqlens, 2), total, wave(6, 9, 2), wave(7, 9, 2)}
	}
	return []*ops.Op{
		composite("GroupQueryAttention", "causal attention of Hq query heads over Hkv key/value heads and a cache [B,Hkv,P,d] of which sequence b has filled "+
			"seqlens_k[b]+1-S places; the new keys and values take the next S; the cache grows to total_sequence_length, and stays as it is when it is longer",
			params("query", "key?", "value?", "past_key?", "past_value?", "seqlens_k", "total_sequence_length", "cos_cache?", "sin_cache?", "position_ids?", "attention_bias?",
				"head_sink?", "k_scale?", "v_scale?", "q_norm_weight?", "k_norm_weight?", "query_seqlens?"),
			params("output", "present_key?", "present_value?", "output_qk?"),
			[]ops.Attr{attr("causal", int64(1)), attr("do_rotary", int64(0)), attrOpt("k_norm_epsilon"), attr("k_quant_type", "NONE"), attrOpt("kv_cache_bit_width"), attr("kv_num_heads", nil),
				attr("local_window_size", int64(-1)), attr("num_heads", nil), attrOpt("q_norm_epsilon"), attr("qk_norm_epsilon", float32(1e-6)), attr("qk_output", int64(0)),
				attr("rotary_interleaved", int64(0)), attrOpt("scale"), attr("sliding_window_cache", int64(0)), attr("smooth_softmax", int64(-1)), attr("softcap", float32(0)), attr("v_quant_type", "NONE")},
			expandGQA, ops.Case{Name: "prompt", Attrs: a, NOut: 3, In: in(0, 1, 1)}, ops.Case{Name: "after a past", Attrs: a, NOut: 3, In: in(3, 4, 4)},
			ops.Case{Name: "sink", Attrs: a, NOut: 3, In: append(in(3, 4, 4), nil, nil, wave(8, 4))}),
	}
}

func expandGQA(x *expansion) []*graph.Value {
	x.refuse(12, 13, 16)
	x.refuseAttrs(0, "qk_output", "sliding_window_cache")
	hq, hkv := x.int("num_heads", 0), x.int("kv_num_heads", 0)
	if hq < 1 || hkv < 1 || hq%hkv != 0 {
		x.fail("num_heads=%d and kv_num_heads=%d, want a positive multiple of a positive number", hq, hkv)
	}
	if x.rank(0) != 3 {
		x.fail("query is %s, want [B,S,H*d]", x.in(0).Type)
	}
	q, k, v := x.in(0), x.in(1), x.in(2)
	if k == nil { // packed: all heads of q, then of k, then of v
		width, ok := q.Type.Shape[2].Const()
		if !ok || width%(hq+2*hkv) != 0 {
			x.fail("packed query %s does not hold %d heads", q.Type, hq+2*hkv)
		}
		d := width / (hq + 2*hkv)
		p := x.node("Split", graph.Attrs{"axis": int64(2)}, 3, q, x.ints(hq*d, hkv*d, hkv*d))
		q, k, v = p[0], p[1], p[2]
	}
	q, k = x.headNorm(q, 14, "q_norm_epsilon", hq), x.headNorm(k, 15, "k_norm_epsilon", hkv)
	length := x.dim(q, 1)
	// The places that each sequence has filled: total - S, not below 0 in a
	// prompt that is padded on the right.
	filled := x.op("Max", x.op("Sub", x.op("Add", x.reshape(x.cast(x.in(5), tensor.Int64), -1), x.scalar(1)), length), x.scalar(0))
	steps := x.upTo(length)
	at := x.op("Add", x.unsqueeze(filled, 1), x.unsqueeze(steps, 0)) // [B,S]
	if x.int("do_rotary", 0) != 0 {
		ids := x.in(9)
		if ids == nil {
			ids = at
		}
		q = x.rotate(q, ids, x.in(7), x.in(8), hq, x.int("rotary_interleaved", 0), 0)
		k = x.rotate(k, ids, x.in(7), x.in(8), hkv, x.int("rotary_interleaved", 0), 0)
	}
	keys := x.fill(x.in(3), x.headsFirst(k, hkv), filled, length)
	values := x.fill(x.in(4), x.headsFirst(v, hkv), filled, length)

	// A query sees the keys up to its own place, within the window.
	place := x.unsqueeze(x.unsqueeze(x.upTo(x.dim(keys, 2)), 0), 0) // [1,1,L]
	own := x.unsqueeze(at, 2)
	sees := x.op("LessOrEqual", place, own)
	if x.int("causal", 1) == 0 {
		sees = x.op("Less", place, x.op("Add", x.unsqueeze(x.unsqueeze(filled, 1), 2), length))
	}
	if w := x.int("local_window_size", -1); w > 0 {
		sees = x.op("And", sees, x.op("Greater", place, x.op("Sub", own, x.scalar(w))))
	}
	mask := x.unsqueeze(sees, 1) // [B,1,S,L]
	if bias := x.in(10); bias != nil {
		mask = x.op("Where", mask, bias, x.like(bias, math.Inf(-1)))
	}
	seenKeys, seenValues := keys, values
	if x.in(11) != nil || x.int("smooth_softmax", -1) > 0 {
		seenKeys, seenValues, mask = x.sink(keys, values, mask, hq)
	}
	attrs := graph.Attrs{"softcap": x.float("softcap", 0)}
	if s := x.float("scale", 0); s != 0 {
		attrs["scale"] = s
	}
	y := x.with("Attention", attrs, x.headsFirst(q, hq), seenKeys, seenValues, mask)
	return []*graph.Value{x.reshape(x.transpose(y, 0, 2, 1, 3), 0, 0, -1), keys, values, nil}
}

// sink adds to the denominator of every softmax what head_sink says, or 1 where
// softmax is smooth: a key and a value of zeros, whose score is what the mask adds.
func (x *expansion) sink(keys, values, mask *graph.Value, heads int64) (k, v, m *graph.Value) {
	d := keys.Type.DType
	if mask.Type.DType == tensor.Bool {
		zero := x.like(keys, 0)
		mask = x.op("Where", mask, zero, x.like(keys, math.Inf(-1)))
	}
	score := x.in(11)
	if score == nil {
		score = x.op("Expand", x.like(keys, 0), x.ints(heads))
	}
	score = x.reshape(x.cast(score, d), 1, heads, 1, 1)
	first := graph.Attrs{"axis": int64(0)}
	rows := x.with("Concat", first, x.dim(mask, 0), x.ints(heads), x.dim(mask, 2)) // [B,H,S]
	mask = x.op("Expand", mask, x.with("Concat", first, rows, x.dim(mask, 3)))
	score = x.op("Expand", score, x.with("Concat", first, rows, x.ints(1)))
	none := x.ints(0, 0, 0, 0, 0, 0, 1, 0)
	return x.op("Pad", keys, none), x.op("Pad", values, none), x.with("Concat", graph.Attrs{"axis": int64(3)}, mask, score)
}

// headNorm is the RMS normalisation of every head, when its weight is given.
func (x *expansion) headNorm(v *graph.Value, weight int, own string, heads int64) *graph.Value {
	w := x.in(weight)
	if w == nil {
		return v
	}
	eps := x.float(own, x.float("qk_norm_epsilon", 1e-6))
	return x.reshape(x.with("RMSNormalization", graph.Attrs{"epsilon": eps}, x.reshape(v, 0, 0, heads, -1), w), 0, 0, -1)
}

// fill writes the new keys or values into the cache from the places filled on. The
// cache grows to total_sequence_length, if it is shorter: where that is not known
// from lengths, by as many tokens as are new.
func (x *expansion) fill(past, fresh, filled, length *graph.Value) *graph.Value {
	if past == nil {
		return fresh
	}
	if past.Type.Rank() != 4 {
		x.fail("the cache is %s, want [B,H,P,d]", past.Type)
	}
	grow := length
	if total := x.in(6); total != nil { // the buffer may have room already
		if _, known := ops.KnownOf(total); known {
			grow = x.op("Max", x.op("Sub", x.reshape(x.cast(total, tensor.Int64), 1), x.dim(past, 2)), x.scalar(0))
		}
	}
	past = x.op("Pad", past, x.with("Concat", graph.Attrs{"axis": int64(0)}, x.ints(0, 0, 0, 0, 0, 0), grow, x.ints(0)))
	return x.with("TensorScatter", graph.Attrs{"axis": int64(-2)}, past, fresh, filled)
}
