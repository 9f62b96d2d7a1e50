package gemm

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// Products in bfloat16 on the tile registers. A worker takes a block of rows of A,
// rounds them to bfloat16 in the order in which the registers load them, once for all
// panels that it computes of these rows, and keeps them in the second level of cache.
// There the panels pass by, in K blocks that stay in the first level meanwhile: a step
// of 64 cycles then loads half of its 4 KB from the second level. With all of K at a
// time it would be everything, which is more than that level gives.

const (
	// amxRows is the most rows of a block for the tile registers, amxHalf those of
	// one register. Rows of A are stored in blocks of amxHalf: for each 16 pairs of k
	// a tile of amxHalf rows of 64 bytes, as a register loads it.
	amxRows = 32
	amxHalf = amxRows / 2
	// amxStep is the number of pairs of k that an instruction adds up, amxDeep the
	// most of these in a K block. The sums between K blocks are kept in full, so that
	// the result does not depend on it.
	amxStep = 16
	amxDeep = 8
	amxLine = 2 * amxStep       // values of a row in a step
	amxTile = amxHalf * amxStep // pairs of a tile

	// amxMost is the most rows of A that a worker holds, amxLeast what it holds even
	// if they take more than amxBytes. Fewer than amxShared rows for each worker are
	// not cut apart: all take the same rows and different panels.
	amxMost, amxLeast, amxShared = 256, 64, 128
	amxBytes                     = 1280 << 10

	cacheLine = 16 // in floats
)

// tileProduct is what a product on the tile registers has beyond others.
type tileProduct struct {
	a      []float32 // as it comes; the k of product counts pairs
	lda, k int
}

// amxArgs are the operands of a tile kernel, which leaves the sums of rows of A by
// panels of B in memory, 32 floats to a row: up to amxRows rows by count panels, or,
// of amxTall, a K block of count groups of amxRows rows by one panel. Field order is
// part of the assembly, all fields take 8 bytes, and the kernels change some.
type amxArgs struct {
	config     *[64]byte
	a          *float32 // a tile for each step
	below      int      // bytes from there to the tiles of rows 16 and on
	b          *float32
	sums       *float32
	steps      int
	count      int
	panelBytes int      // not amxTall
	sumsStep   int      // not amxTall: bytes from the sums of a panel to those of the next
	first      int      // amxTall: not 0 if the sums start at zero; as all below
	next       *float32 // where B is needed next,
	nextStep   int      // and how many bytes of it are asked for in a step
	ask        *float32 // of C, 4 rows are asked for in a step
	c          *float32 // where C is, if it is just the sums, written with this K block
	ldc        int      // in bytes
}

// amxHeld is how many rows of so many pairs a worker holds.
func amxHeld(pairs int) int {
	return min(max(amxBytes/(4*max(pairs, 1))/amxRows*amxRows, amxLeast), amxMost)
}

// runTiles is Run on the tile registers.
func (j *denseJob) runTiles(p *pool.Pool, a *Args, ws *Workspace) {
	q := &j.product
	q.k = a.Format.rowBytes(a.K) / 4
	q.b = view[float32](a.Q)
	ws.tile = tileProduct{a: a.A, lda: a.Lda, k: a.K}
	q.tiles = &ws.tile
	for i := range ws.scratch {
		ws.scratch[i].held = -1
	}
	workers := ws.workersOf(p, a.M*a.N*a.K)
	j.split = q.divideTiles(workers)
	ws.run(p, workers, j.split.tiles(), j)
	ws.tile = tileProduct{}
}

// divideTiles is divide for the tile registers: blocks of rows that a worker can hold.
func (p *product) divideTiles(workers int) split {
	if p.m <= skinnyM {
		return p.divide(amxRows, workers, 1)
	}
	np := panels(p.n)
	blocks := max(ceilDiv(p.m, amxHeld(p.k)), min(workers, p.m/amxShared))
	rows := ceilDiv(ceilDiv(p.m, amxRows), blocks) * amxRows
	blocks = ceilDiv(p.m, rows)
	pTiles := min(np, ceilDiv(tilesPerWorker*workers, blocks))
	return split{mTiles: blocks, pTiles: pTiles, rows: rows, panels: ceilDiv(np, pTiles)}
}

// tiled computes a tile of C with the tile registers, for any number of rows.
func (t *tile) tiled(r0, rows, p0, np int) {
	t.hold(r0, rows)
	tall := 0
	if rows > amxRows && t.k > 0 {
		tall = rows / amxRows * amxRows
	}
	// Up to this panel C is just the sums, and its rows start with a line of the cache.
	// Others are written several panels at a time, so that few lines are touched twice.
	plain := 0
	d, _ := t.addend(true, r0, p0*PanelWidth)
	if d == nil && t.alpha == 1 && t.ldc%cacheLine == 0 {
		plain = t.n / PanelWidth
	}
	for q := p0; q < p0+np; q += stripP {
		end := min(q+stripP, p0+np)
		for panel := q; panel < end && tall > 0; panel++ {
			t.amxTall(r0, tall, panel, t.packB[(panel-q)*amxMost*PanelWidth:], panel < plain)
		}
		t.amxWrite(r0, 0, tall, q, max(q, min(plain, end)), end)
		for i := tall; i < rows; i += amxRows {
			t.amxRest(i, min(amxRows, rows-i), q, end-q)
		}
		t.amxWrite(r0, tall, rows, q, q, end)
		t.finish(r0, rows, q, end)
	}
}

// hold rounds the rows of A from r0 on, unless the worker has them from its last tile.
func (t *tile) hold(r0, rows int) {
	if t.held == r0 {
		return
	}
	t.held = r0
	whole := t.tiles.k / amxLine * amxLine
	for r := range rows {
		row := t.tiles.a[min((r0+r)*t.tiles.lda, len(t.tiles.a)):][:t.tiles.k]
		at := r/amxHalf*amxHalf*t.k + r%amxHalf*amxStep
		if whole > 0 {
			amxConvert(t.tilesA[at:], row[:whole])
		}
		if rest := row[whole:]; len(rest) > 0 {
			var line [amxLine]float32
			copy(line[:], rest)
			amxConvert(t.tilesA[at+whole/amxLine*amxTile:], line[:])
		}
	}
}

// amxTall computes the sums of a number of rows, whole blocks of amxRows, by a panel,
// and leaves them in C or in scratch memory.
func (t *tile) amxTall(r0, rows, panel int, sums []float32, plain bool) {
	steps, groups := t.k/amxStep, rows/amxRows
	deep := ceilDiv(steps, ceilDiv(steps, amxDeep))
	for k0 := 0; k0 < steps; k0 += deep {
		n, b := min(deep, steps-k0), (panel*t.k+k0*amxStep)*PanelWidth
		x := amxArgs{
			config: &amxConfigs[amxRows], a: &t.tilesA[k0*amxTile], below: 4 * amxHalf * t.k,
			b: &t.b[b], sums: &sums[0], steps: n, count: groups,
			next: &t.b[b], nextStep: min(amxStepBytes/4, 64*ceilDiv(amxStepBytes/64, groups)), ask: &sums[0],
		}
		if next := b + n*amxStep*PanelWidth; next < len(t.b) {
			x.next = &t.b[next]
		}
		if k0 == 0 {
			x.first = 1
		}
		if k0+n == steps {
			at := r0*t.ldc + panel*PanelWidth
			x.ask, x.ldc = &t.c[at], 4*t.ldc
			if plain {
				x.ask, x.c = &t.c[min(at+amxRows*t.ldc, len(t.c)-1)], &t.c[at]
			}
		}
		amxTallKernel(&x)
	}
}

// amxStepBytes of a panel are used in a step.
const amxStepBytes = 4 * amxStep * PanelWidth

// amxRest computes the sums of m rows from row i of those held, amxRows at most, by np
// panels.
func (t *tile) amxRest(i, m, panel, np int) {
	x := amxArgs{
		config: &amxConfigs[m], below: 4 * amxHalf * t.k, sums: &t.packB[i*PanelWidth], steps: t.k / amxStep,
		count: np, panelBytes: 4 * t.k * PanelWidth, sumsStep: 4 * amxMost * PanelWidth,
	}
	if t.k > 0 {
		x.a, x.b = &t.tilesA[i*t.k], &t.b[panel*t.k*PanelWidth]
	}
	amxRestKernel(&x, m)
}

// amxWrite makes C of the sums of rows i to last of those held, by panels from to end;
// the sums in memory start with panel q.
func (t *tile) amxWrite(r0, i, last, q, from, end int) {
	if i == last || from == end {
		return
	}
	r, j, mask := r0+i, from*PanelWidth, ^uint32(0)
	if cols := t.n - (end-1)*PanelWidth; cols < PanelWidth {
		mask = 1<<cols - 1
	}
	d, ldd := t.addend(true, r, j)
	sums := t.packB[((from-q)*amxMost+i)*PanelWidth:]
	amxWriteKernel(&sums[0], 4*amxMost*PanelWidth, &t.c[r*t.ldc+j], 4*t.ldc, unsafe.SliceData(d), 4*ldd, last-i, end-from, mask, t.alpha)
}

// amxConfigs are the shapes of the tile registers for blocks of m rows, as
// LDTILECFG reads them: palette 1, bytes of a row at 16, rows at 48.
var amxConfigs = func() (all [amxRows + 1][64]byte) {
	for m := range all {
		c := &all[m]
		c[0] = 1
		rows := [8]int{min(m, 16), min(m, 16), m - 16, m - 16, min(m, 16), m - 16, 16, 16}
		for t, n := range rows {
			if n > 0 {
				c[16+2*t], c[48+t] = 64, byte(n)
			}
		}
	}
	return all
}()
