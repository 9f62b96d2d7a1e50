//go:build amd64 && !purego

package gemm

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

//go:generate go run -C ../asm . -kernels gemm/kernels -pkg gemm -out ../gemm/rows_amd64.s -stubs ../gemm/rows_amd64.go
//go:generate go run -C ../asm . -kernels gemm/bf16 -pkg gemm -out ../gemm/bf16_amd64.s -stubs ../gemm/bf16_amd64.go
//go:generate go run -C ../asm . -kernels gemm/amx -pkg gemm -out ../gemm/amx_amd64.s -stubs ../gemm/amx_amd64.go
//go:generate go run -C ../asm . -kernels gemm/quant -pkg gemm -out ../gemm/quant_amd64.s -stubs ../gemm/quant_amd64.go

var avx512 = kernels{rows: 14, byRows: [maxRows + 1]kernel{
	1: rows1AVX512, 2: rows2AVX512, 3: rows3AVX512, 4: rows4AVX512, 5: rows5AVX512,
	6: rows6AVX512, 7: rows7AVX512, 8: rows8AVX512, 9: rows9AVX512, 10: rows10AVX512,
	11: rows11AVX512, 12: rows12AVX512, 13: rows13AVX512, 14: rows14AVX512,
}, ahead: [maxRows + 1]aheadKernel{
	8: aheadrows8AVX512, 9: aheadrows9AVX512, 10: aheadrows10AVX512, 11: aheadrows11AVX512,
	12: aheadrows12AVX512, 13: aheadrows13AVX512, 14: aheadrows14AVX512,
}, stream: [maxRows + 1]streamKernel{
	1: streamrows1AVX512, 2: streamrows2AVX512, 3: streamrows3AVX512, 4: streamrows4AVX512, 5: streamrows5AVX512,
	6: streamrows6AVX512, 7: streamrows7AVX512, 8: streamrows8AVX512, 9: streamrows9AVX512, 10: streamrows10AVX512,
	11: streamrows11AVX512, 12: streamrows12AVX512, 13: streamrows13AVX512, 14: streamrows14AVX512,
}, half: [maxRows + 1]kernel{
	1: halfrows1AVX512, 2: halfrows2AVX512, 3: halfrows3AVX512, 4: halfrows4AVX512, 5: halfrows5AVX512,
	6: halfrows6AVX512, 7: halfrows7AVX512, 8: halfrows8AVX512, 9: halfrows9AVX512, 10: halfrows10AVX512,
	11: halfrows11AVX512, 12: halfrows12AVX512, 13: halfrows13AVX512, 14: halfrows14AVX512,
}, wide: widerows1AVX512}

var avx2 = kernels{rows: 6, byRows: [maxRows + 1]kernel{
	1: rows1AVX2, 2: rows2AVX2, 3: rows3AVX2, 4: rows4AVX2, 5: rows5AVX2, 6: rows6AVX2,
}, wide: widerows1AVX2}

func currentKernels() *kernels {
	switch isa.Current() {
	case isa.AVX512:
		return &avx512
	case isa.AVX2:
		return &avx2
	}
	return &portable
}

var avx512BF16 = kernels{rows: 14, byRows: [maxRows + 1]kernel{
	1: bf16rows1AVX512, 2: bf16rows2AVX512, 3: bf16rows3AVX512, 4: bf16rows4AVX512, 5: bf16rows5AVX512,
	6: bf16rows6AVX512, 7: bf16rows7AVX512, 8: bf16rows8AVX512, 9: bf16rows9AVX512, 10: bf16rows10AVX512,
	11: bf16rows11AVX512, 12: bf16rows12AVX512, 13: bf16rows13AVX512, 14: bf16rows14AVX512,
}, ahead: [maxRows + 1]aheadKernel{
	8: aheadbf16rows8AVX512, 9: aheadbf16rows9AVX512, 10: aheadbf16rows10AVX512, 11: aheadbf16rows11AVX512,
	12: aheadbf16rows12AVX512, 13: aheadbf16rows13AVX512, 14: aheadbf16rows14AVX512,
}}

var avx2BF16 = kernels{rows: 4, byRows: [maxRows + 1]kernel{
	1: bf16rows1AVX2, 2: bf16rows2AVX2, 3: bf16rows3AVX2, 4: bf16rows4AVX2,
}}

func currentBF16Kernels() *kernels {
	switch {
	case isa.BF16():
		return &avx512BF16
	case isa.Current() >= isa.AVX2:
		return &avx2BF16
	}
	return &portableBF16
}

var vnniQuant = quantKernels{
	rows: 7,
	int8: [maxQuantRows + 1]quantKernel{1: int8rows1VNNI, 2: int8rows2VNNI, 3: int8rows3VNNI, 4: int8rows4VNNI, 5: int8rows5VNNI, 6: int8rows6VNNI, 7: int8rows7VNNI},
	int4: [maxQuantRows + 1]quantKernel{1: int4rows1VNNI, 2: int4rows2VNNI, 3: int4rows3VNNI, 4: int4rows4VNNI, 5: int4rows5VNNI, 6: int4rows6VNNI, 7: int4rows7VNNI},

	wideInt8: wideint8rows1VNNI,
	wideInt4: wideint4rows1VNNI,
	quantize: quantizeVector,
}

var avx2Quant = quantKernels{
	rows:     2,
	int8:     [maxQuantRows + 1]quantKernel{1: int8rows1AVX2, 2: int8rows2AVX2},
	int4:     [maxQuantRows + 1]quantKernel{1: int4rows1AVX2, 2: int4rows2AVX2},
	quantize: quantizeVector,
}

func quantizeVector(dst []byte, src []float32, zero int32) {
	quantizeAVX2(unsafe.SliceData(dst), unsafe.SliceData(src), len(src)/group, zero)
}

func currentQuantKernels() *quantKernels {
	switch {
	case isa.VNNI():
		return &vnniQuant
	case isa.Current() >= isa.AVX2:
		return &avx2Quant
	}
	return &portableQuant
}
