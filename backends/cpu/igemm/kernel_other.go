//go:build !amd64 || purego

package igemm

const missing = "igemm: no such instructions"

// Current is the set of this processor.
func Current() *Kernels { return &portableKernels }

func fast() bool { return false }

func interleave(dst, src *uint8, taps *int32, quads int) { panic(missing) }

func requantizeAVX512(dst *uint8, acc *int32, n int, add int32, scale, lo, hi float32, zero int32) {
	panic(missing)
}

func requantizeRowsAVX512(dst *uint8, ldd int, acc *int32, rows int, add *int32, scales *float32, lo, hi float32, zero int32) {
	panic(missing)
}

func floatsAVX512(dst *float32, src *int32, n int) { panic(missing) }

func subtractRowsAVX512(c *int32, ldc, rows int, less *int32) { panic(missing) }

func requantizeSumsAVX512(dst *uint8, acc *float32, n int, add, scale, lo, hi float32, zero int32) {
	panic(missing)
}

func requantizeColumnsAVX512(dst *uint8, acc *int32, scales *float32, n int, lo, hi float32, zero int32) {
	panic(missing)
}

func quantizeAVX512(dst *uint8, src *float32, n int, scale, lo, hi float32, zero int32) {
	panic(missing)
}

func dequantizeUint8AVX512(dst *float32, src *uint8, n int, scale float32, zero int32) {
	panic(missing)
}

func dequantizeInt8AVX512(dst *float32, src *uint8, n int, scale float32, zero int32) {
	panic(missing)
}

func addUint8AVX512(dst, a, b *uint8, n int, ra, rb, rest, lo, hi float32) { panic(missing) }

func addInt8AVX512(dst, a, b *uint8, n int, ra, rb, rest, lo, hi float32) { panic(missing) }
