//go:build amd64 && !purego

package gemm

import "unsafe"

// amxConfigs are the shapes of the tile registers for blocks of m rows, as
// LDTILECFG reads them: palette 1, bytes of a row at 16, rows at 48.
var amxConfigs = func() (all [amxRows + 1][64]byte) {
	for m := range all {
		c := &all[m]
		c[0] = 1
		rows := [8]int{min(m, 16), min(m, 16), m - 16, m - 16, min(m, 16), m - 16, 16, 16}
		for t, n := range rows {
			if n > 0 {
				c[16+2*t], c[48+t] = 64, byte(n)
			}
		}
	}
	return all
}()

// amxKernel computes a block of m rows by one panel as kernel does, k a multiple
// of 16 pairs; sums is scratch.
func amxKernel(m, k int, a []float32, lda int, b, sums, c []float32, ldc int, d []float32, ldd int, alpha float32) {
	f := amx16
	if m > 16 {
		f = amx32
	}
	f(&amxConfigs[m], m, k/16, unsafe.SliceData(a), lda, unsafe.SliceData(b), unsafe.SliceData(sums), unsafe.SliceData(c), ldc, unsafe.SliceData(d), ldd, alpha)
}
