package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	gemmPanelBytes = 4 * 32 // one row of a panel of B
	gemmUnroll     = 4      // steps of k per turn of the loop
	gemmAheadRows  = 8      // more than skinnyM rows are groups of at least so many
)

// gemmKernels emits the matrix kernels of package gemm: 1 to 14 rows by 32
// columns for AVX-512, where 14x2 sums, 2 vectors of B and 2 of A fill the 32
// registers, and 1 to 6 rows for AVX2.
func gemmKernels() {
	ConstraintExpr("!purego")
	for rows := 1; rows <= 14; rows++ {
		gemmKernel(gemmEmitter{wide: true, rows: rows}, []int{2})
	}
	for rows := 1; rows <= 6; rows++ {
		passes := []int{2, 2} // 12 sums fill the 16 registers: two walks down the panel
		if rows <= 2 {
			passes = []int{4}
		}
		gemmKernel(gemmEmitter{rows: rows}, passes)
	}
	for rows := gemmAheadRows; rows <= 14; rows++ {
		gemmKernel(gemmEmitter{wide: true, rows: rows, ahead: true}, []int{2})
	}
	for rows := 1; rows <= 14; rows++ {
		gemmKernel(gemmEmitter{wide: true, rows: rows, stream: true}, []int{2})
	}
	for rows := 1; rows <= 14; rows++ {
		gemmKernel(gemmEmitter{wide: true, rows: rows, half: true}, []int{1})
	}
	gemmKernel(gemmEmitter{wide: true, rows: 1, panels: 4}, []int{8})
	gemmKernel(gemmEmitter{rows: 1, panels: 4}, []int{8, 8})
}

// gemmKernel emits one kernel; a pass computes that many vectors of columns.
func gemmKernel(g gemmEmitter, passes []int) {
	name := fmt.Sprintf("rows%dAVX2", g.rows)
	if g.wide {
		name = fmt.Sprintf("rows%dAVX512", g.rows)
	}
	if g.bf16 {
		name = "bf16" + name
	}
	if g.panels > 1 {
		name = "wide" + name
	}
	signature, kind := "k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32", "kernel"
	if g.ahead {
		name, signature, kind = "ahead"+name, signature+", nextA, nextB *float32", "aheadKernel"
	}
	if g.half {
		name = "half" + name
	}
	if g.stream {
		name, signature, kind = "stream"+name, signature+", next *float32, stride int", "streamKernel"
	}
	TEXT(name, NOSPLIT, "func("+signature+")")
	Doc(fmt.Sprintf("%s is the kernel for %d rows; see type %s.", name, g.rows, kind))
	Pragma("noescape")
	first := 0
	for i, n := range passes {
		g.pass(i, first, n)
		first += n
	}
	VZEROUPPER()
	RET()
}

type gemmEmitter struct {
	wide bool
	rows int
	bf16 bool // elements are pairs of bfloat16; see gemm_bf16.go
	// panels, for one row, is how many panels are read side by side, lda apart: so
	// many streams come from memory faster than one. 0 means 1.
	panels     int
	byteStride bool // lda counts bytes
	ahead      bool // fetch a row of A and 32 lines of B that are needed later
	half       bool // the first 16 columns of the panel only
	stream     bool // fetch as much of B as is used, from four other places
}

// streams returns a pointer to each panel.
func (g gemmEmitter) streams(b reg.Register) []reg.Register {
	all := []reg.Register{b}
	if g.panels > 1 {
		stride := Load(Param("lda"), GP64())
		if !g.byteStride {
			SHLQ(operand.Imm(2), stride)
		}
		for len(all) < g.panels {
			p := GP64()
			LEAQ(operand.Mem{Base: all[len(all)-1], Index: stride, Scale: 1}, p)
			all = append(all, p)
		}
	}
	return all
}

// perPanel is the number of vectors in a row of a panel.
func (g gemmEmitter) perPanel() int { return gemmPanelBytes / g.bytes() }

// sum is the register of accumulator i.
func (g gemmEmitter) sum(i int) reg.Register {
	if g.bf16 && g.wide {
		return bf16Registers[i]
	}
	return g.vec()
}

// steps returns what emits step u of k.
func (g gemmEmitter) steps(rows []operand.Mem, streams []reg.Register, first int, sums [][]reg.Register) func(u int) {
	b := streams[0]
	switch {
	case g.bf16 && g.wide:
		return g.dotSteps(rows, b, sums)
	case g.bf16:
		return g.splitSteps(rows, b, sums)
	}
	if g.panels > 1 {
		x := g.vec()
		return func(u int) {
			VBROADCASTSS(rows[0].Offset(4*u), x)
			for v, s := range sums[0] {
				m := operand.Mem{Base: streams[(first+v)/g.perPanel()], Disp: u*gemmPanelBytes + (first+v)%g.perPanel()*g.bytes()}
				VFMADD231PS(m, x, s)
				if m.Disp%64 == 0 {
					m.Disp += 1024
					PREFETCHT0(m)
				}
			}
		}
	}
	columns := make([]reg.VecVirtual, len(sums[0]))
	for v := range columns {
		columns[v] = g.vec()
	}
	spread := []reg.VecVirtual{g.vec(), g.vec()} // one element of A in every lane
	return func(u int) {
		for v, c := range columns {
			VMOVUPS(operand.Mem{Base: b, Disp: u*gemmPanelBytes + v*g.bytes()}, c)
			if g.wide {
				PREFETCHT0(operand.Mem{Base: b, Disp: 1024 + u*gemmPanelBytes + v*g.bytes()})
			}
		}
		for r := range sums {
			x := spread[r%2]
			VBROADCASTSS(rows[r].Offset(4*u), x)
			for v, c := range columns {
				VFMADD231PS(x, c, sums[r][v])
			}
		}
	}
}

func (g gemmEmitter) vec() reg.VecVirtual {
	if g.wide {
		return ZMM()
	}
	return YMM()
}

func (g gemmEmitter) bytes() int {
	if g.wide {
		return 64
	}
	return 32
}

// rowAddresses returns the address of each row of a matrix whose first row is
// at base and whose stride, in bytes, is in ld. One pointer serves three rows.
func (g gemmEmitter) rowAddresses(base, ld reg.Register) (rows []operand.Mem, pointers []reg.Register) {
	p := base
	for r := 0; r < g.rows; r++ {
		if r > 0 && r%3 == 0 {
			next := GP64()
			LEAQ(operand.Mem{Base: p, Index: ld, Scale: 2}, next)
			ADDQ(ld, next)
			p = next
		}
		if r%3 == 0 {
			pointers = append(pointers, p)
		}
		m := operand.Mem{Base: p}
		if r%3 > 0 {
			m.Index, m.Scale = ld, uint8(r%3)
		}
		rows = append(rows, m)
	}
	return rows, pointers
}

// matrix loads a slice parameter and its row stride.
func (g gemmEmitter) matrix(name, stride string, offset int) (base, ld reg.Register) {
	base, ld = Load(Param(name).Base(), GP64()), Load(Param(stride), GP64())
	SHLQ(operand.Imm(2), ld)
	if offset > 0 {
		ADDQ(operand.U32(uint64(offset)), base)
	}
	return base, ld
}

// pass emits the computation of n vectors of columns from vector first on.
func (g gemmEmitter) pass(index, first, n int) {
	label := func(s string) string { return fmt.Sprintf("%s%d", s, index) }
	offset := first * g.bytes()

	if index == 0 {
		// C is next needed after the whole of K: time enough to fetch it.
		c, ldc := g.matrix("c", "ldc", 0)
		for r := 0; r < g.rows; r++ {
			PREFETCHT0(operand.Mem{Base: c})
			PREFETCHT0(operand.Mem{Base: c, Disp: 64})
			if r+1 < g.rows {
				ADDQ(ldc, c)
			}
		}
	}

	a, lda := g.matrix("a", "lda", 0)
	rows, pointers := g.rowAddresses(a, lda)
	b := Load(Param("b").Base(), GP64())
	if offset > 0 && g.panels == 0 {
		ADDQ(operand.U32(uint64(offset)), b)
	}
	streams := g.streams(b)
	sums := make([][]reg.Register, g.rows)
	for r := range sums {
		for v := 0; v < n; v++ {
			s := g.sum(r*n + v)
			if g.wide {
				VPXORD(s, s, s)
			} else {
				VXORPS(s, s, s)
			}
			sums[r] = append(sums[r], s)
		}
	}
	step := g.steps(rows, streams, first, sums)
	advance := func(steps int) {
		for _, p := range pointers {
			ADDQ(operand.Imm(uint64(4*steps)), p)
		}
		for _, b := range streams {
			ADDQ(operand.U32(gemmPanelBytes*steps), b)
		}
	}
	var nextA, nextB reg.Register
	if g.ahead {
		nextA, nextB = Load(Param("nextA"), GP64()), Load(Param("nextB"), GP64())
	}
	var next []operand.Mem
	if g.stream {
		p, stride, stride3 := Load(Param("next"), GP64()), Load(Param("stride"), GP64()), GP64()
		SHLQ(operand.Imm(2), stride)
		LEAQ(operand.Mem{Base: stride, Index: stride, Scale: 2}, stride3)
		next = []operand.Mem{{Base: p}, {Base: p, Index: stride, Scale: 1}, {Base: p, Index: stride, Scale: 2}, {Base: p, Index: stride3, Scale: 1}}
	}
	k := Load(Param("k"), GP64())
	SUBQ(operand.Imm(gemmUnroll), k)
	JLT(operand.LabelRef(label("rest")))
	Label(label("loop"))
	if g.ahead { // into the second level of cache; a line is named more than once
		PREFETCHT1(operand.Mem{Base: nextA})
		PREFETCHT1(operand.Mem{Base: nextB})
		ADDQ(operand.Imm(4*gemmUnroll), nextA)
		ADDQ(operand.Imm(8*gemmUnroll), nextB)
	}
	for u := 0; u < gemmUnroll; u++ {
		step(u)
		if g.stream {
			PREFETCHT1(next[u])
			PREFETCHT1(next[u].Offset(64))
		}
	}
	if g.stream {
		ADDQ(operand.U32(gemmPanelBytes), next[0].Base)
	}
	advance(gemmUnroll)
	SUBQ(operand.Imm(gemmUnroll), k)
	JGE(operand.LabelRef(label("loop")))
	Label(label("rest"))
	ADDQ(operand.Imm(gemmUnroll), k)
	JZ(operand.LabelRef(label("out")))
	Label(label("single"))
	step(0)
	advance(1)
	DECQ(k)
	JNZ(operand.LabelRef(label("single")))

	Label(label("out"))
	alpha := g.last()
	factor, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(factor.Addr, alpha)
	c, ldc := g.matrix("c", "ldc", offset)
	d, ldd := g.matrix("d", "ldd", 0)
	TESTQ(d, d)
	JZ(operand.LabelRef(label("product")))
	if offset > 0 {
		ADDQ(operand.U32(uint64(offset)), d)
	}
	g.store(sums, c, ldc, func(v int, s reg.Register) {
		VFMADD213PS(operand.Mem{Base: d, Disp: v * g.bytes()}, alpha, s)
	}, func() { ADDQ(ldd, d) })
	JMP(operand.LabelRef(label("done")))
	Label(label("product"))
	g.store(sums, c, ldc, func(_ int, s reg.Register) { VMULPS(alpha, s, s) }, func() {})
	Label(label("done"))
}

// store emits the write-out of the sums, row by row.
func (g gemmEmitter) store(sums [][]reg.Register, c, ldc reg.Register, scale func(v int, s reg.Register), nextRow func()) {
	for r, row := range sums {
		for v, s := range row {
			scale(v, s)
			VMOVUPS(s, operand.Mem{Base: c, Disp: v * g.bytes()})
		}
		if r+1 < len(sums) {
			ADDQ(ldc, c)
			nextRow()
		}
	}
}
