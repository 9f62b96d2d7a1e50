package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// peakKernels emits the loops of package peak: instructions on registers, as many
// chains as hide the latency, and reads of memory.
func peakKernels() {
	ConstraintExpr("!purego")
	// Zeros would flatter: they take little power, and the clock rises.
	bits := func(i int) uint32 { return 0x3f000000 + uint32(i)*0x5a5a5b%0x800000 }
	loop("fmaAVX512", func() {
		for i := range 16 {
			VFMADD231PS(reg.Z31, reg.Z30, bf16Registers[i])
		}
	}, func() {
		for i, r := range bf16Registers {
			VBROADCASTSS(constant(bits(i)), r)
		}
	})
	loop("dotAVX512", func() {
		for i := range 16 {
			vdpbf16ps(31, 30, i)
		}
	}, func() {
		for _, r := range bf16Registers {
			VPXORD(r, r, r)
		}
	})
	loop("vnniAVX512", func() {
		for i := range 16 {
			quantEmitter{}.dot(reg.Z31, reg.Z30, bf16Registers[i])
		}
	}, func() {
		for _, r := range bf16Registers {
			VPXORD(r, r, r)
		}
	})
	yNames := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}
	clearY := func() {
		for _, r := range yNames {
			VXORPS(r, r, r)
		}
	}
	loop("fmaAVX2", func() {
		for i := range 12 {
			VFMADD231PS(reg.Y15, reg.Y14, yNames[i])
		}
	}, clearY)
	loop("maddAVX2", func() { // what a product of int8 takes without VNNI
		for i := range 6 {
			VPMADDWD(reg.Y15, reg.Y14, yNames[i])
			VPADDD(yNames[i], yNames[6+i], yNames[6+i])
		}
	}, clearY)

	TEXT("tiles", attr.NOSPLIT, "func(config *[64]byte, n int)")
	Doc("tiles runs n turns of 4 TDPBF16PS.")
	Pragma("noescape")
	Load(Param("config"), reg.RAX)
	encoded("LDTILECFG (AX)", 0xc4, 0xe2, 0x78, 0x49, 0x00)
	for t := range 8 {
		tileZero(t)
	}
	n := Load(Param("n"), GP64())
	Label("loop")
	tileDotBF16(0, 4, 6)
	tileDotBF16(1, 4, 7)
	tileDotBF16(2, 5, 6)
	tileDotBF16(3, 5, 7)
	DECQ(n)
	JNZ(operand.LabelRef("loop"))
	encoded("TILERELEASE", 0xc4, 0xe2, 0x78, 0x49, 0xc0)
	RET()

	TEXT("readAVX2", attr.NOSPLIT, "func(p *byte, stride, lines int)")
	Doc("readAVX2 reads a number of cache lines from each of 4 streams, an even one.")
	Pragma("noescape")
	p := Load(Param("p"), GP64())
	stride := Load(Param("stride"), GP64())
	lines := Load(Param("lines"), GP64())
	streams := []reg.Register{p}
	for range 3 {
		q := GP64()
		LEAQ(operand.Mem{Base: streams[len(streams)-1], Index: stride, Scale: 1}, q)
		streams = append(streams, q)
	}
	Label("loop")
	for _, q := range streams {
		for i := range 4 {
			VMOVUPS(operand.Mem{Base: q, Disp: 32 * i}, yNames[i])
		}
		PREFETCHT0(operand.Mem{Base: q, Disp: 1024})
		PREFETCHT0(operand.Mem{Base: q, Disp: 1088})
		ADDQ(operand.U32(128), q)
	}
	SUBQ(operand.Imm(2), lines)
	JNZ(operand.LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// loop emits a function that runs body n times.
func loop(name string, body, start func()) {
	TEXT(name, attr.NOSPLIT, "func(n int)")
	Doc(name + " runs n turns.")
	Pragma("noescape")
	n := Load(Param("n"), GP64())
	start()
	Label("loop")
	body()
	DECQ(n)
	JNZ(operand.LabelRef("loop"))
	VZEROUPPER()
	RET()
}
