package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sumBlock is how many elements are added in float32 before the lanes go into
// float64 accumulators.
const sumBlock = 512

// term is what one vector of inputs adds to the accumulator: a*b, or a alone.
type term struct {
	out  reg.VecVirtual // stored through the first pointer, if the kernel has an output
	a, b reg.VecVirtual
}

type sumOptions struct {
	width int  // lanes, a multiple of 16
	out   bool // the first pointer is an output
	mask  bool // the term does not vanish for zero inputs: clear the tail lanes
	exact bool // add each term in float64 (terms without b)
}

// summation emits the twins of a kernel that returns a float64 sum. The lanes
// and the order in which they are folded are the same for both instruction sets.
func summation(k vecKernel, opt sumOptions, body func(s *simd, in, scalar regs) term) {
	width, out, mask := opt.width, opt.out, opt.mask
	both(func(s *simd) {
		s.start(k)
		pointers, scalars := k.params()
		var base []reg.Register
		for _, p := range pointers {
			base = append(base, Load(Param(p), GP64()))
		}
		inputs := base
		if out {
			inputs = base[1:]
		}
		n := Load(Param("n"), GP64()).(reg.GPVirtual)
		var sc regs
		for _, p := range scalars {
			sc = append(sc, s.scalar(p))
		}
		vectors := width / s.lanes()
		acc := make(regs, vectors)
		for j := range acc {
			acc[j] = s.reg()
		}
		wide := make(regs, 2*vectors) // float64
		for j := range wide {
			wide[j] = s.reg()
		}
		clear := func(rs regs) {
			if opt.exact && &rs[0] == &acc[0] {
				return
			}
			for _, r := range rs {
				VXORPS(r, r, r)
			}
		}
		// addWide adds the lanes of r in float64.
		addWide := func(r reg.VecVirtual, j int) {
			d := s.reg()
			if s.wide {
				VCVTPS2PD(r.AsY(), d)
				VADDPD(d, wide[2*j], wide[2*j])
				h := YMM()
				VEXTRACTF32X8(operand.U8(1), r, h)
				VCVTPS2PD(h, d)
			} else {
				VCVTPS2PD(r.AsX(), d)
				VADDPD(d, wide[2*j], wide[2*j])
				h := XMM()
				VEXTRACTF128(operand.U8(1), r, h)
				VCVTPS2PD(h, d)
			}
			VADDPD(d, wide[2*j+1], wide[2*j+1])
		}
		vector := func(j int, m *tailMask) {
			var in regs
			for _, b := range inputs {
				in = append(in, s.load(operand.Mem{Base: b, Disp: j * s.bytes()}, m))
			}
			t := body(s, in, sc)
			if out {
				s.store(t.out, operand.Mem{Base: base[0], Disp: j * s.bytes()}, m)
			}
			if s.dry {
				return
			}
			if m != nil && mask {
				t.a = s.keep(m.r, t.a)
			}
			switch {
			case opt.exact:
				addWide(t.a, j)
			case t.b == nil:
				VADDPS(t.a, acc[j], acc[j])
			default:
				s.fma(acc[j], t.a, t.b)
			}
		}
		s.learn(12, func() { vector(0, nil) })
		fold := func() {
			if opt.exact {
				return
			}
			for j, r := range acc {
				addWide(r, j)
			}
		}
		steps := GP64()
		clear(wide)
		Label("block")
		CMPQ(n, operand.U32(uint32(width)))
		JB(operand.LabelRef("rest"))
		limit := GP64()
		MOVQ(n, steps)
		SHRQ(operand.U8(log2(width)), steps)
		MOVQ(operand.U32(uint32(sumBlock/width)), limit)
		CMPQ(steps, limit)
		CMOVQHI(limit, steps)
		MOVQ(steps, limit)
		SHLQ(operand.U8(log2(width)), limit)
		SUBQ(limit, n)
		clear(acc)
		Label("inner")
		for j := range vectors {
			vector(j, nil)
		}
		for _, b := range base {
			ADDQ(operand.U32(uint32(4*width)), b)
		}
		DECQ(steps)
		JNE(operand.LabelRef("inner"))
		fold()
		JMP(operand.LabelRef("block"))
		Label("rest")
		TESTQ(n, n)
		JE(operand.LabelRef("sum"))
		clear(acc)
		for j := range vectors {
			m := s.tailAt(n, j)
			vector(j, &m)
		}
		fold()
		Label("sum")
		r := s.foldLanes(wide)
		Store(r, ReturnIndex(0))
		VZEROUPPER()
		RET()
	})
}

// tailAt is the tail mask of vector j of several: n - j*lanes, clamped.
func (s *simd) tailAt(n reg.GPVirtual, j int) tailMask {
	zero, t := GP64(), GP64()
	XORQ(zero, zero)
	MOVQ(n, t)
	SUBQ(operand.U32(uint32(j*s.lanes())), t)
	CMOVQLT(zero, t)
	MOVQ(operand.U32(uint32(s.lanes())), zero)
	CMPQ(t, zero)
	CMOVQGT(zero, t)
	return s.tail(t)
}

// foldLanes adds float64 lanes: lane i and i+half, then again, down to one.
func (s *simd) foldLanes(rs regs) reg.VecVirtual {
	for len(rs) > 1 {
		h := len(rs) / 2
		for i := range h {
			VADDPD(rs[i+h], rs[i], rs[i])
		}
		rs = rs[:h]
	}
	y := rs[0].AsY().(reg.VecVirtual)
	if s.wide {
		h := YMM()
		VEXTRACTF64X4(operand.U8(1), rs[0], h)
		VADDPD(h, y, y)
	}
	x, h := y.AsX().(reg.VecVirtual), XMM()
	VEXTRACTF128(operand.U8(1), y, h)
	VADDPD(h, x, x)
	VPERMILPD(operand.U8(1), x, h)
	VADDSD(h, x, x)
	return x
}

func log2(n int) uint8 {
	var l uint8
	for n > 1 {
		n >>= 1
		l++
	}
	return l
}

// extreme emits maxOf or minOf over 32 lanes; NaN, which VMAXPS would drop, is
// noted on the side.
func extreme(name string, start uint32, op func(s *simd, acc, x reg.VecVirtual) reg.VecVirtual) {
	both(func(s *simd) {
		k := vecKernel{name, shapeExtreme}
		s.start(k)
		x := Load(Param("x"), GP64())
		n := Load(Param("n"), GP64()).(reg.GPVirtual)
		vectors := 32 / s.lanes()
		none := s.copy(constantAll(s, start))
		acc := make(regs, vectors)
		nan := make([]reg.Register, vectors)
		for j := range acc {
			acc[j] = s.copy(none)
			if s.wide {
				k := K()
				KXORW(k, k, k)
				nan[j] = k
			} else {
				v := s.reg()
				VXORPS(v, v, v)
				nan[j] = v
			}
		}
		vector := func(j int, m *tailMask) {
			v := s.load(operand.Mem{Base: x, Disp: j * s.bytes()}, m)
			if m != nil {
				v = s.pick(m.r, v, none)
			}
			VMOVAPS(op(s, acc[j], v), acc[j])
			u := s.cmp(cmpUNO, v, v)
			if s.wide {
				KORW(u, nan[j], nan[j])
			} else {
				VORPS(u, nan[j], nan[j])
			}
		}
		Label("loop")
		CMPQ(n, operand.U32(32))
		JB(operand.LabelRef("rest"))
		for j := range vectors {
			vector(j, nil)
		}
		ADDQ(operand.U32(128), x)
		SUBQ(operand.U32(32), n)
		JMP(operand.LabelRef("loop"))
		Label("rest")
		TESTQ(n, n)
		JE(operand.LabelRef("fold"))
		for j := range vectors {
			m := s.tailAt(n, j)
			vector(j, &m)
		}
		Label("fold")
		for j := 1; j < vectors; j++ {
			VMOVAPS(op(s, acc[0], acc[j]), acc[0])
			if s.wide {
				KORW(nan[j], nan[0], nan[0])
			} else {
				VORPS(nan[j], nan[0], nan[0])
			}
		}
		t := GP32()
		if s.wide {
			KMOVW(nan[0], t)
		} else {
			VMOVMSKPS(nan[0], t)
		}
		// Fold the lanes of acc[0]; op on the low half is enough.
		narrow := &simd{}
		y := acc[0].AsY().(reg.VecVirtual)
		if s.wide {
			h := YMM()
			VEXTRACTF64X4(operand.U8(1), acc[0], h)
			VMOVAPS(op(narrow, y, h), y)
		}
		h := YMM()
		VPERM2F128(operand.U8(1), y, y, h)
		VMOVAPS(op(narrow, y, h), y)
		VPERMILPS(operand.U8(0x4e), y, h)
		VMOVAPS(op(narrow, y, h), y)
		VPERMILPS(operand.U8(0xb1), y, h)
		VMOVAPS(op(narrow, y, h), y)
		TESTL(t, t)
		JE(operand.LabelRef("done"))
		VMOVUPS(constant(0x7fc00000), y)
		Label("done")
		Store(y.AsX(), ReturnIndex(0))
		VZEROUPPER()
		RET()
	})
}

// constantAll is a constant in every lane, outside of a body.
func constantAll(s *simd, bits uint32) reg.VecVirtual {
	r := s.reg()
	VBROADCASTSS(constant(bits), r)
	return r
}

func vecReduce() {
	ConstraintExpr("amd64,!purego")
	summation(vecKernel{"sum", shapeReduce1}, sumOptions{width: 32}, func(s *simd, in, _ regs) term { return term{a: in[0]} })
	summation(vecKernel{"sumSq", shapeReduce1}, sumOptions{width: 32}, func(s *simd, in, _ regs) term { return term{a: in[0], b: in[0]} })
	summation(vecKernel{"dot", shapeReduce2}, sumOptions{width: 32}, func(s *simd, in, _ regs) term { return term{a: in[0], b: in[1]} })
	summation(vecKernel{"expSum", shapeExpSum}, sumOptions{width: 16, out: true, mask: true}, func(s *simd, in, c regs) term {
		y := expOf(s, s.sub(in[0], c[0]), false)
		return term{out: y, a: y}
	})
	extreme("maxOf", 0xff800000, func(s *simd, acc, x reg.VecVirtual) reg.VecVirtual { return s.maxB(x, acc) })
	extreme("minOf", 0x7f800000, func(s *simd, acc, x reg.VecVirtual) reg.VecVirtual { return s.minB(x, acc) })
}
