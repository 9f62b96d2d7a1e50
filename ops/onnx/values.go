package onnx

import (
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// floatsOf returns the elements of a real, integer or bool tensor as float64.
// For Float64 it is the tensor's own memory: treat the result as read-only.
func floatsOf(t *tensor.Tensor) []float64 {
	switch t.DType {
	case tensor.Float64:
		return tensor.Of[float64](t)
	case tensor.Float32:
		return widen[float32, float64](t)
	case tensor.Int32:
		return widen[int32, float64](t)
	case tensor.Uint8:
		return widen[uint8, float64](t)
	case tensor.Int8:
		return widen[int8, float64](t)
	}
	out := make([]float64, t.Len())
	for i := range out {
		out[i] = t.At(i)
	}
	return out
}

// intsOf returns the elements of an integer or bool tensor; a Uint64's bits are
// reinterpreted. For Int64 it is the tensor's own memory.
func intsOf(t *tensor.Tensor) []int64 {
	switch t.DType {
	case tensor.Int64, tensor.Uint64:
		return tensor.Of[int64](t)
	case tensor.Int32:
		return widen[int32, int64](t)
	}
	out := make([]int64, t.Len())
	for i := range out {
		out[i] = t.IntAt(i)
	}
	return out
}

type number interface {
	~float32 | ~float64 | ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

func widen[S, D number](t *tensor.Tensor) []D {
	src := tensor.Of[S](t)
	out := make([]D, len(src))
	for i, v := range src {
		out[i] = D(v)
	}
	return out
}

// fromFloats makes a tensor of dtype d, rounding v once.
func fromFloats(d tensor.DType, v []float64, shape ...int) *tensor.Tensor {
	t := tensor.New(d, shape...)
	storeFloats(t, v)
	return t
}

func storeFloats(t *tensor.Tensor, v []float64) {
	switch t.DType {
	case tensor.Float64:
		copy(tensor.Of[float64](t), v)
	case tensor.Float32:
		for i, o := 0, tensor.Of[float32](t); i < len(o); i++ {
			o[i] = float32(v[i])
		}
	default:
		for i := range v {
			t.SetAt(i, v[i])
		}
	}
}

// fromInts makes an integer tensor of dtype d; values wrap.
func fromInts(d tensor.DType, v []int64, shape ...int) *tensor.Tensor {
	t := tensor.New(d, shape...)
	if d == tensor.Int64 || d == tensor.Uint64 {
		copy(tensor.Of[int64](t), v)
		return t
	}
	for i, x := range v {
		t.SetIntAt(i, x)
	}
	return t
}

// roundTo rounds v to the precision of dtype d.
func roundTo(d tensor.DType, v float64) float64 {
	switch d {
	case tensor.Float64:
		return v
	case tensor.Float32:
		return float64(float32(v))
	}
	t := tensor.New(d, 1)
	t.SetAt(0, v)
	return t.At(0)
}

// one wraps a single result.
func one(t *tensor.Tensor) []*tensor.Tensor { return []*tensor.Tensor{t} }
