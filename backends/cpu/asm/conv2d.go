package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// conv2dKernels emits the sum of shifted planes of package conv2d.
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
}
