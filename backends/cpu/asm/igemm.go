package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// igemmKernels emits the integer kernels of package igemm: 1 to 14 rows by 32
// columns, four values of k at a time (VPDPBUSD). The unsigned operand is A in
// the "rows" kernels and B in the "columns" ones.
func igemmKernels() {
	ConstraintExpr("!purego")
	for _, unsignedA := range []bool{true, false} {
		for rows := 1; rows <= 14; rows++ {
			igemmKernel(rows, unsignedA)
		}
	}
	for _, unsignedA := range []bool{true, false} {
		for _, both := range []bool{false, true} {
			igemmTiles(unsignedA, both)
		}
	}
	for _, unsignedA := range []bool{true, false} {
		for rows := 1; rows <= 2; rows++ {
			igemmKernelAVX2(rows, unsignedA)
		}
	}
	igemmInterleave()
	igemmRequantize()
}

// igemmKernelAVX2 emits a kernel without VPDPBUSD. Its forerunner VPMADDUBSW saturates,
// so bytes become words first, whose products VPMADDWD adds up in pairs, exactly: a sum
// of a column is two until the end. 16 columns at a time.
func igemmKernelAVX2(rows int, unsignedA bool) {
	kind := "columns"
	if unsignedA {
		kind = "rows"
	}
	name := fmt.Sprintf("%s%dAVX2", kind, rows)
	TEXT(name, NOSPLIT, "func(quads int, a *uint8, lda int, b *uint8, c *int32, ldc int)")
	Doc(fmt.Sprintf("%s is the kernel for %d rows; see type kernel.", name, rows))
	Pragma("noescape")
	widen := func(from operand.Op, to reg.VecVirtual, unsigned bool) {
		if unsigned {
			VPMOVZXBW(from, to)
		} else {
			VPMOVSXBW(from, to)
		}
	}
	for pass := range 2 {
		label := func(s string) string { return fmt.Sprintf("%s%d", s, pass) }
		a, lda, b, quads := Load(Param("a"), GP64()), Load(Param("lda"), GP64()), Load(Param("b"), GP64()), Load(Param("quads"), GP64())
		var sums [][4]reg.VecVirtual
		for range rows {
			s := [4]reg.VecVirtual{YMM(), YMM(), YMM(), YMM()}
			for _, z := range s {
				VPXOR(z, z, z)
			}
			sums = append(sums, s)
		}
		TESTQ(quads, quads)
		JZ(operand.LabelRef(label("out")))
		Label(label("loop"))
		var columns [4]reg.VecVirtual
		for v := range columns {
			columns[v] = YMM()
			widen(operand.Mem{Base: b, Disp: 64*pass + 16*v}, columns[v], !unsignedA)
		}
		for r := range rows {
			four, x, t := XMM(), YMM(), YMM()
			m := operand.Mem{Base: a}
			if r == 1 {
				m.Index, m.Scale = lda, 1
			}
			VPBROADCASTD(m, four)
			widen(four, x, unsignedA)
			for v, y := range columns {
				VPMADDWD(x, y, t)
				VPADDD(t, sums[r][v], sums[r][v])
			}
		}
		ADDQ(operand.Imm(4), a)
		ADDQ(operand.U32(128), b)
		DECQ(quads)
		JNZ(operand.LabelRef(label("loop")))
		Label(label("out"))
		c, ldc := Load(Param("c"), GP64()), Load(Param("ldc"), GP64())
		for r, s := range sums {
			for pair := range 2 {
				VPHADDD(s[2*pair+1], s[2*pair], s[2*pair])
				VPERMQ(operand.Imm(0xd8), s[2*pair], s[2*pair])
				VMOVDQU(s[2*pair], operand.Mem{Base: c, Disp: 64*pass + 32*pair})
			}
			if r+1 < rows {
				LEAQ(operand.Mem{Base: c, Index: ldc, Scale: 4}, c)
			}
		}
	}
	VZEROUPPER()
	RET()
}

func igemmKernel(rows int, unsignedA bool) {
	kind := "columns"
	if unsignedA {
		kind = "rows"
	}
	TEXT(fmt.Sprintf("%s%dVNNI", kind, rows), NOSPLIT, "func(quads int, a *uint8, lda int, b *uint8, c *int32, ldc int)")
	Doc(fmt.Sprintf("%s%dVNNI is the kernel for %d rows; see type kernel.", kind, rows, rows))
	Pragma("noescape")
	a, lda := Load(Param("a"), GP64()), Load(Param("lda"), GP64())
	g := gemmEmitter{wide: true, rows: rows}
	at, pointers := g.rowAddresses(a, lda)
	b := Load(Param("b"), GP64())
	var sums [][2]reg.VecVirtual
	for range rows {
		s := [2]reg.VecVirtual{ZMM(), ZMM()}
		VPXORD(s[0], s[0], s[0])
		VPXORD(s[1], s[1], s[1])
		sums = append(sums, s)
	}
	quads := Load(Param("quads"), GP64())
	columns, spread := [2]reg.VecVirtual{ZMM(), ZMM()}, [2]reg.VecVirtual{ZMM(), ZMM()}
	TESTQ(quads, quads)
	JZ(operand.LabelRef("out"))
	Label("loop")
	for v, c := range columns {
		VMOVDQU32(operand.Mem{Base: b, Disp: 64 * v}, c)
		PREFETCHT0(operand.Mem{Base: b, Disp: 1024 + 64*v})
	}
	for r := range rows {
		x := spread[r%2]
		VPBROADCASTD(at[r], x)
		for v, c := range columns {
			if unsignedA {
				quantEmitter{}.dot(c, x, sums[r][v])
			} else {
				quantEmitter{}.dot(x, c, sums[r][v])
			}
		}
	}
	for _, p := range pointers {
		ADDQ(operand.Imm(4), p)
	}
	ADDQ(operand.U32(128), b)
	DECQ(quads)
	JNZ(operand.LabelRef("loop"))
	Label("out")
	c, ldc := Load(Param("c"), GP64()), Load(Param("ldc"), GP64())
	SHLQ(operand.Imm(2), ldc)
	for r := range rows {
		for v := range 2 {
			VMOVDQU32(sums[r][v], operand.Mem{Base: c, Disp: 64 * v})
		}
		if r+1 < rows {
			ADDQ(ldc, c)
		}
	}
	VZEROUPPER()
	RET()
}

// igemmInterleave emits the gathering of a panel, quad by quad: four rows of 32
// bytes each.
func igemmInterleave() {
	TEXT("interleaveAVX2", NOSPLIT, "func(dst, src *uint8, taps *int32, quads int)")
	Doc("interleaveAVX2 writes dst[128*q+4*j+i] = src[taps[4*q+i]+j] for j < 32.")
	Pragma("noescape")
	dst, src, taps, quads := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("taps"), GP64()), Load(Param("quads"), GP64())
	Label("quad")
	var rows []reg.VecVirtual
	for i := range 4 {
		r, at := YMM(), GP64()
		MOVLQSX(operand.Mem{Base: taps, Disp: 4 * i}, at)
		VMOVDQU(operand.Mem{Base: src, Index: at, Scale: 1}, r)
		rows = append(rows, r)
	}
	// Unpacking works within halves: columns 0..15 and 16..31.
	for half, f := range []func(...operand.Op){func(o ...operand.Op) { VPUNPCKLBW(o[0], o[1], o[2]) }, func(o ...operand.Op) { VPUNPCKHBW(o[0], o[1], o[2]) }} {
		p, q := YMM(), YMM()
		f(rows[1], rows[0], p)
		f(rows[3], rows[2], q)
		lo, hi := YMM(), YMM()
		VPUNPCKLWD(q, p, lo)
		VPUNPCKHWD(q, p, hi)
		for i, v := range []reg.VecVirtual{lo, hi} {
			VMOVDQU(v.AsX(), operand.Mem{Base: dst, Disp: half*32 + i*16})
			VEXTRACTI128(operand.Imm(1), v, operand.Mem{Base: dst, Disp: 64 + half*32 + i*16})
		}
	}
	ADDQ(operand.U32(128), dst)
	ADDQ(operand.Imm(16), taps)
	DECQ(quads)
	JNZ(operand.LabelRef("quad"))
	VZEROUPPER()
	RET()
}

// byteLoop emits a loop over n elements, 16 at a time and the rest under a mask.
// pointers names the parameters that advance, with the bytes per element.
func byteLoop(pointers map[string]int, order []string, body func(at map[string]operand.Mem, mask reg.Register)) {
	n := Load(Param("n"), GP64())
	at := map[string]operand.Mem{}
	for _, name := range order {
		at[name] = operand.Mem{Base: Load(Param(name), GP64())}
	}
	Label("loop")
	CMPQ(n, operand.Imm(16))
	JLT(operand.LabelRef("rest"))
	body(at, nil)
	for _, name := range order {
		ADDQ(operand.Imm(uint64(16*pointers[name])), at[name].Base)
	}
	SUBQ(operand.Imm(16), n)
	JMP(operand.LabelRef("loop"))
	Label("rest")
	TESTQ(n, n)
	JZ(operand.LabelRef("done"))
	bits, k := GP64(), K()
	MOVQ(operand.U32(1), bits)
	SHLXQ(n, bits, bits)
	DECQ(bits)
	KMOVW(bits.As32(), k)
	body(at, k)
	Label("done")
	VZEROUPPER()
	RET()
}

// everywhere spreads a parameter over a vector.
func everywhere(name string, integer bool) reg.VecVirtual {
	z := ZMM()
	if integer {
		VPBROADCASTD(Load(Param(name), GP32()), z)
		return z
	}
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(p.Addr, z)
	return z
}

// loadWords loads 16 words, loadBytes 16 bytes as words, storeBytes the low
// bytes of 16 words.
func loadWords(m operand.Mem, mask reg.Register) reg.VecVirtual {
	z := ZMM()
	if mask == nil {
		VMOVDQU32(m, z)
	} else {
		VMOVDQU32_Z(m, mask, z)
	}
	return z
}

func loadBytes(m operand.Mem, mask reg.Register, signed bool) reg.VecVirtual {
	z := ZMM()
	switch {
	case signed && mask == nil:
		VPMOVSXBD(m, z)
	case signed:
		VPMOVSXBD_Z(m, mask, z)
	case mask == nil:
		VPMOVZXBD(m, z)
	default:
		VPMOVZXBD_Z(m, mask, z)
	}
	return z
}

func storeBytes(z reg.VecVirtual, m operand.Mem, mask reg.Register) {
	if mask == nil {
		VPMOVDB(z, m)
	} else {
		VPMOVDB(z, mask, m)
	}
}

// igemmRequantize emits the ways from numbers to bytes and back. All round to
// nearest, ties to even, between lo and hi before the zero point is added.
func igemmRequantize() {
	saturate := func(z, lo, hi, zero reg.VecVirtual) {
		VMAXPS(lo, z, z)
		VMINPS(hi, z, z)
		VCVTPS2DQ(z, z)
		VPADDD(zero, z, z)
	}
	begin := func(name, signature, doc string) {
		TEXT(name, NOSPLIT, signature)
		Doc(name + " " + doc)
		Pragma("noescape")
	}
	begin("requantizeAVX512", "func(dst *uint8, acc *int32, n int, add int32, scale, lo, hi float32, zero int32)", "writes (acc+add)*scale; see Requantize.")
	add, scale, lo, hi, zero := everywhere("add", true), everywhere("scale", false), everywhere("lo", false), everywhere("hi", false), everywhere("zero", true)
	byteLoop(map[string]int{"dst": 1, "acc": 4}, []string{"dst", "acc"}, func(at map[string]operand.Mem, mask reg.Register) {
		z := loadWords(at["acc"], mask)
		VPADDD(add, z, z)
		VCVTDQ2PS(z, z)
		VMULPS(scale, z, z)
		saturate(z, lo, hi, zero)
		storeBytes(z, at["dst"], mask)
	})
	begin("requantizeRowsAVX512", "func(dst *uint8, ldd int, acc *int32, rows int, add *int32, scales *float32, lo, hi float32, zero int32)", "writes rows of 32 columns, (acc+add)*scale with an add and a scale per row; see RequantizeRows.")
	lo, hi, zero = everywhere("lo", false), everywhere("hi", false), everywhere("zero", true)
	dst, ldd, acc, n := Load(Param("dst"), GP64()), Load(Param("ldd"), GP64()), Load(Param("acc"), GP64()), Load(Param("rows"), GP64())
	adds, scales := Load(Param("add"), GP64()), Load(Param("scales"), GP64())
	Label("row")
	for half := range 2 {
		z := ZMM()
		VMOVDQU32(operand.Mem{Base: acc, Disp: 64 * half}, z)
		VPADDD_BCST(operand.Mem{Base: adds}, z, z)
		VCVTDQ2PS(z, z)
		VMULPS_BCST(operand.Mem{Base: scales}, z, z)
		saturate(z, lo, hi, zero)
		storeBytes(z, operand.Mem{Base: dst, Disp: 16 * half}, nil)
	}
	ADDQ(ldd, dst)
	ADDQ(operand.U32(128), acc)
	ADDQ(operand.Imm(4), adds)
	ADDQ(operand.Imm(4), scales)
	DECQ(n)
	JNZ(operand.LabelRef("row"))
	VZEROUPPER()
	RET()
	begin("floatsAVX512", "func(dst *float32, src *int32, n int)", "writes whole numbers as floats; see Floats.")
	byteLoop(map[string]int{"dst": 4, "src": 4}, []string{"dst", "src"}, func(at map[string]operand.Mem, mask reg.Register) {
		z := loadWords(at["src"], mask)
		VCVTDQ2PS(z, z)
		if mask == nil {
			VMOVUPS(z, at["dst"])
		} else {
			VMOVUPS(z, mask, at["dst"])
		}
	})
	begin("subtractRowsAVX512", "func(c *int32, ldc, rows int, less *int32)", "subtracts one row of 32 from all, which are ldc bytes apart; see SubtractRows.")
	c, ldc, rows, less := Load(Param("c"), GP64()), Load(Param("ldc"), GP64()), Load(Param("rows"), GP64()), Load(Param("less"), GP64())
	l0, l1, z0, z1 := ZMM(), ZMM(), ZMM(), ZMM()
	VMOVDQU32(operand.Mem{Base: less}, l0)
	VMOVDQU32(operand.Mem{Base: less, Disp: 64}, l1)
	Label("row")
	VMOVDQU32(operand.Mem{Base: c}, z0)
	VMOVDQU32(operand.Mem{Base: c, Disp: 64}, z1)
	VPSUBD(l0, z0, z0)
	VPSUBD(l1, z1, z1)
	VMOVDQU32(z0, operand.Mem{Base: c})
	VMOVDQU32(z1, operand.Mem{Base: c, Disp: 64})
	ADDQ(ldc, c)
	DECQ(rows)
	JNZ(operand.LabelRef("row"))
	VZEROUPPER()
	RET()
	begin("requantizeSumsAVX512", "func(dst *uint8, acc *float32, n int, add, scale, lo, hi float32, zero int32)", "writes (acc+add)*scale; see RequantizeSums.")
	add, scale, lo, hi, zero = everywhere("add", false), everywhere("scale", false), everywhere("lo", false), everywhere("hi", false), everywhere("zero", true)
	byteLoop(map[string]int{"dst": 1, "acc": 4}, []string{"dst", "acc"}, func(at map[string]operand.Mem, mask reg.Register) {
		z := loadWords(at["acc"], mask)
		VADDPS(add, z, z)
		VMULPS(scale, z, z)
		saturate(z, lo, hi, zero)
		storeBytes(z, at["dst"], mask)
	})
	begin("requantizeColumnsAVX512", "func(dst *uint8, acc *int32, scales *float32, n int, lo, hi float32, zero int32)", "writes acc[i]*scales[i]; see RequantizeColumns.")
	lo, hi, zero = everywhere("lo", false), everywhere("hi", false), everywhere("zero", true)
	byteLoop(map[string]int{"dst": 1, "acc": 4, "scales": 4}, []string{"dst", "acc", "scales"}, func(at map[string]operand.Mem, mask reg.Register) {
		z, f := loadWords(at["acc"], mask), loadWords(at["scales"], mask)
		VCVTDQ2PS(z, z)
		VMULPS(f, z, z)
		saturate(z, lo, hi, zero)
		storeBytes(z, at["dst"], mask)
	})
	begin("quantizeAVX512", "func(dst *uint8, src *float32, n int, scale, lo, hi float32, zero int32)", "writes src/scale; see Quantize.")
	scale, lo, hi, zero = everywhere("scale", false), everywhere("lo", false), everywhere("hi", false), everywhere("zero", true)
	byteLoop(map[string]int{"dst": 1, "src": 4}, []string{"dst", "src"}, func(at map[string]operand.Mem, mask reg.Register) {
		z := loadWords(at["src"], mask)
		VDIVPS(scale, z, z)
		saturate(z, lo, hi, zero)
		storeBytes(z, at["dst"], mask)
	})
	for _, signed := range []bool{false, true} {
		kind := "Uint8"
		if signed {
			kind = "Int8"
		}
		begin("dequantize"+kind+"AVX512", "func(dst *float32, src *uint8, n int, scale float32, zero int32)", "writes (src-zero)*scale.")
		scale, zero := everywhere("scale", false), everywhere("zero", true)
		byteLoop(map[string]int{"dst": 4, "src": 1}, []string{"dst", "src"}, func(at map[string]operand.Mem, mask reg.Register) {
			z := loadBytes(at["src"], mask, signed)
			VPSUBD(zero, z, z)
			VCVTDQ2PS(z, z)
			VMULPS(scale, z, z)
			if mask == nil {
				VMOVUPS(z, at["dst"])
			} else {
				VMOVUPS(z, mask, at["dst"])
			}
		})
		begin("add"+kind+"AVX512", "func(dst, a, b *uint8, n int, ra, rb, rest, lo, hi float32)", "writes a*ra + (b*rb + rest); see Add.")
		ra, rb, rest, lo, hi := everywhere("ra", false), everywhere("rb", false), everywhere("rest", false), everywhere("lo", false), everywhere("hi", false)
		byteLoop(map[string]int{"dst": 1, "a": 1, "b": 1}, []string{"dst", "a", "b"}, func(at map[string]operand.Mem, mask reg.Register) {
			x, y := loadBytes(at["a"], mask, signed), loadBytes(at["b"], mask, signed)
			VCVTDQ2PS(x, x)
			VCVTDQ2PS(y, y)
			VFMADD213PS(rest, rb, y) // y*rb + rest
			VFMADD213PS(y, ra, x)    // x*ra + y
			VMAXPS(lo, x, x)
			VMINPS(hi, x, x)
			VCVTPS2DQ(x, x)
			storeBytes(x, at["dst"], mask)
		})
	}
}
