package ssd

import "github.com/ssdc-go/ssdc/backends/cpu/vec"

// recurrentSteps is how many pairs of a step and a head get their decay together.
const recurrentSteps = 64

// together is how many heads from head h on are stepped as one.
func (c *call) together(h, most int) int {
	if c.HT == nil { // the scratch state is that of one head
		return 1
	}
	hpg := c.H / c.G
	return min(most, hpg-h%hpg, max(1, recurrentSteps/c.L))
}

// recurrent steps n heads of one batch row and group, from head h on. The state
// goes from H0 to HT at the first step and is updated in place after it: one pass
// over memory for a decode step.
func (c *call) recurrent(m []float32, b, h, n int) {
	size := n * c.P * c.N
	at := (b*c.H + h) * c.P * c.N
	state := m[c.state:]
	if c.HT != nil {
		state = c.HT[at:]
	}
	state = state[:size]
	from := state
	if c.H0 != nil {
		from = c.H0[at : at+size]
	} else {
		clear(state)
	}
	next := 0
	for t0 := 0; t0 < c.L; t0 += recurrentSteps / n {
		steps := min(recurrentSteps/n, c.L-t0)
		scale, decay := c.rates(m, b, t0, steps, h, n)
		for i := range steps {
			t := t0 + i
			if t == next {
				next = c.segmentEnd(b, t)
				if t > 0 {
					clear(state)
				}
			}
			x := c.X.Data[b*c.X.StrideB+t*c.X.StrideL+h*c.P:][:n*c.P]
			y := c.Y.Data[b*c.Y.StrideB+t*c.Y.StrideL+h*c.P:][:n*c.P]
			g := h / (c.H / c.G)
			if size > 0 {
				s := stepArgs{
					from: &from[0], to: &state[0], x: &x[0], y: &y[0],
					b: &c.BMat.Data[b*c.BMat.StrideB+t*c.BMat.StrideL+g*c.N], c: &c.CMat.Data[b*c.CMat.StrideB+t*c.CMat.StrideL+g*c.N],
					decay: &decay[i*n], scale: &scale[i*n], heads: n, p: c.P, n: c.N,
				}
				c.step(&s)
			} else {
				clear(y)
			}
			from = state
			switch len(c.D) {
			case 0:
			case c.H:
				for j, d := range c.D[h : h+n] {
					vec.Axpy(y[j*c.P:(j+1)*c.P], x[j*c.P:], d)
				}
			default:
				vec.MulAdd(y, x, c.D[h*c.P:], y)
			}
			c.gate(y, b, t, h, 0)
		}
	}
}

// rates gives, for some steps of n heads, the factor of the input and the decay of
// the state: element [step][head].
func (c *call) rates(m []float32, b, t, steps, h, n int) (scale, decay []float32) {
	raw := m[c.raw:]
	scale, decay = raw[:steps*n], raw[recurrentSteps:][:steps*n]
	if c.Dt.Data != nil {
		for i := range steps {
			dst := scale[i*n : (i+1)*n]
			copy(dst, c.Dt.Data[b*c.Dt.StrideB+(t+i)*c.Dt.StrideL+h:])
			if c.DtBias != nil {
				for j, v := range c.DtBias[h : h+n] {
					dst[j] += v
				}
			}
		}
		c.finishDt(scale)
	} else {
		vec.Fill(scale, 1)
	}
	for i := range steps {
		dst := decay[i*n : (i+1)*n]
		if c.LogDecay.Data != nil {
			copy(dst, c.LogDecay.Data[b*c.LogDecay.StrideB+(t+i)*c.LogDecay.StrideL+h:])
			continue
		}
		for j, v := range c.A[h : h+n] {
			dst[j] = v * scale[i*n+j]
		}
	}
	vec.Exp(decay, decay)
	return scale, decay
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
