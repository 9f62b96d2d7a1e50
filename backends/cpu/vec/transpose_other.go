//go:build !amd64 || purego

package vec

func transposeISA(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	transposePortable(dst, ldd, src, lds, rows, cols)
}
