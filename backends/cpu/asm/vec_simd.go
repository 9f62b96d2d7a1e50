package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// simd emits one kernel for AVX-512 (wide) or AVX2 through the same methods, so
// that a formula is written once. A method never changes its operands unless
// its comment says so.
//
// A kernel body is run twice: dry, to learn which constants it uses, and then
// for real, after the constants were broadcast into registers (AVX-512; AVX2
// has too few and reads them from memory).
type simd struct {
	wide bool
	dry  bool
	used []uint32                  // constants in order of first use
	held map[uint32]reg.VecVirtual // constants that live in registers
	max  int                       // how many may
}

// pool is the constants of the file being written, each repeated 8 times.
var pool = map[uint32]operand.Mem{}

func both(f func(s *simd)) {
	f(&simd{wide: true})
	f(&simd{})
}

func (s *simd) suffix() string {
	if s.wide {
		return "AVX512"
	}
	return "AVX2"
}

func (s *simd) lanes() int {
	if s.wide {
		return 16
	}
	return 8
}

// bytes is the size of a vector.
func (s *simd) bytes() int { return 4 * s.lanes() }

func (s *simd) reg() reg.VecVirtual {
	if s.wide {
		return ZMM()
	}
	return YMM()
}

// learn runs body dry; hold then emits the loads of the constants it used. At
// most limit of them are held in registers (none for AVX2).
func (s *simd) learn(limit int, body func()) {
	s.dry, s.used, s.held, s.max = true, nil, map[uint32]reg.VecVirtual{}, limit
	body()
	s.dry = false
	if !s.wide {
		return
	}
	for _, b := range s.used[:min(limit, len(s.used))] {
		r := s.reg()
		VBROADCASTSS(constant(b), r)
		s.held[b] = r
	}
}

func constant(bits uint32) operand.Mem {
	m, ok := pool[bits]
	if !ok {
		m = GLOBL(fmt.Sprintf("k%08x", bits), attr.RODATA|attr.NOPTR)
		for i := range 4 {
			DATA(8*i, operand.U64(uint64(bits)<<32|uint64(bits)))
		}
		pool[bits] = m
	}
	return m
}

func (s *simd) note(bits uint32) {
	for _, b := range s.used {
		if b == bits {
			return
		}
	}
	s.used = append(s.used, bits)
}

// bits gives the constant with these bits in every lane as a source operand.
func (s *simd) bits(b uint32) operand.Op {
	if s.dry {
		s.note(b)
		return s.reg()
	}
	if r, ok := s.held[b]; ok {
		return r
	}
	if s.wide {
		r := s.reg()
		VBROADCASTSS(constant(b), r)
		return r
	}
	return constant(b)
}

// f is bits for a float32 constant.
func (s *simd) f(x float64) operand.Op { return s.bits(math.Float32bits(float32(x))) }

// inReg gives an operand in a register.
func (s *simd) inReg(x operand.Op) reg.VecVirtual {
	if r, ok := x.(reg.VecVirtual); ok {
		return r
	}
	r := s.reg()
	VMOVUPS(x, r)
	return r
}

// copy gives a fresh register that may be changed in place.
func (s *simd) copy(x operand.Op) reg.VecVirtual {
	r := s.reg()
	if !s.dry {
		VMOVUPS(x, r)
	}
	return r
}

// op2 emits dst = a OP b for an instruction in avo's operand order (b, a, dst).
func (s *simd) op2(ins func(...operand.Op), a, b operand.Op) reg.VecVirtual {
	r := s.reg()
	if !s.dry {
		ins(b, s.inReg(a), r)
	}
	return r
}

func (s *simd) add(a, b operand.Op) reg.VecVirtual { return s.op2(VADDPS, a, b) }
func (s *simd) sub(a, b operand.Op) reg.VecVirtual { return s.op2(VSUBPS, a, b) }
func (s *simd) mul(a, b operand.Op) reg.VecVirtual { return s.op2(VMULPS, a, b) }
func (s *simd) div(a, b operand.Op) reg.VecVirtual { return s.op2(VDIVPS, a, b) }
func (s *simd) and(a, b operand.Op) reg.VecVirtual { return s.op2(VANDPS, a, b) }
func (s *simd) or(a, b operand.Op) reg.VecVirtual  { return s.op2(VORPS, a, b) }
func (s *simd) xor(a, b operand.Op) reg.VecVirtual { return s.op2(VXORPS, a, b) }

// maxB and minB give b where either operand is NaN.
func (s *simd) maxB(a, b operand.Op) reg.VecVirtual { return s.op2(VMAXPS, a, b) }
func (s *simd) minB(a, b operand.Op) reg.VecVirtual { return s.op2(VMINPS, a, b) }

func (s *simd) sqrt(x operand.Op) reg.VecVirtual {
	r := s.reg()
	if !s.dry {
		VSQRTPS(x, r)
	}
	return r
}

// fma changes acc: acc += a*b.
func (s *simd) fma(acc reg.VecVirtual, a, b operand.Op) reg.VecVirtual {
	if !s.dry {
		VFMADD231PS(b, s.inReg(a), acc)
	}
	return acc
}

// fnma changes acc: acc -= a*b.
func (s *simd) fnma(acc reg.VecVirtual, a, b operand.Op) reg.VecVirtual {
	if !s.dry {
		VFNMADD231PS(b, s.inReg(a), acc)
	}
	return acc
}

// fnms changes acc: acc = -a*b - acc.
func (s *simd) fnms(acc reg.VecVirtual, a, b operand.Op) reg.VecVirtual {
	if !s.dry {
		VFNMSUB231PS(b, s.inReg(a), acc)
	}
	return acc
}

// fms changes acc: acc = a*b - acc.
func (s *simd) fms(acc reg.VecVirtual, a, b operand.Op) reg.VecVirtual {
	if !s.dry {
		VFMSUB231PS(b, s.inReg(a), acc)
	}
	return acc
}

// mulBcast is a times the number at m.
func (s *simd) mulBcast(a reg.VecVirtual, m operand.Mem) reg.VecVirtual {
	r := s.reg()
	switch {
	case s.dry:
	case s.wide:
		VMULPS_BCST(m, a, r)
	default:
		VBROADCASTSS(m, r)
		VMULPS(a, r, r)
	}
	return r
}

// fmaBcast changes acc: acc += a times the number at m.
func (s *simd) fmaBcast(acc, a reg.VecVirtual, m operand.Mem) {
	switch {
	case s.dry:
	case s.wide:
		VFMADD231PS_BCST(m, a, acc)
	default:
		r := s.reg()
		VBROADCASTSS(m, r)
		VFMADD231PS(r, a, acc)
	}
}

// mulAdd changes p: p = p*x + c.
func (s *simd) mulAdd(p reg.VecVirtual, x, c operand.Op) reg.VecVirtual {
	if !s.dry {
		VFMADD213PS(c, s.inReg(x), p)
	}
	return p
}

// poly evaluates coef[0] + coef[1]*x + ... by Horner's rule.
func (s *simd) poly(x reg.VecVirtual, coef ...float64) reg.VecVirtual {
	p := s.copy(s.f(coef[len(coef)-1]))
	for i := len(coef) - 2; i >= 0; i-- {
		s.mulAdd(p, x, s.f(coef[i]))
	}
	return p
}

// nearest rounds to the nearest integer, ties to even.
func (s *simd) nearest(x operand.Op) reg.VecVirtual {
	r := s.reg()
	switch {
	case s.dry:
	case s.wide:
		VRNDSCALEPS(operand.U8(8), x, r)
	default:
		VROUNDPS(operand.U8(8), x, r)
	}
	return r
}

func (s *simd) abs(x operand.Op) reg.VecVirtual { return s.and(x, s.bits(0x7fffffff)) }

// withSign gives x (not negative) the sign of y.
func (s *simd) withSign(x, y operand.Op) reg.VecVirtual {
	return s.or(x, s.and(y, s.bits(0x80000000)))
}

// Comparison predicates, all false on NaN but for the last two.
const (
	cmpEQ  = 0x00
	cmpLT  = 0x11
	cmpLE  = 0x12
	cmpUNO = 0x03 // unordered
	cmpNGE = 0x19 // not >=, true on NaN
)

// cmp gives the mask of a OP b.
func (s *simd) cmp(pred uint8, a, b operand.Op) reg.Register {
	if s.wide {
		k := K()
		if !s.dry {
			VCMPPS(operand.U8(pred), b, s.inReg(a), k)
		}
		return k
	}
	r := s.reg()
	if !s.dry {
		VCMPPS(operand.U8(pred), b, s.inReg(a), r)
	}
	return r
}

// signMask is the mask of the lanes whose sign bit is set.
func (s *simd) signMask(x reg.VecVirtual) reg.Register {
	if !s.wide {
		return x
	}
	k := K()
	if !s.dry {
		VPMOVD2M(x, k)
	}
	return k
}

// pick is mask ? a : b.
func (s *simd) pick(mask reg.Register, a, b operand.Op) reg.VecVirtual {
	r := s.reg()
	switch {
	case s.dry:
	case s.wide:
		VBLENDMPS(a, s.inReg(b), mask, r)
	default:
		VBLENDVPS(mask, a, s.inReg(b), r)
	}
	return r
}

// keep is mask ? x : +0.
func (s *simd) keep(mask reg.Register, x reg.VecVirtual) reg.VecVirtual {
	r := s.reg()
	switch {
	case s.dry:
	case s.wide:
		VMOVAPS_Z(x, mask, r)
	default:
		VANDPS(x, mask, r)
	}
	return r
}

// pow2 is 2^n for integral n in [-126, 127].
func (s *simd) pow2(n reg.VecVirtual) reg.VecVirtual {
	if s.wide {
		return s.op2(VSCALEFPS, s.f(1), n)
	}
	r := s.reg()
	if !s.dry {
		VCVTPS2DQ(n, r)
		VPADDD(s.bits(127), r, r)
		VPSLLD(operand.U8(23), r, r)
	} else {
		s.bits(127)
	}
	return r
}

// scale is p*2^n with a single rounding, for integral n in [-252, 254].
func (s *simd) scale(p, n reg.VecVirtual) reg.VecVirtual {
	if s.wide {
		return s.op2(VSCALEFPS, p, n)
	}
	bias := s.bits(127)
	r := s.reg()
	if s.dry {
		return r
	}
	// Two factors: 2^n itself may lie outside the normal range.
	i, h := s.reg(), s.reg()
	VCVTPS2DQ(n, i)
	VPSRAD(operand.U8(1), i, h)
	VPSUBD(h, i, i)
	VPADDD(bias, i, i)
	VPADDD(bias, h, h)
	VPSLLD(operand.U8(23), i, i)
	VPSLLD(operand.U8(23), h, h)
	VMULPS(p, h, r)
	VMULPS(i, r, r)
	return r
}

// tailMask selects the lanes below some count, for loads and stores that must
// not touch anything past the end.
type tailMask struct{ r reg.Register }

// tail makes the mask of the first n lanes, 0 <= n <= lanes.
func (s *simd) tail(n reg.GPVirtual) tailMask {
	if s.wide {
		t, k := GP64(), K()
		MOVQ(operand.U32(1), t)
		SHLXQ(n, t, t)
		DECQ(t)
		KMOVW(t.As32(), k)
		return tailMask{k}
	}
	t, a, m := GP64(), GP64(), s.reg()
	LEAQ(windowData(), a)
	MOVQ(operand.U32(8), t)
	SUBQ(n, t)
	VMOVDQU(operand.Mem{Base: a, Index: t, Scale: 4}, m)
	return tailMask{m}
}

var window operand.Mem

// windowData is 8 lanes of ones and then 8 of zeros: loading 8 lanes from
// element 8-n gives the mask of the first n.
func windowData() operand.Mem {
	if window.Base == nil {
		window = GLOBL("window", attr.RODATA|attr.NOPTR)
		for i := range 8 {
			v := uint64(0)
			if i < 4 {
				v = math.MaxUint64
			}
			DATA(8*i, operand.U64(v))
		}
	}
	return window
}

// load reads a vector; with a mask the other lanes are 0 and are not touched.
func (s *simd) load(m operand.Mem, mask *tailMask) reg.VecVirtual {
	r := s.reg()
	switch {
	case s.dry:
	case mask == nil:
		VMOVUPS(m, r)
	case s.wide:
		VMOVUPS_Z(m, mask.r, r)
	default:
		VMASKMOVPS(m, mask.r, r)
	}
	return r
}

// store writes a vector, or its masked lanes.
func (s *simd) store(x reg.VecVirtual, m operand.Mem, mask *tailMask) {
	switch {
	case s.dry:
	case mask == nil:
		VMOVUPS(x, m)
	case s.wide:
		VMOVUPS(x, mask.r, m)
	default:
		VMASKMOVPS(x, mask.r, m)
	}
}
