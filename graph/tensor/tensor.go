// Package tensor holds host tensors: dense, row-major, little-endian arrays of
// ONNX element types, and their reading and writing as .npy and .npz files.
//
// Float16, BFloat16 and smaller types are stored as their bit patterns; At and
// SetAt convert. A Tensor may view memory that it does not own (a mapped file,
// an arena slot), so treat inputs as read-only unless you made them.
package tensor

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/ssdc-go/ssdc/internal/memory"
)

// Tensor is a dense array, or, for the container dtypes, a list of tensors.
type Tensor struct {
	DType DType
	Shape []int
	// Data holds DType.Bytes(Len()) bytes, aligned to at least 8 bytes. Nil for strings and containers.
	Data []byte
	// Strings holds the elements of a String tensor.
	Strings []string
	// Elems holds the members of a Sequence, the zero or one member of an Optional,
	// or the keys and the values of a Map (see NewMap).
	Elems []*Tensor
}

// Element lists the Go types that view tensor memory directly.
type Element interface {
	~float32 | ~float64 | ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~bool | ~complex64 | ~complex128
}

// New makes a zeroed tensor (64-byte aligned). Container dtypes start empty.
func New(d DType, shape ...int) *Tensor {
	Room(d, shape...)
	t := &Tensor{DType: d, Shape: append([]int{}, shape...)}
	n := t.Len()
	switch {
	case d == String:
		t.Strings = make([]string, n)
	case d.IsContainer():
	default:
		t.Data = AlignedBytes(d.Bytes(n))
	}
	return t
}

// TooLarge is what AlignedBytes panics with. Operators are evaluated, and
// kernels run, where that becomes an error of their node.
type TooLarge struct{ Bytes int } // below zero: more than an int counts

func (e *TooLarge) Error() string {
	most, of := memory.Limit()
	if e.Bytes < 0 {
		return fmt.Sprintf("a tensor of 2^63 bytes or more is more than the memory of %s, %d", of, most)
	}
	return fmt.Sprintf("a tensor of %d bytes is more than the memory of %s, %d", e.Bytes, of, most)
}

// Room panics as New does when a tensor is more than the process can have.
func Room(d DType, shape ...int) {
	if slices.Contains(shape, 0) {
		return
	}
	n := 1
	for _, k := range shape {
		if k > 0 && n > math.MaxInt/128/k { // of no more than 128 bits each
			panic(&TooLarge{-1})
		}
		n *= k
	}
	bytes := d.Bytes(n)
	if d == String {
		bytes = 16 * n
	}
	if most, _ := memory.Limit(); int64(bytes) > most {
		panic(&TooLarge{bytes})
	}
}

// AlignedBytes allocates n zero bytes that start on a 64-byte boundary. It panics
// when the process can have less: a broken model must not end the process, as
// running out of memory does.
func AlignedBytes(n int) []byte {
	if most, _ := memory.Limit(); int64(n) > most {
		panic(&TooLarge{n})
	}
	b := make([]byte, n+63)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & 63)
	return b[off : off+n : off+n]
}

// From makes a tensor that copies v. len(v) must equal the product of shape.
func From[T Element](v []T, shape ...int) *Tensor {
	t := New(DTypeOf[T](), shape...)
	if t.Len() != len(v) {
		panic(fmt.Sprintf("tensor.From: %d values for shape %v", len(v), shape))
	}
	copy(Of[T](t), v)
	return t
}

// Scalar makes a tensor of rank 0.
func Scalar[T Element](v T) *Tensor { return From([]T{v}) }

// Ints makes an int64 vector.
func Ints(v ...int64) *Tensor { return From(v, len(v)) }

// FromStrings makes a string tensor that copies v.
func FromStrings(v []string, shape ...int) *Tensor {
	t := New(String, shape...)
	copy(t.Strings, v)
	return t
}

// Seq makes a sequence.
func Seq(elems ...*Tensor) *Tensor { return &Tensor{DType: Sequence, Elems: elems} }

// DTypeOf is the DType whose elements are stored as T.
func DTypeOf[T Element]() DType {
	var z T
	switch any(z).(type) {
	case float32:
		return Float32
	case float64:
		return Float64
	case int8:
		return Int8
	case int16:
		return Int16
	case int32:
		return Int32
	case int64:
		return Int64
	case uint8:
		return Uint8
	case uint16:
		return Uint16
	case uint32:
		return Uint32
	case uint64:
		return Uint64
	case bool:
		return Bool
	case complex64:
		return Complex64
	case complex128:
		return Complex128
	}
	return Undefined
}

// Of views t's memory as a slice of T. The size of T must be the element size
// of t's dtype (uint16 for Float16 and BFloat16, uint8 for float8 kinds);
// anything else is a programming error and panics.
func Of[T Element](t *Tensor) []T {
	var z T
	if int(unsafe.Sizeof(z)) != t.DType.Size() {
		panic(fmt.Sprintf("tensor.Of[%T] of a %v tensor", z, t.DType))
	}
	if len(t.Data) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(t.Data))), len(t.Data)/int(unsafe.Sizeof(z)))
}

// Bytes views v as bytes, without copying.
func Bytes[T Element](v []T) []byte {
	if len(v) == 0 {
		return nil
	}
	var z T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(z)))
}

// Len is the number of elements.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Rank is the number of axes.
func (t *Tensor) Rank() int { return len(t.Shape) }

// Reshaped returns a tensor of another shape on the same memory.
func (t *Tensor) Reshaped(shape ...int) *Tensor {
	c := *t
	c.Shape = append([]int{}, shape...)
	return &c
}

// Clone copies t and its memory.
func (t *Tensor) Clone() *Tensor {
	c := New(t.DType, t.Shape...)
	copy(c.Data, t.Data)
	copy(c.Strings, t.Strings)
	for _, e := range t.Elems {
		c.Elems = append(c.Elems, e.Clone())
	}
	return c
}

// TypeString is a short description for messages: float[2,3].
func (t *Tensor) TypeString() string {
	if t.DType == Map && len(t.Elems) == 2 {
		return fmt.Sprintf("map(%s,%s)", t.Elems[0].TypeString(), t.Elems[1].TypeString())
	}
	if t.DType.IsContainer() {
		return fmt.Sprintf("%v(%d)", t.DType, len(t.Elems))
	}
	s := t.DType.String() + "["
	for i, d := range t.Shape {
		if i > 0 {
			s += ","
		}
		s += fmt.Sprint(d)
	}
	return s + "]"
}

// At returns element i (row-major) of a real, integer or bool tensor as float64.
func (t *Tensor) At(i int) float64 {
	switch t.DType {
	case Float32:
		return float64(Of[float32](t)[i])
	case Float64:
		return Of[float64](t)[i]
	case Float16:
		return float64(F16ToF32(Of[uint16](t)[i]))
	case BFloat16:
		return float64(BF16ToF32(Of[uint16](t)[i]))
	case Uint64:
		return float64(Of[uint64](t)[i])
	case Float8E4M3, Float8E4M3UZ, Float8E5M2, Float8E5M2UZ, Float8E8M0, Float4E2M1:
		return float64(DecodeSmall(t.DType, t.bits(i)))
	}
	return float64(t.IntAt(i))
}

// SetAt stores v, converted to the dtype of t (round to nearest even for
// floats, truncation for integers, v != 0 for bool).
func (t *Tensor) SetAt(i int, v float64) {
	switch t.DType {
	case Float32:
		Of[float32](t)[i] = float32(v)
	case Float64:
		Of[float64](t)[i] = v
	case Float16:
		Of[uint16](t)[i] = F32ToF16(roundOdd(v))
	case BFloat16:
		Of[uint16](t)[i] = F32ToBF16(roundOdd(v))
	case Bool:
		Of[bool](t)[i] = v != 0
	case Uint64:
		if v >= math.MaxInt64 {
			Of[uint64](t)[i] = uint64(v)
			return
		}
		Of[uint64](t)[i] = uint64(int64(v))
	case Float8E4M3, Float8E4M3UZ, Float8E5M2, Float8E5M2UZ, Float8E8M0, Float4E2M1:
		t.setBits(i, EncodeSmall(t.DType, roundOdd(v)))
	default:
		t.SetIntAt(i, int64(v))
	}
}

// IntAt returns element i of an integer or bool tensor as int64; floats are truncated.
func (t *Tensor) IntAt(i int) int64 {
	switch t.DType {
	case Int64, Uint64:
		return Of[int64](t)[i]
	case Int32:
		return int64(Of[int32](t)[i])
	case Uint32:
		return int64(Of[uint32](t)[i])
	case Int16:
		return int64(Of[int16](t)[i])
	case Uint16:
		return int64(Of[uint16](t)[i])
	case Int8:
		return int64(Of[int8](t)[i])
	case Uint8:
		return int64(Of[uint8](t)[i])
	case Bool:
		if Of[bool](t)[i] {
			return 1
		}
		return 0
	case Uint4, Uint2:
		return int64(t.bits(i))
	case Int4, Int2:
		sh := 8 - t.DType.Bits()
		return int64(int8(t.bits(i)<<sh) >> sh)
	}
	if !t.DType.IsFloat() {
		panic("tensor: no numbers in a " + t.DType.String() + " tensor")
	}
	return int64(t.At(i))
}

// SetIntAt stores v in an integer or bool tensor (wrapping), or converts it to a float one.
func (t *Tensor) SetIntAt(i int, v int64) {
	switch t.DType {
	case Int64, Uint64:
		Of[int64](t)[i] = v
	case Int32, Uint32:
		Of[int32](t)[i] = int32(v)
	case Int16, Uint16:
		Of[int16](t)[i] = int16(v)
	case Int8, Uint8:
		Of[int8](t)[i] = int8(v)
	case Bool:
		Of[bool](t)[i] = v != 0
	case Uint4, Int4, Uint2, Int2:
		t.setBits(i, uint8(v))
	default:
		if !t.DType.IsFloat() {
			panic("tensor: no numbers in a " + t.DType.String() + " tensor")
		}
		t.SetAt(i, float64(v))
	}
}

// AsInts returns the elements of an integer tensor.
func (t *Tensor) AsInts() []int64 {
	out := make([]int64, t.Len())
	for i := range out {
		out[i] = t.IntAt(i)
	}
	return out
}

// AsFloats returns the elements of a real or integer tensor as float64.
func (t *Tensor) AsFloats() []float64 {
	out := make([]float64, t.Len())
	for i := range out {
		out[i] = t.At(i)
	}
	return out
}

// bits reads the bit pattern of a sub-byte or 8-bit element.
func (t *Tensor) bits(i int) uint8 {
	b := t.DType.Bits()
	pos := i * b
	return t.Data[pos/8] >> (pos % 8) & uint8(1<<b-1)
}

func (t *Tensor) setBits(i int, v uint8) {
	b := t.DType.Bits()
	pos, mask := i*b, uint8(1<<b-1)
	t.Data[pos/8] = t.Data[pos/8]&^(mask<<(pos%8)) | (v&mask)<<(pos%8)
}
