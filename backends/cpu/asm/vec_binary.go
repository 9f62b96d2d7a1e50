package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"
)

type regs = []reg.VecVirtual

// maxNaN and minNaN are NaN where either operand is.
func maxNaN(s *simd, a, b reg.VecVirtual) reg.VecVirtual {
	return s.pick(s.cmp(cmpUNO, a, a), a, s.maxB(a, b))
}

func minNaN(s *simd, a, b reg.VecVirtual) reg.VecVirtual {
	return s.pick(s.cmp(cmpUNO, a, a), a, s.minB(a, b))
}

func vecBinary() {
	ConstraintExpr("amd64,!purego")
	for _, k := range []struct {
		vecKernel
		unroll int
		inout  bool
		f      func(s *simd, in, c regs) reg.VecVirtual
	}{
		{vecKernel{"add", shapeBinary}, 4, false, func(s *simd, in, c regs) reg.VecVirtual { return s.add(in[0], in[1]) }},
		{vecKernel{"sub", shapeBinary}, 4, false, func(s *simd, in, c regs) reg.VecVirtual { return s.sub(in[0], in[1]) }},
		{vecKernel{"mul", shapeBinary}, 4, false, func(s *simd, in, c regs) reg.VecVirtual { return s.mul(in[0], in[1]) }},
		{vecKernel{"div", shapeBinary}, 2, false, func(s *simd, in, c regs) reg.VecVirtual { return s.div(in[0], in[1]) }},
		{vecKernel{"max", shapeBinary}, 4, false, func(s *simd, in, c regs) reg.VecVirtual { return maxNaN(s, in[0], in[1]) }},
		{vecKernel{"min", shapeBinary}, 4, false, func(s *simd, in, c regs) reg.VecVirtual { return minNaN(s, in[0], in[1]) }},
		{vecKernel{"siluMul", shapeBinary}, 2, false, func(s *simd, in, c regs) reg.VecVirtual { return s.mul(in[0], silu(s, in[1])) }},
		{vecKernel{"mulAdd", shapeTernary}, 2, false, func(s *simd, in, c regs) reg.VecVirtual { return s.fma(in[2], in[0], in[1]) }},
		{vecKernel{"addS", shapeScalar}, 4, false, func(s *simd, in, c regs) reg.VecVirtual { return s.add(in[0], c[0]) }},
		{vecKernel{"rsubS", shapeScalar}, 4, false, func(s *simd, in, c regs) reg.VecVirtual { return s.sub(c[0], in[0]) }},
		{vecKernel{"mulS", shapeScalar}, 4, false, func(s *simd, in, c regs) reg.VecVirtual { return s.mul(in[0], c[0]) }},
		{vecKernel{"divS", shapeScalar}, 2, false, func(s *simd, in, c regs) reg.VecVirtual { return s.div(in[0], c[0]) }},
		{vecKernel{"rdivS", shapeScalar}, 2, false, func(s *simd, in, c regs) reg.VecVirtual { return s.div(c[0], in[0]) }},
		{vecKernel{"maxS", shapeScalar}, 4, false, func(s *simd, in, c regs) reg.VecVirtual { return maxNaN(s, c[0], in[0]) }},
		{vecKernel{"minS", shapeScalar}, 4, false, func(s *simd, in, c regs) reg.VecVirtual { return minNaN(s, c[0], in[0]) }},
		{vecKernel{"clamp", shapeClamp}, 4, false, func(s *simd, in, c regs) reg.VecVirtual {
			return minNaN(s, c[1], maxNaN(s, c[0], in[0]))
		}},
		{vecKernel{"axpy", shapeScalar}, 4, true, func(s *simd, in, c regs) reg.VecVirtual { return s.fma(in[1], in[0], c[0]) }},
	} {
		elementwise(k.vecKernel, k.unroll, k.inout, k.f)
	}
}
