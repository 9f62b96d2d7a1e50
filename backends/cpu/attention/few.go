package attention

import "github.com/ssdc-go/ssdc/backends/cpu/vec"

// few computes all queries of the heads that share key/value head h.
func (j *job) few(m *scratch, b, h int) {
	group := j.HQ / j.HKV
	rows, width := group*j.S, roundUp(j.DV, panel)
	clear(m.acc[:rows*width])
	clear(m.sum[:rows])
	vec.Fill(m.top[:rows], negInf)
	lo, _ := j.sees(b, 0)
	_, hi := j.sees(b, j.S-1)
	for k0 := lo / keyBlock * keyBlock; k0 < hi; k0 += keyBlock {
		n := min(keyBlock, hi-k0)
		k, v := j.K.at(b, h, k0), j.V.at(b, h, k0)
		for r := range rows {
			head, s := h*group+r/j.S, r%j.S
			from, to := j.sees(b, s)
			from, to = max(from-k0, 0), min(to-k0, n)
			if from >= to {
				continue
			}
			x := m.scores[r*keyBlock:][:n]
			dots(x[from:to], j.Q.at(b, head, s)[:j.D], k[from*j.K.StrideS:], j.K.StrideS, j.Scale)
			j.soften(m, b, head, s, r, k0, n, width, j.Mask.given())
			mix(m.acc[r*width:][:j.DV], x[from:to], v[from*j.V.StrideS:], j.V.StrideS)
		}
	}
	for r := range rows {
		j.finish(m, b, h*group+r/j.S, r%j.S, r, width)
	}
}

// dots writes scale*(q . k[i]) for the rows k[i], stride apart.
func dots(dst, q, k []float32, stride int, scale float32) {
	for i := range dst {
		dst[i] = scale * vec.Dot(q, k[i*stride:])
	}
}

// mix adds p[i]*v[i] to acc, v[i] being rows stride apart.
func mix(acc, p, v []float32, stride int) {
	for i, w := range p {
		if w != 0 {
			vec.Axpy(acc, v[i*stride:], w)
		}
	}
}
