package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// conversion emits a loop over whole vectors of 16 (AVX-512) or 8 elements. n is
// a multiple of that: the Go side passes a last part through a small buffer,
// since AVX2 has no masks for 16-bit elements.
func conversion(k vecKernel, dstBytes, srcBytes int, constants []uint32, body func(s *simd, src, dst operand.Mem)) {
	both(func(s *simd) {
		s.start(k)
		dst := Load(Param("dst"), GP64())
		src := Load(Param("src"), GP64())
		n := Load(Param("n"), GP64())
		s.learn(len(constants), func() {
			for _, b := range constants {
				s.bits(b)
			}
		})
		Label("loop")
		TESTQ(n, n)
		JE(operand.LabelRef("done"))
		body(s, operand.Mem{Base: src}, operand.Mem{Base: dst})
		ADDQ(operand.U32(uint32(dstBytes*s.lanes())), dst)
		ADDQ(operand.U32(uint32(srcBytes*s.lanes())), src)
		SUBQ(operand.U32(uint32(s.lanes())), n)
		JMP(operand.LabelRef("loop"))
		Label("done")
		VZEROUPPER()
		RET()
	})
}

func vecConvert() {
	ConstraintExpr("amd64,!purego")
	conversion(vecKernel{"bf16ToF32", shapeWiden}, 4, 2, nil, func(s *simd, src, dst operand.Mem) {
		r := s.reg()
		VPMOVZXWD(src, r)
		VPSLLD(operand.U8(16), r, r)
		VMOVUPS(r, dst)
	})
	conversion(vecKernel{"f16ToF32", shapeWiden}, 4, 2, nil, func(s *simd, src, dst operand.Mem) {
		r := s.reg()
		VCVTPH2PS(src, r)
		VMOVUPS(r, dst)
	})
	conversion(vecKernel{"f32ToF16", shapeNarrow}, 2, 4, nil, func(s *simd, src, dst operand.Mem) {
		r := s.reg()
		VMOVUPS(src, r)
		VCVTPS2PH(operand.U8(0), r, dst) // nearest even
	})
	conversion(vecKernel{"f32ToBF16", shapeNarrow}, 2, 4, []uint32{1, 0x7fff, 0x400000}, func(s *simd, src, dst operand.Mem) {
		x, odd := s.reg(), s.reg()
		VMOVUPS(src, x)
		VPSRLD(operand.U8(16), x, odd)
		if s.wide {
			VPANDD(s.bits(1), odd, odd)
		} else {
			VPAND(s.bits(1), odd, odd)
		}
		VPADDD(s.bits(0x7fff), odd, odd)
		VPADDD(x, odd, odd)
		// A NaN keeps its high half, made quiet.
		r := s.pick(s.cmp(cmpUNO, x, x), s.or(x, s.bits(0x400000)), odd)
		VPSRLD(operand.U8(16), r, r)
		if s.wide {
			VPMOVDW(r, dst)
			return
		}
		h := XMM()
		VEXTRACTI128(operand.U8(1), r, h)
		VPACKUSDW(h, r.AsX(), h)
		// VPACKUSDW puts its second source (avo's first) in the high half.
		VMOVDQU(h, dst)
	})
}

// vecTranspose emits transpose8AVX2: a column of 8x8 blocks, 8 columns wide in src
// and 8 rows high in dst; lds and ldd count elements.
func vecTranspose() {
	ConstraintExpr("amd64,!purego")
	TEXT("transpose8AVX2", attr.NOSPLIT, "func(dst *float32, ldd int, src *float32, lds int, blocks int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	ldd := Load(Param("ldd"), GP64())
	src := Load(Param("src"), GP64())
	lds := Load(Param("lds"), GP64())
	n := Load(Param("blocks"), GP64())
	SHLQ(operand.U8(2), ldd)
	SHLQ(operand.U8(2), lds)
	lds3, ldd3, s4, d4 := GP64(), GP64(), GP64(), GP64()
	LEAQ(operand.Mem{Base: lds, Index: lds, Scale: 2}, lds3)
	LEAQ(operand.Mem{Base: ldd, Index: ldd, Scale: 2}, ldd3)
	at := func(base, base4, ld, ld3 reg.Register, i int) operand.Mem {
		b := base
		if i >= 4 {
			b = base4
		}
		switch i & 3 {
		case 1:
			return operand.Mem{Base: b, Index: ld, Scale: 1}
		case 2:
			return operand.Mem{Base: b, Index: ld, Scale: 2}
		case 3:
			return operand.Mem{Base: b, Index: ld3, Scale: 1}
		}
		return operand.Mem{Base: b}
	}
	Label("loop")
	TESTQ(n, n)
	JE(operand.LabelRef("done"))
	LEAQ(operand.Mem{Base: src, Index: lds, Scale: 4}, s4)
	LEAQ(operand.Mem{Base: dst, Index: ldd, Scale: 4}, d4)
	// Row i beside row i+4: two 4x4 blocks per register.
	var a [8]reg.VecVirtual
	for i := range 4 {
		lo, hi := at(src, s4, lds, lds3, i), at(src, s4, lds, lds3, i+4)
		for h := range 2 {
			r, x := YMM(), XMM()
			lo.Disp, hi.Disp = 16*h, 16*h
			VMOVUPS(lo, x)
			VINSERTF128(operand.U8(1), hi, x.AsY(), r)
			a[4*h+i] = r
		}
	}
	for h := range 2 {
		for i, r := range transpose4(a[4*h : 4*h+4]) {
			VMOVUPS(r, at(dst, d4, ldd, ldd3, 4*h+i))
		}
	}
	// The next block is 8 rows further down: 8 columns on in dst.
	LEAQ(operand.Mem{Base: s4, Index: lds, Scale: 4}, src)
	ADDQ(operand.U32(32), dst)
	DECQ(n)
	JMP(operand.LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}
