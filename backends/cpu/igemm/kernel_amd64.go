//go:build amd64 && !purego

package igemm

import "github.com/ssdc-go/ssdc/backends/cpu/isa"

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

// Current is the set of this processor.
func Current() *Kernels {
	if isa.VNNI() {
		return &vnni
	}
	return &portableKernels
}

func interleave(dst, src *uint8, taps *int32, quads int) { interleaveAVX2(dst, src, taps, quads) }

func fast() bool { return isa.Current() >= isa.AVX512 }
