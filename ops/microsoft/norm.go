package microsoft

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// normRows: normalisations with what stands around them.
func normRows() []*ops.Op {
	h := []*tensor.Tensor{wave(1, 2, 3, 8), wave(2, 2, 3, 8), wave(3, 8), wave(4, 8), wave(5, 8)}
	eps := attr("epsilon", float32(1e-12))
	return []*ops.Op{
		composite("SkipLayerNormalization", "LayerNormalization of input + skip + bias over the last axis; the fourth output is that sum",
			params("input", "skip", "gamma", "beta?", "bias?"), params("output", "mean?", "inv_std_var?", "input_skip_bias_sum?"), []ops.Attr{eps},
			func(x *expansion) []*graph.Value {
				s := x.plus(x.in(0), x.in(1), x.in(4))
				out := x.node("LayerNormalization", graph.Attrs{"epsilon": x.float("epsilon", 1e-12)}, 3, s, x.in(2), x.in(3))
				return append(out, s)
			}, ops.Case{Name: "bias", In: h, NOut: 1}),
		composite("SkipSimplifiedLayerNormalization", "RMSNormalization of input + skip + bias over the last axis; the fourth output is that sum",
			params("input", "skip", "gamma", "bias?"), params("output", "mean?", "inv_std_var?", "input_skip_bias_sum?"), []ops.Attr{eps},
			func(x *expansion) []*graph.Value {
				s := x.plus(x.in(0), x.in(1), x.in(3))
				return []*graph.Value{x.with("RMSNormalization", graph.Attrs{"epsilon": x.float("epsilon", 1e-12)}, s, x.in(2)), nil, nil, s}
			}, ops.Case{Name: "no bias", In: h[:3]}),
		composite("EmbedLayerNormalization", "LayerNormalization of word + position + segment embeddings; mask_index counts each row's mask",
			params("input_ids", "segment_ids?", "word_embedding", "position_embedding", "segment_embedding?", "gamma", "beta", "mask?", "position_ids?"),
			params("output", "mask_index?", "embedding_sum?"), []ops.Attr{eps, attr("mask_index_type", int64(0))},
			expandEmbed, ops.Case{Name: "segments", In: []*tensor.Tensor{tensor.From([]int32{1, 0, 2, 2}, 2, 2), tensor.From([]int32{0, 1, 1, 0}, 2, 2),
				wave(1, 3, 8), wave(2, 4, 8), wave(3, 2, 8), wave(4, 8), wave(5, 8)}}),
		composite("GroupNorm", "GroupNormalization per channel, channels last by default, then SiLU when activation is 1",
			params("X", "gamma", "beta"), params("Y"),
			[]ops.Attr{attr("activation", nil), attr("channels_last", int64(1)), attr("epsilon", float32(1e-5)), attr("groups", nil)},
			func(x *expansion) []*graph.Value {
				y := x.in(0)
				last := x.int("channels_last", 1) != 0
				if last {
					y = x.transpose(y, 0, 3, 1, 2)
				}
				y = x.with("GroupNormalization", graph.Attrs{"num_groups": x.int("groups", 1), "epsilon": x.float("epsilon", 1e-5)}, y, x.in(1), x.in(2))
				if x.int("activation", 0) == 1 {
					y = x.op("Swish", y)
				}
				if last {
					y = x.transpose(y, 0, 2, 3, 1)
				}
				return one(y)
			}, ops.Case{Name: "SiLU", In: []*tensor.Tensor{wave(1, 1, 3, 2, 8), wave(2, 8), wave(3, 8)}, Attrs: graph.Attrs{"activation": int64(1), "groups": int64(2)}}),
	}
}

func expandEmbed(x *expansion) []*graph.Value {
	ids := x.in(0)
	sum := x.op("Gather", x.in(2), ids)
	if p := x.in(8); p != nil {
		sum = x.op("Add", sum, x.op("Gather", x.in(3), p))
	} else {
		sum = x.op("Add", sum, x.slice(x.in(3), x.ints(0), x.dim(ids, 1), 0))
	}
	if s := x.in(1); s != nil {
		sum = x.op("Add", sum, x.op("Gather", x.in(4), s))
	}
	y := x.with("LayerNormalization", graph.Attrs{"epsilon": x.float("epsilon", 1e-12)}, sum, x.in(5), x.in(6))
	out := []*graph.Value{y, nil, sum}
	if x.wants(1) {
		mask := x.in(7)
		if mask == nil {
			mask = x.op("Mul", x.cast(ids, tensor.Int32), x.b.Const(tensor.Scalar(int32(0))))
		}
		out[1] = x.with("ReduceSum", graph.Attrs{"keepdims": int64(0)}, mask, x.ints(1))
	}
	return out
}
