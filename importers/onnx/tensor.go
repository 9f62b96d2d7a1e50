package onnx

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// DecodeTensor turns a TensorProto whose data is in the message into a tensor.
func DecodeTensor(p *proto.TensorProto) (*tensor.Tensor, error) { return decodeTensor(p, nil) }

func decodeTensor(p *proto.TensorProto, ext *external) (*tensor.Tensor, error) {
	t, err := decode(p, ext)
	if err != nil {
		if _, ok := err.(*UnsupportedError); ok {
			return nil, err
		}
		return nil, fmt.Errorf("tensor %q: %w", p.GetName(), err)
	}
	return t, nil
}

func decode(p *proto.TensorProto, ext *external) (*tensor.Tensor, error) {
	if p == nil {
		return nil, fmt.Errorf("the value is missing")
	}
	d, err := dtype(p.DataType)
	if err != nil {
		return nil, err
	}
	if p.Segment != nil {
		return nil, fmt.Errorf("is stored in segments, which no exporter writes; save the model again")
	}
	shape, n, err := shapeOf(p.Dims)
	if err != nil {
		return nil, err
	}
	t := &tensor.Tensor{DType: d, Shape: shape}
	if d == tensor.String {
		if len(p.StringData) != n || p.DataLocation == proto.TensorProto_EXTERNAL {
			return nil, fmt.Errorf("%s has %d elements", t.TypeString(), len(p.StringData))
		}
		t.Strings = make([]string, n)
		for i, s := range p.StringData {
			t.Strings[i] = string(s)
		}
		return t, nil
	}
	want := d.Bytes(n)
	switch {
	case p.DataLocation == proto.TensorProto_EXTERNAL:
		if ext == nil {
			return nil, fmt.Errorf("its data is in another file")
		}
		if t.Data, err = ext.bytes(p, int64(want)); err != nil {
			return nil, err
		}
	case len(p.RawData) > 0 || n == 0:
		if len(p.RawData) != want {
			return nil, fmt.Errorf("%s needs %d bytes, raw_data has %d", t.TypeString(), want, len(p.RawData))
		}
		t.Data = p.RawData
		if uintptr(unsafe.Pointer(unsafe.SliceData(t.Data)))%8 != 0 || n == 0 {
			t.Data = tensor.AlignedBytes(want)
			copy(t.Data, p.RawData)
		}
	default:
		if t.Data, err = typedData(p, d, n); err != nil {
			return nil, fmt.Errorf("%s %w", t.TypeString(), err)
		}
	}
	if d == tensor.Bool {
		t.Data = cleanBools(t.Data)
	}
	return t, nil
}

// tensor decodes a tensor of the model, once.
func (im *importer) tensor(p *proto.TensorProto) (*tensor.Tensor, error) {
	if t := im.tensors[p]; t != nil {
		return t, nil
	}
	t, err := decodeTensor(p, im.ext)
	if err == nil {
		im.tensors[p] = t
	}
	return t, err
}

// sparse makes a sparse tensor of the model dense. All of them together are
// bounded, because a few bytes of file can stand for any size.
func (im *importer) sparse(p *proto.SparseTensorProto) (*tensor.Tensor, error) {
	t, err := decodeSparse(p, im.ext)
	if err != nil {
		return nil, err
	}
	if im.dense += int64(len(t.Data)); im.dense > maxSparse {
		return nil, fmt.Errorf("sparse tensors take more than %d bytes when made dense", maxSparse)
	}
	return t, nil
}

// dtype checks an element type of the file.
func dtype(n int32) (tensor.DType, error) {
	if n <= 0 || n >= int32(tensor.Sequence) || tensor.DType(n) != tensor.String && tensor.DType(n).Bits() == 0 {
		if n == int32(tensor.Undefined) {
			return 0, fmt.Errorf("has no element type")
		}
		return 0, &UnsupportedError{What: fmt.Sprintf("element type %d of TensorProto.DataType", n)}
	}
	return tensor.DType(n), nil
}

// shapeOf checks lengths and multiplies them, refusing what cannot be memory.
func shapeOf(dims []int64) ([]int, int, error) {
	shape, n, zero := make([]int, len(dims)), uint64(1), false
	for i, d := range dims {
		if d < 0 || d > 1<<47 {
			return nil, 0, fmt.Errorf("length %d of axis %d is out of range", d, i)
		}
		shape[i] = int(d)
		if d == 0 {
			zero = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > 1<<47 {
			return nil, 0, fmt.Errorf("shape %v is too large", dims)
		}
		n = lo
	}
	if zero {
		n = 0
	}
	return shape, int(n), nil
}

// typedData reads the fields that hold one element (or, below a byte, one
// packed byte) per entry.
func typedData(p *proto.TensorProto, d tensor.DType, n int) ([]byte, error) {
	per := func(have, want int) error {
		if have != want {
			return fmt.Errorf("has %d values, want %d", have, want)
		}
		return nil
	}
	switch d {
	case tensor.Float32, tensor.Complex64:
		return copied(p.FloatData), per(len(p.FloatData), d.Bytes(n)/4)
	case tensor.Float64, tensor.Complex128:
		return copied(p.DoubleData), per(len(p.DoubleData), d.Bytes(n)/8)
	case tensor.Int64:
		return copied(p.Int64Data), per(len(p.Int64Data), n)
	case tensor.Int32:
		return copied(p.Int32Data), per(len(p.Int32Data), n)
	case tensor.Uint64:
		return copied(p.Uint64Data), per(len(p.Uint64Data), n)
	case tensor.Uint32:
		return narrowed[uint32](p.Uint64Data), per(len(p.Uint64Data), n)
	case tensor.Int16, tensor.Uint16, tensor.Float16, tensor.BFloat16:
		return narrowed[uint16](p.Int32Data), per(len(p.Int32Data), n)
	}
	return narrowed[uint8](p.Int32Data), per(len(p.Int32Data), d.Bytes(n))
}

func copied[T tensor.Element](v []T) []byte {
	b := tensor.AlignedBytes(len(v) * int(unsafe.Sizeof(*new(T))))
	copy(b, tensor.Bytes(v))
	return b
}

func narrowed[T uint8 | uint16 | uint32, S int32 | uint64](v []S) []byte {
	w := make([]T, len(v))
	for i, x := range v {
		w[i] = T(x)
	}
	return copied(w)
}

// cleanBools makes every byte 0 or 1, as Go's bool needs.
func cleanBools(b []byte) []byte {
	for i, x := range b {
		if x > 1 {
			c := tensor.AlignedBytes(len(b))
			for j, y := range b[i:] {
				c[i+j] = min(y, 1)
			}
			copy(c, b[:i])
			return c
		}
	}
	return b
}

// decodeSparse makes a sparse tensor dense. Indices are linear ([NNZ]) or one
// row of coordinates per value ([NNZ,rank]).
func decodeSparse(p *proto.SparseTensorProto, ext *external) (*tensor.Tensor, error) {
	if p == nil {
		return nil, fmt.Errorf("sparse tensor without a value")
	}
	name := p.GetValues().GetName()
	vals, err := decodeTensor(p.Values, ext)
	if err != nil {
		return nil, err
	}
	idx, err := decodeTensor(p.Indices, ext)
	if err != nil {
		return nil, err
	}
	shape, n, err := shapeOf(p.Dims)
	if err != nil {
		return nil, fmt.Errorf("sparse tensor %q: %w", name, err)
	}
	nnz, rank := vals.Len(), len(shape)
	linear := idx.Rank() == 1
	if vals.Rank() != 1 || vals.DType.Size() == 0 || idx.DType != tensor.Int64 || !linear && (idx.Rank() != 2 || idx.Shape[1] != rank) || idx.Shape[0] != nnz {
		return nil, fmt.Errorf("sparse tensor %q of rank %d: values %s and indices %s do not fit", name, rank, vals.TypeString(), idx.TypeString())
	}
	size := vals.DType.Size()
	if n > maxSparse/size {
		return nil, fmt.Errorf("sparse tensor %q: %v is too large to make dense", name, p.Dims)
	}
	t := tensor.New(vals.DType, shape...)
	at := tensor.Of[int64](idx)
	for i := range nnz {
		pos := int64(0)
		if linear {
			pos = at[i]
		} else {
			for a, d := range shape {
				c := at[i*rank+a]
				if c < 0 || c >= int64(d) {
					return nil, fmt.Errorf("sparse tensor %q: index %d of axis %d is outside %v", name, c, a, p.Dims)
				}
				pos = pos*int64(d) + c
			}
		}
		if pos < 0 || pos >= int64(n) {
			return nil, fmt.Errorf("sparse tensor %q: index %d is outside %v", name, pos, p.Dims)
		}
		copy(t.Data[int(pos)*size:], vals.Data[i*size:(i+1)*size])
	}
	return t, nil
}
