package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The kernels of package selscan. Arguments come in a struct (see
// selscan/kernels.go) whose fields take 8 bytes each.
func selscanKernels() {
	ConstraintExpr("amd64,!purego")
	both(selscanScan)
	both(selscanStep)
	both(selscanLin)
}

// exp2Poly is 2^r on |r| <= 1/2, a minimax fit (Remez exchange, then rounded to
// float32) whose constant term is held at 1, so that no decay is exactly none;
// relative error 2.1e-8.
var exp2Poly = []float64{1, 0.6931472420692444, 0.24022652208805084, 0.055503103882074356, 0.009617692790925503, 0.0013406643411144614, 0.00015594672004226595}

// exp2Of is 2^x: 0 below -150, +Inf from 128, NaN for NaN. AVX-512 gives what is
// left of x beside its nearest integer in one operation, 0 for infinities, and
// scales by any power; elsewhere bounds keep the reduced argument away from Inf-Inf.
func exp2Of(s *simd, x operand.Op) reg.VecVirtual {
	if s.wide {
		r := s.reg()
		if !s.dry {
			VREDUCEPS(operand.U8(8), x, r)
		}
		p := s.poly(r, exp2Poly...)
		return s.scale(p, s.sub(x, r))
	}
	r := s.minB(s.f(129), s.maxB(s.f(-151), x))
	n := s.nearest(r)
	return s.scale(s.poly(s.sub(r, n), exp2Poly...), n)
}

func selscanScan(s *simd) {
	const (
		fState = iota
		fN
		fT
		fA
		fLda
		fRate
		fLdrate
		fDt
		fU
		fY
		fLd
		fB
		fLdb
		fC
		fLdc
		fSkip
		fAhead   // 4 fields
		fLdahead = fAhead + 4
	)
	arg := function(s, "scan")
	rate, du, u, sum := s.reg(), s.reg(), s.reg(), s.reg()
	for off := 0; off < 64; off += s.bytes() {
		label := func(name string) string { return fmt.Sprintf("%s%d", name, off) }
		ptr := func(field int) reg.GPVirtual {
			p := arg.load(field)
			if off > 0 {
				ADDQ(operand.U8(uint8(off)), p)
			}
			return p
		}
		pRate, pDt, pU, pY := ptr(fRate), ptr(fDt), ptr(fU), ptr(fY)
		a, b, c, t := ptr(fA), arg.load(fB), arg.load(fC), arg.load(fT)
		state, n, i := GP64(), GP64(), GP64()
		body := func() {
			x := s.reg()
			if !s.dry {
				VMULPS(operand.Mem{Base: a, Index: n, Scale: 1}, rate, x)
			}
			e := exp2Of(s, x)
			if s.dry {
				return
			}
			h := s.reg()
			bcast := func(p reg.Register) operand.Mem { return operand.Mem{Base: p, Index: i, Scale: 4} }
			if s.wide {
				VMULPS_BCST(bcast(b), du, h)
			} else {
				VBROADCASTSS(bcast(b), h)
				VMULPS(du, h, h)
			}
			at := operand.Mem{Base: state, Index: n, Scale: 1}
			VFMADD231PS(at, e, h)
			VMOVUPS(h, at)
			if s.wide {
				VFMADD231PS_BCST(bcast(c), h, sum)
			} else {
				VBROADCASTSS(bcast(c), e)
				VFMADD231PS(e, h, sum)
			}
		}
		s.learn(20, body)
		Label(label("step"))
		VMOVUPS(operand.Mem{Base: pRate}, rate)
		VMOVUPS(operand.Mem{Base: pU}, u)
		VMULPS(operand.Mem{Base: pDt}, u, du)
		VXORPS(sum, sum, sum)
		MOVQ(arg.mem(fState), state)
		if off > 0 {
			ADDQ(operand.U8(uint8(off)), state)
		}
		for j := 0; j < 4 && off == 0; j++ {
			p := arg.load(fAhead + j)
			PREFETCHT0(operand.Mem{Base: p})
			ADDQ(arg.mem(fLdahead+j), p)
			MOVQ(p, arg.mem(fAhead+j))
		}
		XORQ(n, n)
		XORQ(i, i)
		Label(label("state"))
		body()
		ADDQ(operand.U8(64), n)
		INCQ(i)
		CMPQ(i, arg.mem(fN))
		JB(ref(label("state")))
		skip := ptr(fSkip)
		CMPQ(arg.mem(fSkip), operand.U8(0))
		JE(ref(label("noSkip")))
		VFMADD231PS(operand.Mem{Base: skip}, u, sum)
		Label(label("noSkip"))
		VMOVUPS(sum, operand.Mem{Base: pY})
		for _, p := range []struct {
			r     reg.GPVirtual
			field int
		}{{pRate, fLdrate}, {pDt, fLd}, {pU, fLd}, {pY, fLd}, {a, fLda}, {b, fLdb}, {c, fLdc}} {
			ld := arg.load(p.field)
			LEAQ(operand.Mem{Base: p.r, Index: ld, Scale: 4}, p.r)
		}
		DECQ(t)
		JNE(ref(label("step")))
	}
	done()
}

// selscanStep walks the channels a few at a time with lanes along n, so that b
// and c are loaded once for all of them and the sums are folded together.
func selscanStep(s *simd) {
	const (
		fFrom = iota
		fTo
		fA
		fDt
		fU
		fY
		fB
		fC
		fD
		fN
	)
	arg := function(s, "step")
	from, to, a := arg.load(fFrom), arg.load(fTo), arg.load(fA)
	d, stride := arg.load(fD), arg.bytes(fN)
	full, rest := arg.bytes(fN), arg.load(fN)
	ANDQ(operand.I32(int32(-s.bytes())), full)
	ANDQ(operand.U32(uint32(s.lanes()-1)), rest)
	mask := s.tail(rest)
	i, ch := GP64(), GP64()
	XORQ(ch, ch)
	s.learn(20, func() { expOf(s, s.reg(), false) })
	rows := func(count int, label string) {
		var acc, dts, dus []reg.VecVirtual
		dt, u := arg.load(fDt), arg.load(fU)
		for r := range count {
			v, w, z := s.reg(), s.reg(), s.reg()
			VBROADCASTSS(operand.Mem{Base: dt, Index: ch, Scale: 4, Disp: 4 * r}, v)
			VBROADCASTSS(operand.Mem{Base: u, Index: ch, Scale: 4, Disp: 4 * r}, w)
			VMULPS(v, w, w)
			VXORPS(z, z, z)
			acc, dts, dus = append(acc, z), append(dts, v), append(dus, w)
		}
		vector := func(m *tailMask) {
			fp, tp, ap := GP64(), GP64(), GP64()
			for _, p := range []struct{ from, to reg.GPVirtual }{{from, fp}, {to, tp}, {a, ap}} {
				LEAQ(operand.Mem{Base: p.from, Index: i, Scale: 1}, p.to)
			}
			bv := s.load(operand.Mem{Base: arg.load(fB), Index: i, Scale: 1}, m)
			cv := s.load(operand.Mem{Base: arg.load(fC), Index: i, Scale: 1}, m)
			for r := range count {
				x := s.load(operand.Mem{Base: ap}, m)
				VMULPS(dts[r], x, x)
				e := expOf(s, x, false)
				VMULPS(s.load(operand.Mem{Base: fp}, m), e, e)
				VFMADD231PS(bv, dus[r], e)
				s.store(e, operand.Mem{Base: tp}, m)
				VFMADD231PS(cv, e, acc[r])
				if r < count-1 {
					for _, p := range []reg.GPVirtual{fp, tp, ap} {
						ADDQ(stride, p)
					}
				}
			}
		}
		XORQ(i, i)
		TESTQ(full, full)
		JE(ref(label + "Rest"))
		Label(label + "Vector")
		vector(nil)
		ADDQ(operand.U32(uint32(s.bytes())), i)
		CMPQ(i, full)
		JB(ref(label + "Vector"))
		Label(label + "Rest")
		TESTQ(rest, rest)
		JE(ref(label + "Sum"))
		vector(&mask)
		Label(label + "Sum")
		sum := foldRows(s, acc)
		out := operand.Mem{Base: arg.load(fY), Index: ch, Scale: 4}
		switch count {
		case 4:
			VMOVUPS(sum, out)
		case 2:
			VMOVLPS(sum, out)
		default:
			VMOVSS(sum, out)
		}
		for _, p := range []reg.GPVirtual{from, to, a} {
			LEAQ(operand.Mem{Base: p, Index: stride, Scale: uint8(count)}, p)
		}
		ADDQ(operand.U8(uint8(count)), ch)
		SUBQ(operand.U8(uint8(count)), d)
	}
	many := 4
	if !s.wide {
		many = 2 // of 16 registers
	}
	Label("many")
	CMPQ(d, operand.U8(uint8(many)))
	JB(ref("one"))
	rows(many, "many")
	JMP(ref("many"))
	Label("one")
	TESTQ(d, d)
	JE(ref("done"))
	rows(1, "one")
	JMP(ref("one"))
	Label("done")
	done()
}

// selscanLin keeps the states of 64 channels in registers (AVX2: 32 at a time).
func selscanLin(s *simd) {
	const (
		fH = iota
		fT
		fA
		fLda
		fU
		fLdu
		fY
		fLdy
		fW
	)
	arg := function(s, "lin")
	zero, lanes := GP64(), GP64()
	XORQ(zero, zero)
	MOVQ(operand.U32(uint32(s.lanes())), lanes)
	for off := 0; off < 256; off += 4 * s.bytes() {
		var masks []tailMask
		for j := range 4 {
			n := arg.load(fW)
			SUBQ(operand.U8(uint8(off/4+j*s.lanes())), n)
			CMOVQLT(zero, n)
			CMPQ(n, lanes)
			CMOVQGT(lanes, n)
			masks = append(masks, s.tail(n))
		}
		h := arg.load(fH)
		var hs []reg.VecVirtual
		at := func(p reg.Register, j int) operand.Mem { return operand.Mem{Base: p, Disp: off + j*s.bytes()} }
		for j := range 4 {
			v := s.reg()
			VMOVUPS(at(h, j), v)
			hs = append(hs, v)
		}
		lda, ldu, ldy := arg.bytes(fLda), arg.bytes(fLdu), arg.bytes(fLdy)
		// The masked store of AVX2 is slow: whole vectors take the other loop.
		loop := func(label string, mask func(j int) *tailMask) {
			Label(label)
			a, u, y, t := arg.load(fA), arg.load(fU), arg.load(fY), arg.load(fT)
			Label(label + "Step")
			for j := range 4 {
				av := s.load(at(a, j), mask(j))
				VFMADD213PS(s.load(at(u, j), mask(j)), av, hs[j])
				s.store(hs[j], at(y, j), mask(j))
			}
			ADDQ(lda, a)
			ADDQ(ldu, u)
			ADDQ(ldy, y)
			DECQ(t)
			JNE(ref(label + "Step"))
		}
		CMPQ(arg.mem(fW), operand.U8(uint8((off+4*s.bytes())/4)))
		JB(ref(fmt.Sprintf("partly%d", off)))
		loop(fmt.Sprintf("whole%d", off), func(int) *tailMask { return nil })
		JMP(ref(fmt.Sprintf("keep%d", off)))
		loop(fmt.Sprintf("partly%d", off), func(j int) *tailMask { return &masks[j] })
		Label(fmt.Sprintf("keep%d", off))
		for j := range 4 {
			VMOVUPS(hs[j], at(h, j))
		}
	}
	done()
}
