// Package dense carries tensors between gorgonia.org/tensor and ssdc.
//
// Both keep dense arrays in row-major order, so that a tensor mostly changes
// hands without a copy: the result shares the memory of the argument.
package dense

import (
	"fmt"
	"unsafe"

	gt "gorgonia.org/tensor"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// dtypes pairs the element types that both sides have.
var dtypes = []struct {
	ssdc tensor.DType
	gorg gt.Dtype
}{
	{tensor.Float32, gt.Float32}, {tensor.Float64, gt.Float64},
	{tensor.Int8, gt.Int8}, {tensor.Int16, gt.Int16}, {tensor.Int32, gt.Int32}, {tensor.Int64, gt.Int64},
	{tensor.Uint8, gt.Uint8}, {tensor.Uint16, gt.Uint16}, {tensor.Uint32, gt.Uint32}, {tensor.Uint64, gt.Uint64},
	{tensor.Bool, gt.Bool}, {tensor.Complex64, gt.Complex64}, {tensor.Complex128, gt.Complex128},
}

// DtypeOf is the gorgonia element type of an ssdc one; it fails for those that
// gorgonia lacks: float16, bfloat16, float8, packed integers, containers.
func DtypeOf(d tensor.DType) (gt.Dtype, error) {
	for _, p := range dtypes {
		if p.ssdc == d {
			return p.gorg, nil
		}
	}
	return gt.Dtype{}, fmt.Errorf("gorgonia has no %s tensors", d)
}

// DTypeOf is the ssdc element type of a gorgonia one. Go's int is int64.
func DTypeOf(d gt.Dtype) (tensor.DType, error) {
	for _, p := range dtypes {
		if p.gorg == d {
			return p.ssdc, nil
		}
	}
	if d == gt.Int && unsafe.Sizeof(int(0)) == 8 {
		return tensor.Int64, nil
	}
	return tensor.Undefined, fmt.Errorf("ssdc has no tensors of %v", d)
}

// To gives t, which must have elements, as a gorgonia tensor on the same memory.
func To(t *tensor.Tensor) (*gt.Dense, error) {
	if _, err := DtypeOf(t.DType); err != nil {
		return nil, err
	}
	if t.Len() == 0 {
		return nil, fmt.Errorf("%s: gorgonia has no tensors without elements", t.TypeString())
	}
	if t.Rank() == 0 {
		return gt.New(gt.FromScalar(scalar(t))), nil
	}
	return gt.New(gt.WithShape(t.Shape...), gt.WithBacking(elements(t))), nil
}

// scalar is the one element of t as a Go value.
func scalar(t *tensor.Tensor) any {
	switch t.DType {
	case tensor.Float32:
		return tensor.Of[float32](t)[0]
	case tensor.Float64:
		return tensor.Of[float64](t)[0]
	case tensor.Int8:
		return tensor.Of[int8](t)[0]
	case tensor.Int16:
		return tensor.Of[int16](t)[0]
	case tensor.Int32:
		return tensor.Of[int32](t)[0]
	case tensor.Int64:
		return tensor.Of[int64](t)[0]
	case tensor.Uint8:
		return tensor.Of[uint8](t)[0]
	case tensor.Uint16:
		return tensor.Of[uint16](t)[0]
	case tensor.Uint32:
		return tensor.Of[uint32](t)[0]
	case tensor.Uint64:
		return tensor.Of[uint64](t)[0]
	case tensor.Bool:
		return tensor.Of[bool](t)[0]
	case tensor.Complex64:
		return tensor.Of[complex64](t)[0]
	}
	return tensor.Of[complex128](t)[0]
}

// elements is the memory of t as a slice of its Go type.
func elements(t *tensor.Tensor) any {
	switch t.DType {
	case tensor.Float32:
		return tensor.Of[float32](t)
	case tensor.Float64:
		return tensor.Of[float64](t)
	case tensor.Int8:
		return tensor.Of[int8](t)
	case tensor.Int16:
		return tensor.Of[int16](t)
	case tensor.Int32:
		return tensor.Of[int32](t)
	case tensor.Int64:
		return tensor.Of[int64](t)
	case tensor.Uint8:
		return tensor.Of[uint8](t)
	case tensor.Uint16:
		return tensor.Of[uint16](t)
	case tensor.Uint32:
		return tensor.Of[uint32](t)
	case tensor.Uint64:
		return tensor.Of[uint64](t)
	case tensor.Bool:
		return tensor.Of[bool](t)
	case tensor.Complex64:
		return tensor.Of[complex64](t)
	}
	return tensor.Of[complex128](t)
}

// From gives a gorgonia tensor as an ssdc one: on the same memory when that is
// row-major without gaps, otherwise (a slice, a lazy transposition) as a copy.
func From(t gt.Tensor) (*tensor.Tensor, error) {
	d, ok := t.(*gt.Dense)
	if !ok {
		return nil, fmt.Errorf("a %T is not dense: densify it first", t)
	}
	if _, err := DTypeOf(d.Dtype()); err != nil {
		return nil, err
	}
	if d.IsMasked() {
		return nil, fmt.Errorf("ssdc has no masked tensors: fill the mask first")
	}
	if !d.IsNativelyAccessible() {
		return nil, fmt.Errorf("the tensor is not in the memory of the host")
	}
	shape := []int(d.Shape().Clone())
	if d.Shape().IsScalar() {
		shape = []int{}
	} else if d.RequiresIterator() || !d.DataOrder().IsRowMajor() || d.DataOrder().IsTransposed() {
		d = rowMajor(d)
	}
	out, err := FromData(d.Data(), shape...)
	if err == nil && len(out.Data) != out.DType.Bytes(out.Len()) {
		err = fmt.Errorf("tensor of shape %v holds %d bytes", shape, len(out.Data))
	}
	return out, err
}

// rowMajor copies d element by element.
func rowMajor(d *gt.Dense) *gt.Dense {
	out := gt.New(gt.WithShape(d.Shape().Clone()...), gt.Of(d.Dtype()))
	it := d.Iterator()
	for i := 0; ; i++ {
		at, err := it.Next()
		if err != nil {
			return out
		}
		out.Set(i, d.Get(at))
	}
}

// FromData gives a Go slice, or a single Go number, as a tensor; a slice keeps
// its memory.
func FromData(data any, shape ...int) (*tensor.Tensor, error) {
	switch v := data.(type) {
	case []float32:
		return view(v, shape), nil
	case []float64:
		return view(v, shape), nil
	case []int8:
		return view(v, shape), nil
	case []int16:
		return view(v, shape), nil
	case []int32:
		return view(v, shape), nil
	case []int64:
		return view(v, shape), nil
	case []int:
		return view(unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(v))), len(v)), shape), nil
	case []uint8:
		return view(v, shape), nil
	case []uint16:
		return view(v, shape), nil
	case []uint32:
		return view(v, shape), nil
	case []uint64:
		return view(v, shape), nil
	case []bool:
		return view(v, shape), nil
	case []complex64:
		return view(v, shape), nil
	case []complex128:
		return view(v, shape), nil
	case float32:
		return view([]float32{v}, shape), nil
	case float64:
		return view([]float64{v}, shape), nil
	case int8:
		return view([]int8{v}, shape), nil
	case int16:
		return view([]int16{v}, shape), nil
	case int32:
		return view([]int32{v}, shape), nil
	case int64:
		return view([]int64{v}, shape), nil
	case int:
		return view([]int64{int64(v)}, shape), nil
	case uint8:
		return view([]uint8{v}, shape), nil
	case uint16:
		return view([]uint16{v}, shape), nil
	case uint32:
		return view([]uint32{v}, shape), nil
	case uint64:
		return view([]uint64{v}, shape), nil
	case bool:
		return view([]bool{v}, shape), nil
	case complex64:
		return view([]complex64{v}, shape), nil
	case complex128:
		return view([]complex128{v}, shape), nil
	}
	return nil, fmt.Errorf("ssdc has no tensors of %T", data)
}

func view[T tensor.Element](v []T, shape []int) *tensor.Tensor {
	return &tensor.Tensor{DType: tensor.DTypeOf[T](), Shape: append([]int{}, shape...), Data: tensor.Bytes(v)}
}
