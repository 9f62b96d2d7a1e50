//go:build !amd64 || purego

package conv2d

import "github.com/ssdc-go/ssdc/backends/cpu/igemm"

func haveQuads() bool { return false }

func placeRows(dst []uint8, pitch int, src []uint8, rows, cols int, flip uint8) {
	panic("conv2d: no such instructions")
}

func depthwiseQuads(dst, src []uint8, pitch int, offsets []int32, w []uint32, s *Shape, add int32, scale float32, o *igemm.Output) {
	panic("conv2d: no such instructions")
}
