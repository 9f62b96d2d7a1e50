//go:build amd64 && !purego

package conv

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

// block makes blockRows rows and reports whether there is a kernel for it.
func block(y, x, w, bias []float32, s Shape, n int) bool {
	yp, xp, wp, bp := unsafe.SliceData(y), unsafe.SliceData(x), unsafe.SliceData(w), unsafe.SliceData(bias)
	switch isa.Current() {
	case isa.AVX512:
		switch {
		case s.K == 4 && s.SiLU:
			block4SiLUAVX512(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		case s.K == 4:
			block4AVX512(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		case s.K == 3 && s.SiLU:
			block3SiLUAVX512(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		case s.K == 3:
			block3AVX512(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		case s.K == 2 && s.SiLU:
			block2SiLUAVX512(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		case s.K == 2:
			block2AVX512(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		default:
			return false
		}
		return true
	case isa.AVX2:
		switch {
		case s.K == 4 && s.SiLU:
			block4SiLUAVX2(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		case s.K == 4:
			block4AVX2(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		case s.K == 3 && s.SiLU:
			block3SiLUAVX2(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		case s.K == 3:
			block3AVX2(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		case s.K == 2 && s.SiLU:
			block2SiLUAVX2(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		case s.K == 2:
			block2AVX2(yp, s.LdY, xp, s.LdX, wp, s.C, bp, n)
		default:
			return false
		}
		return true
	}
	return false
}

// row makes one row whose inputs lie anywhere.
func row(y []float32, x *[MaxK]*float32, w, bias []float32, s Shape) {
	yp, wp, bp, n := unsafe.SliceData(y), unsafe.SliceData(w), unsafe.SliceData(bias), len(y)
	switch isa.Current() {
	case isa.AVX512:
		switch {
		case s.K == 4 && s.SiLU:
			row4SiLUAVX512(yp, x, wp, s.C, bp, n)
		case s.K == 4:
			row4AVX512(yp, x, wp, s.C, bp, n)
		case s.K == 3 && s.SiLU:
			row3SiLUAVX512(yp, x, wp, s.C, bp, n)
		case s.K == 3:
			row3AVX512(yp, x, wp, s.C, bp, n)
		case s.K == 2 && s.SiLU:
			row2SiLUAVX512(yp, x, wp, s.C, bp, n)
		case s.K == 2:
			row2AVX512(yp, x, wp, s.C, bp, n)
		default:
			rowTaps(y, x, w, bias, s)
		}
	case isa.AVX2:
		switch {
		case s.K == 4 && s.SiLU:
			row4SiLUAVX2(yp, x, wp, s.C, bp, n)
		case s.K == 4:
			row4AVX2(yp, x, wp, s.C, bp, n)
		case s.K == 3 && s.SiLU:
			row3SiLUAVX2(yp, x, wp, s.C, bp, n)
		case s.K == 3:
			row3AVX2(yp, x, wp, s.C, bp, n)
		case s.K == 2 && s.SiLU:
			row2SiLUAVX2(yp, x, wp, s.C, bp, n)
		case s.K == 2:
			row2AVX2(yp, x, wp, s.C, bp, n)
		default:
			rowTaps(y, x, w, bias, s)
		}
	default:
		rowTaps(y, x, w, bias, s)
	}
}

// stepBlocks runs the decode step on n channels, a multiple of 8, if there is a
// kernel for it.
func stepBlocks(y, x, next, state, w, bias []float32, ldw, width, k int, silu bool, n int) bool {
	if isa.Current() == isa.Portable || k != 4 || width != 3 && width != 4 {
		return false
	}
	if n == 0 {
		return true
	}
	yp, xp, np, sp, wp, bp := &y[0], &x[0], &next[0], &state[0], &w[0], &bias[0]
	switch {
	case width == 3 && silu:
		step3SiLUAVX2(yp, xp, np, sp, wp, ldw, bp, n)
	case width == 3:
		step3AVX2(yp, xp, np, sp, wp, ldw, bp, n)
	case silu:
		step4SiLUAVX2(yp, xp, np, sp, wp, ldw, bp, n)
	default:
		step4AVX2(yp, xp, np, sp, wp, ldw, bp, n)
	}
	return true
}
