package microsoft

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// miscRows: contrib names of what ONNX has under another one, and what ONNX
// Runtime writes in ONNX's own domain.
func miscRows() []*ops.Op {
	m := wave(1, 2, 3, 3)
	rows := []*ops.Op{
		composite("Trilu", "ONNX's Trilu", params("X", "k?"), params("Y"), []ops.Attr{attr("upper", int64(1))},
			func(x *expansion) []*graph.Value {
				return one(x.with("Trilu", graph.Attrs{"upper": x.int("upper", 1)}, x.in(0), x.in(1)))
			}, ops.Case{Name: "upper", In: []*tensor.Tensor{m}}),
		composite("ExpandDims", "X with an axis of length 1 at axis", params("X", "axis"), params("Y"), sig.NoAttrs,
			func(x *expansion) []*graph.Value {
				return one(x.op("Unsqueeze", x.in(0), x.cast(x.reshape(x.in(1), 1), tensor.Int64)))
			}, ops.Case{Name: "in front", In: []*tensor.Tensor{m, tensor.Scalar(int32(0))}}),
		composite("Pad", "ONNX's Pad", params("data", "pads", "value?"), params("output"), []ops.Attr{attr("mode", "constant")},
			func(x *expansion) []*graph.Value {
				value := x.in(2)
				if value != nil {
					value = x.op("Squeeze", value)
				}
				return one(x.with("Pad", graph.Attrs{"mode": x.n.Attrs.Str("mode", "constant")}, x.in(0), x.op("Squeeze", x.in(1), x.padAxis()), value))
			}, ops.Case{Name: "ones", In: []*tensor.Tensor{m, tensor.Ints(0, 1, 0, 1, 0, 0), tensor.From([]float32{1}, 1)}}),
		composite("Range", "ONNX's Range; delta may be left out", params("start", "limit", "delta?"), params("Y"), sig.NoAttrs,
			func(x *expansion) []*graph.Value {
				delta := x.in(2)
				if delta == nil {
					delta = x.like(x.in(0), 1)
				}
				return one(x.op("Range", x.op("Squeeze", x.in(0)), x.op("Squeeze", x.in(1)), x.op("Squeeze", delta)))
			}, ops.Case{Name: "by one", In: []*tensor.Tensor{tensor.Scalar(int64(1)), tensor.Scalar(int64(4))}}),
	}
	rms := composite("SimplifiedLayerNormalization", "RMSNormalization from axis on, as ONNX Runtime wrote it before opset 23",
		params("X", "scale"), params("Y", "inv_std_var?"), []ops.Attr{attr("axis", int64(-1)), attr("epsilon", float32(1e-5)), attr("stash_type", int64(1))},
		func(x *expansion) []*graph.Value {
			return one(x.with("RMSNormalization", graph.Attrs{"axis": x.int("axis", -1), "epsilon": x.float("epsilon", 1e-5), "stash_type": x.int("stash_type", 1)}, x.in(0), x.in(1)))
		}, ops.Case{Name: "last axis", In: []*tensor.Tensor{m, wave(2, 3)}})
	layer := composite("LayerNormalization", "LayerNormalization as ONNX Runtime wrote it before opset 17",
		params("X", "Scale", "B?"), params("Y", "Mean?", "InvStdDev?"), []ops.Attr{attr("axis", int64(-1)), attr("epsilon", float32(1e-5)), attr("stash_type", int64(1))},
		func(x *expansion) []*graph.Value {
			return x.node("LayerNormalization", x.n.Attrs.Clone(), len(x.n.Out), x.n.In...)
		}, ops.Case{Name: "last axis", In: []*tensor.Tensor{m, wave(2, 3), wave(3, 3)}})
	for _, r := range []*ops.Op{rms, layer} {
		r.ID.Domain = ""
		rows = append(rows, r)
	}
	return rows
}

// padAxis lists the axis of pads that may be there: [1,2r] is read as [2r].
func (x *expansion) padAxis() *graph.Value {
	if p := x.in(1); p.Type.Rank() == 2 {
		return x.ints(0)
	}
	return x.ints()
}
