//go:build amd64 && !purego

package conv2d

import (
	"github.com/ssdc-go/ssdc/backends/cpu/igemm"
	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

//go:generate go run -C ../asm . -kernels conv2d/bytes -pkg conv2d -out ../conv2d/bytes_amd64.s -stubs ../conv2d/bytes_amd64.go

// haveQuads reports that depthwiseQuads may be used.
func haveQuads() bool { return isa.VNNI() }

// copyBytes copies rows of n bytes, with flip combined by exclusive or.
func copyBytes(dst []uint8, ldd int, src []uint8, lds, rows, n int, flip uint8) {
	if rows == 0 || n == 0 {
		return
	}
	_, _ = dst[(rows-1)*ldd+n-1], src[(rows-1)*lds+n-1] // the assembly checks nothing
	if isa.Current() < isa.AVX512 {
		copyBytesPortable(dst, ldd, src, lds, rows, n, flip)
		return
	}
	copyRowsAVX512(&dst[0], ldd, &src[0], lds, rows, n, uint32(flip)*0x01010101)
}

// secondBytes writes rows of dst[i] = src[2*i], with flip combined by exclusive or.
func secondBytes(dst []uint8, ldd int, src []uint8, lds, rows, n int, flip uint8) {
	if rows == 0 || n == 0 {
		return
	}
	_, _ = dst[(rows-1)*ldd+n-1], src[(rows-1)*lds+2*n-2]
	if isa.Current() < isa.AVX512 {
		stridedBytes(dst, ldd, src, lds, rows, n, 2, flip)
		return
	}
	secondBytesAVX512(&dst[0], ldd, &src[0], lds, rows, n, uint32(flip)*0x01010101)
}

// mostBytes makes dst the larger of itself and src, byte by byte.
func mostBytes(dst, src []uint8) {
	src = src[:len(dst)]
	if isa.Current() < isa.AVX512 || len(dst) == 0 {
		mostBytesPortable(dst, src)
		return
	}
	mostBytesAVX512(&dst[0], &src[0], len(dst))
}

// depthwiseQuads writes one output plane: pitch is the distance of two of its
// rows in src, which reaches overread bytes beyond what the taps see.
func depthwiseQuads(dst, src []uint8, pitch int, offsets []int32, w []uint32, s *Shape, add int32, scale float32, o *igemm.Output) {
	rows, cols := s.Out[0], s.Out[1]
	_, _, _ = dst[rows*cols-1], w[len(offsets)-1], src[(rows-1)*pitch+int(offsets[len(offsets)-1])+(cols-1)/16*16*s.Stride[1]+overread-1]
	lo, hi := limits(o)
	kernel := depthwiseVNNI
	if len(offsets) == 3 {
		kernel = depthwise3VNNI
	}
	kernel(&dst[0], cols, &src[0], pitch, &offsets[0], &w[0], len(offsets), rows, cols, s.Stride[1], add, scale, lo, hi, o.Zero)
}
