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

func amxKernel(name string, both bool) {
	TEXT(name, attr.NOSPLIT, "func(config *[64]byte, m, steps int, a *float32, lda int, b, scratch, c *float32, ldc int, d *float32, ldd int, alpha float32)")
	Doc(name + " is a block of m rows by one panel; see amxBlock.")
	Pragma("noescape")
	Load(Param("config"), reg.RAX)
	encoded("LDTILECFG (AX)", 0xc4, 0xe2, 0x78, 0x49, 0x00)
	Load(Param("a"), reg.RSI)
	Load(Param("lda"), reg.RCX)
	SHLQ(operand.Imm(2), reg.RCX)
	Load(Param("b"), reg.RBX)
	MOVQ(operand.U32(128), reg.RDX)
	tiles := []int{0, 1}
	if both {
		tiles = []int{0, 1, 2, 3}
		MOVQ(reg.RCX, reg.RDI)
		SHLQ(operand.Imm(4), reg.RDI)
		ADDQ(reg.RSI, reg.RDI)
	}
	for _, t := range tiles {
		tileZero(t)
	}
	Load(Param("steps"), reg.RAX)
	TESTQ(reg.RAX, reg.RAX)
	JZ(operand.LabelRef("out"))
	Label("loop")
	if !both { // few rows: the time is that of reading B
		for line := range 32 {
			PREFETCHT0(operand.Mem{Base: reg.RBX, Disp: 4096 + 64*line})
		}
	}
	tileLoad(6, rbx, rdx, 0)
	tileLoad(4, rsi, rcx, 0)
	tileDotBF16(0, 4, 6)
	tileLoad(7, rbx, rdx, 64)
	tileDotBF16(1, 4, 7)
	if both {
		tileLoad(5, rdi, rcx, 0)
		tileDotBF16(2, 5, 6)
		tileDotBF16(3, 5, 7)
		ADDQ(operand.Imm(64), reg.RDI)
	}
	ADDQ(operand.Imm(64), reg.RSI)
	ADDQ(operand.U32(2048), reg.RBX)
	DECQ(reg.RAX)
	JNZ(operand.LabelRef("loop"))
	Label("out")
	Load(Param("scratch"), reg.RBX)
	tileStore(0, rbx, rdx, 0)
	tileStore(1, rbx, rdx, 64)
	if both {
		ADDQ(operand.U32(2048), reg.RBX)
		tileStore(2, rbx, rdx, 0)
		tileStore(3, rbx, rdx, 64)
	}
	encoded("TILERELEASE", 0xc4, 0xe2, 0x78, 0x49, 0xc0)

	// From scratch to C.
	s, m := Load(Param("scratch"), GP64()), Load(Param("m"), GP64())
	c, ldc := Load(Param("c"), GP64()), Load(Param("ldc"), GP64())
	d, ldd := Load(Param("d"), GP64()), Load(Param("ldd"), GP64())
	SHLQ(operand.Imm(2), ldc)
	SHLQ(operand.Imm(2), ldd)
	alpha := ZMM()
	factor, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(factor.Addr, alpha)
	x := []reg.VecVirtual{ZMM(), ZMM()}
	row := func(name string, scale func(v int)) {
		Label(name)
		for v, r := range x {
			VMOVUPS(operand.Mem{Base: s, Disp: 64 * v}, r)
			scale(v)
			VMOVUPS(r, operand.Mem{Base: c, Disp: 64 * v})
		}
		ADDQ(operand.U32(128), s)
		ADDQ(ldc, c)
		ADDQ(ldd, d)
		DECQ(m)
		JNZ(operand.LabelRef(name))
		VZEROUPPER()
		RET()
	}
	TESTQ(d, d)
	JZ(operand.LabelRef("product"))
	row("sum", func(v int) { VFMADD213PS(operand.Mem{Base: d, Disp: 64 * v}, alpha, x[v]) })
	Label("product")
	XORQ(ldd, ldd)
	row("scale", func(v int) { VMULPS(alpha, x[v], x[v]) })
}
