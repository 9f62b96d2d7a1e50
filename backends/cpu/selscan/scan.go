package selscan

import (
	"math"
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

// log2e turns decays into base-2 exponents once per call or step.
const log2e = math.Log2E

// scan carries w channels from d of batch row b through the length. loaded tells
// that the worker's last task had the same channels, whose panel of A is there.
func (c *call) scan(m []float32, b, d, w int, loaded bool) {
	N, width := c.N, c.width
	direct := c.L <= stepMax && c.LogDecay.Data == nil && N > 0
	if !direct {
		c.loadPanels(m, b, d, w, loaded)
	}
	dt, u, y := m[c.dt:], m[c.u:], m[c.y:]
	skip := m[c.skip : c.skip+width]
	if c.Skip != nil {
		copy(skip, c.Skip[d:d+w])
	} else {
		clear(skip)
	}
	for t := 0; t < c.L; t += steps {
		T := min(steps, c.L-t)
		c.stage(u, &c.U, b, t, d, T, w)
		c.stageDt(dt, b, t, d, T, w)
		if direct {
			c.stepRows(m, b, t, d, T, w)
		} else {
			c.scanPanels(m, b, t, d, T, w)
		}
		at := c.Y.at(b, t) + d
		if c.Z.Data != nil {
			c.gate(&gateArgs{t: T, w: w, sum: &y[0], ldsum: width, z: &c.Z.Data[c.Z.at(b, t)+d], ldz: c.Z.StrideL, y: &c.Y.Data[at], ldy: c.Y.StrideL})
			continue
		}
		for s := range T {
			copy(c.Y.Data[at+s*c.Y.StrideL:][:w], y[s*width:])
		}
	}
	if !direct && c.HT != nil {
		for j := 0; j < w; j += lanes {
			vec.Transpose2D(c.HT[(b*c.D+d+j)*N:], N, m[c.state+j*N:], lanes, N, min(lanes, w-j))
		}
	}
}

// at is the position of row t of batch row b.
func (q *Seq) at(b, t int) int { return b*q.StrideB + t*q.StrideL }

// stage copies T rows of w channels to rows of width.
func (c *call) stage(to []float32, from *Seq, b, t, d, T, w int) {
	for s := range T {
		copy(to[s*c.width:][:w], from.Data[from.at(b, t+s)+d:])
	}
}

// stageDt leaves dt' as rows of width.
func (c *call) stageDt(dt []float32, b, t, d, T, w int) {
	switch {
	case c.Dt.Data == nil:
		for i := range T * c.width {
			dt[i] = 1
		}
	case c.DtBias == nil && !c.DtSoftplus && !c.clamps():
		c.stage(dt, &c.Dt, b, t, d, T, w)
	default:
		inf := float32(math.Inf(1))
		k := rateArgs{
			t: T, w: w, raw: &c.Dt.Data[c.Dt.at(b, t)+d], ldraw: c.Dt.StrideL, dt: &dt[0], lddt: c.width,
			bias: &zeros[0], lo: [2]float32{-inf}, hi: [2]float32{inf},
		}
		if c.DtBias != nil {
			k.bias = &c.DtBias[d]
		}
		if c.DtSoftplus {
			k.softplus = 1
		}
		if c.clamps() {
			k.lo[0], k.hi[0] = c.DtLo, c.DtHi
		}
		c.rates(&k)
	}
}

var zeros [maxWidth]float32

// loadPanels lays A*log2(e) and the initial state out as [w/16][N][16].
func (c *call) loadPanels(m []float32, b, d, w int, loaded bool) {
	N, width := c.N, c.width
	a, state := m[c.a:c.a+width*N], m[c.state:c.state+width*N]
	clear(state)
	for j := 0; j < w; j += lanes {
		rows := min(lanes, w-j)
		if c.LogDecay.Data == nil && !loaded {
			vec.Transpose2D(a[j*N:], lanes, c.A[(d+j)*N:], N, rows, N)
		}
		if c.H0 != nil {
			vec.Transpose2D(state[j*N:], lanes, c.H0[(b*c.D+d+j)*N:], N, rows, N)
		}
	}
	if loaded {
		return
	}
	vec.MulS(a, a, log2e)
	ones := m[c.ones : c.ones+width]
	for i := range ones {
		ones[i] = 1
	}
}

// scanPanels runs the lane groups over T staged steps.
func (c *call) scanPanels(m []float32, b, t, d, T, w int) {
	N, width := c.N, c.width
	if N == 0 {
		c.skipOnly(m, T)
		return
	}
	k := scanArgs{
		groups: (w + lanes - 1) / lanes, state: &m[c.state], n: N, t: T,
		a: &m[c.a], rate: &m[c.dt], ldrate: width,
		dt: &m[c.dt], u: &m[c.u], y: &m[c.y], ld: width,
		b: &c.BMat.Data[c.BMat.at(b, t)], ldb: c.BMat.StrideL,
		c: &c.CMat.Data[c.CMat.at(b, t)], ldc: c.CMat.StrideL,
	}
	if c.Skip != nil {
		k.skip = &m[c.skip]
	}
	// The rows of the next steps lie a page apart: fetch them while these
	// steps compute, one cache line of each operand at a time.
	for i, q := range [4]*Seq{&c.U, &c.Dt, &c.Z, &c.Y} {
		if q.Data == nil {
			k.ahead[i] = uintptr(unsafe.Pointer(k.state))
			continue
		}
		k.ahead[i] = uintptr(unsafe.Pointer(&q.Data[q.at(b, t)+d])) + uintptr(4*steps*q.StrideL)
		k.ldahead[i] = 4 * q.StrideL
	}
	if c.LogDecay.Data == nil {
		c.run(&k)
		return
	}
	// The decays of one lane group at a time.
	ld, logs := &c.LogDecay, m[c.logs:c.logs+T*N*lanes]
	k.rate, k.ldrate, k.a, k.lda = &m[c.ones], 0, &logs[0], N*lanes
	for j := 0; j < w; j += lanes {
		for s := range T {
			vec.Transpose2D(logs[s*N*lanes:], lanes, ld.Data[ld.at(b, t+s)+(d+j)*N:], N, min(lanes, w-j), N)
		}
		vec.MulS(logs, logs, log2e)
		k.groups, k.a = 1, &logs[0]
		c.run(&k)
	}
}

// skipOnly is the scan with no state.
func (c *call) skipOnly(m []float32, T int) {
	y, u, skip := m[c.y:], m[c.u:], m[c.skip:]
	for s := range T {
		if c.Skip == nil {
			clear(y[s*c.width:][:c.width])
		} else {
			vec.Mul(y[s*c.width:][:c.width], u[s*c.width:], skip)
		}
	}
}

// stepRows updates the states where they lie, [D,N], for a few steps: memory is
// read and written once per step, which for one step is the least possible.
func (c *call) stepRows(m []float32, b, t, d, T, w int) {
	N, width := c.N, c.width
	state := m[c.state : c.state+w*N]
	at := (b*c.D + d) * N
	if c.HT != nil {
		state = c.HT[at : at+w*N]
	}
	from := state
	if c.H0 != nil {
		from = c.H0[at : at+w*N]
	} else {
		clear(state)
	}
	for s := range T {
		k := stepArgs{
			from: &from[0], to: &state[0], a: &c.A[d*N],
			dt: &m[c.dt+s*width], u: &m[c.u+s*width], y: &m[c.y+s*width],
			b: &c.BMat.Data[b*c.BMat.StrideB+(t+s)*c.BMat.StrideL],
			c: &c.CMat.Data[b*c.CMat.StrideB+(t+s)*c.CMat.StrideL],
			d: w, n: N,
		}
		c.step(&k)
		from = state
		if c.Skip != nil {
			y, u := m[c.y+s*width:c.y+s*width+w], m[c.u+s*width:]
			vec.MulAdd(y, u, c.Skip[d:], y)
		}
	}
}
