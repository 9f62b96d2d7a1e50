package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

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

// exp2OfProduct is 2^(y*k) without the error of a rounded product; that of k, times
// y, remains. y is no infinity.
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
