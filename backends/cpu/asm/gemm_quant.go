package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A group is 32 values of k: 8 quads. In A it is 32 int8, the scale and the sum
// that the products start from; in a panel of B it is 8 rows of 128 bytes (int8),
// or 32 scales in bfloat16 and 4 rows of 128 bytes, a quad in the low halves of
// the bytes and the one four further in the high ones (int4).
const (
	quantABytes    = 40
	quantScaleAt   = 32
	quantStartAt   = 36
	quantInt8Bytes = 1024
	quantInt4Bytes = 64 + 512
)

// gemmQuant emits the int8 and int4 kernels of package gemm: up to 7 rows for
// AVX-512 with VNNI, where 14 sums in int32 and 14 in float32 leave 4 registers,
// and up to 2 for AVX2. And the quantiser of activations.
func gemmQuant() {
	ConstraintExpr("!purego")
	for _, four := range []bool{false, true} {
		for rows := 1; rows <= 7; rows++ {
			quantKernel(quantEmitter{gemmEmitter: gemmEmitter{wide: true, rows: rows}, four: four}, []int{2})
		}
		for rows := 1; rows <= 2; rows++ {
			quantKernel(quantEmitter{gemmEmitter: gemmEmitter{rows: rows}, four: four}, []int{2, 2})
		}
		quantKernel(quantEmitter{gemmEmitter: gemmEmitter{wide: true, rows: 1, panels: 4, byteStride: true}, four: four}, []int{8})
	}
	quantizer()
}

type quantEmitter struct {
	gemmEmitter
	four bool
}

func quantKernel(g quantEmitter, passes []int) {
	name, level := "int8", "AVX2"
	if g.four {
		name = "int4"
	}
	if g.wide {
		level = "VNNI"
	}
	name += fmt.Sprintf("rows%d%s", g.rows, level)
	if g.panels > 1 {
		name = "wide" + name
	}
	TEXT(name, NOSPLIT, "func(groups int, a []byte, lda int, b []byte, s, c []float32, ldc int, d []float32, ldd int, alpha float32)")
	Doc(fmt.Sprintf("%s is the kernel for %d rows; see type quantKernel.", name, g.rows))
	Pragma("noescape")
	first := 0
	for i, n := range passes {
		g.pass(i, first, n)
		first += n
	}
	VZEROUPPER()
	RET()
}

func (g quantEmitter) zero(x reg.VecVirtual) {
	if g.wide {
		VPXORD(x, x, x)
	} else {
		VPXOR(x, x, x)
	}
}

func (g quantEmitter) grid(n int) (all [][]reg.VecVirtual) {
	for range g.rows {
		var row []reg.VecVirtual
		for range n {
			row = append(row, g.vec())
		}
		all = append(all, row)
	}
	return all
}

func (g quantEmitter) pass(index, first, n int) {
	label := func(s string) string { return fmt.Sprintf("%s%d", s, index) }
	a, lda := Load(Param("a").Base(), GP64()), Load(Param("lda"), GP64())
	rows, pointers := g.rowAddresses(a, lda)
	b := Load(Param("b").Base(), GP64())
	streams := g.streams(b)
	floats := g.grid(n)
	for _, row := range floats {
		for _, f := range row {
			g.zero(f)
		}
	}
	groups := Load(Param("groups"), GP64())
	TESTQ(groups, groups)
	JZ(operand.LabelRef(label("out")))
	Label(label("loop"))
	column := func(quad, v int) operand.Mem {
		v += first
		m := operand.Mem{Base: streams[v/g.perPanel()], Disp: quad*gemmPanelBytes + v%g.perPanel()*g.bytes()}
		if g.four {
			m.Disp += 64
		}
		return m
	}
	sums := g.grid(n)
	step := quantInt8Bytes
	switch {
	case g.wide && g.four:
		g.wide4(rows, streams, column, sums, floats)
	case g.wide:
		g.wide8(rows, column, sums, floats)
	case g.four:
		g.narrow4(rows, b, first, column, sums, floats)
	default:
		g.narrow8(rows, column, sums, floats)
	}
	if g.four {
		step = quantInt4Bytes
	}
	for _, p := range pointers {
		ADDQ(operand.Imm(quantABytes), p)
	}
	for _, b := range streams {
		ADDQ(operand.U32(step), b)
	}
	DECQ(groups)
	JNZ(operand.LabelRef(label("loop")))
	Label(label("out"))
	g.writeOut(label, first, n, floats)
}

// dot emits VPDPBUSD, which avo does not know: sum += signed . unsigned.
func (g quantEmitter) dot(signed operand.Op, unsigned, sum reg.Register) {
	i := &ir.Instruction{Opcode: "VPDPBUSD", Operands: []operand.Op{signed, unsigned, sum}, Inputs: []operand.Op{signed, unsigned, sum}, Outputs: []operand.Op{sum}}
	if _, mem := signed.(operand.Mem); mem {
		i.Suffixes = []string{"BCST"}
	}
	Instruction(i)
}

// ahead emits the prefetch of the line that is needed some hundred cycles after m.
func ahead(m operand.Mem) {
	m.Disp += 2048
	PREFETCHT0(m)
}

func (g quantEmitter) start(rows []operand.Mem, sums [][]reg.VecVirtual) {
	for r, row := range sums {
		for _, s := range row {
			VPBROADCASTD(rows[r].Offset(quantStartAt), s)
		}
	}
}

func (g quantEmitter) wide8(rows []operand.Mem, column func(q, v int) operand.Mem, sums, floats [][]reg.VecVirtual) {
	g.start(rows, sums)
	var cols []reg.VecVirtual
	for range sums[0] {
		cols = append(cols, g.vec())
	}
	spread := []reg.VecVirtual{g.vec(), g.vec()}
	for q := range 8 {
		for v, c := range cols {
			VMOVDQU32(column(q, v), c)
			ahead(column(q, v))
		}
		for r, row := range sums {
			x := spread[r%2]
			VPBROADCASTD(rows[r].Offset(4*q), x)
			for v, c := range cols {
				g.dot(x, c, row[v])
			}
		}
	}
	for r, row := range sums {
		for v, s := range row {
			VCVTDQ2PS(s, s)
			VFMADD231PS_BCST(rows[r].Offset(quantScaleAt), s, floats[r][v])
		}
	}
}

func (g quantEmitter) wide4(rows []operand.Mem, streams []reg.Register, column func(q, v int) operand.Mem, sums, floats [][]reg.VecVirtual) {
	g.start(rows, sums)
	var lo, hi []reg.VecVirtual
	for range sums[0] {
		lo, hi = append(lo, g.vec()), append(hi, g.vec())
	}
	mask := constant(0x0f0f0f0f)
	for q := range 4 {
		for v := range lo {
			VMOVDQU32(column(q, v), lo[v])
			ahead(column(q, v))
			VPSRLD(operand.U8(4), lo[v], hi[v])
			VPANDD_BCST(mask, lo[v], lo[v])
			VPANDD_BCST(mask, hi[v], hi[v])
		}
		for r, row := range sums {
			for v, s := range row {
				g.dot(rows[r].Offset(4*q), lo[v], s)
			}
		}
		for r, row := range sums {
			for v, s := range row {
				g.dot(rows[r].Offset(4*q+16), hi[v], s)
			}
		}
	}
	scale, t := lo, hi[0]
	for v, s := range scale {
		VPMOVZXWD(operand.Mem{Base: streams[v/2], Disp: 32 * (v % 2)}, s)
		VPSLLD(operand.U8(16), s, s)
	}
	for r, row := range sums {
		for v, s := range row {
			VMULPS_BCST(rows[r].Offset(quantScaleAt), scale[v], t)
			VCVTDQ2PS(s, s)
			VFMADD231PS(t, s, floats[r][v])
		}
	}
}

// narrow8 multiplies 16-bit halves: VPMADDUBSW would saturate.
func (g quantEmitter) narrow8(rows []operand.Mem, column func(q, v int) operand.Mem, sums, floats [][]reg.VecVirtual) {
	g.start(rows, sums)
	n := len(sums[0])
	even, odd := make([]reg.VecVirtual, n), make([]reg.VecVirtual, n)
	for v := range even {
		even[v], odd[v] = g.vec(), g.vec()
	}
	xe, xo, t := g.vec(), g.vec(), g.vec()
	for q := range 8 {
		for v := range even {
			VMOVDQU(column(q, v), odd[v])
			VPAND(constant(0x00ff00ff), odd[v], even[v])
			VPSRLW(operand.U8(8), odd[v], odd[v])
		}
		for r, row := range sums {
			VPBROADCASTD(rows[r].Offset(4*q), xo)
			VPSLLW(operand.U8(8), xo, xe)
			VPSRAW(operand.U8(8), xe, xe)
			VPSRAW(operand.U8(8), xo, xo)
			for v, s := range row {
				VPMADDWD(xe, even[v], t)
				VPADDD(t, s, s)
				VPMADDWD(xo, odd[v], t)
				VPADDD(t, s, s)
			}
		}
	}
	for r, row := range sums {
		VBROADCASTSS(rows[r].Offset(quantScaleAt), t)
		for v, s := range row {
			VCVTDQ2PS(s, s)
			VFMADD231PS(t, s, floats[r][v])
		}
	}
}

// narrow4 sums in 16 bits: 16 products of at most 15*127 fit.
func (g quantEmitter) narrow4(rows []operand.Mem, b reg.Register, first int, column func(q, v int) operand.Mem, sums, floats [][]reg.VecVirtual) {
	for _, row := range sums {
		for _, s := range row {
			g.zero(s)
		}
	}
	n := len(sums[0])
	lo, hi := make([]reg.VecVirtual, n), make([]reg.VecVirtual, n)
	for v := range lo {
		lo[v], hi[v] = g.vec(), g.vec()
	}
	x, t := g.vec(), g.vec()
	for q := range 4 {
		for v := range lo {
			VMOVDQU(column(q, v), lo[v])
			VPSRLD(operand.U8(4), lo[v], hi[v])
			VPAND(constant(0x0f0f0f0f), lo[v], lo[v])
			VPAND(constant(0x0f0f0f0f), hi[v], hi[v])
		}
		for r, row := range sums {
			for half, u := range [][]reg.VecVirtual{lo, hi} {
				VPBROADCASTD(rows[r].Offset(4*q+16*half), x)
				for v, s := range row {
					VPMADDUBSW(x, u[v], t)
					VPADDW(t, s, s)
				}
			}
		}
	}
	scale := lo
	for v, s := range scale {
		VPMOVZXWD(operand.Mem{Base: b, Disp: 16 * (first + v)}, s)
		VPSLLD(operand.U8(16), s, s)
	}
	for r, row := range sums {
		VPBROADCASTD(rows[r].Offset(quantStartAt), x)
		VBROADCASTSS(rows[r].Offset(quantScaleAt), t)
		for v, s := range row {
			VPMADDWD(constant(0x00010001), s, s)
			VPADDD(x, s, s)
			VCVTDQ2PS(s, s)
			VMULPS(t, scale[v], hi[0])
			VFMADD231PS(hi[0], s, floats[r][v])
		}
	}
}

// writeOut emits c = floats * alpha (* scale of the column) + d.
func (g quantEmitter) writeOut(label func(string) string, first, n int, floats [][]reg.VecVirtual) {
	offset := first * g.bytes()
	factor, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	var factors []reg.VecVirtual
	s := Load(Param("s").Base(), GP64())
	scales := g.streams(s)
	for v := range n {
		f := g.vec()
		if v == 0 || !g.four {
			VBROADCASTSS(factor.Addr, f)
		} else {
			f = factors[0]
		}
		if !g.four {
			VMULPS(operand.Mem{Base: scales[(first+v)/g.perPanel()], Disp: (first + v) % g.perPanel() * g.bytes()}, f, f)
		}
		factors = append(factors, f)
	}
	sums := make([][]reg.Register, len(floats))
	for r, row := range floats {
		for _, f := range row {
			sums[r] = append(sums[r], f)
		}
	}
	c, ldc := g.matrix("c", "ldc", offset)
	d, ldd := g.matrix("d", "ldd", 0)
	TESTQ(d, d)
	JZ(operand.LabelRef(label("product")))
	if offset > 0 {
		ADDQ(operand.U32(uint64(offset)), d)
	}
	g.store(sums, c, ldc, func(v int, s reg.Register) {
		VFMADD213PS(operand.Mem{Base: d, Disp: v * g.bytes()}, factors[v], s)
	}, func() { ADDQ(ldd, d) })
	JMP(operand.LabelRef(label("done")))
	Label(label("product"))
	g.store(sums, c, ldc, func(v int, s reg.Register) { VMULPS(factors[v], s, s) }, func() {})
	Label(label("done"))
}

// quantizer emits the kernel that writes groups of A; see quantizePortable.
func quantizer() {
	TEXT("quantizeAVX2", attr.NOSPLIT, "func(dst *byte, src *float32, groups int, zero int32)")
	Doc("quantizeAVX2 is quantizePortable.")
	Pragma("noescape")
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	n := Load(Param("groups"), GP64())
	zero := Load(Param("zero"), GP32())
	abs, ones := YMM(), YMM()
	VMOVUPS(constant(0x7fffffff), abs)
	VMOVUPS(constant(0x00010001), ones)
	order := GLOBL("quantOrder", attr.RODATA|attr.NOPTR)
	for i, w := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} { // the packs work within halves
		DATA(4*i, operand.U32(w))
	}
	most, least := XMM(), XMM()
	VMOVSS(constant(0x42fe0000), most)  // 127
	VMOVSS(constant(0x0d800000), least) // 2^-100
	Label("loop")
	TESTQ(n, n)
	JZ(operand.LabelRef("done"))
	var x [4]reg.VecVirtual
	top, bad, t := YMM(), YMM(), YMM()
	VXORPS(top, top, top)
	VXORPS(bad, bad, bad)
	for i := range x {
		x[i] = YMM()
		VMOVUPS(operand.Mem{Base: src, Disp: 32 * i}, x[i])
		VANDPS(abs, x[i], t)
		VMAXPS(t, top, top)
		// x*0 is 0, or NaN if x is NaN or infinite.
		VXORPS(t, t, t)
		VMULPS(x[i], t, t)
		VADDPS(t, bad, bad)
	}
	fold := func(r reg.VecVirtual, f func(...operand.Op)) reg.VecVirtual {
		h, l := XMM(), XMM()
		VEXTRACTF128(operand.U8(1), r, h)
		f(h, r.AsX(), l)
		VPSHUFD(operand.U8(0x4e), l, h)
		f(h, l, l)
		VPSHUFD(operand.U8(0xb1), l, h)
		f(h, l, l)
		return l
	}
	m, poison := fold(top, VMAXPS), fold(bad, VADDPS)
	scale, inv := XMM(), XMM()
	VDIVSS(most, m, scale)
	VDIVSS(m, most, inv)
	VUCOMISS(least, m)
	JAE(operand.LabelRef("large"))
	VXORPS(scale, scale, scale)
	VXORPS(inv, inv, inv)
	Label("large")
	VADDSS(poison, scale, scale)
	VMOVSS(scale, operand.Mem{Base: dst, Disp: quantScaleAt})
	invs := YMM()
	VBROADCASTSS(inv, invs)
	for i := range x {
		VMULPS(invs, x[i], x[i])
		VCVTPS2DQ(x[i], x[i])
	}
	sum := YMM()
	VPADDD(x[0], x[1], sum)
	VPADDD(x[2], sum, sum)
	VPADDD(x[3], sum, sum)
	VPACKSSDW(x[1], x[0], x[0])
	VPACKSSDW(x[3], x[2], x[2])
	VPACKSSWB(x[2], x[0], x[0])
	VMOVDQU(order, t)
	VPERMD(x[0], t, x[0])
	VMOVDQU(x[0], operand.Mem{Base: dst})
	total := GP32()
	VMOVD(fold(sum, VPADDD), total)
	IMULL(zero, total)
	NEGL(total)
	MOVL(total, operand.Mem{Base: dst, Disp: quantStartAt})
	ADDQ(operand.Imm(quantABytes), dst)
	ADDQ(operand.Imm(128), src)
	DECQ(n)
	JMP(operand.LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}
