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

func amxKernel(x *amxArgs) {
	x.config = &amxConfigs[x.m]
	if x.m > amxHalf {
		amx32((*byte)(unsafe.Pointer(x)))
	} else {
		amx16((*byte)(unsafe.Pointer(x)))
	}
}
