//go:build amd64 && !purego

package peak

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

//go:generate go run -C ../asm . -kernels peak/peak -pkg peak -out ../peak/peak_amd64.s -stubs ../peak/peak_amd64.go

func current() loops {
	l := portable()
	if isa.Current() < isa.AVX2 {
		return l
	}
	l.read = func(b []byte) { // in pieces of the size of weight panels
		const stream = 96 << 10
		for ; len(b) >= 4*stream; b = b[4*stream:] {
			readAVX2(unsafe.SliceData(b), stream, stream/64)
		}
	}
	l.f32, l.int8 = loop{fmaAVX2, 12 * 16}, loop{maddAVX2, 6 * 32}
	if isa.Current() == isa.AVX512 {
		l.f32 = loop{fmaAVX512, 16 * 32}
	}
	l.bf16 = l.f32 // halves become floats
	if isa.VNNI() {
		l.int8 = loop{vnniAVX512, 16 * 128}
	}
	if isa.BF16() {
		l.bf16 = loop{dotAVX512, 16 * 64}
	}
	if isa.Tiles() {
		l.bf16 = loop{func(n int) { tiles(&full, n) }, 4 * 16 * 16 * 32 * 2}
	}
	return l
}

// full configures all tile registers to 16 rows of 64 bytes.
var full = func() (c [64]byte) {
	c[0] = 1
	for t := range 8 {
		c[16+2*t], c[48+t] = 64, 16
	}
	return c
}()
