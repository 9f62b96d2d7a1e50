package microsoft

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// weightRows: products and recurrent layers with weights of few bits.
func weightRows() []*ops.Op {
	lstm := []ops.Attr{attrOpt("activation_alpha"), attrOpt("activation_beta"), attrOpt("activations"), attrOpt("clip"), attr("direction", "forward"), attr("hidden_size", nil), attr("input_forget", int64(0))}
	one8 := func(v uint8) *tensor.Tensor { return tensor.From([]uint8{v}, 1) }
	return []*ops.Op{
		composite("MatMulBnb4", "A * B^T for B [N,K] in 4-bit codes of bitsandbytes, NF4 or FP4, the first in the high half of a byte, times absmax per block of block_size elements",
			params("A", "B", "absmax"), params("Y"),
			[]ops.Attr{attr("K", nil), attr("N", nil), attr("block_size", nil), attr("quant_type", nil), attr("training_mode", int64(0)), attr("transB", int64(1))},
			expandBnb4, ops.Case{Name: "NF4", Static: true, Consts: []int{1, 2}, In: []*tensor.Tensor{wave(1, 2, 16), nibbles(24), wave(2, 3)},
				Attrs: graph.Attrs{"K": int64(16), "N": int64(3), "block_size": int64(16), "quant_type": int64(1)}}),
		composite("DynamicQuantizeLSTM", "LSTM whose weights, transposed, are bytes with scales by direction or by gate row; activations stay floats",
			params("X", "W", "R", "B?", "sequence_lens?", "initial_h?", "initial_c?", "P?", "W_scale", "W_zero_point", "R_scale", "R_zero_point"), params("Y?", "Y_h?", "Y_c?"), lstm,
			func(x *expansion) []*graph.Value {
				weight := func(i, scale int) *graph.Value {
					s, z := x.in(scale), x.in(scale+1)
					spread := func(v *graph.Value) *graph.Value { // [D] or [D,4H] to [D,1,1] or [D,1,4H]
						if v.Type.Rank() == 2 {
							return x.unsqueeze(v, 1)
						}
						return x.reshape(v, -1, 1, 1)
					}
					w := x.op("Sub", x.cast(x.in(i), tensor.Float32), x.cast(spread(z), tensor.Float32))
					return x.transpose(x.op("Mul", w, spread(s)), 0, 2, 1)
				}
				return x.node("LSTM", x.n.Attrs.Clone(), len(x.n.Out), x.in(0), weight(1, 8), weight(2, 10), x.in(3), x.in(4), x.in(5), x.in(6), x.in(7))
			}, ops.Case{Name: "forward", NOut: 3, In: []*tensor.Tensor{wave(1, 2, 1, 3), nibbles(1, 3, 8), nibbles(1, 2, 8), wave(2, 1, 16), nil, nil, nil, nil,
				tensor.From([]float32{0.01}, 1), one8(120), tensor.From([]float32{0.01}, 1), one8(128)}, Attrs: graph.Attrs{"hidden_size": int64(2)}}),
		composite("MatMulInteger16", "the product of 16-bit integers in 32 bits", params("A", "B"), params("Y"), sig.NoAttrs,
			func(x *expansion) []*graph.Value {
				d := tensor.Int32
				if x.in(0).Type.DType == tensor.Uint16 && x.in(1).Type.DType == tensor.Uint16 {
					d = tensor.Uint32
				}
				return one(x.op("MatMul", x.cast(x.in(0), d), x.cast(x.in(1), d)))
			}, ops.Case{Name: "signed", In: []*tensor.Tensor{tensor.From([]int16{1, -2, 300, 4}, 2, 2), tensor.From([]int16{-5, 6, 7, 8}, 2, 2)}}),
		composite("QLinearWhere", "Where of quantised numbers, each with its scale and zero point", params("condition", "X", "x_scale", "x_zero_point", "Y", "y_scale", "y_zero_point", "z_scale", "z_zero_point"), params("Z"), sig.NoAttrs,
			func(x *expansion) []*graph.Value {
				a, b := x.dequant(x.in(1), x.in(2), x.in(3), 0), x.dequant(x.in(4), x.in(5), x.in(6), 0)
				return one(x.quant(x.op("Where", x.in(0), a, b), x.in(7), x.in(8)))
			}, ops.Case{Name: "bytes", In: []*tensor.Tensor{tensor.From([]bool{true, false}, 2), nibbles(2), tensor.Scalar(float32(0.5)), tensor.Scalar(uint8(3)), nibbles(2), tensor.Scalar(float32(0.25)), tensor.Scalar(uint8(7)), tensor.Scalar(float32(0.5)), tensor.Scalar(uint8(9))}}),
		composite("QEmbedLayerNormalization", "EmbedLayerNormalization of tables in bytes",
			params("input_ids", "segment_ids?", "word_embedding_quant", "position_embedding_quant", "segment_embedding?", "gamma_quant", "beta_quant", "mask?", "word_embedding_scale", "position_embedding_scale", "segment_embedding_scale?",
				"gamma_scale", "beta_scale", "word_embedding_zero_point", "position_embedding_zero_point", "segment_embedding_zero_point?", "gamma_zero_point", "beta_zero_point"),
			params("layernorm_out", "mask_index_out?"), []ops.Attr{attr("epsilon", float32(1e-12))},
			func(x *expansion) []*graph.Value {
				table := func(i, scale int) *graph.Value {
					if x.in(i) == nil {
						return nil
					}
					return x.op("DequantizeLinear", x.in(i), x.reshape(x.in(scale)), x.reshape(x.in(scale+5)))
				}
				return x.nodeOf(Domain, "EmbedLayerNormalization", x.n.Attrs.Clone(), max(len(x.n.Out), 1), x.in(0), x.in(1), table(2, 8), table(3, 9), table(4, 10), table(5, 11), table(6, 12), x.in(7))
			}, ops.Case{Name: "words", In: []*tensor.Tensor{tensor.From([]int32{1, 0, 2, 2}, 2, 2), nil, nibbles(3, 8), nibbles(4, 8), nil, nibbles(8), nibbles(8), nil, tensor.Scalar(float32(0.01)), tensor.Scalar(float32(0.02)), nil,
				tensor.Scalar(float32(0.01)), tensor.Scalar(float32(0.01)), tensor.Scalar(uint8(120)), tensor.Scalar(uint8(128)), nil, tensor.Scalar(uint8(0)), tensor.Scalar(uint8(100))}}),
	}
}

// bnb4 are the values of bitsandbytes' codes, for absmax 1 (Dettmers et al., QLoRA, 2023).
var bnb4 = [2][16]float32{
	{0, 0.005208333333, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25, 0, -0.005208333333, -0.66666667, -1, -0.33333333, -0.5, -0.16666667, -0.25},
	{-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
		0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1},
}

func expandBnb4(x *expansion) []*graph.Value {
	K, N, size, kind := x.int("K", 0), x.int("N", 0), x.int("block_size", 0), x.int("quant_type", 0)
	q, absmax := x.in(1).Const, x.in(2).Const
	switch {
	case K < 1 || N < 1 || K > 1<<31 || N > 1<<31 || size < 16 || size&(size-1) != 0 || kind < 0 || kind > 1:
		x.fail("K=%d, N=%d, block_size=%d, quant_type=%d: want positive sizes, blocks of a power of two from 16 and FP4 (0) or NF4 (1)", K, N, size, kind)
	case q == nil || absmax == nil:
		x.fail("B and absmax are not constants")
	case q.DType != tensor.Uint8 || int64(len(q.Data)) != (N*K+1)/2 || int64(absmax.Len()) != (N*K+size-1)/size || !absmax.DType.IsFloat():
		x.fail("B is %s and absmax %s, want %d bytes and %d scales", q.TypeString(), absmax.TypeString(), (N*K+1)/2, (N*K+size-1)/size)
	}
	w := tensor.New(absmax.DType, int(N), int(K))
	for i := range w.Len() {
		code := q.Data[i/2] >> (4 * (1 - i%2)) & 15
		w.SetAt(i, float64(bnb4[kind][code]*float32(absmax.At(i/int(size)))))
	}
	// ONNX Runtime's CPU gives no sound result for transB=0, a step of training.
	x.refuseAttrs(1, "transB")
	return one(x.op("MatMul", x.in(0), x.transpose(x.b.Const(w), 1, 0)))
}
