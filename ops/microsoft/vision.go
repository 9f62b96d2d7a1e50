package microsoft

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// visionRows: sampling, windows and pools under their older names.
func visionRows() []*ops.Op {
	m := wave(1, 1, 2, 4, 3)
	modes := map[string]string{"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}
	pool := []ops.Attr{attr("auto_pad", "NOTSET"), attr("ceil_mode", int64(0)), attrOpt("dilations"), attr("kernel_shape", nil), attrOpt("pads"), attrOpt("strides")}
	conv := []ops.Attr{attrOpt("activation"), attrOpt("activation_params"), attr("auto_pad", "NOTSET"), attrOpt("dilations"), attr("group", int64(1)), attrOpt("kernel_shape"), attrOpt("pads"), attrOpt("strides")}
	nhwc := func(f func(x *expansion, v *graph.Value) *graph.Value) func(x *expansion) []*graph.Value {
		return func(x *expansion) []*graph.Value {
			if x.rank(0) != 4 {
				x.fail("the input is %s, want [N,H,W,C]", x.in(0).Type)
			}
			return one(x.transpose(f(x, x.transpose(x.in(0), 0, 3, 1, 2)), 0, 2, 3, 1))
		}
	}
	return []*ops.Op{
		composite("GridSample", "ONNX's GridSample", params("X", "Grid"), params("Y"), []ops.Attr{attr("align_corners", int64(0)), attr("mode", "bilinear"), attr("padding_mode", "zeros")},
			func(x *expansion) []*graph.Value {
				mode, ok := modes[x.n.Attrs.Str("mode", "bilinear")]
				if !ok {
					x.fail("mode=%q, want bilinear, bicubic or nearest", x.n.Attrs.Str("mode", ""))
				}
				return one(x.with("GridSample", graph.Attrs{"mode": mode, "align_corners": x.int("align_corners", 0), "padding_mode": x.n.Attrs.Str("padding_mode", "zeros")}, x.in(0), x.in(1)))
			}, ops.Case{Name: "zeros", In: []*tensor.Tensor{m, wave(2, 1, 2, 3, 2)}}),
		composite("NhwcMaxPool", "MaxPool with channels last", params("x"), params("y"), pool,
			nhwc(func(x *expansion, v *graph.Value) *graph.Value { return x.with("MaxPool", x.n.Attrs.Clone(), v) }),
			ops.Case{Name: "bytes", In: []*tensor.Tensor{nibbles(1, 4, 4, 2)}, Attrs: graph.Attrs{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}}),
		composite("NhwcFusedConv", "FusedConv with X, Z and Y channels last", params("X", "W", "B?", "Z?"), params("Y"), conv,
			nhwc(func(x *expansion, v *graph.Value) *graph.Value {
				z := x.in(3)
				if z != nil {
					z = x.transpose(z, 0, 3, 1, 2)
				}
				return x.nodeOf(Domain, "FusedConv", x.n.Attrs.Clone(), 1, v, x.in(1), x.in(2), z)[0]
			}), ops.Case{Name: "relu", In: []*tensor.Tensor{wave(1, 1, 4, 4, 2), wave(2, 3, 2, 3, 3)}, Attrs: graph.Attrs{"activation": "Relu"}}),
		composite("UnfoldTensor", "every window of size elements along dim, step apart; the elements of a window are a new last axis", params("input"), params("output"),
			[]ops.Attr{attr("dim", int64(-1)), attr("size", nil), attr("step", int64(1))}, expandUnfold,
			ops.Case{Name: "middle", In: []*tensor.Tensor{m}, Attrs: graph.Attrs{"dim": int64(2), "size": int64(2)}}),
		composite("GatherND", "ONNX's GatherND", params("data", "indices"), params("output"), sig.NoAttrs,
			func(x *expansion) []*graph.Value {
				return one(x.op("GatherND", x.in(0), x.cast(x.in(1), tensor.Int64)))
			},
			ops.Case{Name: "rows", In: []*tensor.Tensor{wave(1, 3, 2), tensor.Ints(2, 0).Reshaped(2, 1)}}),
		composite("Unique", "ONNX's Unique in order of appearance, without its second output", params("x"), params("y", "idx", "counts"), sig.NoAttrs,
			func(x *expansion) []*graph.Value {
				o := x.node("Unique", graph.Attrs{"sorted": int64(0)}, 4, x.in(0))
				return []*graph.Value{o[0], o[2], o[3]}
			}, ops.Case{Name: "numbers", NOut: 3, In: []*tensor.Tensor{tensor.From([]float32{2, 1, 1, 3, 4, 3}, 6)}}),
		composite("CDist", "the Euclidean distances, or their squares, between the rows of A [M,N] and of B [K,N]: [M,K]", params("A", "B"), params("C"), []ops.Attr{attr("metric", "sqeuclidean")},
			expandCDist, ops.Case{Name: "squares", In: []*tensor.Tensor{wave(1, 3, 4), wave(2, 2, 4)}}),
		composite("GatedAdd", "X + gate * Y", params("X", "Y", "gate", "gate_weight?"), params("output"), []ops.Attr{},
			func(x *expansion) []*graph.Value {
				x.refuse(3)
				return one(x.op("Add", x.in(0), x.op("Mul", x.in(2), x.in(1))))
			}, ops.Case{Name: "rows", In: []*tensor.Tensor{wave(1, 3, 4), wave(2, 3, 4), wave(3, 3, 1)}}),
		composite("MRotaryEmbedding", "RotaryEmbedding with three positions per token, [3,B,S], each of which turns its sections of a head: one behind the other, or every third pair",
			params("input", "position_ids", "cos_cache", "sin_cache"), params("output"),
			[]ops.Attr{attr("interleaved", int64(0)), attr("is_packed_batching", int64(0)), attr("mrope_layout", int64(0)), attr("mrope_section", nil), attr("num_heads", int64(0)), attr("rotary_embedding_dim", int64(0)), attr("scale", float32(1))},
			expandMRotary, ops.Case{Name: "sections", In: []*tensor.Tensor{wave(1, 1, 2, 16), tensor.Ints(0, 1, 2, 3, 4, 5).Reshaped(3, 1, 2), wave(2, 6, 4), wave(3, 6, 4)},
				Attrs: graph.Attrs{"mrope_section": []int64{2, 1, 1}, "num_heads": int64(2), "rotary_embedding_dim": int64(8)}}),
	}
}

func expandUnfold(x *expansion) []*graph.Value {
	r := int64(x.rank(0))
	dim, size, step := x.int("dim", -1), x.int("size", 0), x.int("step", 1)
	if dim < 0 {
		dim += r
	}
	if dim < 0 || dim >= r || size < 1 || step < 1 {
		x.fail("dim=%d, size=%d, step=%d for %s", x.int("dim", -1), size, step, x.in(0).Type)
	}
	// Window i begins at i*step: indices [n,1] + [size].
	end := x.op("Add", x.op("Sub", x.dim(x.in(0), dim), x.ints(size)), x.ints(1))
	starts := x.op("Range", x.scalar(0), x.op("Squeeze", end), x.scalar(step))
	at := x.op("Add", x.unsqueeze(starts, 1), x.unsqueeze(x.upTo(x.ints(size)), 0))
	y := x.with("Gather", graph.Attrs{"axis": dim}, x.in(0), at) // [.., n, size, ..]
	perm := make([]int64, 0, r+1)
	for a := range r + 1 {
		if a != dim+1 {
			perm = append(perm, a)
		}
	}
	return one(x.transpose(y, append(perm, dim+1)...))
}

// expandCDist expands the square, as ONNX Runtime does: a product instead of M*K*N differences.
func expandCDist(x *expansion) []*graph.Value {
	metric := x.n.Attrs.Str("metric", "sqeuclidean")
	if metric != "sqeuclidean" && metric != "euclidean" {
		x.fail("metric=%q, want euclidean or sqeuclidean", metric)
	}
	if x.rank(0) != 2 || x.rank(1) != 2 {
		x.fail("matrices of rank 2 are wanted, not %s and %s", x.in(0).Type, x.in(1).Type)
	}
	a, b := x.in(0), x.in(1)
	square := func(v *graph.Value, keep int64) *graph.Value {
		return x.with("ReduceSumSquare", graph.Attrs{"keepdims": keep}, v, x.ints(1))
	}
	cross := x.op("Mul", x.op("MatMul", a, x.transpose(b, 1, 0)), x.like(a, -2))
	y := x.op("Max", x.op("Add", x.op("Add", square(a, 1), cross), square(b, 0)), x.like(a, 0))
	if metric == "euclidean" {
		y = x.op("Sqrt", y)
	}
	return one(y)
}

func expandMRotary(x *expansion) []*graph.Value {
	x.refuseAttrs(0, "is_packed_batching")
	if s := x.float("scale", 1); s != 1 {
		x.fail("attribute scale=%g is not supported", s)
	}
	sections, layout := x.n.Attrs.Ints("mrope_section"), x.int("mrope_layout", 0)
	if len(sections) != 3 || sections[0] < 0 || sections[1] < 0 || sections[2] < 0 || layout < 0 || layout > 1 || x.rank(1) != 3 {
		x.fail("mrope_section=%v and mrope_layout=%d with position_ids %s: want three lengths, layout 0 or 1 and [3,B,S]", sections, layout, x.in(1).Type)
	}
	half := sections[0] + sections[1] + sections[2]
	if half > math.MaxInt16 {
		x.fail("mrope_section=%v is out of range", sections)
	}
	// Pair j turns by the position of stream stream[j].
	stream := make([]int64, half)
	for j := range stream {
		switch j := int64(j); {
		case layout == 0 && j >= sections[0]+sections[1]:
			stream[j] = 2
		case layout == 0 && j >= sections[0]:
			stream[j] = 1
		case layout == 1 && j%3 != 0 && j < 3*sections[j%3]:
			stream[j] = j % 3
		}
	}
	turn := func(cache *graph.Value) *graph.Value {
		all := x.op("Gather", cache, x.in(1)) // [3,B,S,half]
		var y *graph.Value
		for s := range int64(3) {
			mask := tensor.New(tensor.Bool, int(half))
			for j, of := range stream {
				mask.SetAt(j, map[bool]float64{true: 1}[of == s])
			}
			part := x.op("Gather", all, x.scalar(s))
			if y == nil {
				y = part
			} else {
				y = x.op("Where", x.b.Const(mask), part, y)
			}
		}
		return y
	}
	cos := x.in(2)
	a := graph.Attrs{"interleaved": x.int("interleaved", 0), "rotary_embedding_dim": x.int("rotary_embedding_dim", 0)}
	if x.rank(0) == 3 {
		heads := x.int("num_heads", 0)
		if heads == 0 {
			width, ok := x.in(0).Type.Shape[2].Const()
			if !ok || half == 0 {
				x.fail("num_heads is not given, and %s does not tell it", x.in(0).Type)
			}
			heads = width / (2 * half)
		}
		a["num_heads"] = heads
	}
	return one(x.with("RotaryEmbedding", a, x.in(0), turn(cos), turn(x.in(3))))
}
