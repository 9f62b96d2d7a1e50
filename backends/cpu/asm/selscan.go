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
	both(selscanRate)
	both(selscanScan)
	both(selscanGate)
	both(selscanStep)
	both(selscanLin)
}

// selscanScan takes the lane groups through the steps one after another, their states
// in the first level of cache.
func selscanScan(s *simd) {
	const (
		fGroups = iota
		fState
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
	rate, u, du, sum := s.reg(), s.reg(), s.reg(), s.reg()
	lds := map[int]operand.Mem{}
	for _, field := range []int{fLdrate, fLd, fLda, fLdb, fLdc} {
		lds[field] = AllocLocal(8)
		MOVQ(arg.bytes(field), lds[field])
	}
	panel := arg.load(fN)
	SHLQ(operand.U8(6), panel)
	ahead := AllocLocal(4 * 8)
	Label("group")
	for j := range 4 {
		MOVQ(arg.load(fAhead+j), ahead.Offset(8*j))
	}
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
		state, n, i, left := ptr(fState), GP64(), GP64(), GP64()
		states := func(from, count int) {
			row := func(p reg.Register, j int) operand.Mem {
				return operand.Mem{Base: p, Index: n, Scale: 1, Disp: 64 * (from + j)}
			}
			bcast := func(p reg.Register, j int) operand.Mem {
				return operand.Mem{Base: p, Index: i, Scale: 4, Disp: 4 * (from + j)}
			}
			e := exp2Of(s, make(group, count).each(func(j int, _ reg.VecVirtual) reg.VecVirtual { return s.mul(rate, row(a, j)) }))
			h := e.each(func(j int, e reg.VecVirtual) reg.VecVirtual {
				h := s.fma(s.mulBcast(du, bcast(b, j)), e, row(state, j))
				s.store(h, row(state, j), nil)
				return h
			})
			for j, h := range h {
				s.fmaBcast(sum, h, bcast(c, j))
			}
		}
		s.learn(18, func() { states(0, 1) })
		loop := func(name string, counts ...int) {
			Label(label(name))
			from := 0
			for _, count := range counts {
				states(from, count)
				from += count
			}
			ADDQ(operand.U32(uint32(64*from)), n)
			ADDQ(operand.U8(uint8(from)), i)
			SUBQ(operand.U8(uint8(from)), left)
		}
		Label(label("step"))
		VMOVUPS(operand.Mem{Base: pRate}, rate)
		VMOVUPS(operand.Mem{Base: pU}, u)
		VMULPS(operand.Mem{Base: pDt}, u, du)
		VXORPS(sum, sum, sum)
		for j := 0; j < 4 && off == 0; j++ {
			p := GP64()
			MOVQ(ahead.Offset(8*j), p)
			PREFETCHT0(operand.Mem{Base: p})
			ADDQ(arg.mem(fLdahead+j), p)
			MOVQ(p, ahead.Offset(8*j))
		}
		XORQ(n, n)
		XORQ(i, i)
		MOVQ(arg.mem(fN), left)
		if s.wide { // elsewhere registers are too few
			SUBQ(operand.U8(8), left)
			JB(ref(label("few")))
			loop("eight", 4, 4)
			JAE(ref(label("eight")))
			Label(label("few"))
			ADDQ(operand.U8(8), left)
			JE(ref(label("sum")))
		}
		loop("one", 1)
		JNE(ref(label("one")))
		Label(label("sum"))
		skip := ptr(fSkip)
		CMPQ(arg.mem(fSkip), operand.U8(0))
		JE(ref(label("noSkip")))
		VFMADD231PS(operand.Mem{Base: skip}, u, sum)
		Label(label("noSkip"))
		VMOVUPS(sum, operand.Mem{Base: pY})
		ADDQ(lds[fLdrate], pRate)
		for _, p := range []reg.GPVirtual{pDt, pU, pY} {
			ADDQ(lds[fLd], p)
		}
		ADDQ(lds[fLda], a)
		ADDQ(lds[fLdb], b)
		ADDQ(lds[fLdc], c)
		DECQ(t)
		JNE(ref(label("step")))
	}
	ADDQ(panel, arg.mem(fA))
	ADDQ(panel, arg.mem(fState))
	for _, field := range []int{fRate, fDt, fU, fY, fAhead, fAhead + 1, fAhead + 2, fAhead + 3} {
		ADDQ(operand.U8(64), arg.mem(field))
	}
	CMPQ(arg.mem(fSkip), operand.U8(0))
	JE(ref("nextGroup"))
	ADDQ(operand.U8(64), arg.mem(fSkip))
	Label("nextGroup")
	DECQ(arg.mem(fGroups))
	JNE(ref("group"))
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
