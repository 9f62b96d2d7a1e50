package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The polynomials are minimax fits (Remez exchange in 160-bit arithmetic, then
// rounded to float32); the comment gives the interval and the relative error of
// the function they stand for, rounded coefficients included.
var (
	// (e^r-1-r)/r^2 on |r-0.0585| <= 1.005*ln2/2; 3.3e-9 of e^r.
	expPoly = []float64{0.5000001788139343, 0.16666549444198608, 0.04165886342525482, 0.008363516069948673, 0.0014566712779924273}
	// (log(1+f)-f+f^2/2)/f^3 on [-0.25, 0.5]; 4.9e-9 of the logarithm.
	logPoly = []float64{0.333333403, -0.250001639, 0.199996054, -0.166552961, 0.142762378, -0.127277777, 0.117006712, -0.0911622122, 0.0376731642}
	// (log(1+t)-2s)/s^3 in s^2 with s = t/(2+t), t in [0,1]; 4.5e-9.
	log1pPoly = []float64{0.666664183139801, 0.40021437406539917, 0.280030220746994, 0.2800680994987488}
	// erf(x)/x-1 in x^2 on |x| <= 1; 4.3e-9 of erf.
	erfPoly = []float64{0.128379166, -0.37612626, 0.112835854, -0.026853811, 0.00518832728, -0.00080101908, 7.85385128e-05}
	// Phi(-a)*e^(a^2/2)/t in t = 1/(1+a/4), a in [0, 14.6]; 3.4e-8.
	millsPoly = []float64{0.099746041, 0.0995267332, 0.0952460095, 0.0731999874, 0.0833303928, 0.0186712611, 0.0215205681, 0.0566734523, -0.0648659393, 0.0169514902}
)

// ln2Hi has few enough bits that n*ln2Hi is exact for every exponent n; ln2Lo
// is positive, so that log(0) = -Inf*ln2Hi + -Inf*ln2Lo keeps its sign.
const (
	log2e = 1.4426950408889634
	ln2Hi = 0.693145751953125
	ln2Lo = 1.42860682030941723212e-6
)

// expReduce writes e^x = (1+t)*2^n, n integral. x is first raised to -104, where
// e^x is below half the least denormal, and unless nonPositive lowered to 89,
// where it overflows; lo, when given, is subtracted from x in the reduced
// argument. NaN stays NaN.
func expReduce(s *simd, x operand.Op, nonPositive bool, lo reg.VecVirtual) (t, n reg.VecVirtual) {
	r := s.maxB(s.f(-104), x)
	if !nonPositive {
		r = s.minB(s.f(89), r)
	}
	// The interval for r leans to the right, by 0.0585, since a rounding error
	// counts double in the half where e^r is below 1.
	n = s.nearest(s.mulAdd(s.copy(r), s.f(log2e), s.f(-0.0585*log2e)))
	s.fnma(r, n, s.f(ln2Hi))
	s.fnma(r, n, s.f(ln2Lo))
	if lo != nil {
		r = s.sub(r, lo)
	}
	return expTail(s, r), n
}

func expOf(s *simd, x operand.Op, nonPositive bool) reg.VecVirtual {
	t, n := expReduce(s, x, nonPositive, nil)
	return s.scale(s.add(t, s.f(1)), n)
}

// expTail is (1+t) for the reduced argument r: t = r + r^2*Q(r).
func expTail(s *simd, r reg.VecVirtual) reg.VecVirtual {
	t := s.poly(r, expPoly...)
	return s.mulAdd(t, s.mul(r, r), r)
}

// sigmoidOf uses e^-|x|, the form that keeps its relative accuracy where e^-x
// would overflow.
func sigmoidOf(s *simd, x reg.VecVirtual) reg.VecVirtual {
	e := expOf(s, s.or(x, s.bits(0x80000000)), true)
	num := s.pick(s.signMask(x), e, s.f(1))
	return s.div(num, s.add(e, s.f(1)))
}

// gate is a/(1+e^-y). Below y = -88.4 the exponential overflows and the result
// is 0, where a = y would still give 3.5e-37: a quarter of the instructions of
// the convolution's inner loop are not worth that.
func gate(s *simd, a operand.Op, y reg.VecVirtual) reg.VecVirtual {
	m := s.minB(s.f(87.3), s.maxB(s.f(-89), y)) // 2^n is normal, or Inf for n = 128
	n := s.nearest(s.mulAdd(s.copy(m), s.f(-log2e), s.f(-0.0585*log2e)))
	r := s.fnms(m, n, s.f(ln2Hi))
	s.fnma(r, n, s.f(ln2Lo))
	e := s.add(expTail(s, r), s.f(1))
	if s.wide {
		e = s.scale(e, n)
	} else {
		e = s.mul(e, s.pow2(n))
	}
	return s.div(a, s.add(e, s.f(1)))
}

func silu(s *simd, x reg.VecVirtual) reg.VecVirtual { return gate(s, x, x) }

// logOf follows x = m*2^e, m in [0.75, 1.5).
func logOf(s *simd, x reg.VecVirtual) reg.VecVirtual {
	var m, e reg.VecVirtual
	if s.wide {
		// VGETMANT: interval [3/4, 3/2), NaN for negative x, +1 for ±0 and +Inf;
		// VGETEXP: -Inf for ±0, +Inf for Inf. Denormals need no care.
		m, e = s.reg(), s.reg()
		if !s.dry {
			g := s.reg()
			VGETMANTPS(operand.U8(0x0f), x, m)
			VGETEXPPS(x, e)
			VGETEXPPS(m, g)
			VSUBPS(g, e, e)
		}
	} else {
		tiny := s.cmp(cmpLT, x, s.bits(0x00800000))
		y := s.pick(tiny, s.mul(x, s.f(1<<23)), x)
		down := s.keep(tiny, s.inRegConst(s.f(23)))
		threshold := s.bits(0x3f400000) // 0.75
		m, e = s.reg(), s.reg()
		if !s.dry {
			VPSUBD(threshold, y, e)
			VPSRAD(operand.U8(23), e, e)
			VPSLLD(operand.U8(23), e, m)
			VPSUBD(m, y, m)
			VCVTDQ2PS(e, e)
			VSUBPS(down, e, e)
		}
	}
	f := s.sub(m, s.f(1))
	f2 := s.mul(f, f)
	p := s.poly(f, logPoly...)
	p = s.mul(s.mul(p, f), f2)
	s.fma(p, e, s.f(ln2Lo))
	s.fnma(p, f2, s.f(0.5))
	p = s.add(p, f)
	s.fma(p, e, s.f(ln2Hi))
	if !s.wide {
		p = s.pick(s.cmp(cmpEQ, x, s.bits(0x7f800000)), x, p)
		p = s.pick(s.cmp(cmpNGE, x, s.bits(0)), s.bits(0x7fc00000), p)
		p = s.pick(s.cmp(cmpEQ, x, s.bits(0)), s.bits(0xff800000), p)
	}
	return p
}

// inRegConst is inReg in a form that is safe in a dry run.
func (s *simd) inRegConst(x operand.Op) reg.VecVirtual {
	if s.dry {
		return s.reg()
	}
	return s.inReg(x)
}

// log1pOf is log(u) + c/u, u = 1+x rounded and c what the rounding lost.
func log1pOf(s *simd, x reg.VecVirtual) reg.VecVirtual {
	one := s.f(1)
	u := s.add(x, one)
	b := s.sub(u, one)
	c := s.add(s.sub(one, s.sub(u, b)), s.sub(x, b))
	// c is 0 at x = -1 and NaN at Inf: no correction there.
	q := s.keep(s.cmp(cmpLT, s.bits(0), s.abs(c)), s.div(c, u))
	return s.add(logOf(s, u), q)
}

// softplusOf is max(x,0) + log(1+t), t = e^-|x|, the logarithm through
// 2*atanh(t/(2+t)).
func softplusOf(s *simd, x reg.VecVirtual) reg.VecVirtual {
	t := expOf(s, s.or(x, s.bits(0x80000000)), true)
	r := s.div(t, s.add(t, s.f(2)))
	r2 := s.mul(r, r)
	p := s.poly(r2, log1pPoly...)
	s.mulAdd(p, s.mul(r2, r), s.add(r, r))
	return s.add(p, s.maxB(s.bits(0), x))
}

// tanhOf is (e^2|x|-1)/(e^2|x|+1) with the numerator formed without
// cancellation.
func tanhOf(s *simd, x reg.VecVirtual) reg.VecVirtual {
	a := s.minB(s.f(9.5), s.abs(x))
	t, n := expReduce(s, s.add(a, a), true, nil)
	two := s.pow2(n)
	m := s.mulAdd(t, two, s.sub(two, s.f(1)))
	return s.withSign(s.div(m, s.add(m, s.f(2))), x)
}

// mills is Phi(-a)*e^(a^2/2) for a = x*4*quarter in [0, 14.6]. It is up to three
// times as sensitive as t = 1/(1+a/4) to a relative error in t; refine makes up
// for that of the rounded t.
func mills(s *simd, x operand.Op, quarter float64, refine bool) reg.VecVirtual {
	d := s.copy(s.f(1))
	s.fma(d, x, s.f(quarter))
	t := s.div(s.f(1), d)
	m := s.mul(s.poly(t, millsPoly...), t)
	if refine {
		// rho = 1-t*(1+a/4); the sensitivity is 1 at t = 0 and 3.2 at t = 1.
		rho := s.sub(s.f(1), t)
		s.fnma(rho, t, s.mul(x, s.f(quarter)))
		amp := s.mulAdd(s.copy(t), s.f(2.2), s.f(1))
		s.fma(m, s.mul(rho, amp), m)
	}
	return m
}

// erfOf is a polynomial below 1, and 1-2*Phi(-sqrt2*|x|) above.
func erfOf(s *simd, x reg.VecVirtual) reg.VecVirtual {
	u := s.mul(x, x)
	small := s.poly(u, erfPoly...)
	s.mulAdd(small, x, x)
	a := s.minB(s.f(4), s.abs(x))
	t, n := expReduce(s, s.xor(s.mul(a, a), s.bits(0x80000000)), true, nil)
	e := s.mul(s.add(t, s.f(1)), s.pow2(n))
	w := s.mul(e, mills(s, a, 0.25*1.4142135623730951, false))
	large := s.copy(s.f(1))
	s.fnma(large, w, s.f(2))
	return s.pick(s.cmp(cmpLT, s.abs(x), s.f(1)), small, s.withSign(large, x))
}

// geluOf is max(x,0) - |x|*Phi(-|x|).
func geluOf(s *simd, x reg.VecVirtual) reg.VecVirtual {
	neg := s.xor(x, s.bits(0x80000000))
	// |x|, but bounded for positive x, where the product with Phi must be 0 at
	// +Inf; at -Inf it is NaN, as in the definition.
	ax := s.maxB(neg, s.minB(s.f(14.6), x))
	a := s.minB(s.f(14.6), ax)
	h := s.mul(a, s.f(0.5))
	hi := s.mul(a, h)
	lo := s.copy(hi)
	if !s.dry {
		VFMSUB231PS(h, a, lo) // lo = a*h - hi
	}
	t, n := expReduce(s, s.xor(hi, s.bits(0x80000000)), true, lo)
	w := s.mul(s.add(t, s.f(1)), mills(s, a, 0.25, true))
	r := s.maxB(s.bits(0), x)
	return s.fnma(r, ax, s.scale(w, n))
}

// geluTanhOf is x*sigmoid(2*sqrt(2/pi)*(x+0.044715x^3)).
func geluTanhOf(s *simd, x reg.VecVirtual) reg.VecVirtual {
	const k = 2 * 0.7978845608028654
	g := s.copy(s.f(k))
	s.fma(g, s.mul(x, x), s.f(k*0.044715))
	return gate(s, x, s.mul(x, g))
}

func vecUnary() {
	ConstraintExpr("amd64,!purego")
	for _, k := range []struct {
		name   string
		unroll int
		f      func(s *simd, x reg.VecVirtual) reg.VecVirtual
	}{
		{"exp", 2, func(s *simd, x reg.VecVirtual) reg.VecVirtual { return expOf(s, x, false) }},
		{"log", 2, logOf},
		{"log1p", 2, log1pOf},
		{"sigmoid", 2, sigmoidOf},
		{"silu", 2, silu},
		{"softplus", 2, softplusOf},
		{"tanh", 2, tanhOf},
		{"erf", 2, erfOf},
		{"gelu", 2, geluOf},
		{"geluTanh", 2, geluTanhOf},
		{"relu", 4, func(s *simd, x reg.VecVirtual) reg.VecVirtual { return s.maxB(s.bits(0), x) }},
		{"neg", 4, func(s *simd, x reg.VecVirtual) reg.VecVirtual { return s.xor(x, s.bits(0x80000000)) }},
		{"abs", 4, func(s *simd, x reg.VecVirtual) reg.VecVirtual { return s.abs(x) }},
		{"sqrt", 2, func(s *simd, x reg.VecVirtual) reg.VecVirtual { return s.sqrt(x) }},
		{"rsqrt", 2, func(s *simd, x reg.VecVirtual) reg.VecVirtual { return s.div(s.f(1), s.sqrt(x)) }},
		{"reciprocal", 2, func(s *simd, x reg.VecVirtual) reg.VecVirtual { return s.div(s.f(1), x) }},
		{"square", 4, func(s *simd, x reg.VecVirtual) reg.VecVirtual { return s.mul(x, x) }},
	} {
		elementwise(vecKernel{k.name, shapeUnary}, k.unroll, false,
			func(s *simd, in, _ []reg.VecVirtual) reg.VecVirtual { return k.f(s, in[0]) })
	}
}
