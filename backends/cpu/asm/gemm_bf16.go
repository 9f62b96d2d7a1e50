package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gemmBF16 emits the kernels whose elements are pairs of bfloat16, k even in the
// low half: the walk is that of the float32 kernels, a step does two values of k.
func gemmBF16() {
	ConstraintExpr("!purego")
	for rows := 1; rows <= 14; rows++ {
		gemmKernel(gemmEmitter{wide: true, rows: rows, bf16: true}, []int{2})
	}
	for rows := gemmAheadRows; rows <= 14; rows++ {
		gemmKernel(gemmEmitter{wide: true, rows: rows, bf16: true, ahead: true}, []int{2})
	}
	for rows := 1; rows <= 4; rows++ { // 8 sums, 4 halves of B, 2 of A and the mask
		gemmKernel(gemmEmitter{rows: rows, bf16: true}, []int{2, 2})
	}
}

// bf16Registers are fixed, since VDPBF16PS is encoded by hand: 28 sums, 2 of B, 2 of A.
var bf16Registers = [32]reg.VecPhysical{
	reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10,
	reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15, reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20,
	reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
}

// last is a register that is free once the steps are done.
func (g gemmEmitter) last() reg.Register {
	if g.bf16 && g.wide {
		return bf16Registers[31]
	}
	return g.vec()
}

func (g gemmEmitter) dotSteps(rows []operand.Mem, b reg.Register, sums [][]reg.Register) func(u int) {
	const columns, spread = 28, 30
	return func(u int) {
		for v := range sums[0] {
			VMOVUPS(operand.Mem{Base: b, Disp: u*gemmPanelBytes + v*g.bytes()}, bf16Registers[columns+v])
			ahead(operand.Mem{Base: b, Disp: u*gemmPanelBytes + v*g.bytes()})
		}
		for r := range sums {
			x := spread + r%2
			VPBROADCASTD(rows[r].Offset(4*u), bf16Registers[x])
			for v := range sums[r] {
				vdpbf16ps(x, columns+v, r*len(sums[r])+v)
			}
		}
	}
}

// vdpbf16ps emits VDPBF16PS, which Go's assembler lacks, on 512-bit registers:
// EVEX.512.F3.0F38.W0 52 /r, sum += a.odd*b.odd, then += a.even*b.even.
func vdpbf16ps(a, b, sum int) {
	not := func(x, bit, to int) int { return (^x >> bit & 1) << to }
	encoded(fmt.Sprintf("VDPBF16PS Z%d, Z%d, Z%d", a, b, sum),
		0x62,
		not(sum, 3, 7)|not(a, 4, 6)|not(a, 3, 5)|not(sum, 4, 4)|2,
		(^b&15)<<3|1<<2|2,
		2<<5|not(b, 4, 3),
		0x52,
		3<<6|sum&7<<3|a&7)
}

// splitSteps does the same with AVX2: the halves are floats once they stand in
// the upper half of a word. Their products are exact, so the bits agree.
func (g gemmEmitter) splitSteps(rows []operand.Mem, b reg.Register, sums [][]reg.Register) func(u int) {
	mask := g.vec()
	VPCMPEQD(mask, mask, mask)
	VPSLLD(operand.U8(16), mask, mask)
	n := len(sums[0])
	odd, even := make([]reg.VecVirtual, n), make([]reg.VecVirtual, n)
	for v := range odd {
		odd[v], even[v] = g.vec(), g.vec()
	}
	xOdd, xEven := g.vec(), g.vec()
	return func(u int) {
		for v := range odd {
			VMOVUPS(operand.Mem{Base: b, Disp: u*gemmPanelBytes + v*g.bytes()}, odd[v])
			VPSLLD(operand.U8(16), odd[v], even[v])
			VPAND(mask, odd[v], odd[v])
		}
		for r := range sums {
			VPBROADCASTD(rows[r].Offset(4*u), xOdd)
			VPSLLD(operand.U8(16), xOdd, xEven)
			VPAND(mask, xOdd, xOdd)
			for v := range odd {
				VFMADD231PS(xOdd, odd[v], sums[r][v])
			}
			for v := range odd {
				VFMADD231PS(xEven, even[v], sums[r][v])
			}
		}
	}
}
