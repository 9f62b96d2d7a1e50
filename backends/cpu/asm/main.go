// Command asm writes the Go assembly of the CPU kernel packages.
//
// The .s files and their Go stubs are committed; run `go generate` in a kernel
// package after changing its generator here:
//
//	//go:generate go run -C ../asm . -kernels NAME -out FILE_amd64.s -stubs FILE_amd64.go -pkg PKG
package main

import (
	"flag"
	"fmt"
	"os"
	"sort"

	"github.com/mmcloughlin/avo/build"
)

// generators maps the value of -kernels to the function that emits them. One
// that leaves avo's context empty writes its files itself.
var generators = map[string]func(){
	"peak/peak":       peakKernels,
	"selscan/kernels": selscanKernels,
	"ssd/tile":        ssdTile,
	"ssd/vector":      ssdVector,
	"linattn/kernels": linattnKernels,
	"conv/rows":       convKernels,
	"conv2d/taps":     conv2dKernels,
	"conv2d/bytes":    conv2dBytes,
	"conv2d/blocks":   conv2dChannelBlocks,
	"conv/step":       convSteps,
	"norm/dispatch":   normDispatch,
	"norm/rows":       normKernels,
	"gemm/kernels":    gemmKernels,
	"igemm/kernels":   igemmKernels,
	"gemm/amx":        gemmAMX,
	"gemm/bf16":       gemmBF16,
	"gemm/quant":      gemmQuant,
	"gemm/neon":       gemmNeon,
	"ssd/neon":        ssdNeon,
	"vec/dispatch":    vecDispatch,
	"vec/unary":       vecUnary,
	"vec/binary":      vecBinary,
	"vec/reduce":      vecReduce,
	"vec/convert":     vecConvert,
	"vec/transpose":   vecTranspose,
}

func main() {
	name := flag.String("kernels", "", "which kernels to generate")
	flag.Parse()
	g, ok := generators[*name]
	if !ok {
		var names []string
		for n := range generators {
			names = append(names, n)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "asm: -kernels %q is not one of %v\n", *name, names)
		os.Exit(2)
	}
	g()
	build.Generate()
}
