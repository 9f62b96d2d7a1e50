package ssd

import (
	"math"

	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

// headRange is the work of one task: columns [p0,p1) of heads [h0,h1), all of
// group g, of batch row b. p0 is a multiple of 32.
type headRange struct{ b, g, h0, h1, p0, p1 int }

// chunked carries a range of heads through the length.
//
// Per chunk (l, s are positions in it, cum the inclusive sum of a from its
// start, S the state before it), after section 6 of the paper:
//
//	scores[l,s]  = C_l . B_s                                once for all heads
//	weights[l,s] = scores * exp(cum_l - cum_s) * dt_s       s <= l
//	y_l          = exp(cum_l) * C_l S + sum_s weights[l,s] x_s + D x_l
//	S            = exp(cum_last) S + sum_s B_s (x) (exp(cum_last - cum_s) dt_s x_s)
//
// States live as [P/32][N][32] panels while the chunks run: every product then
// has a row-major left side read by broadcast and 32-column panels on the right.
func (c *call) chunked(m []float32, r headRange) {
	P, N := c.P, c.N
	b, h0, heads := r.b, r.h0, r.h1-r.h0
	size := c.pp * c.n8 * tileCols
	known := c.H0 != nil // the state may differ from zero
	states := m[c.state : c.state+heads*size]
	clear(states)
	if known {
		for j := range heads {
			c.loadState(states[j*size:(j+1)*size], c.H0[(b*c.H+h0+j)*P*N:], r.p0, r.p1)
		}
	}
	end := c.segmentEnd(b, 0)
	for t := 0; t < c.L; {
		if t == end {
			end = c.segmentEnd(b, t)
			clear(states)
			known = false
		}
		q := min(c.q, end-t)
		wanted := t+q < end || (t+q == c.L && c.HT != nil)
		c.scoreChunk(m, b, r.g, t, q)
		c.stageDt(m, b, t, q, h0, heads)
		for j := range heads {
			c.fetchAhead(r, t+q, j)
			c.headChunk(m, states[j*size:(j+1)*size], r, chunk{t, q, known, wanted}, j)
		}
		known = true
		t += q
	}
	if c.HT != nil {
		for j := range heads {
			c.storeState(c.HT[(b*c.H+h0+j)*P*N:], states[j*size:(j+1)*size], r.p0, r.p1)
		}
	}
}

// fetchAhead prefetches a share of what the chunk from t begins with, so that
// its rows, each on a page of its own, arrive while the heads of the chunk
// before it compute. Within a chunk the kernels look ahead themselves.
func (c *call) fetchAhead(r headRange, t, j int) {
	q, heads := min(c.q, c.L-t), r.h1-r.h0
	from, to := q*j/heads, q*(j+1)/heads
	if from == to {
		return
	}
	t, q = t+from, to-from
	cols := min(tileCols, r.p1-r.p0)
	c.fetch(&c.X, r.b, t, q, r.h0*c.P+r.p0, cols)
	c.fetch(&c.Y, r.b, t, q, r.h0*c.P+r.p0, cols)
	c.fetch(&c.BMat, r.b, t, q, r.g*c.N, c.N)
	c.fetch(&c.CMat, r.b, t, q, r.g*c.N, c.N)
	c.fetch(&c.Dt, r.b, t, q, r.h0, heads)
}

func (c *call) loadState(panels, h []float32, p0, p1 int) {
	for p := p0; p < p1; p += tileCols {
		vec.Transpose2D(panels[p/tileCols*c.n8*tileCols:], tileCols, h[p*c.N:], c.N, min(tileCols, p1-p), c.N)
	}
}

func (c *call) storeState(h, panels []float32, p0, p1 int) {
	for p := p0; p < p1; p += tileCols {
		vec.Transpose2D(h[p*c.N:], c.N, panels[p/tileCols*c.n8*tileCols:], tileCols, c.N, min(tileCols, p1-p))
	}
}

// scoreChunk packs C and B transposed, and forms the causal blocks of C B^T.
func (c *call) scoreChunk(m []float32, b, g, t, q int) {
	N := c.N
	if N == 0 {
		clear(m[c.scores : c.scores+c.q8*c.ql])
		return
	}
	vec.Copy2D(m[c.c:], N, c.CMat.Data[b*c.CMat.StrideB+t*c.CMat.StrideL+g*N:], c.CMat.StrideL, q, N)
	vec.Transpose2D(m[c.bt:], c.ql, c.BMat.Data[b*c.BMat.StrideB+t*c.BMat.StrideL+g*N:], c.BMat.StrideL, q, N)
	rows := ceilTo(q, tileRows)
	for s := 0; s < q; s += tileCols {
		a := scoreArgs{
			c: &m[c.c+s*N], ldc: N, b: &m[c.bt+s], ldb: c.ql, n: N,
			out: &m[c.scores+s*c.ql+s], ldo: c.ql, tiles: (rows - s) / tileRows,
		}
		c.score(&a)
	}
}

// stageDt leaves dt' of the chunk as [q][heads] in raw.
func (c *call) stageDt(m []float32, b, t, q, h0, heads int) {
	raw := m[c.raw : c.raw+q*heads]
	if c.Dt.Data == nil {
		for i := range raw {
			raw[i] = 1
		}
		return
	}
	for s := range q {
		row := raw[s*heads : (s+1)*heads]
		copy(row, c.Dt.Data[b*c.Dt.StrideB+(t+s)*c.Dt.StrideL+h0:])
		if c.DtBias != nil {
			for j, v := range c.DtBias[h0 : h0+heads] {
				row[j] += v
			}
		}
	}
	c.finishDt(raw)
}

// stepLimit bounds |a_t|: far beyond where exp saturates, and low enough that
// the sums of a chunk keep their small digits and never meet Inf-Inf.
const stepLimit = 1e5

// leastDecay is the smallest normal float32.
const leastDecay = 0x1p-126

// decays fills hi, lo (the two f32 halves of cum, which is summed in f64), dt,
// grow = exp(cum_s), fade = exp(cum_last-cum_s)*dt_s, and returns exp(cum_last).
func (c *call) decays(m []float32, b, t, q, h, j, heads int) float32 {
	hi, lo, dts := m[c.hi:c.hi+q], m[c.lo:c.lo+q], m[c.dt:c.dt+q]
	raw := m[c.raw:]
	var ld []float32
	var A float32
	stride := c.LogDecay.StrideL
	if c.LogDecay.Data != nil {
		ld = c.LogDecay.Data[b*c.LogDecay.StrideB+t*stride+h:]
	} else {
		A = c.A[h]
	}
	cum := 0.0
	for s := range q {
		dt := raw[s*heads+j]
		dts[s] = dt
		a := A * dt
		if ld != nil {
			a = ld[s*stride]
		}
		if a < -stepLimit {
			a = -stepLimit
		} else if a > stepLimit {
			a = stepLimit
		}
		cum += float64(a)
		hi[s] = float32(cum)
		lo[s] = float32(cum - float64(hi[s]))
	}
	grow, fade := m[c.grow:c.grow+q], m[c.fade:c.fade+q]
	for s := range q {
		grow[s] = hi[s]
		fade[s] = (hi[q-1] - hi[s]) + (lo[q-1] - lo[s])
	}
	vec.Exp(grow, grow)
	vec.Exp(fade, fade)
	for s := range q { // a decay that is denormal has vanished, and would be slow
		if grow[s] < leastDecay {
			grow[s] = 0
		}
		if fade[s] < leastDecay {
			fade[s] = 0
		}
	}
	vec.Mul(fade, fade, dts)
	total := float32(math.Exp(cum))
	if total < leastDecay {
		total = 0
	}
	return total
}

// chunk is q steps from t. known: the state before it may differ from zero;
// wanted: the state after it is needed.
type chunk struct {
	t, q          int
	known, wanted bool
}

// headChunk adds one chunk of head h0+j of the range.
func (c *call) headChunk(m, state []float32, r headRange, k chunk, j int) {
	P, N := c.P, c.N
	if P == 0 {
		return
	}
	b, t, q, h := r.b, k.t, k.q, r.h0+j
	total := c.decays(m, b, t, q, h, j, r.h1-r.h0)
	w := weightArgs{
		scores: &m[c.scores], out: &m[c.weights], ld: c.ql,
		hi: &m[c.hi], lo: &m[c.lo], dt: &m[c.dt], q: q,
	}
	c.weight(&w)
	xat := b*c.X.StrideB + t*c.X.StrideL + h*P
	yat := b*c.Y.StrideB + t*c.Y.StrideL + h*P
	panel := c.q8 * tileCols
	for p := r.p0; p < r.p1; p += tileCols {
		i := p / tileCols
		cols := min(tileCols, r.p1-p)
		x, xw := m[c.x+i*panel:c.x+(i+1)*panel], m[c.xw+i*panel:c.xw+(i+1)*panel]
		pk := packArgs{src: &c.X.Data[xat+p], lds: c.X.StrideL, x: &x[0], xw: &xw[0], w: &m[c.fade], q: q, cols: cols}
		c.pack(&pk)
		sp := state[i*c.n8*tileCols : (i+1)*c.n8*tileCols]

		mix := mixArgs{
			weights: &m[c.weights], ldw: c.ql, x: &x[0], grow: &m[c.grow],
			y: &c.Y.Data[yat+p], ldy: c.Y.StrideL, tiles: q / tileRows,
		}
		if k.known && N > 0 {
			mix.c, mix.ldc, mix.n, mix.state = &m[c.c], N, N, &sp[0]
		}
		if c.D != nil {
			skip := m[c.skip+p : c.skip+p+tileCols]
			for i := range cols {
				skip[i] = c.skipAt(h, p+i)
			}
			mix.skip = &skip[0]
		}
		c.mixEdges(m, &mix, q, cols)

		if k.wanted && N > 0 {
			ab := absorbArgs{
				bt: &m[c.bt], ldb: c.ql, xw: &xw[0], q: q, state: &sp[0], decay: total, tiles: c.n8 / tileRows,
			}
			c.absorb(&ab)
		}
	}
	if c.Z.Data != nil {
		for s := range q {
			at := yat + s*c.Y.StrideL
			c.gate(c.Y.Data[at+r.p0:at+r.p1], b, t+s, h, r.p0)
		}
	}
}

// mixEdges writes whole 8x32 tiles straight to Y and the rest by way of the
// edge buffer.
func (c *call) mixEdges(m []float32, a *mixArgs, q, cols int) {
	first := 0
	if cols == tileCols {
		if a.tiles > 0 {
			c.mix(a)
		}
		first = a.tiles * tileRows
	}
	if first == q {
		return
	}
	edge := m[c.edge : c.edge+c.q8*tileCols]
	y, ldy := a.y, a.ldy
	a.y, a.ldy = &edge[first*tileCols], tileCols
	a.tiles = (ceilTo(q, tileRows) - first) / tileRows
	a.k = first
	a.weights = &m[c.weights+first*a.ldw]
	a.grow = &m[c.grow+first]
	if a.n > 0 {
		a.c = &m[c.c+first*a.ldc]
	}
	c.mix(a)
	for s := first; s < q; s++ {
		copy(rowAt(y, s*ldy, cols), edge[s*tileCols:])
	}
}
