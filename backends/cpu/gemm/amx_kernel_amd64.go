//go:build amd64 && !purego

package gemm

import "unsafe"

func amxTallKernel(x *amxArgs) { amxTall((*byte)(unsafe.Pointer(x))) }

// amxRestKernel is for m rows.
func amxRestKernel(x *amxArgs, m int) {
	if m > amxHalf {
		amx32((*byte)(unsafe.Pointer(x)))
	} else {
		amx16((*byte)(unsafe.Pointer(x)))
	}
}

func amxWriteKernel(sums *float32, sumsStep int, c *float32, ldc int, d *float32, ldd, rows, panels int, mask uint32, alpha float32) {
	amxWrite(sums, sumsStep, c, ldc, d, ldd, rows, panels, mask, alpha)
}

// amxConvert rounds a row to lines of tiles.
func amxConvert(dst, src []float32) {
	amxRow(unsafe.SliceData(dst), unsafe.SliceData(src), len(src)/amxLine)
}
