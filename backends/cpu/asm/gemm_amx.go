package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gemmAMX emits the tile kernels of package gemm. A tile register is 16 rows of 64
// bytes. With more than 16 rows of A, sums are tiles 0 to 3, A is 4 and 5, B 6 and 7;
// with up to 16, tiles 2, 3 and 5 are left alone.
//
// Go's assembler and avo know none of the instructions: they are encoded by hand
// and use fixed registers.
func gemmAMX() {
	ConstraintExpr("!purego")
	amxKernel("amx16", false)
	amxKernel("amx32", true)
	amxTall()
	amxConvert()
	amxWrite()
}

// encoded emits an instruction given as bytes.
func encoded(text string, bytes ...int) {
	line := ""
	for _, b := range bytes {
		line += fmt.Sprintf("BYTE $0x%02x; ", b)
	}
	Instruction(&ir.Instruction{Opcode: line + "// " + text})
}

// Numbers of the registers that addresses use.
const (
	rax, rcx, rdx, rbx, rsi, rdi = 0, 1, 2, 3, 6, 7
)

func tileLoad(t, base, index, disp int) {
	encoded(fmt.Sprintf("TILELOADD %d(r%d)(r%d*1), T%d", disp, base, index, t), 0xc4, 0xe2, 0x7b, 0x4b, 0x44|t<<3, index<<3|base, disp)
}

func tileStore(t, base, index, disp int) {
	encoded(fmt.Sprintf("TILESTORED T%d, %d(r%d)(r%d*1)", t, disp, base, index), 0xc4, 0xe2, 0x7a, 0x4b, 0x44|t<<3, index<<3|base, disp)
}

func tileZero(t int) { encoded(fmt.Sprintf("TILEZERO T%d", t), 0xc4, 0xe2, 0x7b, 0x49, 0xc0|t<<3) }

func tileDotBF16(sum, a, b int) {
	encoded(fmt.Sprintf("TDPBF16PS T%d, T%d, T%d", b, a, sum), 0xc4, 0xe2, (^b&15)<<3|2, 0x5c, 0xc0|sum<<3|a)
}

// tileDotBytes multiplies bytes, of which those of A or those of B are unsigned.
func tileDotBytes(sum, a, b int, unsignedA bool) {
	text, prefix := "TDPBSUD", 2
	if unsignedA {
		text, prefix = "TDPBUSD", 1
	}
	encoded(fmt.Sprintf("%s T%d, T%d, T%d", text, b, a, sum), 0xc4, 0xe2, (^b&15)<<3|prefix, 0x5e, 0xc0|sum<<3|a)
}

// Fields of amxArgs, of 8 bytes each.
const (
	amxConfig = iota
	amxA
	amxBelow
	amxB
	amxSums
	amxSteps
	amxCount
	amxPanelBytes
	amxSumsStep
	amxFirst
	amxNext
	amxNextStep
	amxAsk
	amxC
	amxLdc
)

const amxStepBytes = 2048 // of a panel of B, or of 32 rows of A

// amxEmitter holds what the parts of a kernel share: the arguments, and whether there
// are more than 16 rows.
type amxEmitter struct {
	args reg.Register
	both bool
}

func (e amxEmitter) field(i int) operand.Mem { return operand.Mem{Base: e.args, Disp: 8 * i} }

func amxStart(name, doc string, both bool) amxEmitter {
	e := amxEmitter{reg.R8, both}
	TEXT(name, attr.NOSPLIT, "func(args *byte)")
	Doc(name + doc)
	Pragma("noescape")
	Load(Param("args"), e.args)
	MOVQ(e.field(amxConfig), reg.RAX)
	encoded("LDTILECFG (AX)", 0xc4, 0xe2, 0x78, 0x49, 0x00)
	MOVQ(operand.U32(128), reg.RDX)
	MOVQ(operand.U32(64), reg.RCX)
	return e
}

func amxEnd() {
	encoded("TILERELEASE", 0xc4, 0xe2, 0x78, 0x49, 0xc0)
	RET()
}

// zero clears the sums.
func (e amxEmitter) zero() {
	for t := range 4 {
		if e.both || t < 2 {
			tileZero(t)
		}
	}
}

// inMemory does something with each tile of sums and its place in memory.
func (e amxEmitter) inMemory(sums reg.Register, do func(t, base, index, disp int)) {
	MOVQ(sums, reg.RAX)
	do(0, rax, rdx, 0)
	do(1, rax, rdx, 64)
	if e.both {
		LEAQ(operand.Mem{Base: reg.RAX, Disp: 2048}, reg.RSI)
		do(2, rsi, rdx, 0)
		do(3, rsi, rdx, 64)
	}
}

// step adds 16 pairs of k to the sums: A from RSI and RDI, B from RBX. Between its
// instructions stand four portions of requests for memory.
func (e amxEmitter) step(ask func(portion int)) {
	tileLoad(6, rbx, rdx, 0)
	tileLoad(4, rsi, rcx, 0)
	ask(0)
	tileDotBF16(0, 4, 6)
	tileLoad(7, rbx, rdx, 64)
	ask(1)
	tileDotBF16(1, 4, 7)
	if e.both {
		tileLoad(5, rdi, rcx, 0)
	}
	ask(2)
	if e.both {
		tileDotBF16(2, 5, 6)
	}
	ask(3)
	if e.both {
		tileDotBF16(3, 5, 7)
		ADDQ(operand.U32(amxStepBytes/2), reg.RDI)
	}
	ADDQ(operand.U32(amxStepBytes/2), reg.RSI)
	ADDQ(operand.U32(amxStepBytes), reg.RBX)
}

// amxKernel emits a kernel for up to 16 or 32 rows by some panels, all of K. So few
// rows leave B no time: it is read once, and asked for two steps ahead.
func amxKernel(name string, both bool) {
	e := amxStart(name, " sums all of K for up to that many rows by some panels; see amxArgs.", both)
	panel, sums := reg.R12, reg.R13
	MOVQ(e.field(amxB), panel)
	MOVQ(e.field(amxSums), sums)
	Label("panel")
	e.zero()
	MOVQ(e.field(amxA), reg.RSI)
	MOVQ(panel, reg.RBX)
	if both {
		MOVQ(e.field(amxBelow), reg.RDI)
		ADDQ(reg.RSI, reg.RDI)
	}
	MOVQ(e.field(amxSteps), reg.RAX)
	TESTQ(reg.RAX, reg.RAX)
	JZ(ref("out"))
	Label("loop")
	e.step(func(portion int) {
		for line := 8 * portion; line < 8*(portion+1); line++ {
			PREFETCHT0(operand.Mem{Base: reg.RBX, Disp: 2*amxStepBytes + 64*line})
		}
	})
	DECQ(reg.RAX)
	JNZ(ref("loop"))
	Label("out")
	e.inMemory(sums, tileStore)
	ADDQ(e.field(amxSumsStep), sums)
	ADDQ(e.field(amxPanelBytes), panel)
	DECQ(e.field(amxCount))
	JNZ(ref("panel"))
	amxEnd()
}

// amxTall emits the kernel for many rows: a K block of one panel, which stays in the
// first level of cache, meets groups of 32 rows of A, which come from the second.
func amxTall() {
	e := amxStart("amxTall", " adds a K block to the sums of groups of 32 rows by one panel; see amxArgs.", true)
	next, a, sums, ask, ldc := reg.R10, reg.R11, reg.R12, reg.R13, reg.R9
	MOVQ(e.field(amxNext), next)
	MOVQ(e.field(amxA), a)
	MOVQ(e.field(amxSums), sums)
	MOVQ(e.field(amxLdc), ldc)
	Label("group")
	MOVQ(e.field(amxAsk), ask)
	CMPQ(e.field(amxFirst), operand.U8(0))
	JEQ(ref("more"))
	e.zero()
	JMP(ref("start"))
	Label("more")
	e.inMemory(sums, tileLoad)
	Label("start")
	MOVQ(a, reg.RSI)
	MOVQ(e.field(amxBelow), reg.RDI)
	LEAQ(operand.Mem{Base: a, Index: reg.RDI, Scale: 2}, a)
	ADDQ(reg.RSI, reg.RDI)
	MOVQ(e.field(amxB), reg.RBX)
	MOVQ(e.field(amxSteps), reg.RAX)
	Label("loop")
	e.step(func(portion int) {
		if portion < 2 { // 4 lines of the next block of B each
			for line := range 4 {
				PREFETCHT1(operand.Mem{Base: next, Disp: 64 * (4*portion + line)})
			}
			return
		}
		for range 2 { // and 2 rows of C, 2 lines each
			PREFETCHT1(operand.Mem{Base: ask})
			PREFETCHT1(operand.Mem{Base: ask, Disp: 64})
			ADDQ(ldc, ask)
		}
	})
	ADDQ(e.field(amxNextStep), next)
	DECQ(reg.RAX)
	JNZ(ref("loop"))
	MOVQ(ldc, reg.RDI)
	SHLQ(operand.U8(5), reg.RDI)
	ADDQ(reg.RDI, e.field(amxAsk))
	MOVQ(e.field(amxC), reg.RAX)
	TESTQ(reg.RAX, reg.RAX)
	JZ(ref("sums"))
	ADDQ(reg.RDI, e.field(amxC))
	SHRQ(operand.U8(1), reg.RDI)
	LEAQ(operand.Mem{Base: reg.RAX, Index: reg.RDI, Scale: 1}, reg.RSI)
	MOVQ(ldc, reg.RDI)
	tileStore(0, rax, rdi, 0)
	tileStore(1, rax, rdi, 64)
	tileStore(2, rsi, rdi, 0)
	tileStore(3, rsi, rdi, 64)
	JMP(ref("below"))
	Label("sums")
	e.inMemory(sums, tileStore)
	Label("below")
	ADDQ(operand.U32(4096), sums)
	DECQ(e.field(amxCount))
	JNZ(ref("group"))
	amxEnd()
}

// amxWrite emits what makes C of the sums, row by row: rows of some panels are
// written in one go, whose lines of cache the rows of single ones would share.
func amxWrite() {
	TEXT("amxWrite", attr.NOSPLIT, "func(sums *float32, sumsStep int, c *float32, ldc int, d *float32, ldd, rows, panels int, mask uint32, alpha float32)")
	Doc("amxWrite computes c = alpha*sums + d; strides are in bytes, and the mask is of the columns of the last panel.")
	Pragma("noescape")
	sums, sumsStep := Load(Param("sums"), GP64()), Load(Param("sumsStep"), GP64())
	c, ldc := Load(Param("c"), GP64()), Load(Param("ldc"), GP64())
	d, ldd := Load(Param("d"), GP64()), Load(Param("ldd"), GP64())
	rows, panels := Load(Param("rows"), GP64()), Load(Param("panels"), GP64())
	mask := Load(Param("mask"), GP32())
	masks := []reg.OpmaskVirtual{K(), K()}
	KMOVW(mask, masks[0])
	SHRL(operand.U8(16), mask)
	KMOVW(mask, masks[1])
	factor, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	alpha := ZMM()
	VBROADCASTSS(factor.Addr, alpha)
	from, to, add, n := GP64(), GP64(), GP64(), GP64()
	v := []reg.VecVirtual{ZMM(), ZMM()}
	w := []reg.VecVirtual{ZMM(), ZMM()}
	for _, added := range []bool{true, false} {
		label := func(s string) string { return fmt.Sprintf("%s%t", s, added) }
		if added {
			TESTQ(d, d)
			JZ(ref("rowfalse"))
		}
		Label(label("row"))
		MOVQ(sums, from)
		MOVQ(c, to)
		MOVQ(d, add)
		MOVQ(panels, n)
		DECQ(n)
		JZ(ref(label("last")))
		Label(label("panel"))
		for i := range v {
			VMOVUPS(operand.Mem{Base: from, Disp: 64 * i}, v[i])
			if added {
				VFMADD213PS(operand.Mem{Base: add, Disp: 64 * i}, alpha, v[i])
			} else {
				VMULPS(alpha, v[i], v[i])
			}
			VMOVUPS(v[i], operand.Mem{Base: to, Disp: 64 * i})
		}
		ADDQ(sumsStep, from)
		ADDQ(operand.U32(128), to)
		ADDQ(operand.U32(128), add)
		DECQ(n)
		JNZ(ref(label("panel")))
		Label(label("last"))
		for i := range v {
			VMOVUPS(operand.Mem{Base: from, Disp: 64 * i}, v[i])
			if added {
				VMOVUPS_Z(operand.Mem{Base: add, Disp: 64 * i}, masks[i], w[i])
				VFMADD213PS(w[i], alpha, v[i])
			} else {
				VMULPS(alpha, v[i], v[i])
			}
			VMOVUPS(v[i], masks[i], operand.Mem{Base: to, Disp: 64 * i})
		}
		ADDQ(operand.U32(128), sums)
		ADDQ(ldc, c)
		if added {
			ADDQ(ldd, d)
		}
		DECQ(rows)
		JNZ(ref(label("row")))
		VZEROUPPER()
		RET()
	}
}

// amxConvert emits what rounds a row of A: 32 floats become the line of a tile, and
// lines of following tiles are apart. VCVTNE2PS2BF16 takes denormals for zeros, which
// TDPBF16PS does as well.
func amxConvert() {
	TEXT("amxRow", attr.NOSPLIT, "func(dst, src *float32, lines int)")
	Doc("amxRow rounds lines of 32 floats to bfloat16, into lines of tiles that follow one another.")
	Pragma("noescape")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("lines"), GP64())
	Label("loop")
	VMOVUPS(operand.Mem{Base: src}, reg.Z0)
	VMOVUPS(operand.Mem{Base: src, Disp: 64}, reg.Z1)
	encoded("VCVTNE2PS2BF16 Z0, Z1, Z0", 0x62, 0xf2, 0x77, 0x48, 0x72, 0xc0)
	VMOVUPS(reg.Z0, operand.Mem{Base: dst})
	ADDQ(operand.U32(128), src)
	ADDQ(operand.U32(amxStepBytes/2), dst)
	DECQ(n)
	JNZ(ref("loop"))
	VZEROUPPER()
	RET()
}
