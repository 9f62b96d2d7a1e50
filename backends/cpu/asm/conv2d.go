package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// conv2dKernels emits the sum of shifted planes of package conv2d, and what cuts an image into planes.
func conv2dKernels() {
	ConstraintExpr("!purego")
	TEXT("sumTapsAVX512", NOSPLIT, "func(dst, src *float32, taps *int32, w *float32, count, n int, start float32)")
	Doc("sumTapsAVX512 writes dst[i] = start + sum_t w[t]*src[taps[t]+i] for i < n, the taps in order.")
	Pragma("noescape")
	dst, src, taps, w := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("taps"), GP64()), Load(Param("w"), GP64())
	count, n := Load(Param("count"), GP64()), Load(Param("n"), GP64())
	start := everywhere("start", false)
	const unroll = 4
	// sum adds up all taps into vectors that begin 64 bytes apart.
	sum := func(label string, vectors int, mask reg.Register) []reg.VecVirtual {
		var acc []reg.VecVirtual
		for range vectors {
			z := ZMM()
			VMOVAPS(start, z)
			acc = append(acc, z)
		}
		t, at, f := GP64(), GP64(), ZMM()
		XORQ(t, t)
		Label(label)
		VBROADCASTSS(operand.Mem{Base: w, Index: t, Scale: 4}, f)
		MOVLQSX(operand.Mem{Base: taps, Index: t, Scale: 4}, at)
		for i, z := range acc {
			m := operand.Mem{Base: src, Index: at, Scale: 4, Disp: 64 * i}
			if mask == nil {
				VFMADD231PS(m, f, z)
				continue
			}
			x := ZMM()
			VMOVUPS_Z(m, mask, x)
			VFMADD231PS(x, f, z)
		}
		INCQ(t)
		CMPQ(t, count)
		JLT(operand.LabelRef(label))
		return acc
	}
	Label("wide")
	CMPQ(n, operand.Imm(16*unroll))
	JLT(operand.LabelRef("narrow"))
	for i, z := range sum("tapsWide", unroll, nil) {
		VMOVUPS(z, operand.Mem{Base: dst, Disp: 64 * i})
	}
	ADDQ(operand.U32(64*unroll), src)
	ADDQ(operand.U32(64*unroll), dst)
	SUBQ(operand.Imm(16*unroll), n)
	JMP(operand.LabelRef("wide"))
	Label("narrow")
	CMPQ(n, operand.Imm(16))
	JLT(operand.LabelRef("rest"))
	VMOVUPS(sum("tapsNarrow", 1, nil)[0], operand.Mem{Base: dst})
	ADDQ(operand.Imm(64), src)
	ADDQ(operand.Imm(64), dst)
	SUBQ(operand.Imm(16), n)
	JMP(operand.LabelRef("narrow"))
	Label("rest")
	TESTQ(n, n)
	JZ(operand.LabelRef("done"))
	bits, k := GP64(), K()
	MOVQ(operand.U32(1), bits)
	SHLXQ(n, bits, bits)
	DECQ(bits)
	KMOVW(bits.As32(), k)
	VMOVUPS(sum("tapsRest", 1, k)[0], k, operand.Mem{Base: dst})
	Label("done")
	VZEROUPPER()
	RET()
	everySecond()
}

// everySecond emits the cut of a row into the columns that a stride of 2 sees.
func everySecond() {
	order := GLOBL("evens", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		DATA(4*i, operand.U32(2*i))
	}
	TEXT("everySecondAVX512", NOSPLIT, "func(dst, src *float32, n int)")
	Doc("everySecondAVX512 writes dst[i] = src[2*i] for i < n and reads src[:2*n-1] alone.")
	Pragma("noescape")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	which, lo, hi := ZMM(), ZMM(), ZMM()
	VMOVDQU32(order, which)
	Label("seconds")
	CMPQ(n, operand.Imm(17)) // the last vector would end behind src
	JLT(operand.LabelRef("secondsRest"))
	VMOVUPS(operand.Mem{Base: src}, lo)
	VMOVUPS(operand.Mem{Base: src, Disp: 64}, hi)
	both := ZMM()
	VMOVDQA32(which, both)
	VPERMI2PS(hi, lo, both)
	VMOVUPS(both, operand.Mem{Base: dst})
	ADDQ(operand.U32(128), src)
	ADDQ(operand.Imm(64), dst)
	SUBQ(operand.Imm(16), n)
	JMP(operand.LabelRef("seconds"))
	Label("secondsRest")
	TESTQ(n, n)
	JZ(operand.LabelRef("secondsDone"))
	// Masks of the 2n-1 elements read and the n written.
	bits, low, part := GP64(), K(), K()
	twice := GP64()
	LEAQ(operand.Mem{Base: n, Index: n, Scale: 1, Disp: -1}, twice)
	MOVQ(operand.U32(1), bits)
	SHLXQ(twice, bits, bits)
	DECQ(bits)
	KMOVW(bits.As32(), low)
	SHRQ(operand.Imm(16), bits)
	KMOVW(bits.As32(), part)
	VMOVUPS_Z(operand.Mem{Base: src}, low, lo)
	VMOVUPS_Z(operand.Mem{Base: src, Disp: 64}, part, hi)
	VPERMI2PS(hi, lo, which)
	MOVQ(operand.U32(1), bits)
	SHLXQ(n, bits, bits)
	DECQ(bits)
	KMOVW(bits.As32(), low)
	VMOVUPS(which, low, operand.Mem{Base: dst})
	Label("secondsDone")
	VZEROUPPER()
	RET()
}
