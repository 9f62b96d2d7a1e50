//go:build !amd64 || purego

package conv2d

import "github.com/ssdc-go/ssdc/backends/cpu/igemm"

func haveQuads() bool { return false }

func copyBytes(dst []uint8, ldd int, src []uint8, lds, rows, n int, flip uint8) {
	copyBytesPortable(dst, ldd, src, lds, rows, n, flip)
}

func secondBytes(dst []uint8, ldd int, src []uint8, lds, rows, n int, flip uint8) {
	stridedBytes(dst, ldd, src, lds, rows, n, 2, flip)
}

func mostBytes(dst, src []uint8) { mostBytesPortable(dst, src[:len(dst)]) }

func depthwiseQuads(dst, src []uint8, pitch int, offsets []int32, w []uint32, s *Shape, add int32, scale float32, o *igemm.Output) {
	panic("conv2d: no such instructions")
}
