package igemm

import "unsafe"

var portableKernels = func() Kernels {
	ks := Kernels{Rows: 4}
	for m := 1; m <= 4; m++ {
		ks.unsignedA[m], ks.unsignedB[m] = portableKernel(m, true), portableKernel(m, false)
	}
	return ks
}()

// portableKernel is the twin of the assembly in Go.
func portableKernel(m int, unsignedA bool) kernel {
	return func(quads int, a *uint8, lda int, b *uint8, c *int32, ldc int) {
		rowsOfA, panel := unsafe.Slice(a, (m-1)*lda+4*quads), unsafe.Slice(b, quads*4*Width)
		out := unsafe.Slice(c, (m-1)*ldc+Width)
		for i := range m {
			row := rowsOfA[i*lda:]
			for j := range Width {
				sum := int32(0)
				for k := range 4 * quads {
					x, y := row[k], panel[k/4*4*Width+4*j+k%4]
					if unsignedA {
						sum += int32(x) * int32(int8(y))
					} else {
						sum += int32(int8(x)) * int32(y)
					}
				}
				out[i*ldc+j] = sum
			}
		}
	}
}
