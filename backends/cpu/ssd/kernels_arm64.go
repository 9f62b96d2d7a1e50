//go:build !purego

package ssd

import "github.com/ssdc-go/ssdc/backends/cpu/isa"

// tileArgs: out[i][j] = d[i][j] + sum_k a[i][k]*b[k][j] for 4 rows of 32 columns;
// without d from zero. d has the rows of out and may be out.
type tileArgs struct {
	a   *float32
	lda int
	b   *float32
	ldb int
	k   int
	d   *float32
	out *float32
	ldo int
}

const neonRows = 4

// vectors reports whether NEON is in use.
func (c *call) vectors() bool { return c.isa == isa.NEON }

func (c *call) score(a *scoreArgs) {
	if !c.vectors() {
		scorePortable(a)
		return
	}
	for i := 0; i < a.tiles*tileRows; i += neonRows {
		t := tileArgs{a: next(a.c, i*a.ldc), lda: a.ldc, b: a.b, ldb: a.ldb, k: a.n, out: next(a.out, i*a.ldo), ldo: a.ldo}
		tileNEON(&t)
	}
}

func (c *call) absorb(a *absorbArgs) {
	if !c.vectors() {
		absorbPortable(a)
		return
	}
	for i := 0; i < a.tiles*tileRows; i += neonRows {
		state := rowAt(a.state, i*tileCols, neonRows*tileCols)
		for j := range state {
			state[j] *= a.decay
		}
		t := tileArgs{a: next(a.bt, i*a.ldb), lda: a.ldb, b: a.xw, ldb: tileCols, k: a.q, d: &state[0], out: &state[0], ldo: tileCols}
		tileNEON(&t)
	}
}

// mix takes the steps that all rows of a tile have first; the rest of the
// triangle, three rows of one to three steps, follows one by one.
func (c *call) mix(a *mixArgs) {
	if !c.vectors() {
		mixPortable(a)
		return
	}
	for i := 0; i < a.tiles*tileRows; i += neonRows {
		t := tileArgs{out: next(a.y, i*a.ldy), ldo: a.ldy, ldb: tileCols}
		if a.n > 0 {
			t.a, t.lda, t.b, t.k = next(a.c, i*a.ldc), a.ldc, a.state, a.n
			tileNEON(&t)
			for r := range neonRows {
				g, y := at(a.grow, i+r), tileAt(t.out, r*a.ldy)
				for j := range y {
					y[j] *= g
				}
			}
			t.d = t.out
		}
		whole := a.k + i + 1
		t.a, t.lda, t.b, t.k = next(a.weights, i*a.ldw), a.ldw, a.x, whole
		tileNEON(&t)
		for r := range neonRows {
			y := tileAt(t.out, r*a.ldy)
			for s := whole; s < whole+r; s++ {
				w, x := at(t.a, r*a.ldw+s), tileAt(a.x, s*tileCols)
				for j := range y {
					y[j] += w * x[j]
				}
			}
			if a.skip != nil {
				d, x := tileAt(a.skip, 0), tileAt(a.x, (whole+r-1)*tileCols)
				for j := range y {
					y[j] += d[j] * x[j]
				}
			}
		}
	}
}

func (c *call) step(a *stepArgs) {
	if !c.vectors() {
		stepPortable(a)
		return
	}
	for h := range a.heads {
		rows := h * a.p
		one := stepArgs{
			from: next(a.from, rows*a.n), to: next(a.to, rows*a.n), b: a.b, c: a.c, x: next(a.x, rows), y: next(a.y, rows),
			decay: next(a.decay, h), scale: next(a.scale, h), heads: 1, p: a.p, n: a.n,
		}
		stepNEON(&one)
	}
}

func (c *call) weight(a *weightArgs) { weightPortable(a) }
func (c *call) pack(a *packArgs)     { packPortable(a) }

func (c *call) fetch(*Seq, int, int, int, int, int) {}

// next is the element that stands elements after p.
func next(p *float32, elements int) *float32 { return &rowAt(p, elements, 1)[0] }
