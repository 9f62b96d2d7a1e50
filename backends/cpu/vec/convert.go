package vec

// BF16ToF32 widens bfloat16 bit patterns; exact.
func BF16ToF32(dst []float32, src []uint16) { bf16ToF32ISA(dst, src[:len(dst)]) }

// F32ToBF16 rounds to nearest, ties to even; NaN stays a (quiet) NaN.
func F32ToBF16(dst []uint16, src []float32) { f32ToBF16ISA(dst, src[:len(dst)]) }

// F16ToF32 widens IEEE half-precision bit patterns; exact.
func F16ToF32(dst []float32, src []uint16) { f16ToF32ISA(dst, src[:len(dst)]) }

// F32ToF16 rounds to nearest, ties to even; overflow gives ±Inf and NaN stays a
// (quiet) NaN.
func F32ToF16(dst []uint16, src []float32) { f32ToF16ISA(dst, src[:len(dst)]) }
