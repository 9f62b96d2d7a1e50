package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The words of a blockCall of package conv2d, in order.
const (
	callSrc0 = iota
	callSrc1
	callPixel
	callTaps
	callTapsEnd
	callUnit
	callW
	callDst0
	callDst1
	callDstPixel
	callDstBlock
	callBias
	callResidual
	callClamp
	callLimits
	callNext
)

// conv2dChannelBlocks emits the kernels of package conv2d for images in blocks of 16
// channels: 1 to 14 pixels by one or two blocks of output channels for AVX-512, 1 to 6
// pixels by one block for AVX2, and as many pixels of a depthwise convolution or of a
// maximum.
func conv2dChannelBlocks() {
	ConstraintExpr("!purego")
	for blocks := 1; blocks <= 2; blocks++ {
		for pixels := 1; pixels <= 14; pixels++ {
			blockEmitter{wide: true, pixels: pixels, blocks: blocks}.product()
		}
	}
	for pixels := 1; pixels <= 6; pixels++ {
		blockEmitter{pixels: pixels, blocks: 1}.product()
	}
	for _, max := range []bool{false, true} {
		for pixels := 1; pixels <= 14; pixels++ {
			blockEmitter{wide: true, pixels: pixels, blocks: 1}.channels(max)
		}
		for pixels := 1; pixels <= 6; pixels++ {
			blockEmitter{pixels: pixels, blocks: 1}.channels(max)
		}
	}
}

type blockEmitter struct {
	wide           bool
	pixels, blocks int
	call           reg.Register
}

func (g blockEmitter) name(kind string) string {
	if !g.wide {
		return fmt.Sprintf("%s%dAVX2", kind, g.pixels)
	}
	if kind == "block" {
		return fmt.Sprintf("%s%dx%dAVX512", kind, g.pixels, g.blocks)
	}
	return fmt.Sprintf("%s%dAVX512", kind, g.pixels)
}

func (g blockEmitter) vec() reg.VecVirtual {
	if g.wide {
		return ZMM()
	}
	return YMM()
}

// vectors is the number of registers of a pixel.
func (g blockEmitter) vectors() int {
	if g.wide {
		return g.blocks
	}
	return 2 * g.blocks
}

func (g blockEmitter) bytes() int {
	if g.wide {
		return 64
	}
	return 32
}

func (g blockEmitter) word(i int) operand.Mem { return operand.Mem{Base: g.call, Disp: 8 * i} }

func (g blockEmitter) load(i int) reg.GPVirtual {
	r := GP64()
	MOVQ(g.word(i), r)
	return r
}

// begin opens the function.
func (g *blockEmitter) begin(kind, doc string) {
	name := g.name(kind)
	TEXT(name, NOSPLIT, "func(c *byte)")
	Doc(fmt.Sprintf("%s %s", name, doc))
	Pragma("noescape")
	g.call = Load(Param("c"), GP64())
}

// run is how many pixels lie in the first run: half of them, rounded up.
func (g blockEmitter) run() int { return (g.pixels + 1) / 2 }

// addresses are those of all pixels, run by run: up to 7 of them from one pointer.
func (g blockEmitter) addresses(p0, p1 reg.Register, strides [4]reg.Register) []operand.Mem {
	var list []operand.Mem
	for i := 0; i < g.pixels; i++ {
		m, q := operand.Mem{Base: p0}, i
		if i >= g.run() {
			m.Base, q = p1, i-g.run()
		}
		switch q {
		case 1, 2, 4:
			m.Index, m.Scale = strides[0], uint8(q)
		case 3:
			m.Index, m.Scale = strides[1], 1
		case 5:
			m.Index, m.Scale = strides[2], 1
		case 6:
			m.Index, m.Scale = strides[1], 2
		}
		list = append(list, m)
	}
	return list
}

// multiples loads a stride and makes 3 and 5 times it, as far as they are needed.
func (g blockEmitter) multiples(word int) (s [4]reg.Register) {
	s[0] = g.load(word)
	if g.run() > 3 {
		t := GP64()
		LEAQ(operand.Mem{Base: s[0], Index: s[0], Scale: 2}, t)
		s[1] = t
	}
	if g.run() > 5 {
		t := GP64()
		LEAQ(operand.Mem{Base: s[0], Index: s[0], Scale: 4}, t)
		s[2] = t
	}
	return s
}

// product emits one kernel of a convolution with many channels.
func (g blockEmitter) product() {
	g.begin("block", fmt.Sprintf("computes %d pixels of %d blocks; see blockCall.", g.pixels, g.blocks))
	sums := g.start()
	src0, src1 := g.load(callSrc0), reg.Register(nil)
	if g.pixels > 1 {
		src1 = g.load(callSrc1)
	}
	strides := g.multiples(callPixel)
	taps, w := g.load(callTaps), g.load(callW)
	next := g.load(callNext)
	p0, p1, left := GP64(), reg.Register(nil), GP64()
	if g.pixels > 1 {
		p1 = GP64()
	}
	at := g.addresses(p0, p1, strides)
	columns := make([]reg.VecVirtual, g.vectors())
	for v := range columns {
		columns[v] = g.vec()
	}
	spread := []reg.VecVirtual{g.vec(), g.vec()}
	step := func(u int) {
		for v, c := range columns {
			VMOVUPS(operand.Mem{Base: w, Disp: u*128 + v*g.bytes()}, c)
		}
		for i, m := range at {
			x := spread[i%2]
			VBROADCASTSS(m.Offset(4*u), x)
			for v, c := range columns {
				VFMADD231PS(x, c, sums[i][v])
			}
		}
	}
	advance := func(steps int) {
		ADDQ(operand.Imm(uint64(4*steps)), p0)
		if p1 != nil {
			ADDQ(operand.Imm(uint64(4*steps)), p1)
		}
		ADDQ(operand.U32(uint64(128*steps)), w)
	}
	Label("tap")
	MOVLQSX(operand.Mem{Base: taps}, p0)
	if p1 != nil {
		LEAQ(operand.Mem{Base: src1, Index: p0, Scale: 4}, p1)
	}
	LEAQ(operand.Mem{Base: src0, Index: p0, Scale: 4}, p0)
	MOVQ(g.word(callUnit), left)
	SUBQ(operand.Imm(4), left)
	JLT(operand.LabelRef("rest"))
	Label("four")
	// A quarter of what these four steps read, of the weights that come later.
	PREFETCHT1(operand.Mem{Base: next})
	ADDQ(operand.Imm(64), next)
	for u := 0; u < 4; u++ {
		step(u)
		for b := 0; b < g.blocks; b++ {
			PREFETCHT0(operand.Mem{Base: w, Disp: 1024 + u*128 + b*64})
		}
	}
	advance(4)
	SUBQ(operand.Imm(4), left)
	JGE(operand.LabelRef("four"))
	Label("rest")
	ADDQ(operand.Imm(4), left)
	JZ(operand.LabelRef("end"))
	Label("one")
	step(0)
	advance(1)
	DECQ(left)
	JNZ(operand.LabelRef("one"))
	Label("end")
	ADDQ(operand.Imm(4), taps)
	CMPQ(taps, g.word(callTapsEnd))
	JNE(operand.LabelRef("tap"))
	g.finish(sums)
}

// start makes the sums, of which each begins as the bias of its channel.
func (g blockEmitter) start() [][]reg.VecVirtual {
	bias := g.load(callBias)
	sums := make([][]reg.VecVirtual, g.pixels)
	for i := range sums {
		for v := 0; v < g.vectors(); v++ {
			s := g.vec()
			if i == 0 {
				VMOVUPS(operand.Mem{Base: bias, Disp: v * g.bytes()}, s)
			} else {
				VMOVAPS(sums[0][v], s)
			}
			sums[i] = append(sums[i], s)
		}
	}
	return sums
}

// channels emits one kernel that combines what the taps see channel by channel: a
// depthwise convolution, or a maximum.
func (g blockEmitter) channels(max bool) {
	if max {
		g.begin("most", fmt.Sprintf("computes %d pixels of a maximum; see blockCall.", g.pixels))
	} else {
		g.begin("depth", fmt.Sprintf("computes %d pixels of a depthwise convolution; see blockCall.", g.pixels))
	}
	sums := g.start()
	src0, src1 := g.load(callSrc0), reg.Register(nil)
	if g.pixels > 1 {
		src1 = g.load(callSrc1)
	}
	strides := g.multiples(callPixel)
	taps, w := g.load(callTaps), reg.Register(nil)
	if !max {
		w = g.load(callW)
	}
	p0, p1 := GP64(), reg.Register(nil)
	if g.pixels > 1 {
		p1 = GP64()
	}
	at := g.addresses(p0, p1, strides)
	f := make([]reg.VecVirtual, g.vectors())
	for v := range f {
		f[v] = g.vec()
	}
	Label("tap")
	MOVLQSX(operand.Mem{Base: taps}, p0)
	if p1 != nil {
		LEAQ(operand.Mem{Base: src1, Index: p0, Scale: 4}, p1)
	}
	LEAQ(operand.Mem{Base: src0, Index: p0, Scale: 4}, p0)
	if !max {
		for v, c := range f {
			VMOVUPS(operand.Mem{Base: w, Disp: v * g.bytes()}, c)
		}
		ADDQ(operand.Imm(64), w)
	}
	for i, m := range at {
		for v, c := range f {
			if max {
				g.larger(m.Offset(v*g.bytes()), c, sums[i][v])
			} else {
				VFMADD231PS(m.Offset(v*g.bytes()), c, sums[i][v])
			}
		}
	}
	ADDQ(operand.Imm(4), taps)
	CMPQ(taps, g.word(callTapsEnd))
	JNE(operand.LabelRef("tap"))
	g.finish(sums)
}

// larger makes s the larger of itself and x, and NaN if either is: VMAXPS gives x then.
func (g blockEmitter) larger(x operand.Mem, t, s reg.VecVirtual) {
	VMAXPS(x, s, t)
	if g.wide {
		bad := K()
		VCMPPS(operand.Imm(3), s, s, bad)
		VMOVAPS(s, bad, t)
		VMOVAPS(t, s)
		return
	}
	bad := g.vec()
	VCMPPS(operand.Imm(3), s, s, bad)
	VBLENDVPS(bad, s, t, s)
}

// finish adds the residual, applies the limits and stores the sums.
func (g blockEmitter) finish(sums [][]reg.VecVirtual) {
	d0, d1 := g.load(callDst0), reg.Register(nil)
	if g.pixels > 1 {
		d1 = g.load(callDst1)
	}
	strides := g.multiples(callDstPixel)
	block := g.load(callDstBlock)
	residual := g.load(callResidual)
	// each calls f with the address of every vector. A block is a step of both pointers.
	each := func(p0, p1 reg.Register, f func(m operand.Mem, s reg.VecVirtual)) {
		per := g.vectors() / g.blocks
		for b := 0; b < g.blocks; b++ {
			for i, m := range g.addresses(p0, p1, strides) {
				for v := 0; v < per; v++ {
					f(m.Offset(v*g.bytes()), sums[i][b*per+v])
				}
			}
			if b+1 < g.blocks {
				ADDQ(block, p0)
				if p1 != nil {
					ADDQ(block, p1)
				}
			}
		}
	}
	TESTQ(residual, residual)
	JZ(operand.LabelRef("clamp"))
	r0, r1 := GP64(), reg.Register(nil)
	LEAQ(operand.Mem{Base: d0, Index: residual, Scale: 1}, r0)
	if d1 != nil {
		r := GP64()
		LEAQ(operand.Mem{Base: d1, Index: residual, Scale: 1}, r)
		r1 = r
	}
	each(r0, r1, func(m operand.Mem, s reg.VecVirtual) { VADDPS(m, s, s) })
	Label("clamp")
	MOVQ(g.word(callClamp), residual)
	TESTQ(residual, residual)
	JZ(operand.LabelRef("store"))
	lo, hi := g.vec(), g.vec()
	VBROADCASTSS(g.word(callLimits), lo)
	limit := g.word(callLimits)
	limit.Disp += 4
	VBROADCASTSS(limit, hi)
	for _, row := range sums {
		for _, s := range row { // NaN stays
			VMAXPS(s, lo, s)
			VMINPS(s, hi, s)
		}
	}
	Label("store")
	each(d0, d1, func(m operand.Mem, s reg.VecVirtual) { VMOVUPS(s, m) })
	VZEROUPPER()
	RET()
}
