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
	N := c.N
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
		stage(u, &c.U, b, t, d, T, w)
		c.stageDt(dt[:T*width], b, t, d, T, w)
		if direct {
			c.stepRows(m, b, t, d, T, w)
		} else {
			c.scanPanels(m, b, t, d, T, w)
		}
		for s := range T {
			out := c.Y.Data[b*c.Y.StrideB+(t+s)*c.Y.StrideL+d:][:w]
			if c.Z.Data != nil {
				vec.SiLUMul(out, y[s*width:s*width+w], c.Z.Data[b*c.Z.StrideB+(t+s)*c.Z.StrideL+d:][:w])
			} else {
				copy(out, y[s*width:])
			}
		}
	}
	if !direct && c.HT != nil {
		for j := 0; j < w; j += lanes {
			vec.Transpose2D(c.HT[(b*c.D+d+j)*N:], N, m[c.state+j*N:], lanes, N, min(lanes, w-j))
		}
	}
}

// stage copies T rows of w channels to rows of width.
func stage(to []float32, from *Seq, b, t, d, T, w int) {
	for s := range T {
		at := b*from.StrideB + (t+s)*from.StrideL + d
		copy(to[s*width:s*width+w], from.Data[at:at+w])
	}
}

// stageDt leaves dt' as rows of width.
func (c *call) stageDt(dt []float32, b, t, d, T, w int) {
	if c.Dt.Data == nil {
		for i := range dt {
			dt[i] = 1
		}
		return
	}
	if c.DtBias == nil {
		stage(dt, &c.Dt, b, t, d, T, w)
	} else {
		for s := range T {
			at := b*c.Dt.StrideB + (t+s)*c.Dt.StrideL + d
			vec.Add(dt[s*width:s*width+w], c.Dt.Data[at:at+w], c.DtBias[d:d+w])
		}
	}
	if c.DtSoftplus {
		vec.Softplus(dt, dt)
	}
	if c.clamps() {
		for i, v := range dt { // comparisons, so that NaN stays NaN
			if v < c.DtLo {
				dt[i] = c.DtLo
			} else if v > c.DtHi {
				dt[i] = c.DtHi
			}
		}
	}
}

// loadPanels lays A*log2(e) and the initial state out as [w/16][N][16].
func (c *call) loadPanels(m []float32, b, d, w int, loaded bool) {
	N := c.N
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
	N := c.N
	if N == 0 {
		c.skipOnly(m, T)
		return
	}
	for j := 0; j < w; j += lanes {
		k := scanArgs{
			state: &m[c.state+j*N], n: N, t: T,
			a: &m[c.a+j*N], rate: &m[c.dt+j], ldrate: width,
			dt: &m[c.dt+j], u: &m[c.u+j], y: &m[c.y+j], ld: width,
			b: &c.BMat.Data[b*c.BMat.StrideB+t*c.BMat.StrideL], ldb: c.BMat.StrideL,
			c: &c.CMat.Data[b*c.CMat.StrideB+t*c.CMat.StrideL], ldc: c.CMat.StrideL,
			skip: &m[c.skip+j],
		}
		if c.Skip == nil {
			k.skip = nil
		}
		if ld := &c.LogDecay; ld.Data != nil {
			rows := min(lanes, w-j)
			logs := m[c.logs : c.logs+T*N*lanes]
			for s := range T {
				vec.Transpose2D(logs[s*N*lanes:], lanes, ld.Data[b*ld.StrideB+(t+s)*ld.StrideL+(d+j)*N:], N, rows, N)
			}
			vec.MulS(logs, logs, log2e)
			k.a, k.lda = &logs[0], N*lanes
			k.rate, k.ldrate = &m[c.ones], 0
		}
		// The rows of the next steps lie a page apart: fetch them while these
		// steps compute, one cache line of each operand at a time.
		for i, q := range [4]*Seq{&c.U, &c.Dt, &c.Z, &c.Y} {
			if q.Data == nil {
				k.ahead[i] = uintptr(unsafe.Pointer(k.state))
				continue
			}
			k.ahead[i] = uintptr(unsafe.Pointer(&q.Data[b*q.StrideB+t*q.StrideL+d+j])) + uintptr(4*steps*q.StrideL)
			k.ldahead[i] = 4 * q.StrideL
		}
		c.run(&k)
	}
}

// skipOnly is the scan with no state.
func (c *call) skipOnly(m []float32, T int) {
	y, u, skip := m[c.y:], m[c.u:], m[c.skip:]
	for s := range T {
		if c.Skip == nil {
			clear(y[s*width : (s+1)*width])
		} else {
			vec.Mul(y[s*width:(s+1)*width], u[s*width:], skip)
		}
	}
}

// stepRows updates the states where they lie, [D,N], for a few steps: memory is
// read and written once per step, which for one step is the least possible.
func (c *call) stepRows(m []float32, b, t, d, T, w int) {
	N := c.N
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
