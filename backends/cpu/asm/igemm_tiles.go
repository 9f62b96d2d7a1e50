package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// igemmTiles emits the kernel of package igemm for tile registers: up to 16 or, with
// both, 32 rows by a panel, 64 values of k at a time. The tiles are used as in
// gemm_amx.go; a panel of quads is what a tile of B wants.
func igemmTiles(unsignedA, both bool) {
	kind, rows := "columns", 16
	if unsignedA {
		kind = "rows"
	}
	if both {
		rows = 32
	}
	name := fmt.Sprintf("%s%dTiles", kind, rows)
	TEXT(name, attr.NOSPLIT, "func(config *[64]byte, steps int, a *uint8, lda int, b *uint8, c *int32, ldc int)")
	Doc(name + " computes up to that many rows of steps*16 quads; see type kernel. ldc counts bytes.")
	Pragma("noescape")
	Load(Param("config"), reg.RAX)
	encoded("LDTILECFG (AX)", 0xc4, 0xe2, 0x78, 0x49, 0x00)
	Load(Param("steps"), reg.R8)
	Load(Param("a"), reg.RSI)
	Load(Param("lda"), reg.RCX)
	Load(Param("b"), reg.RBX)
	MOVQ(operand.U32(128), reg.RDX)
	if both {
		MOVQ(reg.RCX, reg.RDI)
		SHLQ(operand.U8(4), reg.RDI)
		ADDQ(reg.RSI, reg.RDI)
	}
	for t := range 4 {
		if both || t < 2 {
			tileZero(t)
		}
	}
	Label("loop")
	tileLoad(6, rbx, rdx, 0)
	tileLoad(4, rsi, rcx, 0)
	tileDotBytes(0, 4, 6, unsignedA)
	for line := range 16 {
		PREFETCHT0(operand.Mem{Base: reg.RBX, Disp: 2*2048 + 64*line})
	}
	tileLoad(7, rbx, rdx, 64)
	tileDotBytes(1, 4, 7, unsignedA)
	for line := 16; line < 32; line++ {
		PREFETCHT0(operand.Mem{Base: reg.RBX, Disp: 2*2048 + 64*line})
	}
	if both {
		tileLoad(5, rdi, rcx, 0)
		tileDotBytes(2, 5, 6, unsignedA)
		tileDotBytes(3, 5, 7, unsignedA)
		ADDQ(operand.Imm(64), reg.RDI)
	}
	ADDQ(operand.Imm(64), reg.RSI)
	ADDQ(operand.U32(2048), reg.RBX)
	DECQ(reg.R8)
	JNZ(ref("loop"))
	Load(Param("c"), reg.RAX)
	Load(Param("ldc"), reg.RDX)
	tileStore(0, rax, rdx, 0)
	tileStore(1, rax, rdx, 64)
	if both {
		MOVQ(reg.RDX, reg.RSI)
		SHLQ(operand.U8(4), reg.RSI)
		ADDQ(reg.RAX, reg.RSI)
		tileStore(2, rsi, rdx, 0)
		tileStore(3, rsi, rdx, 64)
	}
	amxEnd()
}
