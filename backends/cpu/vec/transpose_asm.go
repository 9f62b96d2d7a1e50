//go:build amd64 && !purego

package vec

import "github.com/ssdc-go/ssdc/backends/cpu/isa"

// transposeISA moves whole 8x8 blocks in registers and the edges one by one.
func transposeISA(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	r8, c8 := rows&^7, cols&^7
	if isa.Current() == isa.Portable || r8 == 0 || c8 == 0 {
		transposePortable(dst, ldd, src, lds, rows, cols)
		return
	}
	for c := 0; c < c8; c += 8 {
		transpose8AVX2(&dst[c*ldd], ldd, &src[c], lds, r8/8)
	}
	if c8 < cols {
		transposePortable(dst[c8*ldd:], ldd, src[c8:], lds, r8, cols-c8)
	}
	if r8 < rows {
		transposePortable(dst[r8:], ldd, src[r8*lds:], lds, rows-r8, cols)
	}
}
