package main

import "fmt"

// The float32 kernels of package gemm for arm64: as many rows as leave registers
// for a part of the panel, 32 columns at once for few rows and 16 for more.
func gemmNeon() {
	n := newNeon("gemm")
	for rows := 1; rows <= 6; rows++ {
		name := fmt.Sprintf("rows%dNEON", rows)
		n.function(name, "k int, a []float32, lda int, b []float32, c []float32, ldc int, d []float32, ldd int, alpha float32", 132,
			fmt.Sprintf("is the kernel for %d rows; see type kernel.", rows))
		n.op("MOVD lda+32(FP), R19")
		n.op("LSL $2, R19")
		n.op("MOVD ldc+88(FP), R9")
		n.op("LSL $2, R9")
		n.op("MOVD ldd+120(FP), R11")
		n.op("LSL $2, R11")
		n.op("MOVD b_base+40(FP), R20")
		n.op("MOVD c_base+64(FP), R21")
		n.op("MOVD d_base+96(FP), R22")
		n.op("MOVD $128, R14")
		t := tileOf(rows)
		n.columns(t, name, func(part int) {
			n.op("MOVD k+0(FP), R0")
			n.op("MOVD a_base+8(FP), R1")
		}, func(l string) {
			n.op("FMOVS alpha+128(FP), F31")
			n.op("VDUP V31.S[0], V31.S4")
			for i := range rows {
				for v := range t.vectors {
					n.fmul(t.acc(i, v), t.acc(i, v), 31)
				}
			}
			n.addend(t, l)
		})
		n.op("RET")
	}
	n.write("../gemm/rows_arm64")
}

// A neonTile is rows by vectors of four columns in registers: the accumulators
// from V0, a register of A for each row, and temporaries for B.
type neonTile struct{ rows, vectors, temps int }

func tileOf(rows int) neonTile {
	v := 8
	if rows > 3 {
		v = 4
	}
	return neonTile{rows, v, min(4, 32-rows*v-rows) / 2 * 2}
}

func (t neonTile) acc(row, v int) int { return row*t.vectors + v }
func (t neonTile) a(row int) int      { return t.rows*t.vectors + row }
func (t neonTile) b(i int) int        { return t.rows*(t.vectors+1) + i }

// columns computes 32 columns in parts of the tile's width. setup leaves k in R0
// and the first row of A in R1; R19 is the distance of its rows, R20 B and R14 the
// distance of its rows, R21 C and R22 the addend, all of them in bytes. finish
// does what comes between sums and store, with R10 as the addend of this part; R9
// is the distance of the rows of C.
func (n *neon) columns(t neonTile, name string, setup func(part int), finish func(label string)) {
	for part := range 8 / t.vectors {
		l := fmt.Sprintf("%s_%d", name, part)
		setup(part)
		for i := 1; i < t.rows; i++ {
			n.op("ADD R19, R%d, R%d", i, i+1)
		}
		at := part * t.vectors * 16
		n.op("ADD $%d, R20, R7", at)
		n.op("ADD $%d, R21, R8", at)
		n.op("MOVD R22, R10")
		n.op("CBZ R10, %s_plain", l)
		n.op("ADD $%d, R10", at)
		n.label(l + "_plain")
		n.op("SUB $%d, R14, R15", 16*(t.vectors-t.temps)) // from the last part of a row of B to the next row
		n.sums(t, l)
		finish(l)
		for i := range t.rows {
			n.op("MOVD R8, R12")
			for v := 0; v < t.vectors; v += 4 {
				n.op("VST1.P %s, 64(R12)", vectors(t.acc(i, v), 4))
			}
			if i < t.rows-1 {
				n.op("ADD R9, R8")
			}
		}
	}
}

// sums multiplies: four values of k at a time, then the rest.
func (n *neon) sums(t neonTile, l string) {
	for i := range t.rows * t.vectors {
		n.zero(i)
	}
	row := func(multiply func(i, v, b int)) {
		for v := 0; v < t.vectors; v += t.temps {
			if v+t.temps < t.vectors {
				n.op("VLD1.P %d(R7), %s", 16*t.temps, vectors(t.b(0), t.temps))
			} else {
				n.op("VLD1.P (R7)(R15), %s", vectors(t.b(0), t.temps))
			}
			for i := range t.rows {
				for b := range t.temps {
					multiply(i, v+b, b)
				}
			}
		}
	}
	n.label(l + "_four")
	n.op("SUBS $4, R0, R0")
	n.op("BLT %s_rest", l)
	for i := range t.rows {
		n.op("VLD1.P 16(R%d), %s", i+1, vectors(t.a(i), 1))
	}
	for lane := range 4 {
		row(func(i, v, b int) { n.fmla(t.acc(i, v), t.b(b), t.a(i), lane) })
	}
	n.op("B %s_four", l)
	n.label(l + "_rest")
	n.op("ADDS $4, R0, R0")
	n.op("BEQ %s_done", l)
	n.label(l + "_one")
	for i := range t.rows {
		n.op("VLD1R.P 4(R%d), %s", i+1, vectors(t.a(i), 1))
	}
	row(func(i, v, b int) { n.fmla(t.acc(i, v), t.b(b), t.a(i), 0) })
	n.op("SUBS $1, R0, R0")
	n.op("BNE %s_one", l)
	n.label(l + "_done")
}

// addend adds the rows at R10, R11 bytes apart, unless it is nil.
func (n *neon) addend(t neonTile, l string) {
	n.op("CBZ R10, %s_store", l)
	for i := range t.rows {
		n.op("MOVD R10, R12")
		for v := range t.vectors {
			n.op("VLD1.P 16(R12), %s", vectors(t.b(0), 1))
			n.fadd(t.acc(i, v), t.acc(i, v), t.b(0))
		}
		n.op("ADD R11, R10")
	}
	n.label(l + "_store")
}
