package microsoft

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// attentionRows: attention as BERT- and Whisper-like exports have it.
func attentionRows() []*ops.Op {
	q, k, v := wave(1, 2, 3, 8), wave(2, 2, 4, 8), wave(3, 2, 4, 8)
	heads := graph.Attrs{"num_heads": int64(2)}
	return []*ops.Op{
		composite("MultiHeadAttention", "attention of query [B,S,H*d] over key and value [B,L,H*d] or [B,H,L,d], or of packed query [B,S,H,3,d] or key [B,L,H,2,d]; "+
			"biases are added first, past keys and values [B,H,P,d] come before the new ones",
			params("query", "key?", "value?", "bias?", "key_padding_mask?", "attention_bias?", "past_key?", "past_value?", "past_sequence_length?", "cache_indirection?"),
			params("output", "present_key?", "present_value?", "qk?"),
			[]ops.Attr{attr("mask_filter_value", float32(-10000)), attr("num_heads", nil), attrOpt("scale"), attr("unidirectional", int64(0))},
			expandMHA, ops.Case{Name: "cross", Static: true, In: []*tensor.Tensor{q, k, v, wave(4, 24)}, Attrs: heads},
			ops.Case{Name: "padding", In: []*tensor.Tensor{q, k, v, nil, tensor.From([]int32{1, 1, 1, 0, 1, 1, 0, 0}, 2, 4)}, Attrs: heads}),
		composite("Attention", "MultiHeadAttention of input*weights + bias, split in three; past and present are [2,B,H,L,d]",
			params("input", "weights", "bias?", "mask_index?", "past?", "attention_bias?", "past_sequence_length?"), params("output", "present?"),
			[]ops.Attr{attr("do_rotary", int64(0)), attr("mask_filter_value", float32(-10000)), attr("num_heads", nil), attr("past_present_share_buffer", int64(0)),
				attrOpt("qkv_hidden_sizes"), attr("rotary_embedding_dim", int64(0)), attrOpt("scale"), attr("unidirectional", int64(0))},
			expandAttention, ops.Case{Name: "lengths", In: []*tensor.Tensor{wave(1, 2, 3, 4), wave(2, 4, 24), wave(3, 24), tensor.From([]int32{3, 2}, 2)}, Attrs: heads}),
		composite("RotaryEmbedding", "RotaryEmbedding with positions [B,S], or [1]: that of the first token",
			params("input", "position_ids", "cos_cache", "sin_cache"), params("output"),
			[]ops.Attr{attr("interleaved", int64(0)), attr("is_packed_batching", int64(0)), attr("num_heads", int64(0)), attr("rotary_embedding_dim", int64(0)), attr("scale", float32(1))},
			func(x *expansion) []*graph.Value {
				x.refuseAttrs(0, "is_packed_batching")
				if s := x.float("scale", 1); s != 1 {
					x.fail("attribute scale=%g is not supported", s)
				}
				ids := x.in(1)
				if x.rank(1) == 1 {
					seq := int64(1)
					if x.rank(0) == 4 {
						seq = 2
					}
					steps := x.op("Add", x.upTo(x.dim(x.in(0), seq)), ids)
					shape := x.with("Concat", graph.Attrs{"axis": int64(0)}, x.dim(x.in(0), 0), x.dim(x.in(0), seq))
					ids = x.op("Expand", steps, shape)
				}
				return one(x.rotate(x.in(0), ids, x.in(2), x.in(3), x.int("num_heads", 0), x.int("interleaved", 0), x.int("rotary_embedding_dim", 0)))
			}, ops.Case{Name: "from a position", Static: true, In: []*tensor.Tensor{wave(1, 2, 3, 8), tensor.Ints(1), wave(2, 5, 2), wave(3, 5, 2)}}),
	}
}

// rotate is ONNX's RotaryEmbedding. Without a number of heads a packed input has
// as many as the cache's width says.
func (x *expansion) rotate(v, ids, cos, sin *graph.Value, heads, interleaved, dim int64) *graph.Value {
	a := graph.Attrs{"interleaved": interleaved, "rotary_embedding_dim": dim}
	if v != nil && v.Type.Rank() == 3 {
		if heads == 0 {
			half, ok := cos.Type.Shape[1].Const()
			width, ok2 := v.Type.Shape[2].Const()
			if !ok || !ok2 || half == 0 {
				x.fail("num_heads is not given, and %s and %s do not tell it", v.Type, cos.Type)
			}
			heads = width / (2 * half)
		}
		a["num_heads"] = heads
	}
	return x.with("RotaryEmbedding", a, v, cos, sin, ids)
}

// query, keys and values of one attention, heads packed ([B,S,H*d]) or apart ([B,H,S,d]).
type attention struct {
	q, k, v            *graph.Value
	heads              int64
	pastKey, pastValue *graph.Value
	padding, bias      *graph.Value
	scale              float32 // 0: 1/sqrt(d)
	causal             int64
	filter             float64 // added to what padding hides
}

// attend writes Attention; heads apart in any of the three parts them all. It
// returns the packed result, and the keys and values with the past.
func (x *expansion) attend(a attention) []*graph.Value {
	apart := a.k != nil && a.k.Type.Rank() == 4 || a.v != nil && a.v.Type.Rank() == 4
	attrs := graph.Attrs{"is_causal": a.causal}
	if a.scale != 0 {
		attrs["scale"] = a.scale
	}
	if apart {
		a.q, a.k, a.v = x.headsFirst(a.q, a.heads), x.headsFirst(a.k, a.heads), x.headsFirst(a.v, a.heads)
	} else {
		attrs["q_num_heads"], attrs["kv_num_heads"] = a.heads, a.heads
	}
	mask := a.bias
	if a.padding != nil {
		keep := x.keep(a.padding, a.k, a.pastKey)
		if mask == nil && a.causal == 0 {
			mask = x.op("Where", keep, x.like(a.q, 0), x.like(a.q, a.filter))
		} else {
			hidden := x.op("Where", keep, x.like(a.q, 0), x.like(a.q, a.filter))
			mask = x.plus(hidden, mask)
		}
	}
	out := x.node("Attention", attrs, 3, a.q, a.k, a.v, mask, a.pastKey, a.pastValue)
	if apart {
		out[0] = x.reshape(x.transpose(out[0], 0, 2, 1, 3), 0, 0, -1)
	}
	return out
}

// headsFirst makes [B,H,S,d] of [B,S,H*d].
func (x *expansion) headsFirst(v *graph.Value, heads int64) *graph.Value {
	if v == nil || v.Type.Rank() == 4 {
		return v
	}
	return x.transpose(x.reshape(v, 0, 0, heads, -1), 0, 2, 1, 3)
}

// keep is the mask of the keys that padding leaves, broadcastable to
// [B,H,S,L]: padding is a length per sequence, or 1 for each key to keep.
func (x *expansion) keep(padding, k, past *graph.Value) *graph.Value {
	switch padding.Type.Rank() {
	case 1:
		axis := int64(1)
		if k.Type.Rank() == 4 {
			axis = 2
		}
		total := x.dim(k, axis)
		if past != nil {
			total = x.op("Add", total, x.dim(past, 2))
		}
		at := x.unsqueeze(x.cast(x.upTo(total), padding.Type.DType), 0)
		return x.unsqueeze(x.op("Less", at, x.unsqueeze(padding, 1)), 1, 2)
	case 2:
		return x.unsqueeze(x.cast(padding, tensor.Bool), 1, 2)
	case 3:
		return x.unsqueeze(x.cast(padding, tensor.Bool), 1)
	}
	x.fail("a mask of type %s is not supported", padding.Type)
	return nil
}

// unpackHeads splits [B,S,H,n,d] into n values [B,S,H*d].
func (x *expansion) unpackHeads(v *graph.Value, n int64) []*graph.Value {
	parts := x.node("Split", graph.Attrs{"axis": int64(3), "num_outputs": n}, int(n), v)
	for i := range parts {
		parts[i] = x.reshape(parts[i], 0, 0, -1)
	}
	return parts
}

func expandMHA(x *expansion) []*graph.Value {
	x.refuse(8, 9)
	a := attention{q: x.in(0), k: x.in(1), v: x.in(2), heads: x.int("num_heads", 1), padding: x.in(4), bias: x.in(5), pastKey: x.in(6), pastValue: x.in(7),
		scale: x.float("scale", 0), causal: x.int("unidirectional", 0), filter: float64(x.float("mask_filter_value", -10000))}
	if x.rank(0) == 5 {
		p := x.unpackHeads(a.q, 3)
		a.q, a.k, a.v = p[0], p[1], p[2]
	} else if a.k != nil && a.k.Type.Rank() == 5 {
		p := x.unpackHeads(a.k, 2)
		a.k, a.v = p[0], p[1]
	}
	if a.k == nil || a.v == nil {
		x.fail("there is neither a packed query nor a key and a value")
	}
	if bias := x.in(3); bias != nil {
		width, ok := a.q.Type.Shape[a.q.Type.Rank()-1].Const()
		if !ok {
			x.fail("query %s has no constant width to split the bias by", a.q.Type)
		}
		part := func(v *graph.Value, from, to int64) *graph.Value {
			b := x.slice(bias, x.ints(from), x.ints(to), 0)
			if v.Type.Rank() == 4 {
				b = x.reshape(b, 1, a.heads, 1, -1)
			}
			return x.op("Add", v, b)
		}
		a.q, a.k, a.v = part(a.q, 0, width), part(a.k, width, 2*width), part(a.v, 2*width, math.MaxInt64)
	}
	out := x.attend(a)
	return append(out[:3:3], nil)
}

func expandAttention(x *expansion) []*graph.Value {
	x.refuse(6)
	x.refuseAttrs(0, "do_rotary", "past_present_share_buffer")
	qkv := x.plus(x.op("MatMul", x.in(0), x.in(1)), x.in(2))
	sizes := x.n.Attrs.Ints("qkv_hidden_sizes")
	split := graph.Attrs{"axis": int64(2)}
	var parts []*graph.Value
	if len(sizes) == 3 {
		parts = x.node("Split", split, 3, qkv, x.ints(sizes...))
	} else {
		split["num_outputs"] = int64(3)
		parts = x.node("Split", split, 3, qkv)
	}
	a := attention{q: parts[0], k: parts[1], v: parts[2], heads: x.int("num_heads", 1), padding: x.in(3), bias: x.in(5),
		scale: x.float("scale", 0), causal: x.int("unidirectional", 0), filter: float64(x.float("mask_filter_value", -10000))}
	if past := x.in(4); past != nil {
		half := func(i int64) *graph.Value { return x.op("Gather", past, x.scalar(i)) }
		a.pastKey, a.pastValue = half(0), half(1)
	}
	if p := a.padding; p != nil && p.Type.Rank() == 1 {
		if n, ok := p.Type.Shape[0].Const(); ok {
			if b, ok := a.q.Type.Shape[0].Const(); ok && n != b {
				x.fail("mask_index %s is neither a length per sequence nor a mask", p.Type)
			}
		}
	}
	out := x.attend(a)
	present := []*graph.Value{out[0], nil}
	if x.wants(1) {
		present[1] = x.with("Concat", graph.Attrs{"axis": int64(0)}, x.unsqueeze(out[1], 0), x.unsqueeze(out[2], 0))
	}
	return present
}
