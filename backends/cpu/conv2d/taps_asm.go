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

// everySecond writes dst[i] = src[2*i].
func everySecond(dst, src []float32) {
	if len(dst) == 0 {
		return
	}
	_ = src[2*len(dst)-2]
	if isa.Current() < isa.AVX512 {
		everySecondPortable(dst, src)
		return
	}
	everySecondAVX512(&dst[0], &src[0], len(dst))
}
