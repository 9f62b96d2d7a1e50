package main

// The kernels of package ssd for arm64: the tile of products that its block
// kernels are made of, and the step of the recurrence.
func ssdNeon() {
	n := newNeon("ssd")
	n.tile()
	n.step()
	n.write("../ssd/neon_arm64")
}

func (n *neon) tile() {
	t := tileOf(4)
	n.function("tileNEON", "args *tileArgs", 8, "computes 4 rows of 32 columns; see type tileArgs.")
	n.op("MOVD args+0(FP), R23")
	for i, r := range []int{19, 20, 14} { // lda, b, ldb
		n.op("MOVD %d(R23), R%d", 8*(i+1), r)
	}
	n.op("LSL $2, R19")
	n.op("LSL $2, R14")
	n.op("MOVD 40(R23), R22")
	n.op("MOVD 48(R23), R21")
	n.op("MOVD 56(R23), R9")
	n.op("LSL $2, R9")
	n.op("MOVD R9, R11")
	n.columns(t, "tile", func(part int) {
		n.op("MOVD 32(R23), R0")
		n.op("MOVD (R23), R1")
	}, func(l string) { n.addend(t, l) })
	n.op("RET")
}

// step: see stepArgs. Sixteen values of a row at a time, with four sums; a rest
// one by one.
func (n *neon) step() {
	n.function("stepNEON", "args *stepArgs", 8, "is the kernel of a step of one head; see type stepArgs.")
	n.op("MOVD args+0(FP), R23")
	n.op("MOVD (R23), R1")   // from
	n.op("MOVD 8(R23), R2")  // to
	n.op("MOVD 32(R23), R5") // x
	n.op("MOVD 40(R23), R6") // y
	n.op("MOVD 72(R23), R7") // p
	n.op("MOVD 80(R23), R8") // n
	n.op("MOVD 48(R23), R9")
	n.op("VLD1R (R9), [V30.S4]") // decay
	n.op("MOVD 56(R23), R9")
	n.op("FMOVS (R9), F29") // scale
	n.op("CBZ R7, step_end")
	n.label("step_row")
	n.op("FMOVS.P 4(R5), F31")
	n.op("FMULS F29, F31, F31")
	n.op("VDUP V31.S[0], V31.S4")
	n.op("MOVD 16(R23), R3") // b
	n.op("MOVD 24(R23), R4") // c
	n.op("MOVD R8, R0")
	for v := range 4 {
		n.zero(v)
	}
	n.zero(16)
	block := func(load, store string, vs int) {
		n.op(load, 1, vectors(4, vs))
		n.op(load, 3, vectors(8, vs))
		for v := range vs {
			n.fmul(4+v, 4+v, 30)
			n.fmla(4+v, 8+v, 31, 0)
		}
		n.op(load, 4, vectors(12, vs))
		n.op(store, vectors(4, vs), 2)
		for v := range vs {
			n.op("VFMLA V%d.S4, V%d.S4, V%d.S4", 12+v, 4+v, v)
		}
	}
	n.label("step_sixteen")
	n.op("SUBS $16, R0, R0")
	n.op("BLT step_rest")
	block("VLD1.P 64(R%d), %s", "VST1.P %s, 64(R%d)", 4)
	n.op("B step_sixteen")
	n.label("step_rest")
	n.op("ADDS $16, R0, R0")
	n.op("BEQ step_sum")
	n.label("step_one")
	for _, r := range [][2]int{{1, 4}, {3, 8}, {4, 12}} {
		n.op("FMOVS.P 4(R%d), F%d", r[0], r[1])
	}
	n.op("FMULS F30, F4, F4")
	n.op("FMADDS F31, F4, F8, F4")
	n.op("FMOVS.P F4, 4(R2)")
	n.op("FMADDS F12, F16, F4, F16")
	n.op("SUBS $1, R0, R0")
	n.op("BNE step_one")
	n.label("step_sum")
	n.fadd(0, 0, 1)
	n.fadd(2, 2, 3)
	n.fadd(0, 0, 2)
	n.faddp(0, 0, 0)
	n.faddp(0, 0, 0)
	n.op("FADDS F16, F0, F0") // of the values one by one
	n.op("FMOVS.P F0, 4(R6)")
	n.op("SUBS $1, R7, R7")
	n.op("BNE step_row")
	n.label("step_end")
	n.op("RET")
}
