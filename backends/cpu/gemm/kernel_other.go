//go:build !amd64 || purego

package gemm

func currentKernels() *kernels { return &portable }
