package onnx

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// clipRows: the bounds were attributes up to version 6 and are scalar inputs since 11.
func clipRows() []*ops.Op {
	in := tensor.From([]float32{-2, 0.5, 3}, 3)
	want3 := one(tensor.From([]float32{-1, 0.5, 1}, 3))
	rows := unary{name: "Clip", doc: "min(max(x, min), max), bounds as attributes", since: []int{6}, types: floatTypes,
		attrs: []ops.Attr{attr("min", float32(-math.MaxFloat32)), attr("max", float32(math.MaxFloat32))},
		f: func(a graph.Attrs) func(float64) float64 {
			lo, hi := math.Inf(-1), math.Inf(1)
			if a.Has("min") {
				lo = float64(a.Float("min", 0))
			}
			if a.Has("max") {
				hi = float64(a.Float("max", 0))
			}
			return func(x float64) float64 { return math.Min(math.Max(x, lo), hi) }
		},
		cases: []ops.Case{{Name: "both", Attrs: graph.Attrs{"min": float32(-1), "max": float32(1)}, In: one(in), Want: want3}},
	}.rows()
	return append(rows, versions("Clip", []int{11, 12, 13}, ops.Op{
		Doc: "min(max(x, min), max); min and max are scalars and optional; max wins when min > max",
		In:  params("input", "min?", "max?"), Out: params("output"), Attrs: noAttrs, Traits: ops.Elementwise,
		Infer: func(c *ops.Infer) error {
			if err := same(c, numberTypes, 0, 1, 2); err != nil {
				return err
			}
			c.OutKnown(0, c.Type(0), clipKnown(c))
			return nil
		},
		Eval: evalClip,
		Cases: []ops.Case{
			{Name: "both", In: []*tensor.Tensor{in, tensor.Scalar(float32(-1)), tensor.Scalar(float32(1))}, Want: want3},
			{Name: "max only", In: []*tensor.Tensor{in, nil, tensor.Scalar(float32(1))}, Want: one(tensor.From([]float32{-2, 0.5, 1}, 3))}},
	})...)
}

func clipKnown(c *ops.Infer) []graph.Dim {
	in, ok := c.Known(0)
	if !ok {
		return nil
	}
	out := append([]graph.Dim{}, in...)
	for i := 1; i <= 2; i++ {
		if !c.Has(i) {
			continue
		}
		b, ok := c.Known(i)
		if !ok || len(b) != 1 {
			return nil
		}
		for j := range out {
			if i == 1 {
				out[j] = out[j].Max(b[0])
			} else {
				out[j] = out[j].Min(b[0])
			}
		}
	}
	return out
}

func evalClip(c *ops.Call) ([]*tensor.Tensor, error) {
	x, lo, hi := c.In[0], c.Arg(1), c.Arg(2)
	out := tensor.New(x.DType, x.Shape...)
	switch {
	case x.DType.IsFloat():
		l, h := math.Inf(-1), math.Inf(1)
		if lo != nil {
			l = lo.At(0)
		}
		if hi != nil {
			h = hi.At(0)
		}
		mapFloats(out, x, func(v float64) float64 { return math.Min(math.Max(v, l), h) })
	case x.DType == tensor.Uint64:
		l, h := uint64(0), uint64(math.MaxUint64)
		if lo != nil {
			l = tensor.Of[uint64](lo)[0]
		}
		if hi != nil {
			h = tensor.Of[uint64](hi)[0]
		}
		o := tensor.Of[uint64](out)
		for i, v := range tensor.Of[uint64](x) {
			o[i] = min(max(v, l), h)
		}
	default:
		l, h := int64(math.MinInt64), int64(math.MaxInt64)
		if lo != nil {
			l = lo.IntAt(0)
		}
		if hi != nil {
			h = hi.IntAt(0)
		}
		for i := range x.Len() {
			out.SetIntAt(i, min(max(x.IntAt(i), l), h))
		}
	}
	return one(out), nil
}
