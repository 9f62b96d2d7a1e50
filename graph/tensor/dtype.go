package tensor

import "fmt"

// DType is an element type. The numbers are those of ONNX's
// TensorProto.DataType, so they can be written to files as they are.
type DType uint8

// Element types. Sequence, Optional and Map are not ONNX tensor types: a Tensor
// of such a DType is a container whose members are in Elems.
const (
	Undefined    DType = 0
	Float32      DType = 1
	Uint8        DType = 2
	Int8         DType = 3
	Uint16       DType = 4
	Int16        DType = 5
	Int32        DType = 6
	Int64        DType = 7
	String       DType = 8
	Bool         DType = 9
	Float16      DType = 10
	Float64      DType = 11
	Uint32       DType = 12
	Uint64       DType = 13
	Complex64    DType = 14
	Complex128   DType = 15
	BFloat16     DType = 16
	Float8E4M3   DType = 17 // FLOAT8E4M3FN
	Float8E4M3UZ DType = 18 // FLOAT8E4M3FNUZ
	Float8E5M2   DType = 19
	Float8E5M2UZ DType = 20 // FLOAT8E5M2FNUZ
	Uint4        DType = 21
	Int4         DType = 22
	Float4E2M1   DType = 23
	Float8E8M0   DType = 24
	Uint2        DType = 25
	Int2         DType = 26

	Sequence DType = 100
	Optional DType = 101
	Map      DType = 102
)

type dtypeInfo struct {
	name string
	bits int
}

// Names follow ONNX's textual syntax ("float", "int64", "float16", ...). An
// array, since reference implementations ask for sizes once per element.
var dtypes = [256]dtypeInfo{
	Undefined: {"undefined", 0},
	Float32:   {"float", 32}, Float64: {"double", 64}, Float16: {"float16", 16}, BFloat16: {"bfloat16", 16},
	Uint8: {"uint8", 8}, Uint16: {"uint16", 16}, Uint32: {"uint32", 32}, Uint64: {"uint64", 64},
	Int8: {"int8", 8}, Int16: {"int16", 16}, Int32: {"int32", 32}, Int64: {"int64", 64},
	Bool: {"bool", 8}, String: {"string", 0},
	Complex64: {"complex64", 64}, Complex128: {"complex128", 128},
	Float8E4M3: {"float8e4m3fn", 8}, Float8E4M3UZ: {"float8e4m3fnuz", 8},
	Float8E5M2: {"float8e5m2", 8}, Float8E5M2UZ: {"float8e5m2fnuz", 8}, Float8E8M0: {"float8e8m0", 8},
	Float4E2M1: {"float4e2m1", 4}, Uint4: {"uint4", 4}, Int4: {"int4", 4}, Uint2: {"uint2", 2}, Int2: {"int2", 2},
	Sequence: {"seq", 0}, Optional: {"optional", 0}, Map: {"map", 0},
}

// String returns ONNX's textual name of d: "float", "int64", "bfloat16", ...
func (d DType) String() string {
	if i := dtypes[d]; i.name != "" {
		return i.name
	}
	return fmt.Sprintf("dtype(%d)", uint8(d))
}

// ParseDType is the inverse of String.
func ParseDType(s string) (DType, bool) {
	for d, i := range dtypes {
		if i.name == s && s != "" && DType(d) != Undefined {
			return DType(d), true
		}
	}
	return Undefined, false
}

// Bits is the storage size of one element in bits; 0 for strings and containers.
func (d DType) Bits() int { return dtypes[d].bits }

// Size is the storage size of one element in bytes, for types of whole bytes; otherwise 0.
func (d DType) Size() int { return dtypes[d].bits / 8 }

// Bytes is the number of bytes that n elements take; sub-byte types are
// packed, first element in the low bits, as ONNX stores them.
func (d DType) Bytes(n int) int { return (n*dtypes[d].bits + 7) / 8 }

// IsFloat reports whether d is a real floating-point type of at least 8 bits.
func (d DType) IsFloat() bool {
	switch d {
	case Float32, Float64, Float16, BFloat16, Float8E4M3, Float8E4M3UZ, Float8E5M2, Float8E5M2UZ, Float8E8M0, Float4E2M1:
		return true
	}
	return false
}

// IsInt reports whether d is a signed or unsigned integer type (bool is not).
func (d DType) IsInt() bool { return d.IsSigned() || d.IsUnsigned() }

// IsSigned reports whether d is a signed integer type.
func (d DType) IsSigned() bool {
	return d == Int8 || d == Int16 || d == Int32 || d == Int64 || d == Int4 || d == Int2
}

// IsUnsigned reports whether d is an unsigned integer type.
func (d DType) IsUnsigned() bool {
	return d == Uint8 || d == Uint16 || d == Uint32 || d == Uint64 || d == Uint4 || d == Uint2
}

// IsContainer reports whether d is Sequence, Optional or Map.
func (d DType) IsContainer() bool { return d == Sequence || d == Optional || d == Map }
