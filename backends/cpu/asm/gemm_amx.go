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
// bytes. With up to 32 rows of A, sums are tiles 0 to 3, A is 4 and 5, B 6 and 7;
// with up to 16, tiles 2, 3 and 5 are left alone.
//
// Go's assembler and avo know none of the instructions: they are encoded by hand
// and use fixed registers.
func gemmAMX() {
	ConstraintExpr("!purego")
	amxKernel("amx16", false)
	amxKernel("amx32", true)
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

// Fields of amxArgs, of 8 bytes each.
const (
	amxConfig = iota
	amxA
	amxBelow
	amxB
	amxNext
	amxSums
	amxSumsStep
	amxC
	amxD
	amxLdc
	amxLdd
	amxSteps
	amxPanelBytes
	amxPanels
	amxM
	amxFirst
	amxLast
	amxPlain
	amxAlpha
)

func amxKernel(name string, both bool) {
	TEXT(name, attr.NOSPLIT, "func(args *byte)")
	Doc(name + " computes a K block of m rows by some panels; see amxArgs.")
	Pragma("noescape")
	args, c, apart, panel, ask, asked := reg.R8, reg.R9, reg.R11, reg.R12, reg.R10, reg.R13
	Load(Param("args"), args)
	field := func(i int) operand.Mem { return operand.Mem{Base: args, Disp: 8 * i} }
	MOVQ(field(amxConfig), reg.RAX)
	encoded("LDTILECFG (AX)", 0xc4, 0xe2, 0x78, 0x49, 0x00)
	MOVQ(field(amxC), c)
	MOVQ(field(amxB), panel)
	MOVQ(field(amxNext), ask)
	VBROADCASTSS(field(amxAlpha), reg.Z2)
	MOVQ(operand.U32(128), reg.RDX)

	sums := func(do func(t, base, disp int)) { // all tiles of sums, in memory 4 KB
		MOVQ(field(amxSums), reg.RAX)
		do(0, rax, 0)
		do(1, rax, 64)
		if both {
			LEAQ(operand.Mem{Base: reg.RAX, Disp: 2048}, reg.RSI)
			do(2, rsi, 0)
			do(3, rsi, 64)
		}
	}
	Label("panel")
	CMPQ(field(amxFirst), operand.U8(0))
	JEQ(ref("more"))
	for t := range 4 {
		if both || t < 2 {
			tileZero(t)
		}
	}
	JMP(ref("start"))
	Label("more")
	sums(func(t, base, disp int) { tileLoad(t, base, rdx, disp) })
	Label("start")
	MOVQ(operand.U32(64), reg.RCX)
	MOVQ(field(amxA), reg.RSI)
	MOVQ(panel, reg.RBX)
	if both {
		MOVQ(field(amxBelow), reg.RDI)
		ADDQ(reg.RSI, reg.RDI)
		// What is asked for: B of the next K block, or in the last one C.
		MOVQ(ask, asked)
		MOVQ(reg.RDX, apart)
		CMPQ(field(amxLast), operand.U8(0))
		JEQ(ref("asking"))
		MOVQ(c, asked)
		MOVQ(field(amxLdc), apart)
		Label("asking")
	}
	MOVQ(field(amxSteps), reg.RAX)
	TESTQ(reg.RAX, reg.RAX)
	JZ(ref("out"))
	Label("loop")
	const b = 2048 // bytes of B in a step
	away := b      // how far ahead it is asked for
	if !both {
		away = 2 * b // few rows: it comes from memory
	}
	fetch := func(from, to int) {
		for line := from; line < to; line++ {
			PREFETCHT0(operand.Mem{Base: reg.RBX, Disp: away + 64*line})
		}
	}
	tileLoad(6, rbx, rdx, 0)
	tileLoad(4, rsi, rcx, 0)
	fetch(0, 8)
	tileDotBF16(0, 4, 6)
	tileLoad(7, rbx, rdx, 64)
	fetch(8, 16)
	tileDotBF16(1, 4, 7)
	if both {
		tileLoad(5, rdi, rcx, 0)
		fetch(16, 24)
		tileDotBF16(2, 5, 6)
		for row := range 3 {
			at := operand.Mem{Base: asked}
			if row > 0 {
				at.Index, at.Scale = apart, uint8(row)
			}
			PREFETCHT1(at)
			PREFETCHT1(at.Offset(64))
		}
		fetch(24, 32)
		tileDotBF16(3, 5, 7)
		ADDQ(operand.U32(1024), reg.RDI)
		LEAQ(operand.Mem{Base: asked, Index: apart, Scale: 2}, asked)
		ADDQ(apart, asked)
	} else {
		fetch(16, 32)
	}
	ADDQ(operand.U32(1024), reg.RSI)
	ADDQ(operand.U32(b), reg.RBX)
	DECQ(reg.RAX)
	JNZ(ref("loop"))
	Label("out")
	CMPQ(field(amxPlain), operand.U8(0))
	JEQ(ref("scratch"))
	MOVQ(field(amxLdc), reg.RDI)
	MOVQ(c, reg.RAX)
	tileStore(0, rax, rdi, 0)
	tileStore(1, rax, rdi, 64)
	if both {
		MOVQ(reg.RDI, reg.RSI)
		SHLQ(operand.U8(4), reg.RSI)
		ADDQ(reg.RAX, reg.RSI)
		tileStore(2, rsi, rdi, 0)
		tileStore(3, rsi, rdi, 64)
	}
	JMP(ref("written"))
	Label("scratch")
	sums(func(t, base, disp int) { tileStore(t, base, rdx, disp) })
	CMPQ(field(amxLast), operand.U8(0))
	JEQ(ref("next"))

	// From the sums, at RAX, to C.
	MOVQ(field(amxM), reg.RCX)
	MOVQ(c, reg.RSI)
	MOVQ(field(amxD), reg.RDI)
	rows := []reg.VecPhysical{reg.Z0, reg.Z1}
	row := func(name string, scale func(v int)) {
		Label(name)
		for v, r := range rows {
			VMOVUPS(operand.Mem{Base: reg.RAX, Disp: 64 * v}, r)
			scale(v)
			VMOVUPS(r, operand.Mem{Base: reg.RSI, Disp: 64 * v})
		}
		ADDQ(operand.U32(128), reg.RAX)
		ADDQ(field(amxLdc), reg.RSI)
	}
	TESTQ(reg.RDI, reg.RDI)
	JZ(ref("product"))
	row("sum", func(v int) { VFMADD213PS(operand.Mem{Base: reg.RDI, Disp: 64 * v}, reg.Z2, rows[v]) })
	ADDQ(field(amxLdd), reg.RDI)
	DECQ(reg.RCX)
	JNZ(ref("sum"))
	ADDQ(reg.RDX, field(amxD))
	JMP(ref("written"))
	row("product", func(v int) { VMULPS(reg.Z2, rows[v], rows[v]) })
	DECQ(reg.RCX)
	JNZ(ref("product"))
	Label("written")
	ADDQ(operand.U32(128), c)

	Label("next")
	MOVQ(field(amxPanelBytes), reg.RAX)
	ADDQ(reg.RAX, panel)
	ADDQ(reg.RAX, ask)
	MOVQ(field(amxSumsStep), reg.RAX)
	ADDQ(reg.RAX, field(amxSums))
	DECQ(field(amxPanels))
	JNZ(ref("panel"))
	encoded("TILERELEASE", 0xc4, 0xe2, 0x78, 0x49, 0xc0)
	VZEROUPPER()
	RET()
}
