//go:build amd64 && !purego

package conv2d

import "github.com/ssdc-go/ssdc/backends/cpu/isa"

//go:generate go run -C ../asm . -kernels conv2d/taps -pkg conv2d -out ../conv2d/taps_amd64.s -stubs ../conv2d/taps_amd64.go

// sumTaps writes dst[i] = start + sum_t w[t]*src[taps[t]+i]; reach is the largest tap.
func sumTaps(dst, src []float32, taps []int32, reach int, w []float32, start float32) {
	if isa.Current() < isa.AVX512 || len(dst) == 0 || len(taps) == 0 {
		sumTapsPortable(dst, src, taps, w, start)
		return
	}
	_, _ = src[reach+len(dst)-1], w[len(taps)-1] // the assembly checks nothing
	sumTapsAVX512(&dst[0], &src[0], &taps[0], &w[0], len(taps), len(dst), start)
}

// secondOfRows writes rows of dst[i] = src[2*i].
func secondOfRows(dst []float32, ldd int, src []float32, lds, rows, n int) {
	if rows == 0 || n == 0 {
		return
	}
	_, _ = dst[(rows-1)*ldd+n-1], src[(rows-1)*lds+2*n-2]
	if isa.Current() < isa.AVX512 {
		strided(dst, ldd, src, lds, rows, n, 2)
		return
	}
	secondOfRowsAVX512(&dst[0], ldd, &src[0], lds, rows, n)
}

// biasRows writes dense rows of panelWidth times a bias each.
func biasRows(dst, bias []float32) {
	if len(bias) == 0 {
		return
	}
	_ = dst[len(bias)*panelWidth-1]
	if isa.Current() < isa.AVX512 {
		biasRowsPortable(dst, bias)
		return
	}
	biasRowsAVX512(&dst[0], &bias[0], len(bias))
}

// clampRows keeps rows of n elements, ldx apart, between lo and hi; NaN stays.
func clampRows(x []float32, ldx, rows, n int, lo, hi float32) {
	if rows == 0 || n == 0 {
		return
	}
	_ = x[(rows-1)*ldx+n-1]
	if isa.Current() < isa.AVX512 {
		clampRowsPortable(x, ldx, rows, n, lo, hi)
		return
	}
	clampRowsAVX512(&x[0], ldx, rows, n, lo, hi)
}
