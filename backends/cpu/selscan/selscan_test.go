package selscan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

const guard = 1234.5

func eachISA(t *testing.T, f func(t *testing.T)) {
	was := isa.Level()
	defer isa.Force(was)
	for i := isa.Portable; i <= min(isa.Best(), isa.AVX512); i++ {
		if err := isa.Force(i); err != nil {
			t.Fatal(err)
		}
		t.Run(i.String(), f)
	}
}

func normals(r *rand.Rand, n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * scale)
	}
	return v
}

func seqOf(r *rand.Rand, b, l, row, pad int, scale float64) Seq {
	sl := row + pad
	sb := l*sl + 3*pad
	return Seq{normals(r, b*sb+row+pad, scale), sb, sl}
}

func guarded(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = guard
	}
	return v
}

// checkGuards fails when mem, of which s starts at element 8, was written
// outside the rows of s.
func checkGuards(t *testing.T, mem []float32, s *Seq, b, l, row int) {
	t.Helper()
	written := make([]bool, len(mem))
	for i := range b {
		for j := range l {
			for k := range row {
				written[8+i*s.StrideB+j*s.StrideL+k] = true
			}
		}
	}
	for i, v := range mem {
		if !written[i] && v != guard {
			t.Fatalf("wrote outside y at %d: %g", i, v)
		}
	}
}

func dense(s *Seq, b, l, row int) []float32 {
	var out []float32
	for i := range b {
		for j := range l {
			at := i*s.StrideB + j*s.StrideL
			out = append(out, s.Data[at:at+row]...)
		}
	}
	return out
}

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

type options struct {
	softplus, bias, clamp, logDecay, noDt, skip, z, h0, ht, alias bool
}

type problem struct {
	Args
	yMem, hMem []float32
}

func newProblem(r *rand.Rand, s Shape, o options) *problem {
	p := &problem{Args: Args{B: s.B, L: s.L, D: s.D, N: s.N}}
	p.U = seqOf(r, s.B, s.L, s.D, 3, 1)
	p.BMat = seqOf(r, s.B, s.L, s.N, 2, 1)
	p.CMat = seqOf(r, s.B, s.L, s.N, 1, 1)
	if !o.noDt {
		p.Dt = seqOf(r, s.B, s.L, s.D, 1, 1)
		for i, v := range p.Dt.Data {
			if o.softplus {
				p.Dt.Data[i] = v - 2
			} else {
				p.Dt.Data[i] = float32(math.Abs(float64(v))) * 0.1
			}
		}
		p.DtSoftplus = o.softplus
		if o.bias {
			p.DtBias = normals(r, s.D, 0.1)
			for i, v := range p.DtBias { // a negative dt would let the state grow without bound
				p.DtBias[i] = float32(math.Abs(float64(v)))
			}
		}
		if o.clamp {
			p.DtLo, p.DtHi = 0.02, 0.4
		}
	}
	if o.logDecay || o.noDt {
		p.LogDecay = seqOf(r, s.B, s.L, s.D*s.N, 2, 0.3)
	} else {
		p.A = make([]float32, s.D*s.N)
		for i := range p.A {
			p.A[i] = -float32(0.5 + 16*r.Float64())
		}
	}
	if o.skip {
		p.Skip = normals(r, s.D, 1)
	}
	if o.z {
		p.Z = seqOf(r, s.B, s.L, s.D, 4, 1)
	}
	states := s.B * s.D * s.N
	if o.h0 {
		p.H0 = normals(r, states, 1)
	}
	sl := s.D + 3
	sb := s.L*sl + 7
	p.yMem = guarded(s.B*sb + 2*sl + 16)
	p.Y = Seq{p.yMem[8:], sb, sl}
	if o.ht {
		p.hMem = guarded(states + 32)
		p.HT = p.hMem[16 : 16+states : 16+states]
		if o.alias && p.H0 != nil {
			copy(p.HT, p.H0)
			p.H0 = p.HT
		}
	}
	return p
}

// reference is the definition in f64.
func reference(p *problem) (y, ht []float64) {
	a := &p.Args
	y = make([]float64, a.B*a.L*a.D)
	ht = make([]float64, a.B*a.D*a.N)
	for i, v := range a.H0 {
		ht[i] = float64(v)
	}
	el := func(s *Seq, b, t, i int) float64 { return float64(s.Data[b*s.StrideB+t*s.StrideL+i]) }
	for b := range a.B {
		for d := range a.D {
			h := ht[(b*a.D+d)*a.N:][:a.N]
			for t := range a.L {
				dt := 1.0
				if a.Dt.Data != nil {
					dt = el(&a.Dt, b, t, d)
					if a.DtBias != nil {
						dt += float64(a.DtBias[d])
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
				u, sum := el(&a.U, b, t, d), 0.0
				for n := range a.N {
					var la float64
					if a.LogDecay.Data != nil {
						la = el(&a.LogDecay, b, t, d*a.N+n)
					} else {
						la = dt * float64(a.A[d*a.N+n])
					}
					h[n] = math.Exp(la)*h[n] + dt*u*el(&a.BMat, b, t, n)
					sum += h[n] * el(&a.CMat, b, t, n)
				}
				if a.Skip != nil {
					sum += float64(a.Skip[d]) * u
				}
				if a.Z.Data != nil {
					z := el(&a.Z, b, t, d)
					sum *= z / (1 + math.Exp(-z))
				}
				y[(b*a.L+t)*a.D+d] = sum
			}
		}
	}
	return y, ht
}

func (p *problem) run(t *testing.T, what string) float64 {
	t.Helper()
	wantY, wantH := reference(p)
	if err := Run(nil, &p.Args, nil); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	checkGuards(t, p.yMem, &p.Y, p.B, p.L, p.D)
	e := relErr(dense(&p.Y, p.B, p.L, p.D), wantY)
	if p.HT != nil {
		e = max(e, relErr(p.HT, wantH))
		for i := range 16 {
			if p.hMem[i] != guard || p.hMem[len(p.hMem)-1-i] != guard {
				t.Fatalf("%s: wrote outside the final state", what)
			}
		}
	}
	if e > limit(p.L) {
		t.Errorf("%s: relative error %g, limit %g", what, e, limit(p.L))
	}
	return e / math.Sqrt(float64(max(p.L, 1)))
}

func TestShapes(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		worst := 0.0
		for _, D := range []int{1, 3, 15, 16, 17, 64, 65, 130} {
			for _, N := range []int{1, 2, 5, 8, 16, 17, 40, 64} {
				for _, L := range []int{0, 1, 2, 3, 31, 32, 33, 100} {
					s := Shape{B: 1 + L%2, L: L, D: D, N: N}
					p := newProblem(rand.New(rand.NewPCG(uint64(L), uint64(D))), s,
						options{softplus: true, bias: true, skip: true, z: true, h0: L%2 == 1, ht: true})
					worst = max(worst, p.run(t, fmt.Sprintf("%+v", s)))
				}
			}
		}
		t.Logf("largest error/sqrt(L): %.2g", worst)
	})
}

func TestOptions(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		coin := func() bool { return r.IntN(2) == 0 }
		worst := 0.0
		for range 400 {
			s := Shape{B: r.IntN(3), L: r.IntN(50), D: 1 + r.IntN(90), N: r.IntN(34)}
			if coin() {
				s.L = r.IntN(4)
			}
			o := options{coin(), coin(), coin(), coin(), r.IntN(4) == 0, coin(), coin(), coin(), coin(), coin()}
			worst = max(worst, newProblem(r, s, o).run(t, fmt.Sprintf("%+v %+v", s, o)))
		}
		t.Logf("largest error/sqrt(L): %.2g", worst)
	})
}

// dt and A far out: the exponential saturates to 0 or +Inf and stays exact
// around its limits.
func TestExtremes(t *testing.T) {
	inf := float32(math.Inf(1))
	eachISA(t, func(t *testing.T) {
		for _, L := range []int{1, 10} {
			for _, la := range []float32{-inf, -1e30, -1e4, -150, -104, -103, -88, -87, -1e-8, 0, 1e-8, 3} {
				p := newProblem(rand.New(rand.NewPCG(3, 3)), Shape{B: 1, L: L, D: 20, N: 5}, options{h0: true, ht: true})
				for i := range p.A {
					if i%3 == 0 {
						p.A[i] = la
					}
				}
				for i := range p.Dt.Data {
					p.Dt.Data[i] = 1
				}
				p.run(t, fmt.Sprintf("L=%d a=%g", L, la))
			}
			// exp overflows to +Inf, a NaN stays one, and both stay in their channel.
			p := newProblem(rand.New(rand.NewPCG(3, 3)), Shape{B: 1, L: L, D: 20, N: 5}, options{h0: true, ht: true})
			at := L - 1
			p.Dt.Data[at*p.Dt.StrideL+2] = -inf
			p.U.Data[at*p.U.StrideL+7] = float32(math.NaN())
			p.Dt.Data[at*p.Dt.StrideL+9] = inf
			y, h := reference(p)
			if err := Run(nil, &p.Args, nil); err != nil {
				t.Fatal(err)
			}
			same := func(what string, got []float32, want []float64) {
				for i, w := range want {
					g := float64(got[i])
					if math.IsNaN(w) != math.IsNaN(g) || math.IsInf(w, 0) != math.IsInf(g, 0) {
						t.Errorf("L=%d %s[%d] = %g, want %g", L, what, i, g, w)
					}
				}
			}
			same("y", dense(&p.Y, 1, L, 20), y)
			same("h", p.HT, h)
		}
	})
}

func TestWorkersAndAllocs(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		for _, L := range []int{1, 2, 40} {
			s := Shape{B: 2, L: L, D: 300, N: 16}
			var first []float32
			for _, workers := range []int{1, 2, 3, 16} {
				p := newProblem(rand.New(rand.NewPCG(4, 4)), s, options{softplus: true, bias: true, clamp: true, skip: true, z: true, h0: true, ht: true})
				pl, ws := pool.New(workers), NewWorkspace(workers, s)
				if n := testing.AllocsPerRun(3, func() {
					if err := Run(pl, &p.Args, ws); err != nil {
						t.Fatal(err)
					}
				}); n != 0 {
					t.Errorf("%d workers: %v allocations", workers, n)
				}
				pl.Close()
				got := append(dense(&p.Y, p.B, p.L, p.D), p.HT...)
				if first == nil {
					first = got
				}
				for i, v := range got {
					if math.Float32bits(v) != math.Float32bits(first[i]) {
						t.Fatalf("element %d differs with %d workers", i, workers)
					}
				}
			}
		}
	})
}

func TestSplit(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		s := Shape{B: 2, L: 50, D: 33, N: 7}
		p := newProblem(rand.New(rand.NewPCG(5, 5)), s, options{softplus: true, h0: true, ht: true, skip: true})
		y, h := reference(p)
		for _, cut := range []int{0, 1, 2, 31, 32, 49, 50} {
			state := append([]float32(nil), p.H0...)
			for _, r := range [][2]int{{0, cut}, {cut, s.L}} {
				part := p.Args
				part.H0, part.HT, part.L = state, state, r[1]-r[0]
				for _, q := range []*Seq{&part.U, &part.Dt, &part.BMat, &part.CMat, &part.Y} {
					q.Data = q.Data[r[0]*q.StrideL:]
				}
				if err := Run(nil, &part, nil); err != nil {
					t.Fatal(err)
				}
			}
			if e := max(relErr(dense(&p.Y, s.B, s.L, s.D), y), relErr(state, h)); e > limit(s.L) {
				t.Errorf("cut at %d: error %g", cut, e)
			}
		}
	})
}

func TestLinear(t *testing.T) {
	pl := pool.New(3)
	defer pl.Close()
	eachISA(t, func(t *testing.T) {
		ws := NewLinWorkspace(3)
		for _, C := range []int{0, 1, 7, 63, 64, 65, 200} {
			for _, L := range []int{0, 1, 2, 50} {
				for o := range 4 {
					r := rand.New(rand.NewPCG(uint64(C), uint64(L)))
					B := 2
					a := LinArgs{B: B, L: L, C: C, A: seqOf(r, B, L, C, 3, 0.7), U: seqOf(r, B, L, C, 1, 1)}
					sl := C + 3
					mem := guarded(B*(L*sl+5) + sl + 16)
					a.Y = Seq{mem[8:], L*sl + 5, sl}
					h := make([]float64, B*C)
					if o&1 != 0 {
						a.H0 = normals(r, B*C, 1)
						for i, v := range a.H0 {
							h[i] = float64(v)
						}
					}
					if o&2 != 0 {
						a.HT = make([]float32, B*C)
					}
					var want []float64
					for b := range B {
						for t := range L {
							for i := range C {
								v := float64(a.A.Data[b*a.A.StrideB+t*a.A.StrideL+i])*h[b*C+i] + float64(a.U.Data[b*a.U.StrideB+t*a.U.StrideL+i])
								h[b*C+i] = v
								want = append(want, v)
							}
						}
					}
					if n := testing.AllocsPerRun(2, func() {
						if err := RunLinear(pl, &a, ws); err != nil {
							t.Fatal(err)
						}
					}); n != 0 {
						t.Errorf("%v allocations", n)
					}
					checkGuards(t, mem, &a.Y, B, L, C)
					e := relErr(dense(&a.Y, B, L, C), want)
					if a.HT != nil {
						e = max(e, relErr(a.HT, h))
					}
					if e > limit(L) {
						t.Errorf("C=%d L=%d: error %g", C, L, e)
					}
				}
			}
		}
	})
}

func TestErrors(t *testing.T) {
	for name, spoil := range map[string]func(a *Args){
		"short u": func(a *Args) { a.U.Data = a.U.Data[:2] }, "no dt": func(a *Args) { a.Dt.Data = nil },
		"A": func(a *Args) { a.A = a.A[1:] }, "bias": func(a *Args) { a.DtBias = make([]float32, 1) },
		"skip": func(a *Args) { a.Skip = make([]float32, 1) }, "h0": func(a *Args) { a.H0 = make([]float32, 1) },
		"ht": func(a *Args) { a.HT = make([]float32, 1) }, "limits": func(a *Args) { a.DtLo = 1 },
		"stride": func(a *Args) { a.Y.StrideB = -1 }, "dim": func(a *Args) { a.N = -1 },
	} {
		p := newProblem(rand.New(rand.NewPCG(1, 1)), Shape{1, 3, 4, 5}, options{})
		spoil(&p.Args)
		if Run(nil, &p.Args, nil) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
