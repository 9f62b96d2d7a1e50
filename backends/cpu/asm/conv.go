package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// convRows is how many output rows one pass over the channels makes: the
// weights are then loaded once for all of them.
const convRows = 4

func convKernels() {
	ConstraintExpr("amd64,!purego")
	for _, k := range []int{2, 3, 4} {
		for _, act := range []bool{false, true} {
			both(func(s *simd) { s.convBlock(k, act) })
			both(func(s *simd) { s.convRow(k, act) })
		}
	}
}

func convName(kind string, k int, act bool, s *simd) string {
	a := ""
	if act {
		a = "SiLU"
	}
	return fmt.Sprintf("%s%d%s%s", kind, k, a, s.suffix())
}

// stride3 addresses base + i*ld for i < 4 with the byte stride ld and its triple.
type stride3 struct{ base, ld, ld3 reg.Register }

func (a stride3) at(i int) operand.Mem {
	switch i {
	case 0:
		return operand.Mem{Base: a.base}
	case 3:
		return operand.Mem{Base: a.base, Index: a.ld3, Scale: 1}
	}
	return operand.Mem{Base: a.base, Index: a.ld, Scale: uint8(i)}
}

// strided loads a pointer and its stride (in elements, made bytes).
func strided(pointer, stride string) stride3 {
	a := stride3{Load(Param(pointer), GP64()), Load(Param(stride), GP64()), GP64()}
	SHLQ(operand.U8(2), a.ld)
	LEAQ(operand.Mem{Base: a.ld, Index: a.ld, Scale: 2}, a.ld3)
	return a
}

// channels emits the loop over n channels: body for whole vectors, then once
// under a mask; every pointer advances by a vector.
func (s *simd) channels(n reg.GPVirtual, pointers []reg.Register, body func(mask *tailMask)) {
	s.learn(16, func() { body(nil) })
	Label("loop")
	CMPQ(n, operand.U32(uint32(s.lanes())))
	JB(operand.LabelRef("rest"))
	body(nil)
	for _, p := range pointers {
		ADDQ(operand.U32(uint32(s.bytes())), p)
	}
	SUBQ(operand.U32(uint32(s.lanes())), n)
	JMP(operand.LabelRef("loop"))
	Label("rest")
	TESTQ(n, n)
	JE(operand.LabelRef("done"))
	m := s.tail(n)
	body(&m)
	Label("done")
	VZEROUPPER()
	RET()
}

// convBlock: y[r, c] = act(bias[c] + sum_j w[j, c]*x[r+j, c]) for r < convRows;
// x points at the row K-1 before the first output's.
func (s *simd) convBlock(k int, act bool) {
	TEXT(convName("block", k, act, s), attr.NOSPLIT, "func(y *float32, ldy int, x *float32, ldx int, w *float32, ldw int, bias *float32, n int)")
	Pragma("noescape")
	y, x, w := strided("y", "ldy"), strided("x", "ldx"), strided("w", "ldw")
	x4 := stride3{GP64(), x.ld, x.ld3}
	LEAQ(operand.Mem{Base: x.base, Index: x.ld, Scale: 4}, x4.base)
	x8 := stride3{GP64(), x.ld, x.ld3}
	LEAQ(operand.Mem{Base: x4.base, Index: x.ld, Scale: 4}, x8.base)
	bias := Load(Param("bias"), GP64())
	n := Load(Param("n"), GP64()).(reg.GPVirtual)
	row := func(i int) operand.Mem {
		switch {
		case i < 4:
			return x.at(i)
		case i < 8:
			return x4.at(i - 4)
		}
		return x8.at(i - 8)
	}
	s.channels(n, []reg.Register{y.base, x.base, x4.base, x8.base, w.base, bias}, func(mask *tailMask) {
		var ws regs
		for j := range k {
			ws = append(ws, s.load(w.at(j), mask))
		}
		b := s.load(operand.Mem{Base: bias}, mask)
		for r := range convRows {
			if !s.dry && mask == nil {
				// The row that the next block brings in: far enough ahead, and
				// each row lies on pages of its own, where the hardware's
				// prefetch starts anew.
				PREFETCHT0(row(k - 1 + convRows + r))
			}
			acc := s.copy(b)
			for j := range k {
				s.fma(acc, ws[j], s.source(row(r+j), mask))
			}
			if act {
				acc = silu(s, acc)
			}
			s.store(acc, y.at(r), mask)
		}
	})
}

// source is a memory operand as it is, or loaded under a mask.
func (s *simd) source(m operand.Mem, mask *tailMask) operand.Op {
	if mask == nil {
		return m
	}
	return s.load(m, mask)
}

// convRow is one output row whose K input rows lie anywhere.
func (s *simd) convRow(k int, act bool) {
	TEXT(convName("row", k, act, s), attr.NOSPLIT, "func(y *float32, x *[8]*float32, w *float32, ldw int, bias *float32, n int)")
	Pragma("noescape")
	list := Load(Param("x"), GP64())
	y := Load(Param("y"), GP64())
	w := strided("w", "ldw")
	bias := Load(Param("bias"), GP64())
	n := Load(Param("n"), GP64()).(reg.GPVirtual)
	pointers := []reg.Register{y, w.base, bias}
	var xs []reg.Register
	for j := range k {
		p := GP64()
		MOVQ(operand.Mem{Base: list, Disp: 8 * j}, p)
		xs = append(xs, p)
	}
	s.channels(n, append(pointers, xs...), func(mask *tailMask) {
		acc := s.load(operand.Mem{Base: bias}, mask)
		for j := range k {
			s.fma(acc, s.load(w.at(j), mask), s.source(operand.Mem{Base: xs[j]}, mask))
		}
		if act {
			acc = silu(s, acc)
		}
		s.store(acc, operand.Mem{Base: y}, mask)
	})
}

// convSteps emits the decode step for K = 4 with the state of channel c in
// state[c*width:][:width], width 3 (ONNX) or 4 (Hugging Face): 8 channels at a
// time, transposed in registers. n is a multiple of 8.
func convSteps() {
	ConstraintExpr("amd64,!purego")
	for _, width := range []int{3, 4} {
		for _, act := range []bool{false, true} {
			(&simd{}).convStep(width, act)
		}
	}
}

func (s *simd) convStep(width int, act bool) {
	TEXT(convName("step", width, act, s), attr.NOSPLIT, "func(y, x, next, state, w *float32, ldw int, bias *float32, n int)")
	Pragma("noescape")
	w := strided("w", "ldw")
	y, x := Load(Param("y"), GP64()), Load(Param("x"), GP64())
	next, state := Load(Param("next"), GP64()), Load(Param("state"), GP64())
	bias := Load(Param("bias"), GP64())
	n := Load(Param("n"), GP64())
	s.learn(0, func() {})
	three := tailMask{}
	if width == 3 {
		m := XMM()
		VMOVDQU(windowData().Offset(4*(8-3)), m)
		three.r = m
	}
	channel := func(p reg.Register, c int) operand.Mem { return operand.Mem{Base: p, Disp: 4 * width * c} }
	Label("loop")
	TESTQ(n, n)
	JE(operand.LabelRef("done"))
	// Channel i beside channel i+4.
	rows := make(regs, 4)
	for i := range rows {
		lo := XMM()
		rows[i] = YMM()
		if width == 4 {
			VMOVUPS(channel(state, i), lo)
			VINSERTF128(operand.U8(1), channel(state, i+4), lo.AsY(), rows[i])
		} else {
			hi := XMM()
			VMASKMOVPS(channel(state, i), three.r, lo)
			VMASKMOVPS(channel(state, i+4), three.r, hi)
			VINSERTF128(operand.U8(1), hi, lo.AsY(), rows[i])
		}
	}
	cols := transpose4(rows)
	taps := regs{cols[width-3], cols[width-2], cols[width-1], s.load(operand.Mem{Base: x}, nil)}
	acc := s.load(operand.Mem{Base: bias}, nil)
	for j, t := range taps {
		s.fma(acc, t, w.at(j))
	}
	if act {
		acc = silu(s, acc)
	}
	s.store(acc, operand.Mem{Base: y}, nil)
	kept := taps
	if width == 3 {
		kept = regs{taps[1], taps[2], taps[3], taps[3]}
	}
	for i, r := range transpose4(kept) {
		hi := XMM()
		VEXTRACTF128(operand.U8(1), r, hi)
		for h, v := range []reg.Register{r.AsX(), hi} {
			m := channel(next, i+4*h)
			if width == 4 {
				VMOVUPS(v, m)
				continue
			}
			VMOVLPS(v, m)
			VEXTRACTPS(operand.U8(2), v, m.Offset(8))
		}
	}
	for _, p := range []reg.Register{y, x, w.base, bias} {
		ADDQ(operand.U32(32), p)
	}
	ADDQ(operand.U32(uint32(32*width)), state)
	ADDQ(operand.U32(uint32(32*width)), next)
	SUBQ(operand.U32(8), n)
	JMP(operand.LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// transpose4 transposes the 4x4 blocks in the halves of four registers.
func transpose4(q regs) regs {
	t, out := make(regs, 4), make(regs, 4)
	for i := range t {
		t[i], out[i] = YMM(), YMM()
	}
	VUNPCKLPS(q[1], q[0], t[0])
	VUNPCKHPS(q[1], q[0], t[1])
	VUNPCKLPS(q[3], q[2], t[2])
	VUNPCKHPS(q[3], q[2], t[3])
	for i := range out {
		if i&1 == 0 {
			VUNPCKLPD(t[2+i/2], t[i/2], out[i])
		} else {
			VUNPCKHPD(t[2+i/2], t[i/2], out[i])
		}
	}
	return out
}
