package ssd

import "github.com/ssdc-go/ssdc/backends/cpu/vec"

// recurrent steps one head of one batch row. The state goes from H0 to HT at
// the first step and is updated in place after it: one pass over memory for a
// decode step.
func (c *call) recurrent(m []float32, b, h int) {
	P, N := c.P, c.N
	g := h / (c.H / c.G)
	size := P * N
	at := (b*c.H + h) * size
	state := m[c.state : c.state+size]
	if c.HT != nil {
		state = c.HT[at : at+size]
	}
	from := state
	if c.H0 != nil {
		from = c.H0[at : at+size]
	} else {
		clear(state)
	}
	dtx := m[c.x : c.x+P]
	one := m[c.raw : c.raw+1]
	next := 0
	for t := range c.L {
		if t == next {
			next = c.segmentEnd(b, t)
			if t > 0 {
				clear(state)
			}
		}
		dt, a := float32(1), float32(0)
		if c.Dt.Data != nil {
			dt = c.Dt.Data[b*c.Dt.StrideB+t*c.Dt.StrideL+h]
			if c.DtBias != nil {
				dt += c.DtBias[h]
			}
			one[0] = dt
			c.finishDt(one)
			dt = one[0]
		}
		if c.LogDecay.Data != nil {
			a = c.LogDecay.Data[b*c.LogDecay.StrideB+t*c.LogDecay.StrideL+h]
		} else {
			a = c.A[h] * dt
		}
		one[0] = a
		vec.Exp(one, one)
		xat := b*c.X.StrideB + t*c.X.StrideL + h*P
		x := c.X.Data[xat : xat+P]
		vec.MulS(dtx, x, dt)
		yat := b*c.Y.StrideB + t*c.Y.StrideL + h*P
		y := c.Y.Data[yat : yat+P]
		bat := b*c.BMat.StrideB + t*c.BMat.StrideL + g*N
		cat := b*c.CMat.StrideB + t*c.CMat.StrideL + g*N
		if size > 0 {
			s := stepArgs{
				from: &from[0], to: &state[0], b: &c.BMat.Data[bat], c: &c.CMat.Data[cat],
				x: &dtx[0], y: &y[0], decay: one[0], p: P, n: N,
			}
			c.step(&s)
		} else {
			clear(y)
		}
		from = state
		if c.D != nil {
			if len(c.D) == c.H {
				vec.Axpy(y, x, c.D[h])
			} else {
				vec.MulAdd(y, x, c.D[h*P:h*P+P], y)
			}
		}
		c.gate(y, b, t, h, 0)
	}
}

// gate multiplies y, which starts at column p of head h, by silu(z).
func (c *call) gate(y []float32, b, t, h, p int) {
	if c.Z.Data != nil {
		at := b*c.Z.StrideB + t*c.Z.StrideL + h*c.P + p
		vec.SiLUMul(y, y, c.Z.Data[at:at+len(y)])
	}
}

// finishDt turns dt+bias into dt'.
func (c *call) finishDt(dt []float32) {
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
