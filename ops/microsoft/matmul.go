package microsoft

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// matmulRows: products and convolutions with what was fused into them.
func matmulRows() []*ops.Op {
	a, b := wave(1, 2, 3, 4), wave(2, 2, 5, 4)
	matmul := func(name string) *ops.Op {
		return composite(name, "alpha * A*B, both transposed on request; transBatch moves the first axis behind the batch axes",
			params("A", "B"), params("Y"),
			[]ops.Attr{attr("alpha", float32(1)), attr("transA", int64(0)), attr("transB", int64(0)), attr("transBatchA", int64(0)), attr("transBatchB", int64(0))},
			expandMatMul, ops.Case{Name: "transB", In: []*tensor.Tensor{a, b}, Attrs: graph.Attrs{"transB": int64(1), "alpha": float32(0.5)}})
	}
	return []*ops.Op{
		matmul("FusedMatMul"), matmul("TransposeMatMul"),
		composite("FusedGemm", "activation(Gemm)", params("A", "B", "C?"), params("Y"),
			[]ops.Attr{attrOpt("activation"), attrOpt("activation_alpha"), attrOpt("activation_beta"), attrOpt("activation_gamma"),
				attr("alpha", float32(1)), attr("beta", float32(1)), attr("transA", int64(0)), attr("transB", int64(0))},
			func(x *expansion) []*graph.Value {
				var p []float32
				for _, name := range []string{"activation_alpha", "activation_beta"} {
					if x.n.Attrs.Has(name) {
						p = append(p, x.float(name, 0))
					}
				}
				y := x.with("Gemm", graph.Attrs{"alpha": x.float("alpha", 1), "beta": x.float("beta", 1), "transA": x.int("transA", 0), "transB": x.int("transB", 0)}, x.n.In...)
				return one(x.activate(y, p))
			}, ops.Case{Name: "Relu", In: []*tensor.Tensor{wave(1, 3, 4), wave(2, 5, 4), wave(3, 5)}, Attrs: graph.Attrs{"activation": "Relu", "transB": int64(1)}}),
		composite("FusedConv", "activation(Conv + Z)", params("X", "W", "B?", "Z?"), params("Y"),
			[]ops.Attr{attrOpt("activation"), attrOpt("activation_params"), attr("auto_pad", "NOTSET"), attrOpt("dilations"), attr("group", int64(1)),
				attrOpt("kernel_shape"), attrOpt("pads"), attrOpt("strides")},
			func(x *expansion) []*graph.Value {
				conv := graph.Attrs{}
				for _, name := range []string{"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"} {
					if v, ok := x.n.Attrs[name]; ok {
						conv[name] = v
					}
				}
				y := x.plus(x.with("Conv", conv, x.in(0), x.in(1), x.in(2)), x.in(3))
				return one(x.activate(y, x.n.Attrs.Floats("activation_params")))
			}, ops.Case{Name: "residual, Relu", In: []*tensor.Tensor{wave(1, 1, 2, 4, 4), wave(2, 3, 2, 3, 3), wave(3, 3), wave(4, 1, 3, 4, 4)},
				Attrs: graph.Attrs{"activation": "Relu", "pads": []int64{1, 1, 1, 1}}}),
		composite("MatMulNBits", "A * W^T + bias for W [N,K] in 2, 4 or 8 bits: B holds blocks of block_size along K, scales and zero_points one number per block",
			params("A", "B", "scales", "zero_points?", "g_idx?", "bias?"), params("Y"),
			[]ops.Attr{attr("K", nil), attr("N", nil), attr("accuracy_level", int64(0)), attr("bits", int64(4)), attr("block_size", nil), attr("weight_prepacked", int64(0))},
			expandMatMulNBits, ops.Case{Name: "4 bits, padded", Static: true, Consts: []int{1, 3}, In: []*tensor.Tensor{wave(1, 2, 3, 20), nibbles(3, 2, 8), wave(2, 6), nibbles(3, 1)},
				Attrs: graph.Attrs{"K": int64(20), "N": int64(3), "block_size": int64(16)}}),
		composite("GatherBlockQuantized", "rows of a table in 4 or 8 bits, quantised by blocks along an axis",
			params("data", "indices", "scales", "zero_points?"), params("output"),
			[]ops.Attr{attr("bits", int64(4)), attr("block_size", int64(128)), attr("gather_axis", int64(0)), attr("quantize_axis", int64(1))},
			expandGatherBlocks, ops.Case{Name: "uint8 of two nibbles", Static: true, Consts: []int{0}, In: []*tensor.Tensor{nibbles(4, 8), tensor.Ints(2, 0), wave(1, 4, 1)}, Attrs: graph.Attrs{"block_size": int64(16)}}),
	}
}

// nibbles fills a uint8 tensor for cases.
func nibbles(shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.Uint8, shape...)
	for i := range t.Data {
		t.Data[i] = byte(i*37 + 11)
	}
	return t
}

func expandMatMul(x *expansion) []*graph.Value {
	side := func(i int, flag, batch string) *graph.Value {
		r := x.rank(i)
		perm := make([]int64, r)
		for a := range perm {
			perm[a] = int64(a)
		}
		moved := false
		if x.int(batch, 0) != 0 && r > 2 { // [M,B...,K] is B... products of [M,K]
			copy(perm, perm[1:r-1])
			perm[r-2], moved = 0, true
		}
		if x.int(flag, 0) != 0 && r >= 2 {
			perm[r-2], perm[r-1], moved = perm[r-1], perm[r-2], true
		}
		if !moved {
			return x.in(i)
		}
		return x.transpose(x.in(i), perm...)
	}
	y := x.op("MatMul", side(0, "transA", "transBatchA"), side(1, "transB", "transBatchB"))
	if alpha := x.float("alpha", 1); alpha != 1 {
		y = x.op("Mul", y, x.like(y, float64(alpha)))
	}
	return one(y)
}

// packedBits is the element type of weights of so many bits.
func packedBits(bits int64) (tensor.DType, bool) {
	switch bits {
	case 2:
		return tensor.Uint2, true
	case 4:
		return tensor.Uint4, true
	case 8:
		return tensor.Uint8, true
	}
	return tensor.Undefined, false
}

// unpackRows reads rows of bytes as elements of d, per of them: what is left of
// the last byte of a row is dropped.
func unpackRows(src *tensor.Tensor, d tensor.DType, rows, per int) (*tensor.Tensor, bool) {
	bits := d.Bits()
	stride := (per*bits + 7) / 8
	if src.DType != tensor.Uint8 || len(src.Data) != rows*stride {
		return nil, false
	}
	out := tensor.New(d, rows, per)
	if per*bits%8 == 0 {
		copy(out.Data, src.Data)
		return out, true
	}
	mask := byte(1<<bits - 1)
	for r := range rows {
		for i := range per {
			pos := i * bits
			out.SetIntAt(r*per+i, int64(src.Data[r*stride+pos/8]>>(pos%8)&mask))
		}
	}
	return out, true
}

func expandMatMulNBits(x *expansion) []*graph.Value {
	x.refuse(4)
	x.refuseAttrs(0, "weight_prepacked")
	K, N, size := x.int("K", 0), x.int("N", 0), x.int("block_size", 0)
	d, ok := packedBits(x.int("bits", 4))
	if !ok || K < 1 || N < 1 || size < 16 || size&(size-1) != 0 || K > 1<<31 || N > 1<<31 {
		x.fail("K=%d, N=%d, bits=%d, block_size=%d: want positive sizes, 2, 4 or 8 bits and blocks of a power of two from 16", K, N, x.int("bits", 4), size)
	}
	blocks := (K + size - 1) / size
	w, scales, zero := x.in(1).Const, x.in(2), x.in(3)
	if w == nil {
		x.fail("B is not a constant")
	}
	q, ok := unpackRows(w, d, int(N), int(blocks*size))
	if !ok {
		x.fail("B is %s, want uint8 [%d,%d,%d]", w.TypeString(), N, blocks, size*int64(d.Bits())/8)
	}
	scales = x.reshape(scales, N, blocks)
	var weight *graph.Value
	switch {
	case zero == nil:
		z := tensor.New(d, int(N), int(blocks))
		for i := range z.Len() {
			z.SetIntAt(i, 1<<(d.Bits()-1))
		}
		weight = x.dequantize(x.b.Const(q), scales, x.b.Const(z), 1, size)
	case zero.Type.DType == tensor.Uint8:
		if zero.Const == nil {
			x.fail("zero_points is not a constant")
		}
		z, ok := unpackRows(zero.Const, d, int(N), int(blocks))
		if !ok {
			x.fail("zero_points is %s, want uint8 [%d,%d]", zero.Const.TypeString(), N, (blocks*int64(d.Bits())+7)/8)
		}
		weight = x.dequantize(x.b.Const(q), scales, x.b.Const(z), 1, size)
	default: // zero points as numbers: (q - z) * s
		t := scales.Type.DType
		plain := x.cast(x.cast(x.b.Const(q), tensor.Uint8), t)
		spread := func(v *graph.Value) *graph.Value { return x.unsqueeze(x.reshape(v, N, blocks), 2) }
		weight = x.op("Mul", x.op("Sub", x.reshape(plain, N, blocks, size), spread(zero)), spread(scales))
		weight = x.reshape(weight, N, blocks*size)
	}
	if blocks*size != K {
		weight = x.slice(weight, x.ints(0), x.ints(K), 1)
	}
	return one(x.plus(x.op("MatMul", x.in(0), x.transpose(weight, 1, 0)), x.in(5)))
}

// dequantize is DequantizeLinear by blocks along an axis.
func (x *expansion) dequantize(q, scale, zero *graph.Value, axis, size int64) *graph.Value {
	return x.with("DequantizeLinear", graph.Attrs{"axis": axis, "block_size": size}, q, scale, zero)
}

func expandGatherBlocks(x *expansion) []*graph.Value {
	data, zero := x.in(0).Const, x.in(3)
	if data == nil || zero != nil && zero.Const == nil {
		x.fail("data and zero_points are not constants")
	}
	r := int64(data.Rank())
	axis, gather := x.int("quantize_axis", 1), x.int("gather_axis", 0)
	if axis < 0 {
		axis += r
	}
	d := data.DType
	if d == tensor.Uint8 { // two or more elements in a byte of the last axis
		var ok bool
		if d, ok = packedBits(x.int("bits", 4)); !ok || axis != r-1 || r == 0 {
			x.fail("data %s with bits=%d and quantize_axis=%d: want 2, 4 or 8 bits along the last axis", data.TypeString(), x.int("bits", 4), axis)
		}
		per := 8 / d.Bits()
		shape := append([]int{}, data.Shape...)
		shape[r-1] *= per
		data = &tensor.Tensor{DType: d, Shape: shape, Data: data.Data}
	}
	var z *graph.Value
	switch {
	case zero != nil && zero.Const.DType == tensor.Uint8 && d != tensor.Uint8:
		s, ok := x.in(2).Type.Static()
		rows := 1
		for _, n := range s[:max(len(s)-1, 0)] {
			rows *= n
		}
		t, fits := (*tensor.Tensor)(nil), false
		if ok && len(s) > 0 {
			t, fits = unpackRows(zero.Const, d, rows, s[len(s)-1])
		}
		if !fits {
			x.fail("zero_points is %s for scales %s", zero.Const.TypeString(), x.in(2).Type)
		}
		z = x.b.Const(t.Reshaped(s...))
	case zero != nil:
		z = zero
	case x.in(0).Type.DType == tensor.Uint8:
		s, ok := x.in(2).Type.Static()
		if !ok {
			x.fail("the shape of scales is not known")
		}
		t := tensor.New(d, s...)
		for i := range t.Len() {
			t.SetIntAt(i, 1<<(d.Bits()-1))
		}
		z = x.b.Const(t)
	}
	w := x.dequantize(x.b.Const(data), x.in(2), z, axis, x.int("block_size", 128))
	return one(x.with("Gather", graph.Attrs{"axis": gather}, w, x.in(1)))
}
