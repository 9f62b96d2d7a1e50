//go:build !amd64 || purego

package gemm

func amxKernel(m, k int, a []float32, lda int, b, sums, c []float32, ldc int, d []float32, ldd int, alpha float32) {
	panic("gemm: no tile registers")
}
