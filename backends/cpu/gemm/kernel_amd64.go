//go:build amd64 && !purego

package gemm

import "github.com/ssdc-go/ssdc/backends/cpu/isa"

//go:generate go run -C ../asm . -kernels gemm/kernels -pkg gemm -out ../gemm/rows_amd64.s -stubs ../gemm/rows_amd64.go

var avx512 = kernels{rows: 14, byRows: [maxRows + 1]kernel{
	1: rows1AVX512, 2: rows2AVX512, 3: rows3AVX512, 4: rows4AVX512, 5: rows5AVX512,
	6: rows6AVX512, 7: rows7AVX512, 8: rows8AVX512, 9: rows9AVX512, 10: rows10AVX512,
	11: rows11AVX512, 12: rows12AVX512, 13: rows13AVX512, 14: rows14AVX512,
}}

var avx2 = kernels{rows: 6, byRows: [maxRows + 1]kernel{
	1: rows1AVX2, 2: rows2AVX2, 3: rows3AVX2, 4: rows4AVX2, 5: rows5AVX2, 6: rows6AVX2,
}}

func currentKernels() *kernels {
	switch isa.Current() {
	case isa.AVX512:
		return &avx512
	case isa.AVX2:
		return &avx2
	}
	return &portable
}
