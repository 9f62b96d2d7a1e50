package gorgonia

import (
	"fmt"

	gg "gorgonia.org/gorgonia"
	gt "gorgonia.org/tensor"

	"github.com/ssdc-go/ssdc/backends/gorgonia/dense"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// fromValue gives a value of a machine as an ssdc tensor, without a copy where
// the memory is in row-major order.
func fromValue(v gg.Value) (*tensor.Tensor, error) {
	switch v := v.(type) {
	case nil:
		return nil, fmt.Errorf("no value is bound")
	case gt.Tensor:
		return dense.From(v)
	case gg.Scalar:
		return dense.FromData(v.Data())
	}
	return nil, fmt.Errorf("a %T is not a tensor", v)
}

// toValue gives an ssdc tensor as a value: a tensor on the same memory, or one
// of gorgonia's own scalars.
func toValue(t *tensor.Tensor) (gg.Value, error) {
	if t.Rank() > 0 {
		return dense.To(t)
	}
	switch t.DType {
	case tensor.Float32:
		return gg.NewF32(tensor.Of[float32](t)[0]), nil
	case tensor.Float64:
		return gg.NewF64(tensor.Of[float64](t)[0]), nil
	case tensor.Int32:
		return gg.NewI32(tensor.Of[int32](t)[0]), nil
	case tensor.Int64:
		return gg.NewI64(tensor.Of[int64](t)[0]), nil
	case tensor.Uint8:
		return gg.NewU8(tensor.Of[uint8](t)[0]), nil
	case tensor.Bool:
		return gg.NewB(tensor.Of[bool](t)[0]), nil
	}
	return nil, carried(t.DType)
}
