//go:build !amd64 || purego

package conv2d

func sumTaps(dst, src []float32, taps []int32, _ int, w []float32, start float32) {
	sumTapsPortable(dst, src, taps, w, start)
}

func secondOfRows(dst []float32, ldd int, src []float32, lds, rows, n int) {
	strided(dst, ldd, src, lds, rows, n, 2)
}

func biasRows(dst, bias []float32) { biasRowsPortable(dst, bias) }

func clampRows(x []float32, ldx, rows, n int, lo, hi float32) {
	clampRowsPortable(x, ldx, rows, n, lo, hi)
}
