package ssd

import (
	"math"
	"unsafe"
)

// The kernels work on tiles of 8 rows by 32 columns: 16 AVX-512 accumulators,
// fed per inner step by two vector loads and eight broadcasts. Row and column
// padding of the blocks in the workspace holds arbitrary values: no kernel lets
// an element of the padding reach an element outside it.
const (
	tileRows = 8
	tileCols = 32
)

// Field order is part of the assembly: all fields take 8 bytes. Leading
// dimensions (ld) are in elements.

// scoreArgs: out[i][j] = sum_n c[i][n]*b[n][j] for 8*tiles rows, 32 columns.
type scoreArgs struct {
	c     *float32
	ldc   int
	b     *float32
	ldb   int
	n     int
	out   *float32
	ldo   int
	tiles int
}

// weightArgs: out[l][s] = scores[l][s]*exp(cum_l-cum_s)*dt_s for s <= l < q,
// with cum = hi+lo.
type weightArgs struct {
	scores, out *float32
	ld          int
	hi, lo, dt  *float32
	q           int
}

// packArgs: a chunk of x, rows of lds elements, to a panel of 32 columns as it
// is and another with row s times w[s].
type packArgs struct {
	src   *float32
	lds   int
	x, xw *float32
	w     *float32
	q     int
	cols  int
}

// mixArgs: for tile r of rows l = k+8r.. (of which c, weights, grow and y point
// at the first)
//
//	y_l = grow_l * c_l state + sum_{s<=l} weights[l][s] x_s + skip * x_l
//
// n = 0 drops the state term, a nil skip the last one. Sums stop at s = l, so
// later x never enter, whatever their value.
type mixArgs struct {
	c       *float32
	ldc     int
	state   *float32 // [n][32]
	n       int
	weights *float32
	ldw     int
	x       *float32 // [.][32], row 0 is step 0 of the chunk
	k       int
	grow    *float32
	skip    *float32 // [32]
	y       *float32
	ldy     int
	tiles   int
}

// absorbArgs: state[i] = decay*state[i] + sum_{s<q} bt[i][s] xw[s] for 8*tiles
// rows of 32 columns.
type absorbArgs struct {
	bt    *float32
	ldb   int
	xw    *float32
	q     int
	state *float32
	decay float32
	_     float32
	tiles int
}

// stepArgs: for each of some heads that follow one another, with p rows of n each,
//
//	to[i][n] = decay*from[i][n] + scale*x[i]*b[n]
//	y[i] = sum_n to[i][n]*c[n]
//
// The kernels change it.
type stepArgs struct {
	from, to     *float32
	b, c         *float32
	x, y         *float32
	decay, scale *float32 // by head
	heads        int
	p, n         int
}

// rowAt is the n elements that start at elements after p.
func rowAt(p *float32, at, n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Add(unsafe.Pointer(p), 4*at)), n)
}

func at(p *float32, i int) float32 { return *(*float32)(unsafe.Add(unsafe.Pointer(p), 4*i)) }

type tileRow = [tileCols]float32

func tileAt(p *float32, i int) *tileRow {
	return (*tileRow)(unsafe.Add(unsafe.Pointer(p), 4*i))
}

func scorePortable(a *scoreArgs) {
	for i := range a.tiles * tileRows {
		var acc tileRow
		for n, v := range rowAt(a.c, i*a.ldc, a.n) {
			b := tileAt(a.b, n*a.ldb)
			for j := range acc {
				acc[j] += v * b[j]
			}
		}
		*tileAt(a.out, i*a.ldo) = acc
	}
}

func weightPortable(a *weightArgs) {
	for l := range a.q {
		scores, out := rowAt(a.scores, l*a.ld, l+1), rowAt(a.out, l*a.ld, l+1)
		hi, lo, dt := rowAt(a.hi, 0, l+1), rowAt(a.lo, 0, l+1), rowAt(a.dt, 0, l+1)
		for s, v := range scores {
			d := (hi[l] - hi[s]) + (lo[l] - lo[s])
			out[s] = v * float32(math.Exp(float64(d))) * dt[s]
		}
	}
}

func packPortable(a *packArgs) {
	for s := range a.q {
		w := at(a.w, s)
		x, xw := tileAt(a.x, s*tileCols), tileAt(a.xw, s*tileCols)
		for j, v := range rowAt(a.src, s*a.lds, a.cols) {
			x[j] = v
			xw[j] = v * w
		}
	}
}

func mixPortable(a *mixArgs) {
	for i := range a.tiles * tileRows {
		var acc tileRow
		if a.n > 0 {
			for n, v := range rowAt(a.c, i*a.ldc, a.n) {
				s := tileAt(a.state, n*tileCols)
				for j := range acc {
					acc[j] += v * s[j]
				}
			}
			g := at(a.grow, i)
			for j := range acc {
				acc[j] *= g
			}
		}
		l := a.k + i
		for s, v := range rowAt(a.weights, i*a.ldw, l+1) {
			x := tileAt(a.x, s*tileCols)
			for j := range acc {
				acc[j] += v * x[j]
			}
		}
		if a.skip != nil {
			d, x := tileAt(a.skip, 0), tileAt(a.x, l*tileCols)
			for j := range acc {
				acc[j] += d[j] * x[j]
			}
		}
		*tileAt(a.y, i*a.ldy) = acc
	}
}

func absorbPortable(a *absorbArgs) {
	for i := range a.tiles * tileRows {
		acc := tileAt(a.state, i*tileCols)
		for j := range acc {
			acc[j] *= a.decay
		}
		for s, v := range rowAt(a.bt, i*a.ldb, a.q) {
			x := tileAt(a.xw, s*tileCols)
			for j := range acc {
				acc[j] += v * x[j]
			}
		}
	}
}

func stepPortable(a *stepArgs) {
	b, c := rowAt(a.b, 0, a.n), rowAt(a.c, 0, a.n)
	for i := range a.heads * a.p {
		from, to := rowAt(a.from, i*a.n, a.n), rowAt(a.to, i*a.n, a.n)
		decay, x := at(a.decay, i/a.p), at(a.x, i)*at(a.scale, i/a.p)
		var sum float32
		for n, s := range from {
			s = decay*s + x*b[n]
			to[n] = s
			sum += s * c[n]
		}
		rowAt(a.y, i, 1)[0] = sum
	}
}
