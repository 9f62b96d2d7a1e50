//go:build !purego

package gemm

import "github.com/ssdc-go/ssdc/backends/cpu/isa"

var neon = kernels{rows: 6, byRows: [maxRows + 1]kernel{
	1: rows1NEON, 2: rows2NEON, 3: rows3NEON, 4: rows4NEON, 5: rows5NEON, 6: rows6NEON,
}}

func currentKernels() *kernels {
	if isa.Current() == isa.NEON {
		return &neon
	}
	return &portable
}

func currentBF16Kernels() *kernels { return &portableBF16 }

func currentQuantKernels() *quantKernels { return &portableQuant }
