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

// exp2Poly is 2^r on |r| <= 1/2, a minimax fit (found in float64 by reweighting,
// then rounded to float32) whose constant term is held at 1, so that slow decays are
// as good as float32 can write them and none is exactly none; relative error 9.5e-8.
var exp2Poly = []float64{1, 0.6931470036506653, 0.24022243916988373, 0.05550720542669296, 0.009671508334577084, 0.0013264663284644485}

// softplusPoly is log(1+t)/t on 0 <= t <= 1, found by Remez exchange; 4.5e-8.
var softplusPoly = []float64{1, -0.49999651312828064, 0.3332132399082184, -0.24857161939144135, 0.1915365606546402, -0.13753804564476013, 0.07920456677675247, -0.030065808445215225, 0.005364830605685711}

// group is vectors for which the same is computed. Their operations take turns,
// since each waits for the one before it.
type group []reg.VecVirtual

func (g group) each(f func(i int, x reg.VecVirtual) reg.VecVirtual) group {
	w := make(group, len(g))
	for i, x := range g {
		w[i] = f(i, x)
	}
	return w
}

func (g group) poly(s *simd, coef []float64) group {
	last := len(coef) - 1
	p := g.each(func(int, reg.VecVirtual) reg.VecVirtual { return s.copy(s.f(coef[last])) })
	for i := last - 1; i >= 0; i-- {
		p.each(func(j int, p reg.VecVirtual) reg.VecVirtual { return s.mulAdd(p, g[j], s.f(coef[i])) })
	}
	return p
}

// exp2Split writes x as n+r, n integral and |r| <= 1/2. AVX-512 has r in one
// operation, 0 for infinities; elsewhere bounds keep the argument away from Inf-Inf.
func exp2Split(s *simd, x group) (r, n group) {
	if s.wide {
		r = x.each(func(_ int, x reg.VecVirtual) reg.VecVirtual {
			r := s.reg()
			if !s.dry {
				VREDUCEPS(operand.U8(8), x, r)
			}
			return r
		})
		return r, x.each(func(i int, x reg.VecVirtual) reg.VecVirtual { return s.sub(x, r[i]) })
	}
	x = x.each(func(_ int, x reg.VecVirtual) reg.VecVirtual { return s.minB(s.f(129), s.maxB(s.f(-151), x)) })
	n = x.each(func(_ int, x reg.VecVirtual) reg.VecVirtual { return s.nearest(x) })
	return x.each(func(i int, x reg.VecVirtual) reg.VecVirtual { return s.sub(x, n[i]) }), n
}

// exp2Of is 2^x: 0 below -150, +Inf from 128, NaN for NaN.
func exp2Of(s *simd, x group) group {
	r, n := exp2Split(s, x)
	return r.poly(s, exp2Poly).each(func(i int, p reg.VecVirtual) reg.VecVirtual { return s.scale(p, n[i]) })
}

// exp2OfProduct is 2^(y*k) without the error of a rounded product. y is no
// infinity.
func exp2OfProduct(s *simd, y group, k operand.Op) group {
	_, n := exp2Split(s, y.each(func(_ int, y reg.VecVirtual) reg.VecVirtual { return s.mul(y, k) }))
	r := y.each(func(i int, y reg.VecVirtual) reg.VecVirtual { return s.fms(s.copy(n[i]), y, k) })
	return r.poly(s, exp2Poly).each(func(i int, p reg.VecVirtual) reg.VecVirtual { return s.scale(p, n[i]) })
}

// rowsKernel walks t rows of w numbers, those of the fields rows[0], rows[1]... with
// the distances in the fields after them, and stores f of them to the last.
func rowsKernel(s *simd, arg args, label string, fT, fW int, rows []int, f func(i reg.GPVirtual, at []operand.Mem, m *tailMask, count int) group) {
	t, full, rest := arg.load(fT), arg.bytes(fW), arg.load(fW)
	ANDQ(operand.I32(int32(-s.bytes())), full)
	ANDQ(operand.U32(uint32(s.lanes()-1)), rest)
	mask := s.tail(rest)
	i := GP64()
	var ps, lds []reg.GPVirtual
	for _, field := range rows {
		ps, lds = append(ps, arg.load(field)), append(lds, arg.bytes(field+1))
	}
	body := func(count int, m *tailMask) {
		at := make([]operand.Mem, len(ps))
		for j, p := range ps {
			at[j] = operand.Mem{Base: p, Index: i, Scale: 1}
		}
		last := len(at) - 1
		for j, x := range f(i, at[:last], m, count) {
			s.store(x, at[last].Offset(j*s.bytes()), m)
		}
	}
	s.learn(20, func() { f(i, make([]operand.Mem, len(ps)), nil, 1) })
	many := 1
	if s.wide { // elsewhere registers are too few
		many = 2
	}
	step := uint32(many * s.bytes())
	Label(label + "Row")
	XORQ(i, i)
	SUBQ(operand.U32(step), full)
	JB(ref(label + "Few"))
	Label(label + "Many")
	body(many, nil)
	ADDQ(operand.U32(step), i)
	CMPQ(i, full)
	JBE(ref(label + "Many"))
	Label(label + "Few")
	ADDQ(operand.U32(step), full)
	CMPQ(i, full)
	JAE(ref(label + "Rest"))
	Label(label + "One")
	body(1, nil)
	ADDQ(operand.U32(uint32(s.bytes())), i)
	CMPQ(i, full)
	JB(ref(label + "One"))
	Label(label + "Rest")
	TESTQ(rest, rest)
	JE(ref(label + "Next"))
	body(1, &mask)
	Label(label + "Next")
	for j, p := range ps {
		ADDQ(lds[j], p)
	}
	DECQ(t)
	JNE(ref(label + "Row"))
}

// loads reads count vectors from m on.
func (s *simd) loads(m operand.Mem, mask *tailMask, count int) group {
	v := make(group, count)
	for i := range v {
		v[i] = s.load(m.Offset(i*s.bytes()), mask)
	}
	return v
}

// selscanRate is dt = clamp(softplus?(raw + bias)).
func selscanRate(s *simd) {
	const (
		fT = iota
		fW
		fRaw
		_
		fDt
		_
		fBias
		fSoftplus
		fLo
		fHi
	)
	arg := function(s, "rate")
	bias, lo, hi := arg.load(fBias), s.reg(), s.reg()
	VBROADCASTSS(arg.mem(fLo), lo)
	VBROADCASTSS(arg.mem(fHi), hi)
	rates := func(label string, f func(x group) group) {
		rowsKernel(s, arg, label, fT, fW, []int{fRaw, fDt}, func(i reg.GPVirtual, at []operand.Mem, m *tailMask, count int) group {
			b := s.loads(operand.Mem{Base: bias, Index: i, Scale: 1}, m, count)
			x := s.loads(at[0], m, count).each(func(i int, x reg.VecVirtual) reg.VecVirtual { return s.add(x, b[i]) })
			return f(x).each(func(_ int, x reg.VecVirtual) reg.VecVirtual { return s.minB(hi, s.maxB(lo, x)) })
		})
	}
	CMPQ(arg.mem(fSoftplus), operand.U8(0))
	JE(ref("plain"))
	rates("softplus", func(x group) group {
		y := x.each(func(_ int, x reg.VecVirtual) reg.VecVirtual { return s.maxB(s.f(-104), s.or(x, s.bits(0x80000000))) })
		t := exp2OfProduct(s, y, s.f(log2e))
		p := t.poly(s, softplusPoly)
		return p.each(func(i int, p reg.VecVirtual) reg.VecVirtual { return s.mulAdd(p, t[i], s.maxB(s.bits(0), x[i])) })
	})
	done()
	Label("plain")
	rates("plain", func(x group) group { return x })
	done()
}

// selscanGate is y = sum*silu(z).
func selscanGate(s *simd) {
	const (
		fT = iota
		fW
		fSum
		_
		fZ
		_
		fY
	)
	arg := function(s, "gate")
	rowsKernel(s, arg, "gate", fT, fW, []int{fSum, fZ, fY}, func(_ reg.GPVirtual, at []operand.Mem, m *tailMask, count int) group {
		// e^-z, which is Inf for z that would make it so, is no less than e^-127.
		z := s.loads(at[1], m, count)
		y := z.each(func(_ int, z reg.VecVirtual) reg.VecVirtual { return s.minB(s.f(127), z) })
		e := exp2OfProduct(s, y, s.f(-log2e))
		sum := s.loads(at[0], m, count)
		return e.each(func(i int, e reg.VecVirtual) reg.VecVirtual { return s.div(s.mul(z[i], sum[i]), s.add(e, s.f(1))) })
	})
	done()
}

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
