package tensor

import "math"

// F16ToF32 widens an IEEE half.
func F16ToF32(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp, man := uint32(h>>10&31), uint32(h&1023)
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 0x7f800000 | man<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
	}
	v := float32(man) * 0x1p-24 // subnormal: exact in float32
	if sign != 0 {
		v = -v
	}
	return v
}

// F32ToF16 rounds to nearest even; overflow gives infinity.
func F32ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13&0x1ff) // quiet NaN, payload kept
	case b >= 0x477ff000: // rounds to 65536 or more
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: subnormal half
		v := math.Float32frombits(b) * 0x1p24
		return sign | uint16(math.RoundToEven(float64(v)))
	}
	b += 0xfff + b>>13&1
	return sign | uint16((b-0x38000000)>>13)
}

// BF16ToF32 widens a bfloat16.
func BF16ToF32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// F32ToBF16 rounds to nearest even.
func F32ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// roundOdd narrows v to float32 with round-to-odd, so that a second rounding
// to a narrower type gives the correctly rounded result.
func roundOdd(v float64) float32 {
	f := float32(v)
	if float64(f) == v || math.IsNaN(v) || math.IsInf(v, 0) {
		return f
	}
	if math.IsInf(float64(f), 0) {
		return math.Float32frombits(math.Float32bits(f) - 1)
	}
	b := math.Float32bits(f)
	if math.Abs(float64(f)) > math.Abs(v) {
		b-- // truncate toward zero
	}
	return math.Float32frombits(b | 1)
}

// smallFormat describes an 8-bit or narrower float format.
type smallFormat struct {
	man, bias  int
	inf, fnuz  bool // inf: has infinities (E5M2); fnuz: one NaN at 0x80, no negative zero
	maxFinite  float64
	width      int
	unsignedE8 bool
}

var smallFormats = map[DType]smallFormat{
	Float8E4M3:   {man: 3, bias: 7, maxFinite: 448, width: 8},
	Float8E4M3UZ: {man: 3, bias: 8, fnuz: true, maxFinite: 240, width: 8},
	Float8E5M2:   {man: 2, bias: 15, inf: true, maxFinite: 57344, width: 8},
	Float8E5M2UZ: {man: 2, bias: 16, fnuz: true, maxFinite: 57344, width: 8},
	Float4E2M1:   {man: 1, bias: 1, maxFinite: 6, width: 4},
	Float8E8M0:   {bias: 127, unsignedE8: true, width: 8},
}

// DecodeSmall widens a float8 or float4 bit pattern.
func DecodeSmall(d DType, b uint8) float32 {
	f := smallFormats[d]
	if f.unsignedE8 {
		if b == 255 {
			return float32(math.NaN())
		}
		return float32(math.Ldexp(1, int(b)-f.bias))
	}
	signBit := uint8(1) << (f.width - 1)
	mag := b &^ signBit
	exp, man := int(mag>>f.man), float64(mag&(1<<f.man-1))
	allOnes := mag == signBit-1
	switch {
	case f.fnuz && b == signBit, f.width == 8 && !f.fnuz && !f.inf && allOnes:
		return float32(math.NaN())
	case f.inf && exp == 31:
		if man != 0 {
			return float32(math.NaN())
		}
		return float32(math.Inf(1 - 2*int(b>>(f.width-1))))
	}
	var v float64
	if exp == 0 {
		v = math.Ldexp(man, 1-f.bias-f.man)
	} else {
		v = math.Ldexp(man+float64(int(1)<<f.man), exp-f.bias-f.man)
	}
	if b&signBit != 0 {
		v = -v
	}
	return float32(v)
}

// EncodeSmall rounds to nearest even and saturates to the largest finite
// value (ONNX Cast with saturate=1); infinities saturate as well.
func EncodeSmall(d DType, x float32) uint8 {
	f := smallFormats[d]
	v := float64(x)
	if f.unsignedE8 {
		switch {
		case math.IsNaN(v):
			return 255
		case v <= 0x1p-127:
			return 0
		}
		_, e := math.Frexp(v) // v = m * 2^e, m in [0.5,1)
		if lo := math.Ldexp(1, e-1); v-lo >= lo/2 {
			e++ // ties up, as ONNX's default round mode for this type
		}
		return uint8(min(e-1+f.bias, 254))
	}
	sign := uint8(0)
	if math.Signbit(v) {
		sign, v = 1<<(f.width-1), -v
	}
	if math.IsNaN(v) {
		switch {
		case f.fnuz:
			return 0x80
		case f.width == 4:
			return 0 // E2M1 has no NaN
		}
		return sign | 0x7f
	}
	v = math.Min(v, f.maxFinite)
	e := max(math.Ilogb(v), 1-f.bias)
	if v == 0 {
		e = 1 - f.bias
	}
	q := math.RoundToEven(math.Ldexp(v, f.man-e)) // in units of the last place
	var mag uint8
	if q >= float64(int(1)<<f.man) {
		mag = uint8(int(q) + (e+f.bias-1)<<f.man)
	} else {
		mag = uint8(q)
	}
	if f.fnuz && mag == 0 {
		return 0
	}
	return sign | mag
}
