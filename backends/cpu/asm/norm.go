package main

import (
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"
)

// The kernels of package norm: what one row (or group of a row) needs.
var (
	normScale     = vecKernel{"scale", vecShape{"y, x, w []float32, s float32", "y, x, w *float32, n int, s float32", ""}}
	normScaleGate = vecKernel{"scaleGate", vecShape{"y, x, w, z []float32, s float32", "y, x, w, z *float32, n int, s float32", ""}}
	normCenter    = vecKernel{"center", vecShape{"y, x, w []float32, mean, rstd, shift float32", "y, x, w *float32, n int, mean, rstd, shift float32", ""}}
	normCenterAdd = vecKernel{"centerAdd", vecShape{"y, x, w, b []float32, mean, rstd, shift float32", "y, x, w, b *float32, n int, mean, rstd, shift float32", ""}}
	normAddSumSq  = vecKernel{"addSumSq", vecShape{"r, a, b []float32", "r, a, b *float32, n int", "float64"}}
	normGateSumSq = vecKernel{"gateSumSq", vecShape{"v, x, z []float32", "v, x, z *float32, n int", "float64"}}
	normSumExact  = vecKernel{"sumExact", vecShape{"x []float32", "x *float32, n int", "float64"}}
	normDevSumSq  = vecKernel{"devSumSq", vecShape{"x []float32, mean float32", "x *float32, n int, mean float32", "float64"}}
)

func normKernels() {
	ConstraintExpr("amd64,!purego")
	elementwise(normScale, 4, false, func(s *simd, in, c regs) reg.VecVirtual {
		return s.mul(s.mul(in[0], c[0]), in[1])
	})
	elementwise(normScaleGate, 2, false, func(s *simd, in, c regs) reg.VecVirtual {
		return s.mul(s.mul(s.mul(in[0], c[0]), in[1]), silu(s, in[2]))
	})
	// shift corrects for the rounding of the mean.
	centered := func(s *simd, x reg.VecVirtual, c regs) reg.VecVirtual {
		return s.mulAdd(s.sub(x, c[0]), c[1], c[2])
	}
	elementwise(normCenter, 4, false, func(s *simd, in, c regs) reg.VecVirtual {
		return s.mul(centered(s, in[0], c), in[1])
	})
	elementwise(normCenterAdd, 4, false, func(s *simd, in, c regs) reg.VecVirtual {
		return s.mulAdd(centered(s, in[0], c), in[1], in[2])
	})
	summation(normAddSumSq, sumOptions{width: 32, out: true}, func(s *simd, in, _ regs) term {
		r := s.add(in[0], in[1])
		return term{out: r, a: r, b: r}
	})
	summation(normGateSumSq, sumOptions{width: 16, out: true}, func(s *simd, in, _ regs) term {
		v := s.mul(in[0], silu(s, in[1]))
		return term{out: v, a: v, b: v}
	})
	summation(normSumExact, sumOptions{width: 16, exact: true}, func(s *simd, in, _ regs) term {
		return term{a: in[0]}
	})
	summation(normDevSumSq, sumOptions{width: 32, mask: true}, func(s *simd, in, c regs) term {
		d := s.sub(in[0], c[0])
		return term{a: d, b: d}
	})
}

func normDispatch() {
	err := writeDispatch("../norm", "norm", []vecKernel{normScale, normScaleGate, normCenter, normCenterAdd, normAddSumSq, normGateSumSq, normSumExact, normDevSumSq})
	if err != nil {
		fmt.Fprintln(os.Stderr, "asm:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
