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
	secondOfRows()
	blocks()
}

// secondOfRows emits the cut of rows into the columns that a stride of 2 sees.
func secondOfRows() {
	order := GLOBL("evens", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		DATA(4*i, operand.U32(2*i))
	}
	TEXT("secondOfRowsAVX512", NOSPLIT, "func(dst *float32, ldd int, src *float32, lds int, rows, n int)")
	Doc("secondOfRowsAVX512 writes rows of dst[i] = src[2*i] for i < n, ldd and lds apart, and reads src[:2*n-1] of each alone.")
	Pragma("noescape")
	dst, ldd, src, lds := Load(Param("dst"), GP64()), Load(Param("ldd"), GP64()), Load(Param("src"), GP64()), Load(Param("lds"), GP64())
	rows, n := Load(Param("rows"), GP64()), Load(Param("n"), GP64())
	SHLQ(operand.Imm(2), ldd)
	SHLQ(operand.Imm(2), lds)
	which, lo, hi := ZMM(), ZMM(), ZMM()
	VMOVDQU32(order, which)
	// The last 1 to 16 elements of a row: masks of the 2k-1 read and the k written.
	rest, bits, twice := GP64(), GP64(), GP64()
	low, high, part := K(), K(), K()
	LEAQ(operand.Mem{Base: n, Disp: -1}, rest)
	ANDQ(operand.Imm(15), rest)
	INCQ(rest)
	LEAQ(operand.Mem{Base: rest, Index: rest, Scale: 1, Disp: -1}, twice)
	MOVQ(operand.U32(1), bits)
	SHLXQ(twice, bits, bits)
	DECQ(bits)
	KMOVW(bits.As32(), low)
	SHRQ(operand.Imm(16), bits)
	KMOVW(bits.As32(), high)
	MOVQ(operand.U32(1), bits)
	SHLXQ(rest, bits, bits)
	DECQ(bits)
	KMOVW(bits.As32(), part)
	to, from, left := GP64(), GP64(), GP64()
	both := ZMM()
	Label("row")
	MOVQ(dst, to)
	MOVQ(src, from)
	MOVQ(n, left)
	Label("seconds")
	CMPQ(left, operand.Imm(17)) // the last vector would end behind src
	JLT(operand.LabelRef("rest"))
	VMOVUPS(operand.Mem{Base: from}, lo)
	VMOVUPS(operand.Mem{Base: from, Disp: 64}, hi)
	VMOVDQA32(which, both)
	VPERMI2PS(hi, lo, both)
	VMOVUPS(both, operand.Mem{Base: to})
	ADDQ(operand.U32(128), from)
	ADDQ(operand.Imm(64), to)
	SUBQ(operand.Imm(16), left)
	JMP(operand.LabelRef("seconds"))
	Label("rest")
	VMOVUPS_Z(operand.Mem{Base: from}, low, lo)
	VMOVUPS_Z(operand.Mem{Base: from, Disp: 64}, high, hi)
	VMOVDQA32(which, both)
	VPERMI2PS(hi, lo, both)
	VMOVUPS(both, part, operand.Mem{Base: to})
	ADDQ(ldd, dst)
	ADDQ(lds, src)
	DECQ(rows)
	JNZ(operand.LabelRef("row"))
	VZEROUPPER()
	RET()
}

// blocks emits what is done to blocks of rows before and after a product.
func blocks() {
	TEXT("biasRowsAVX512", NOSPLIT, "func(dst, bias *float32, rows int)")
	Doc("biasRowsAVX512 writes dense rows of 32 times bias[row].")
	Pragma("noescape")
	dst, bias, rows := Load(Param("dst"), GP64()), Load(Param("bias"), GP64()), Load(Param("rows"), GP64())
	z := ZMM()
	Label("row")
	VBROADCASTSS(operand.Mem{Base: bias}, z)
	VMOVUPS(z, operand.Mem{Base: dst})
	VMOVUPS(z, operand.Mem{Base: dst, Disp: 64})
	ADDQ(operand.U32(128), dst)
	ADDQ(operand.Imm(4), bias)
	DECQ(rows)
	JNZ(operand.LabelRef("row"))
	VZEROUPPER()
	RET()

	TEXT("clampRowsAVX512", NOSPLIT, "func(x *float32, ldx, rows, n int, lo, hi float32)")
	Doc("clampRowsAVX512 keeps rows of n elements, ldx apart, between lo and hi, in place; NaN stays.")
	Pragma("noescape")
	x, ldx, count, n := Load(Param("x"), GP64()), Load(Param("ldx"), GP64()), Load(Param("rows"), GP64()), Load(Param("n"), GP64())
	lo, hi := everywhere("lo", false), everywhere("hi", false)
	SHLQ(operand.Imm(2), ldx)
	rest, bits, part := GP64(), GP64(), K()
	MOVQ(n, rest)
	ANDQ(operand.Imm(15), rest)
	MOVQ(operand.U32(1), bits)
	SHLXQ(rest, bits, bits)
	DECQ(bits)
	KMOVW(bits.As32(), part)
	at, left := GP64(), GP64()
	v := ZMM()
	Label("line")
	MOVQ(x, at)
	MOVQ(n, left)
	Label("whole")
	CMPQ(left, operand.Imm(16))
	JLT(operand.LabelRef("rest"))
	VMAXPS(operand.Mem{Base: at}, lo, v) // the second source, x, is what stays when it is NaN
	VMINPS(v, hi, v)
	VMOVUPS(v, operand.Mem{Base: at})
	ADDQ(operand.Imm(64), at)
	SUBQ(operand.Imm(16), left)
	JMP(operand.LabelRef("whole"))
	Label("rest")
	TESTQ(left, left)
	JZ(operand.LabelRef("next"))
	VMOVUPS_Z(operand.Mem{Base: at}, part, v)
	VMAXPS(v, lo, v)
	VMINPS(v, hi, v)
	VMOVUPS(v, part, operand.Mem{Base: at})
	Label("next")
	ADDQ(ldx, x)
	DECQ(count)
	JNZ(operand.LabelRef("line"))
	VZEROUPPER()
	RET()
}
