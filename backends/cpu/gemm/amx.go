package gemm

import "unsafe"

const (
	// amxRows is the most rows of a block for the tile registers, amxHalf those of
	// one register. Rows of A are stored in blocks of amxHalf: for each 16 pairs of k
	// a tile of amxHalf rows of 64 bytes, as a register loads it.
	amxRows = 32
	amxHalf = amxRows / 2
	// amxStep is the number of pairs of k that an instruction adds up, amxDeep the
	// most of these in a K block: the rows of A then stay in the first level of cache
	// beside the panels that stream past. The sums between K blocks are kept in full,
	// so that the result does not depend on it.
	amxStep = 16
	amxDeep = 8
	// amxAsked floats of B are asked for in a step.
	amxAsked = 3 * PanelWidth
	amxSums  = amxRows * PanelWidth // sums of a block and a panel
)

// amxArgs are the operands of a tile kernel: m rows by some panels, c = alpha*(sums +
// a b) + d. Field order is part of the assembly, all fields take 8 bytes, and the
// kernels change some.
type amxArgs struct {
	config     *[64]byte
	a          *float32 // a tile for each step
	below      int      // bytes from there to the tiles of rows 16 and on
	b          *float32
	next       *float32 // where B is needed next, amxAsked floats for a step
	sums       *float32
	sumsStep   int // bytes from the sums of a panel to those of the next
	c, d       *float32
	ldc, ldd   int // in bytes
	steps      int
	panelBytes int
	panels     int
	m          int
	first      int // not 0: sums start at zero
	last       int // not 0: write c
	plain      int // not 0: c is just a b; only with last
	alpha      float32
	_          float32
}

// tiled computes a tile of C with the tile registers, for any number of rows.
func (t *tile) tiled(r0, rows, p0, np int) {
	whole := np // panels that C has all columns of
	if (p0+np)*PanelWidth > t.n {
		whole--
	}
	steps := t.k / amxStep
	if rows <= amxHalf { // B is read once
		for q := p0; q < p0+whole; q += stripP {
			end := min(q+stripP, p0+whole)
			t.amxBlock(r0, rows, q, end-q, 0, steps, 0)
			t.finish(r0, rows, q, end)
		}
		t.amxRim(r0, rows, p0+whole, np-whole)
		return
	}
	deep := max(ceilDiv(steps, max(ceilDiv(steps, amxDeep), 1)), 1)
	for k0 := 0; k0 == 0 || k0 < steps; k0 += deep {
		for i := 0; i < rows; i += amxRows {
			m := min(amxRows, rows-i)
			t.amxBlock(r0+i, m, p0, whole, k0, min(deep, steps-k0), i/amxRows)
			if k0+deep >= steps {
				t.finish(r0+i, m, p0, p0+whole)
				t.amxRim(r0+i, m, p0+whole, np-whole)
			}
		}
	}
}

// amxBlock adds the K block of some steps from k0 on to the sums of m rows by np
// panels, which have place g in the scratch memory if there are other K blocks.
func (t *tile) amxBlock(r, m, panel, np, k0, steps, g int) {
	if np == 0 {
		return
	}
	j := panel * PanelWidth
	x := t.amxOperands(r, m, panel, k0, steps)
	x.c, x.ldc, x.panels = &t.c[r*t.ldc+j], 4*t.ldc, np
	d, ldd := t.addend(true, r, j)
	x.d, x.ldd = unsafe.SliceData(d), 4*ldd
	if all := t.k / amxStep; steps < all {
		x.sums, x.sumsStep = &t.packB[g*blockP*amxSums], 4*amxSums
		x.first, x.last = 0, 0
		if k0 == 0 {
			x.first = 1
		}
		if k0+steps == all {
			x.last = 1
		}
		next := k0 + steps
		if next == all {
			next = 0
		}
		if part := g * steps * amxAsked; part < steps*amxStep*PanelWidth {
			x.next = &t.b[(panel*t.k+next*amxStep)*PanelWidth+part]
		}
	}
	if x.last != 0 && d == nil && t.alpha == 1 {
		x.plain = 1
	}
	amxKernel(&x)
}

// amxRim computes the last panel if it is a narrower one (np is 1), all of K.
func (t *tile) amxRim(r, m, panel, np int) {
	if np == 0 {
		return
	}
	j := panel * PanelWidth
	x := t.amxOperands(r, m, panel, 0, t.k/amxStep)
	d, ldd := t.addend(true, r, j)
	d, ldd = t.enterRim(m, t.n-j, d, ldd)
	x.c, x.ldc, x.panels = &t.rim[0], 4*PanelWidth, 1
	x.d, x.ldd = unsafe.SliceData(d), 4*ldd
	amxKernel(&x)
	t.leaveRim(m, t.n-j, t.c[r*t.ldc+j:])
	t.finish(r, m, panel, panel+1)
}

// amxOperands are those of a block alone, without C.
func (t *tile) amxOperands(r, m, panel, k0, steps int) amxArgs {
	x := amxArgs{m: m, steps: steps, below: 4 * amxHalf * t.aRow, panelBytes: 4 * t.k * PanelWidth, sums: &t.sums[0], first: 1, last: 1, alpha: t.alpha}
	if steps > 0 {
		x.a = &t.a[r/amxHalf*amxHalf*t.aRow+k0*amxStep*amxHalf]
		x.b = &t.b[(panel*t.k+k0*amxStep)*PanelWidth]
		x.next = x.b
	}
	return x
}
