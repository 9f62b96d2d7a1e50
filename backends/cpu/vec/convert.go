package vec

// block is a number of elements that every conversion kernel divides into whole
// vectors; what remains goes through a buffer of this size.
const block = 16

// BF16ToF32 widens bfloat16 bit patterns; exact.
func BF16ToF32(dst []float32, src []uint16) { widen(dst, src[:len(dst)], bf16ToF32) }

// F16ToF32 widens IEEE half-precision bit patterns; exact (a signalling NaN
// becomes quiet).
func F16ToF32(dst []float32, src []uint16) { widen(dst, src[:len(dst)], f16ToF32) }

// F32ToBF16 rounds to nearest, ties to even; NaN stays a (quiet) NaN.
func F32ToBF16(dst []uint16, src []float32) { narrow(dst, src[:len(dst)], f32ToBF16) }

// F32ToF16 rounds to nearest, ties to even; overflow gives ±Inf and NaN stays a
// (quiet) NaN.
func F32ToF16(dst []uint16, src []float32) { narrow(dst, src[:len(dst)], f32ToF16) }

type conversion uint8

const (
	bf16ToF32 conversion = iota
	f16ToF32
	f32ToBF16
	f32ToF16
)

func widen(dst []float32, src []uint16, c conversion) {
	n := len(dst) &^ (block - 1)
	widenBlocks(dst[:n], src[:n], c)
	if n < len(dst) {
		var d [block]float32
		var s [block]uint16
		copy(s[:], src[n:])
		widenBlocks(d[:], s[:], c)
		copy(dst[n:], d[:])
	}
}

func widenBlocks(dst []float32, src []uint16, c conversion) {
	if c == bf16ToF32 {
		bf16ToF32ISA(dst, src)
	} else {
		f16ToF32ISA(dst, src)
	}
}

func narrow(dst []uint16, src []float32, c conversion) {
	n := len(dst) &^ (block - 1)
	narrowBlocks(dst[:n], src[:n], c)
	if n < len(dst) {
		var d [block]uint16
		var s [block]float32
		copy(s[:], src[n:])
		narrowBlocks(d[:], s[:], c)
		copy(dst[n:], d[:])
	}
}

func narrowBlocks(dst []uint16, src []float32, c conversion) {
	if c == f32ToBF16 {
		f32ToBF16ISA(dst, src)
	} else {
		f32ToF16ISA(dst, src)
	}
}
