//go:build amd64 && !purego

package igemm

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

//go:generate go run -C ../asm . -kernels igemm/kernels -pkg igemm -out ../igemm/kernels_amd64.s -stubs ../igemm/kernels_amd64.go

var vnni = Kernels{
	Rows: 14, interleaveFast: true,
	unsignedA: [MaxRows + 1]kernel{
		1: rows1VNNI, 2: rows2VNNI, 3: rows3VNNI, 4: rows4VNNI, 5: rows5VNNI, 6: rows6VNNI, 7: rows7VNNI,
		8: rows8VNNI, 9: rows9VNNI, 10: rows10VNNI, 11: rows11VNNI, 12: rows12VNNI, 13: rows13VNNI, 14: rows14VNNI,
	},
	unsignedB: [MaxRows + 1]kernel{
		1: columns1VNNI, 2: columns2VNNI, 3: columns3VNNI, 4: columns4VNNI, 5: columns5VNNI, 6: columns6VNNI, 7: columns7VNNI,
		8: columns8VNNI, 9: columns9VNNI, 10: columns10VNNI, 11: columns11VNNI, 12: columns12VNNI, 13: columns13VNNI, 14: columns14VNNI,
	},
}

var avx2 = Kernels{
	Rows: 2, interleaveFast: true,
	unsignedA: [MaxRows + 1]kernel{1: rows1AVX2, 2: rows2AVX2},
	unsignedB: [MaxRows + 1]kernel{1: columns1AVX2, 2: columns2AVX2},
}

// tiles are kernels on the tile registers, of which few rows or other than whole steps
// would make nothing.
var tiles = func() Kernels {
	ks := Kernels{Rows: MaxRows, interleaveFast: true, Tiles: true}
	for m := 1; m <= MaxRows; m++ {
		ks.unsignedA[m] = tileKernel(m, &vnni.unsignedA, rows16Tiles, rows32Tiles)
		ks.unsignedB[m] = tileKernel(m, &vnni.unsignedB, columns16Tiles, columns32Tiles)
	}
	return ks
}()

// fewRows are left to the vector registers.
const fewRows = 3

func tileKernel(m int, vectors *[MaxRows + 1]kernel, low, high func(config *[64]byte, steps int, a *uint8, lda int, b *uint8, c *int32, ldc int)) kernel {
	if m <= fewRows {
		return vectors[m]
	}
	config := tileConfig(m)
	if m > 16 {
		low = high
	}
	return func(quads int, a *uint8, lda int, b *uint8, c *int32, ldc int) {
		if quads > 0 && quads%Step == 0 {
			low(config, quads/Step, a, lda, b, c, 4*ldc)
			return
		}
		for r, groups := 0, (m+vnni.Rows-1)/vnni.Rows; groups > 0; groups-- {
			n := (m - r + groups - 1) / groups
			vectors[n](quads, (*uint8)(unsafe.Add(unsafe.Pointer(a), r*lda)), lda, b, (*int32)(unsafe.Add(unsafe.Pointer(c), 4*r*ldc)), ldc)
			r += n
		}
	}
}

// tileConfig is the shape of the tile registers for m rows, as LDTILECFG reads it.
func tileConfig(m int) *[64]byte {
	c := new([64]byte)
	c[0] = 1
	for t, n := range [8]int{min(m, 16), min(m, 16), m - 16, m - 16, min(m, 16), m - 16, 16, 16} {
		if n > 0 {
			c[16+2*t], c[48+t] = 64, byte(n)
		}
	}
	return c
}

// Current is the set of this processor.
func Current() *Kernels {
	if isa.ByteTiles() {
		return &tiles
	}
	if isa.VNNI() {
		return &vnni
	}
	if isa.Current() >= isa.AVX2 {
		return &avx2
	}
	return &portableKernels
}

func interleave(dst, src *uint8, taps *int32, quads int) { interleaveAVX2(dst, src, taps, quads) }

func fast() bool { return isa.Current() >= isa.AVX512 }
