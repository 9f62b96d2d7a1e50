package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The kernels of package ssd that work along a vector: decay weights, packing
// and the decode step.
func ssdVector() {
	ConstraintExpr("amd64,!purego")
	both(ssdWeight)
	both(ssdPack)
	both(ssdStep)
	ssdTouch()
}

// ssdTouch prefetches the first lines of rows ld bytes apart.
func ssdTouch() {
	TEXT("touch", attr.NOSPLIT, "func(p *float32, ld, rows, lines int)")
	Pragma("noescape")
	p, ld := Load(Param("p"), GP64()), Load(Param("ld"), GP64())
	rows, lines := Load(Param("rows"), GP64()), Load(Param("lines"), GP64())
	q, n := GP64(), GP64()
	Label("row")
	MOVQ(p, q)
	MOVQ(lines, n)
	Label("line")
	PREFETCHT0(operand.Mem{Base: q})
	ADDQ(operand.U8(64), q)
	DECQ(n)
	JNE(ref("line"))
	ADDQ(ld, p)
	DECQ(rows)
	JNE(ref("row"))
	RET()
}

func ssdWeight(s *simd) {
	const (
		fScores = iota
		fOut
		fLd
		fHi
		fLo
		fDt
		fQ
	)
	a := function(s, "weight")
	scores, out, ld := a.load(fScores), a.load(fOut), a.bytes(fLd)
	hi, lo, dt, q := a.load(fHi), a.load(fLo), a.load(fDt), a.bytes(fQ)
	end, i := GP64(), GP64()
	XORQ(end, end) // bytes before step l
	hl, ll := s.reg(), s.reg()
	body := func() {
		at := func(p reg.Register) operand.Mem { return operand.Mem{Base: p, Index: i, Scale: 1} }
		d := s.reg()
		if !s.dry {
			e := s.reg()
			VSUBPS(at(hi), hl, d)
			VSUBPS(at(lo), ll, e)
			VADDPS(e, d, d)
		}
		d = expOf(s, d, false)
		if !s.dry {
			VMULPS(at(scores), d, d)
			VMULPS(at(dt), d, d)
			VMOVUPS(d, at(out))
		}
	}
	s.learn(20, body)
	Label("row")
	VBROADCASTSS(operand.Mem{Base: hi, Index: end, Scale: 1}, hl)
	VBROADCASTSS(operand.Mem{Base: lo, Index: end, Scale: 1}, ll)
	XORQ(i, i)
	Label("vector")
	body()
	ADDQ(operand.U32(uint32(s.bytes())), i)
	CMPQ(i, end)
	JBE(ref("vector"))
	ADDQ(ld, scores)
	ADDQ(ld, out)
	ADDQ(operand.U8(4), end)
	CMPQ(end, q)
	JB(ref("row"))
	done()
}

func ssdPack(s *simd) {
	const (
		fSrc = iota
		fLds
		fX
		fXw
		fW
		fQ
		fCols
	)
	a := function(s, "pack")
	src, lds, x, xw, w, q := a.load(fSrc), a.bytes(fLds), a.load(fX), a.load(fXw), a.load(fW), a.load(fQ)
	cols := a.load(fCols)
	zero, lanes := GP64(), GP64()
	XORQ(zero, zero)
	MOVQ(operand.U32(uint32(s.lanes())), lanes)
	var masks []tailMask
	for j := 0; j < panelCols; j += s.lanes() {
		n := GP64()
		MOVQ(cols, n)
		SUBQ(operand.U8(uint8(j)), n)
		CMOVQLT(zero, n)
		CMPQ(n, lanes)
		CMOVQGT(lanes, n)
		masks = append(masks, s.tail(n))
	}
	Label("row")
	// The next panel, of this head or the next, lies beside this one; its rows
	// are too far apart for the hardware to guess.
	PREFETCHT0(operand.Mem{Base: src, Disp: rowBytes})
	PREFETCHT0(operand.Mem{Base: src, Disp: rowBytes + 64})
	f := s.reg()
	VBROADCASTSS(operand.Mem{Base: w}, f)
	for j := range masks {
		at := func(p reg.Register) operand.Mem { return operand.Mem{Base: p, Disp: j * s.bytes()} }
		v := s.load(at(src), &masks[j])
		VMOVUPS(v, at(x))
		VMULPS(f, v, v)
		VMOVUPS(v, at(xw))
	}
	ADDQ(lds, src)
	ADDQ(operand.U32(rowBytes), x)
	ADDQ(operand.U32(rowBytes), xw)
	ADDQ(operand.U8(4), w)
	DECQ(q)
	JNE(ref("row"))
	done()
}

// ssdStep walks the rows of a state four at a time, so that b and c are loaded
// once for four rows and the sums are folded together. Heads follow one another in
// memory, so that they are one walk with several decays.
func ssdStep(s *simd) {
	const (
		fFrom = iota
		fTo
		fB
		fC
		fX
		fY
		fDecay
		fScale
		fHeads
		fP
		fN
	)
	a := function(s, "step")
	from, to, x, y, p := a.load(fFrom), a.load(fTo), a.load(fX), a.load(fY), GP64()
	b, c := a.load(fB), a.load(fC)
	stride := a.bytes(fN)
	stride3 := GP64()
	LEAQ(operand.Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	decay, scale := s.reg(), s.reg()
	// full is the bytes of n in whole vectors, mask the rest.
	full, rest := a.bytes(fN), a.load(fN)
	ANDQ(operand.I32(int32(-s.bytes())), full)
	ANDQ(operand.U32(uint32(s.lanes()-1)), rest)
	mask := s.tail(rest)
	i := GP64()
	rows := func(count int, label string) {
		var acc, xs []reg.VecVirtual
		for r := range count {
			v, z := s.reg(), s.reg()
			VBROADCASTSS(operand.Mem{Base: x, Disp: 4 * r}, v)
			VMULPS(scale, v, v)
			VXORPS(z, z, z)
			acc, xs = append(acc, z), append(xs, v)
		}
		f, g := GP64(), GP64()
		MOVQ(from, f)
		MOVQ(to, g)
		row := func(base reg.Register, r int) operand.Mem {
			m := operand.Mem{Base: base}
			switch r {
			case 1:
				m.Index, m.Scale = stride, 1
			case 2:
				m.Index, m.Scale = stride, 2
			case 3:
				m.Index, m.Scale = stride3, 1
			}
			return m
		}
		vector := func(m *tailMask) {
			bv := s.load(operand.Mem{Base: b, Index: i, Scale: 1}, m)
			cv := s.load(operand.Mem{Base: c, Index: i, Scale: 1}, m)
			for r := range count {
				ahead := row(f, r)
				ahead.Disp += 4096 // the hardware stops at the end of a page
				PREFETCHT0(ahead)
				v := s.load(row(f, r), m)
				VMULPS(decay, v, v)
				VFMADD231PS(bv, xs[r], v)
				s.store(v, row(g, r), m)
				VFMADD231PS(cv, v, acc[r])
			}
		}
		XORQ(i, i)
		TESTQ(full, full)
		JE(ref(label + "Rest"))
		Label(label + "Vector")
		vector(nil)
		for _, q := range []reg.GPVirtual{f, g, i} {
			ADDQ(operand.U32(uint32(s.bytes())), q)
		}
		CMPQ(i, full)
		JB(ref(label + "Vector"))
		Label(label + "Rest")
		TESTQ(rest, rest)
		JE(ref(label + "Sum"))
		vector(&mask)
		Label(label + "Sum")
		sum := foldRows(s, acc)
		if count == 4 {
			VMOVUPS(sum, operand.Mem{Base: y})
			LEAQ(operand.Mem{Base: from, Index: stride, Scale: 4}, from)
			LEAQ(operand.Mem{Base: to, Index: stride, Scale: 4}, to)
		} else {
			VMOVSS(sum, operand.Mem{Base: y})
			ADDQ(stride, from)
			ADDQ(stride, to)
		}
		ADDQ(operand.U8(uint8(4*count)), x)
		ADDQ(operand.U8(uint8(4*count)), y)
	}
	Label("head")
	each := GP64()
	for _, v := range []struct {
		field int
		to    reg.Register
	}{{fDecay, decay}, {fScale, scale}} {
		MOVQ(a.mem(v.field), each)
		VBROADCASTSS(operand.Mem{Base: each}, v.to)
		ADDQ(operand.U8(4), a.mem(v.field))
	}
	MOVQ(a.mem(fP), p)
	Label("four")
	CMPQ(p, operand.U8(4))
	JB(ref("one"))
	rows(4, "four")
	SUBQ(operand.U8(4), p)
	JMP(ref("four"))
	Label("one")
	TESTQ(p, p)
	JE(ref("next"))
	rows(1, "one")
	DECQ(p)
	JMP(ref("one"))
	Label("next")
	DECQ(a.mem(fHeads))
	JNE(ref("head"))
	done()
}

// foldRows sums each of at most four vectors; sum r is lane r of the result.
func foldRows(s *simd, acc []reg.VecVirtual) reg.VecVirtual {
	var y []reg.VecVirtual
	for _, v := range acc {
		l := reg.VecVirtual(YMM())
		if s.wide {
			h := YMM()
			VEXTRACTF64X4(operand.U8(1), v, h)
			VADDPS(h, v.(interface{ AsY() reg.Register }).AsY(), l)
		} else {
			l = v
		}
		y = append(y, l)
	}
	for len(y) < 4 {
		y = append(y, y[0])
	}
	u, w := YMM(), YMM()
	VHADDPS(y[1], y[0], u)
	VHADDPS(y[3], y[2], w)
	VHADDPS(w, u, u)
	h, r := XMM(), XMM()
	VEXTRACTF128(operand.U8(1), u, h)
	VADDPS(h, u.AsX(), r)
	return r
}
