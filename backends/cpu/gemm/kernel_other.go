//go:build (!amd64 && !arm64) || purego

package gemm

func currentKernels() *kernels { return &portable }

func currentBF16Kernels() *kernels { return &portableBF16 }

func currentQuantKernels() *quantKernels { return &portableQuant }
