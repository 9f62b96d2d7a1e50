package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The tile kernels of package ssd: products of a row-major matrix, read by
// broadcast, with a panel 32 columns wide. Arguments come in a struct (see
// ssd/kernels.go) whose fields take 8 bytes each.

const (
	tileRows  = 8
	panelCols = 32
	rowBytes  = 4 * panelCols // of a panel
)

// args is the struct that a kernel gets.
type args struct{ p reg.Register }

// function opens NAMEsuffix. avo knows no types of the package that the file is
// for, so the struct comes as a *byte.
func function(s *simd, name string) args {
	TEXT(name+s.suffix(), attr.NOSPLIT, "func(a *byte)")
	Pragma("noescape")
	flushDenormals()
	return args{Load(Param("a"), GP64())}
}

// control is where the function being emitted keeps the MXCSR of its caller.
var control operand.Mem

// flushDenormals makes denormal numbers zero until done. A decay that has almost
// vanished is one, and each product with it would cost some processors 150 cycles.
func flushDenormals() {
	const denormalsAreZero, flushToZero = 1 << 6, 1 << 15
	control = AllocLocal(8)
	changed := control.Offset(4)
	STMXCSR(control)
	r := GP32()
	MOVL(control, r)
	ORL(operand.U32(denormalsAreZero|flushToZero), r)
	MOVL(r, changed)
	LDMXCSR(changed)
}

func (a args) mem(field int) operand.Mem { return operand.Mem{Base: a.p, Disp: 8 * field} }

func (a args) load(field int) reg.GPVirtual {
	r := GP64()
	MOVQ(a.mem(field), r)
	return r
}

// bytes loads a count of float32 as bytes.
func (a args) bytes(field int) reg.GPVirtual {
	r := a.load(field)
	SHLQ(operand.U8(2), r)
	return r
}

func done() {
	LDMXCSR(control)
	VZEROUPPER()
	RET()
}

func ref(label string) operand.LabelRef { return operand.LabelRef(label) }

// tile is the accumulators of rows x cols vectors. AVX-512 holds 8x32; AVX2 has
// half the registers of half the width and works through it in 4x16 pieces.
type tile struct {
	s    *simd
	rows int
	acc  [][]reg.VecVirtual
}

func newTile(s *simd) *tile {
	t := &tile{s: s, rows: tileRows}
	if !s.wide {
		t.rows = 4
	}
	for range t.rows {
		t.acc = append(t.acc, []reg.VecVirtual{s.reg(), s.reg()})
	}
	return t
}

// cols is the columns of a tile in bytes.
func (t *tile) colBytes() int { return 2 * t.s.bytes() }

func (t *tile) each(f func(i, j int, acc reg.VecVirtual)) {
	for i, row := range t.acc {
		for j, r := range row {
			f(i, j, r)
		}
	}
}

func (t *tile) zero() {
	t.each(func(_, _ int, r reg.VecVirtual) { VXORPS(r, r, r) })
}

// left addresses the row-major side: rows at p, p+ld, p+2ld, p+3ld and the same
// from q = p+4ld.
type left struct{ p, q, ld, ld3 reg.GPVirtual }

// newLeft starts at the address in from.
func (t *tile) newLeft(from reg.Register, ld reg.GPVirtual) left {
	l := left{GP64(), nil, ld, GP64()}
	MOVQ(from, l.p)
	LEAQ(operand.Mem{Base: ld, Index: ld, Scale: 2}, l.ld3)
	if t.rows > 4 {
		l.q = GP64()
		LEAQ(operand.Mem{Base: l.p, Index: ld, Scale: 4}, l.q)
	}
	return l
}

func (l left) at(row, disp int) operand.Mem {
	m := operand.Mem{Base: l.p, Disp: disp}
	if row >= 4 {
		m.Base = l.q
	}
	switch row % 4 {
	case 1:
		m.Index, m.Scale = l.ld, 1
	case 2:
		m.Index, m.Scale = l.ld, 2
	case 3:
		m.Index, m.Scale = l.ld3, 1
	}
	return m
}

func (l left) advance(bytes int) {
	ADDQ(operand.U32(uint32(bytes)), l.p)
	if l.q != nil {
		ADDQ(operand.U32(uint32(bytes)), l.q)
	}
}

// step adds one inner step to rows first..: column k of the left side times the
// panel row at b.
func (t *tile) step(l left, k, first int, b func(j int) operand.Mem) {
	s := t.s
	v := []reg.VecVirtual{s.reg(), s.reg()}
	for j := range v {
		VMOVUPS(b(j), v[j])
	}
	for i := first; i < t.rows; i++ {
		a := s.reg()
		VBROADCASTSS(l.at(i, 4*k), a)
		for j := range v {
			VFMADD231PS(v[j], a, t.acc[i][j])
		}
	}
}

// product runs count inner steps (count and b change; the left side advances).
// Panel rows are ldb apart: a register, or nil for packed panels.
func (t *tile) product(label string, l left, b reg.Register, ldb reg.Register, count reg.GPVirtual) {
	const unroll = 4
	TESTQ(count, count)
	JE(ref(label + "Done"))
	SUBQ(operand.U8(unroll), count)
	JB(ref(label + "Rest"))
	row := func(k int) func(j int) operand.Mem {
		return func(j int) operand.Mem {
			m := operand.Mem{Base: b, Disp: j * t.s.bytes()}
			switch {
			case ldb == nil:
				m.Disp += k * rowBytes
			case k > 0:
				panic("a strided panel advances at every step")
			}
			return m
		}
	}
	Label(label)
	for k := range unroll {
		if ldb == nil {
			t.step(l, k, 0, row(k))
		} else {
			t.step(l, k, 0, row(0))
			ADDQ(ldb, b)
		}
	}
	l.advance(4 * unroll)
	if ldb == nil {
		ADDQ(operand.U32(unroll*rowBytes), b)
	}
	SUBQ(operand.U8(unroll), count)
	JAE(ref(label))
	Label(label + "Rest")
	ADDQ(operand.U8(unroll), count)
	JE(ref(label + "Done"))
	Label(label + "One")
	t.step(l, 0, 0, row(0))
	l.advance(4)
	if ldb == nil {
		ADDQ(operand.U32(rowBytes), b)
	} else {
		ADDQ(ldb, b)
	}
	DECQ(count)
	JNE(ref(label + "One"))
	Label(label + "Done")
}

// pieces calls f for each part of an 8x32 tile that t can hold: from row row
// and byte col of the panel. The label suffix keeps the parts apart.
func (t *tile) pieces(f func(suffix string, row, col int)) {
	for r := 0; r < tileRows; r += t.rows {
		for c := 0; c < rowBytes; c += t.colBytes() {
			f(fmt.Sprintf("%d_%d", r, c), r, c)
		}
	}
}

// offset is p + row*ld + disp in a new register, row 0 or 4.
func offset(p reg.Register, ld reg.Register, row, disp int) reg.GPVirtual {
	r := GP64()
	switch row {
	case 0:
		LEAQ(operand.Mem{Base: p, Disp: disp}, r)
	case 4:
		LEAQ(operand.Mem{Base: p, Index: ld, Scale: 4, Disp: disp}, r)
	default:
		panic("row offset")
	}
	return r
}

// rowsAt stores or loads through f the rows of the tile at p, ld apart.
func (t *tile) rowsAt(p reg.GPVirtual, ld reg.Register, f func(m operand.Mem, acc reg.VecVirtual)) {
	for i, row := range t.acc {
		for j, r := range row {
			f(operand.Mem{Base: p, Disp: j * t.s.bytes()}, r)
		}
		if i < t.rows-1 {
			ADDQ(ld, p)
		}
	}
}

func ssdTile() {
	ConstraintExpr("amd64,!purego")
	both(ssdScore)
	both(ssdMix)
	both(ssdAbsorb)
}

func ssdScore(s *simd) {
	const (
		fC = iota
		fLdc
		fB
		fLdb
		fN
		fOut
		fLdo
		fTiles
	)
	a := function(s, "score")
	c, ldc, out := a.load(fC), a.bytes(fLdc), a.load(fOut)
	ldb, ldo, tiles := a.bytes(fLdb), a.bytes(fLdo), a.load(fTiles)
	t := newTile(s)
	Label("tile")
	t.pieces(func(suffix string, row, col int) {
		t.zero()
		l := t.newLeft(offset(c, ldc, row, 0), ldc)
		b := a.load(fB)
		ADDQ(operand.U32(uint32(col)), b)
		t.product("k"+suffix, l, b, ldb, a.load(fN))
		t.rowsAt(offset(out, ldo, row, col), ldo, func(m operand.Mem, r reg.VecVirtual) { VMOVUPS(r, m) })
	})
	LEAQ(operand.Mem{Base: c, Index: ldc, Scale: 8}, c)
	LEAQ(operand.Mem{Base: out, Index: ldo, Scale: 8}, out)
	DECQ(tiles)
	JNE(ref("tile"))
	done()
}

func ssdMix(s *simd) {
	const (
		fC = iota
		fLdc
		fState
		fN
		fWeights
		fLdw
		fX
		fK
		fGrow
		fSkip
		fY
		fLdy
		fTiles
	)
	a := function(s, "mix")
	c, w, grow, y := a.load(fC), a.load(fWeights), a.load(fGrow), a.load(fY)
	k, tiles := a.load(fK), a.load(fTiles)
	t := newTile(s)
	Label("tile")
	t.pieces(func(suffix string, row, col int) {
		t.zero()
		n := a.load(fN)
		TESTQ(n, n)
		JE(ref("noState" + suffix))
		func() {
			ldc := a.bytes(fLdc)
			l := t.newLeft(offset(c, ldc, row, 0), ldc)
			b := a.load(fState)
			ADDQ(operand.U32(uint32(col)), b)
			t.product("n"+suffix, l, b, nil, n)
			for i := range t.rows {
				g := s.reg()
				VBROADCASTSS(operand.Mem{Base: grow, Disp: 4 * (row + i)}, g)
				for j := range 2 {
					VMULPS(g, t.acc[i][j], t.acc[i][j])
				}
			}
		}()
		Label("noState" + suffix)
		ldw := a.bytes(fLdw)
		l := t.newLeft(offset(w, ldw, row, 0), ldw)
		x := a.load(fX)
		ADDQ(operand.U32(uint32(col)), x)
		steps := GP64()
		LEAQ(operand.Mem{Base: k, Disp: row}, steps)
		t.product("k"+suffix, l, x, nil, steps)
		// The diagonal block: row i takes steps up to its own.
		for i := range t.rows {
			t.step(l, i, i, func(j int) operand.Mem {
				return operand.Mem{Base: x, Disp: i*rowBytes + j*s.bytes()}
			})
		}
		skip := a.load(fSkip)
		TESTQ(skip, skip)
		JE(ref("noSkip" + suffix))
		for j := range 2 {
			d := s.reg()
			VMOVUPS(operand.Mem{Base: skip, Disp: col + j*s.bytes()}, d)
			for i := range t.rows {
				VFMADD231PS(operand.Mem{Base: x, Disp: i*rowBytes + j*s.bytes()}, d, t.acc[i][j])
			}
		}
		Label("noSkip" + suffix)
		ldy := a.bytes(fLdy)
		t.rowsAt(offset(y, ldy, row, col), ldy, func(m operand.Mem, r reg.VecVirtual) {
			VMOVUPS(r, m)
			m.Disp += rowBytes // the next panel's rows, as in pack
			PREFETCHT0(m)
		})
	})
	for _, p := range []struct {
		base  reg.GPVirtual
		field int
	}{{c, fLdc}, {w, fLdw}, {y, fLdy}} {
		ld := a.bytes(p.field)
		LEAQ(operand.Mem{Base: p.base, Index: ld, Scale: 8}, p.base)
	}
	ADDQ(operand.U8(4*tileRows), grow)
	ADDQ(operand.U8(tileRows), k)
	DECQ(tiles)
	JNE(ref("tile"))
	done()
}

func ssdAbsorb(s *simd) {
	const (
		fBt = iota
		fLdb
		fXw
		fQ
		fState
		fDecay
		fTiles
	)
	a := function(s, "absorb")
	bt, ldb, state, tiles := a.load(fBt), a.bytes(fLdb), a.load(fState), a.load(fTiles)
	decay := s.reg()
	VBROADCASTSS(a.mem(fDecay), decay)
	row := GP64()
	MOVQ(operand.U32(rowBytes), row)
	t := newTile(s)
	Label("tile")
	t.pieces(func(suffix string, r, col int) {
		t.rowsAt(offset(state, row, r, col), row, func(m operand.Mem, acc reg.VecVirtual) { VMULPS(m, decay, acc) })
		l := t.newLeft(offset(bt, ldb, r, 0), ldb)
		x := a.load(fXw)
		ADDQ(operand.U32(uint32(col)), x)
		t.product("k"+suffix, l, x, nil, a.load(fQ))
		t.rowsAt(offset(state, row, r, col), row, func(m operand.Mem, acc reg.VecVirtual) { VMOVUPS(acc, m) })
	})
	LEAQ(operand.Mem{Base: bt, Index: ldb, Scale: 8}, bt)
	ADDQ(operand.U32(tileRows*rowBytes), state)
	DECQ(tiles)
	JNE(ref("tile"))
	done()
}
