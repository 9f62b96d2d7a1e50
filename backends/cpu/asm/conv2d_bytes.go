package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// conv2dBytes emits the depthwise convolution of bytes of package conv2d, and
// what writes its planes.
func conv2dBytes() {
	ConstraintExpr("!purego")
	// Lane i of a vector computes outputs 4i..4i+3. Of stride 1 they see the
	// bytes from 4i on, of stride 2 those from 8i on: one table brings the
	// doublewords into the lane, the other lays out the four bytes of each output.
	table := func(name string, entry func(stride, i int) uint32) operand.Mem {
		m := GLOBL(name, attr.RODATA|attr.NOPTR)
		for i := range 32 {
			DATA(4*i, operand.U32(entry(1+i/16, i%16)))
		}
		return m
	}
	lanes := table("lanesOfStride", func(stride, i int) uint32 { return uint32(stride*(i/4) + i%4) })
	quads := table("quadsOfStride", func(stride, i int) uint32 {
		return uint32(i%4*stride)*0x01010101 + 0x03020100
	})
	depthwiseBytes("depthwise3VNNI", "the three quads of a 3x3 window", true, lanes, quads)
	depthwiseBytes("depthwiseVNNI", "any number of quads", false, lanes, quads)
	copyRows()
	secondBytes()
	mostBytes()
}

// lowBits is a mask of n bits, 63 at most.
func lowBits(n reg.Register) reg.OpmaskVirtual {
	bits, mask := GP64(), K()
	MOVQ(operand.U32(1), bits)
	SHLXQ(n, bits, bits)
	DECQ(bits)
	KMOVQ(bits, mask)
	return mask
}

// secondBytes emits the cut of rows of bytes into the columns that a stride of 2 sees.
func secondBytes() {
	TEXT("secondBytesAVX512", NOSPLIT, "func(dst *uint8, ldd int, src *uint8, lds int, rows, n int, flip uint32)")
	Doc("secondBytesAVX512 writes rows of dst[i] = src[2*i] for i < n, combined with flip by exclusive or, and reads src[:2*n-1] of each alone.")
	Pragma("noescape")
	dst, ldd, src, lds := Load(Param("dst"), GP64()), Load(Param("ldd"), GP64()), Load(Param("src"), GP64()), Load(Param("lds"), GP64())
	rows, n := Load(Param("rows"), GP64()), Load(Param("n"), GP64())
	flip := YMM()
	VPBROADCASTD(Load(Param("flip"), GP32()), flip)
	// The last 1 to 32 bytes of a row, of which one less than twice as many are read.
	rest, read := GP64(), GP64()
	LEAQ(operand.Mem{Base: n, Disp: -1}, rest)
	ANDQ(operand.Imm(31), rest)
	INCQ(rest)
	LEAQ(operand.Mem{Base: rest, Index: rest, Scale: 1, Disp: -1}, read)
	in, out := lowBits(read), lowBits(rest)
	to, from, left := GP64(), GP64(), GP64()
	wide, z := ZMM(), YMM()
	Label("row")
	MOVQ(dst, to)
	MOVQ(src, from)
	MOVQ(n, left)
	Label("seconds")
	CMPQ(left, operand.Imm(33)) // the last vector would end behind src
	JLT(operand.LabelRef("rest"))
	VMOVDQU64(operand.Mem{Base: from}, wide)
	VPMOVWB(wide, z)
	VPXOR(flip, z, z)
	VMOVDQU(z, operand.Mem{Base: to})
	ADDQ(operand.Imm(64), from)
	ADDQ(operand.Imm(32), to)
	SUBQ(operand.Imm(32), left)
	JMP(operand.LabelRef("seconds"))
	Label("rest")
	VMOVDQU8_Z(operand.Mem{Base: from}, in, wide)
	VPMOVWB(wide, z)
	VPXOR(flip, z, z)
	VMOVDQU8(z, out, operand.Mem{Base: to})
	ADDQ(ldd, dst)
	ADDQ(lds, src)
	DECQ(rows)
	JNZ(operand.LabelRef("row"))
	VZEROUPPER()
	RET()
}

// mostBytes emits the larger of unsigned bytes.
func mostBytes() {
	TEXT("mostBytesAVX512", NOSPLIT, "func(dst, src *uint8, n int)")
	Doc("mostBytesAVX512 makes dst the larger of itself and src.")
	Pragma("noescape")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	z, x := ZMM(), ZMM()
	Label("wide")
	CMPQ(n, operand.Imm(64))
	JLT(operand.LabelRef("rest"))
	VMOVDQU64(operand.Mem{Base: dst}, z)
	VPMAXUB(operand.Mem{Base: src}, z, z)
	VMOVDQU64(z, operand.Mem{Base: dst})
	ADDQ(operand.Imm(64), dst)
	ADDQ(operand.Imm(64), src)
	SUBQ(operand.Imm(64), n)
	JMP(operand.LabelRef("wide"))
	Label("rest")
	TESTQ(n, n)
	JZ(operand.LabelRef("done"))
	mask := lowBits(n)
	VMOVDQU8_Z(operand.Mem{Base: dst}, mask, z)
	VMOVDQU8_Z(operand.Mem{Base: src}, mask, x)
	VPMAXUB(x, z, z)
	VMOVDQU8(z, mask, operand.Mem{Base: dst})
	Label("done")
	VZEROUPPER()
	RET()
}

// depthwiseBytes emits the convolution of one plane with one filter.
func depthwiseBytes(name, what string, three bool, lanesTable, quadsTable operand.Mem) {
	TEXT(name, NOSPLIT, "func(dst *uint8, ldd int, src *uint8, pitch int, offsets *int32, w *uint32, quads, rows, cols, stride int, add int32, scale, lo, hi float32, zero int32)")
	Doc(name + " is the kernel for " + what + "; see quadDepthwise.")
	Pragma("noescape")
	lanes, shuffle := ZMM(), ZMM()
	stride, at := Load(Param("stride"), GP64()), GP64()
	for _, t := range []struct {
		m operand.Mem
		z reg.VecVirtual
	}{{lanesTable, lanes}, {quadsTable, shuffle}} {
		index := GP64()
		LEAQ(operand.Mem{Base: stride, Disp: -1}, index)
		SHLQ(operand.Imm(6), index)
		LEAQ(t.m, at)
		VMOVDQU32(operand.Mem{Base: at, Index: index, Scale: 1}, t.z)
	}
	SHLQ(operand.Imm(4), stride) // bytes that 16 outputs are apart in a plane
	add, scale, lo, hi, zero := everywhere("add", true), everywhere("scale", false), everywhere("lo", false), everywhere("hi", false), everywhere("zero", true)
	dst, src, rows := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("rows"), GP64())
	offsets, w := Load(Param("offsets"), GP64()), Load(Param("w"), GP64())
	cols, bits, tail := Load(Param("cols"), GP64()), GP64(), K()
	rest := GP64()
	MOVQ(cols, rest)
	ANDQ(operand.Imm(15), rest)
	MOVQ(operand.U32(1), bits)
	SHLXQ(rest, bits, bits)
	DECQ(bits)
	KMOVW(bits.As32(), tail)
	var filter [3]reg.VecVirtual
	var offset [3]reg.GPVirtual
	if three {
		for i := range 3 {
			filter[i], offset[i] = ZMM(), GP64()
			VPBROADCASTD(operand.Mem{Base: w, Disp: 4 * i}, filter[i])
			MOVLQSX(operand.Mem{Base: offsets, Disp: 4 * i}, offset[i])
		}
	}
	x, out, left := GP64(), GP64(), GP64()
	// compute writes up to 16 outputs.
	compute := func(label string, mask reg.Register) {
		sum := ZMM()
		VMOVDQA32(add, sum)
		quad := func(where reg.Register, f operand.Op) {
			v := ZMM()
			VPERMD(operand.Mem{Base: x, Index: where, Scale: 1}, lanes, v)
			VPSHUFB(shuffle, v, v)
			quantEmitter{}.dot(f.(reg.VecVirtual), v, sum)
		}
		if three {
			for i := range 3 {
				quad(offset[i], filter[i])
			}
		} else {
			i, where, f := GP64(), GP64(), ZMM()
			XORQ(i, i)
			Label(label)
			MOVLQSX(operand.Mem{Base: offsets, Index: i, Scale: 4}, where)
			VPBROADCASTD(operand.Mem{Base: w, Index: i, Scale: 4}, f)
			quad(where, f)
			INCQ(i)
			CMPQ(i, Load(Param("quads"), GP64()))
			JLT(operand.LabelRef(label))
		}
		VCVTDQ2PS(sum, sum)
		VMULPS(scale, sum, sum)
		VMAXPS(lo, sum, sum)
		VMINPS(hi, sum, sum)
		VCVTPS2DQ(sum, sum)
		VPADDD(zero, sum, sum)
		storeBytes(sum, operand.Mem{Base: out}, mask)
	}
	Label("row")
	MOVQ(src, x)
	MOVQ(dst, out)
	MOVQ(cols, left)
	Label("columns")
	CMPQ(left, operand.Imm(16))
	JLT(operand.LabelRef("edge"))
	compute("window", nil)
	ADDQ(stride, x)
	ADDQ(operand.Imm(16), out)
	SUBQ(operand.Imm(16), left)
	JMP(operand.LabelRef("columns"))
	Label("edge")
	TESTQ(left, left)
	JZ(operand.LabelRef("next"))
	compute("edgeWindow", tail)
	Label("next")
	ADDQ(Load(Param("pitch"), GP64()), src)
	ADDQ(Load(Param("ldd"), GP64()), dst)
	DECQ(rows)
	JNZ(operand.LabelRef("row"))
	VZEROUPPER()
	RET()
}

// copyRows emits the copy of rows that are apart, as those of an image and of its plane.
func copyRows() {
	TEXT("copyRowsAVX512", NOSPLIT, "func(dst *uint8, ldd int, src *uint8, lds int, rows, cols int, flip uint32)")
	Doc("copyRowsAVX512 writes rows of cols bytes, ldd apart, from those lds apart, combined with flip by exclusive or.")
	Pragma("noescape")
	dst, ldd, src, lds := Load(Param("dst"), GP64()), Load(Param("ldd"), GP64()), Load(Param("src"), GP64()), Load(Param("lds"), GP64())
	rows, cols := Load(Param("rows"), GP64()), Load(Param("cols"), GP64())
	flip := ZMM()
	VPBROADCASTD(Load(Param("flip"), GP32()), flip)
	rest, bits, tail := GP64(), GP64(), K()
	MOVQ(cols, rest)
	ANDQ(operand.Imm(63), rest)
	MOVQ(operand.U32(1), bits)
	SHLXQ(rest, bits, bits)
	DECQ(bits)
	KMOVQ(bits, tail)
	to, from, left := GP64(), GP64(), GP64()
	Label("row")
	MOVQ(dst, to)
	MOVQ(src, from)
	MOVQ(cols, left)
	Label("wide")
	CMPQ(left, operand.Imm(64))
	JLT(operand.LabelRef("rest"))
	z := ZMM()
	VPXORD(operand.Mem{Base: from}, flip, z)
	VMOVDQU64(z, operand.Mem{Base: to})
	ADDQ(operand.Imm(64), from)
	ADDQ(operand.Imm(64), to)
	SUBQ(operand.Imm(64), left)
	JMP(operand.LabelRef("wide"))
	Label("rest")
	TESTQ(left, left)
	JZ(operand.LabelRef("next"))
	part := ZMM()
	VMOVDQU8_Z(operand.Mem{Base: from}, tail, part)
	VPXORD(flip, part, part)
	VMOVDQU8(part, tail, operand.Mem{Base: to})
	Label("next")
	ADDQ(ldd, dst)
	ADDQ(lds, src)
	DECQ(rows)
	JNZ(operand.LabelRef("row"))
	VZEROUPPER()
	RET()
}
