package ssd

import (
	"math"
	"math/rand/v2"
	"testing"
)

const guard = 1234.5

// problem is a call with guard bands around everything that Run writes.
type problem struct {
	Args
	yMem, hMem []float32
}

type options struct {
	softplus, bias, clamp, logDecay, noDt bool
	d                                     int // 0 none, 1 [H], 2 [H,P]
	z, h0, ht, alias, seq                 bool
	aScale                                float64
}

func normals(r *rand.Rand, n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * scale)
	}
	return v
}

// seqOf makes a strided Seq with pad elements between rows.
func seqOf(r *rand.Rand, b, l, row, pad int, scale float64) Seq {
	sl := row + pad
	sb := l*sl + 3*pad
	return Seq{normals(r, b*sb+row+pad, scale), sb, sl}
}

func newProblem(r *rand.Rand, s Shape, o options) *problem {
	B, L, H, P, G, N := s.B, s.L, s.H, s.P, s.G, s.N
	p := &problem{Args: Args{B: B, L: L, H: H, P: P, G: G, N: N, ChunkSize: s.ChunkSize, Algo: s.Algo}}
	p.X = seqOf(r, B, L, H*P, 5, 1)
	p.BMat = seqOf(r, B, L, G*N, 3, 1)
	p.CMat = seqOf(r, B, L, G*N, 2, 1)
	scale := o.aScale
	if scale == 0 {
		scale = 1
	}
	if !o.noDt {
		p.Dt = seqOf(r, B, L, H, 1, 1)
		if !o.softplus {
			for i, v := range p.Dt.Data {
				p.Dt.Data[i] = float32(math.Abs(float64(v))) * 0.1
			}
		} else {
			for i := range p.Dt.Data {
				p.Dt.Data[i] -= 2
			}
		}
		p.DtSoftplus = o.softplus
		if o.bias {
			p.DtBias = normals(r, H, 0.3)
			if !o.softplus {
				for i, v := range p.DtBias {
					p.DtBias[i] = float32(math.Abs(float64(v)))
				}
			}
		}
		if o.clamp {
			p.DtLo, p.DtHi = 0.02, 0.4
		}
	}
	if o.logDecay || o.noDt {
		p.LogDecay = seqOf(r, B, L, H, 2, 0.3*scale) // both signs
	} else {
		p.A = make([]float32, H)
		for i := range p.A {
			p.A[i] = -float32((1 + 15*r.Float64()) * scale)
		}
	}
	switch o.d {
	case 1:
		p.D = normals(r, H, 1)
	case 2:
		p.D = normals(r, H*P, 1)
	}
	if o.z {
		p.Z = seqOf(r, B, L, H*P, 4, 1)
	}
	states := B * H * P * N
	if o.h0 {
		p.H0 = normals(r, states, 1)
	}
	if o.seq {
		p.SeqIdx = make([]int32, B*L)
		id := int32(7)
		for i := range p.SeqIdx {
			if r.IntN(9) == 0 {
				id = int32(r.IntN(5)) - 1
			}
			p.SeqIdx[i] = id
		}
	}
	sl := H*P + 3
	sb := L*sl + 7
	p.yMem = make([]float32, B*sb+2*sl+16)
	for i := range p.yMem {
		p.yMem[i] = guard
	}
	p.Y = Seq{p.yMem[8:], sb, sl}
	if o.ht {
		p.hMem = make([]float32, states+32)
		for i := range p.hMem {
			p.hMem[i] = guard
		}
		p.HT = p.hMem[16 : 16+states : 16+states]
		if o.alias && p.H0 != nil {
			copy(p.HT, p.H0)
			p.H0 = p.HT
		}
	}
	return p
}

// reference is the recurrence in f64, from a copy of the inputs.
func reference(p *problem) (y, ht []float64) {
	a := &p.Args
	y = make([]float64, a.B*a.L*a.H*a.P)
	ht = make([]float64, a.B*a.H*a.P*a.N)
	for i, v := range a.H0 {
		ht[i] = float64(v)
	}
	el := func(s *Seq, b, t, i int) float64 { return float64(s.Data[b*s.StrideB+t*s.StrideL+i]) }
	for b := range a.B {
		for h := range a.H {
			g := h / (a.H / a.G)
			S := ht[(b*a.H+h)*a.P*a.N:][:a.P*a.N]
			for t := range a.L {
				if a.SeqIdx != nil && t > 0 && a.SeqIdx[b*a.L+t] != a.SeqIdx[b*a.L+t-1] {
					clear(S)
				}
				dt := 1.0
				if a.Dt.Data != nil {
					dt = el(&a.Dt, b, t, h)
					if a.DtBias != nil {
						dt += float64(a.DtBias[h])
					}
					if a.DtSoftplus && dt < 700 {
						dt = math.Log1p(math.Exp(dt))
					}
					if a.DtLo != 0 || a.DtHi != 0 {
						if dt < float64(a.DtLo) {
							dt = float64(a.DtLo)
						} else if dt > float64(a.DtHi) {
							dt = float64(a.DtHi)
						}
					}
				}
				var la float64
				if a.LogDecay.Data != nil {
					la = el(&a.LogDecay, b, t, h)
				} else {
					la = dt * float64(a.A[h])
				}
				decay := math.Exp(la)
				for i := range a.P {
					x := el(&a.X, b, t, h*a.P+i)
					sum := 0.0
					for n := range a.N {
						s := decay*S[i*a.N+n] + dt*x*el(&a.BMat, b, t, g*a.N+n)
						S[i*a.N+n] = s
						sum += s * el(&a.CMat, b, t, g*a.N+n)
					}
					if a.D != nil {
						d := a.D[h%len(a.D)]
						if len(a.D) == a.H*a.P {
							d = a.D[h*a.P+i]
						}
						sum += float64(d) * x
					}
					if a.Z.Data != nil {
						z := el(&a.Z, b, t, h*a.P+i)
						sum *= z / (1 + math.Exp(-z))
					}
					y[((b*a.L+t)*a.H+h)*a.P+i] = sum
				}
			}
		}
	}
	return y, ht
}

// gotY collects Y densely.
func (p *problem) gotY() []float32 {
	row := p.H * p.P
	out := make([]float32, 0, p.B*p.L*row)
	for b := range p.B {
		for t := range p.L {
			at := b*p.Y.StrideB + t*p.Y.StrideL
			out = append(out, p.Y.Data[at:at+row]...)
		}
	}
	return out
}

// checkGuards fails when anything outside Y and HT was written.
func (p *problem) checkGuards(t *testing.T) {
	t.Helper()
	written := make([]bool, len(p.yMem))
	for b := range p.B {
		for l := range p.L {
			for i := range p.H * p.P {
				written[8+b*p.Y.StrideB+l*p.Y.StrideL+i] = true
			}
		}
	}
	for i, v := range p.yMem {
		if !written[i] && v != guard {
			t.Fatalf("wrote outside y at %d: %g", i, v)
		}
	}
	if p.HT != nil {
		for i := range 16 {
			if p.hMem[i] != guard || p.hMem[len(p.hMem)-1-i] != guard {
				t.Fatalf("wrote outside the final state")
			}
		}
	}
}

// relErr is the error by norm; it is +Inf when got has a value that is not
// finite.
func relErr(got []float32, want []float64) float64 {
	var e, n float64
	for i, w := range want {
		d := float64(got[i]) - w
		e += d * d
		n += w * w
	}
	if math.IsNaN(e) {
		return math.Inf(1)
	}
	if n == 0 {
		return math.Sqrt(e)
	}
	return math.Sqrt(e / n)
}

func limit(l int) float64 { return 1e-5 * math.Sqrt(float64(max(l, 1))) }
