package linattn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// reference is the definition in float64.
func reference(a *Args) (o, st []float64) {
	o, st = make([]float64, a.B*a.T*a.HQ*a.DV), make([]float64, a.B*a.HKV*a.DK*a.DV)
	for i, v := range a.S0 {
		st[i] = float64(v)
	}
	group := a.HQ / a.HKV
	for b := range a.B {
		for h := range a.HKV {
			s := st[(b*a.HKV+h)*a.DK*a.DV:][:a.DK*a.DV]
			for t := range a.T {
				k, v := a.K.at(b, t)[h*a.DK:], a.V.at(b, t)[h*a.DV:]
				w := make([]float64, a.DV)
				for m := range w {
					w[m] = float64(v[m])
				}
				for d := range a.DK {
					if a.Decay.Data == nil {
						break
					}
					g := 0.0
					if a.PerKey {
						g = float64(a.Decay.at(b, t)[h*a.DK+d])
					} else {
						g = float64(a.Decay.at(b, t)[h])
					}
					for m := range w {
						s[d*a.DV+m] *= math.Exp(g)
					}
				}
				if a.Beta.Data != nil {
					beta := a.Beta.at(b, t)[0]
					if !a.BetaShared {
						beta = a.Beta.at(b, t)[h]
					}
					for m := range w {
						for d := range a.DK {
							w[m] -= s[d*a.DV+m] * float64(k[d])
						}
						w[m] *= float64(beta)
					}
				}
				for d := range a.DK {
					for m := range w {
						s[d*a.DV+m] += float64(k[d]) * w[m]
					}
				}
				for g := range group {
					q := a.Q.at(b, t)[(h*group+g)*a.DK:]
					for m := range a.DV {
						sum := 0.0
						for d := range a.DK {
							sum += float64(q[d]) * s[d*a.DV+m]
						}
						o[((b*a.T+t)*a.HQ+h*group+g)*a.DV+m] = sum * float64(a.Scale)
					}
				}
			}
		}
	}
	return o, st
}

type shape struct{ B, T, HQ, HKV, DK, DV int }

// random makes operands as models have them: keys of length one, beta in (0,1),
// decays around strength.
func random(s shape, rule string, strength float64, perKey bool, seed uint64) *Args {
	r := rand.New(rand.NewPCG(seed, 7))
	fill := func(n int, f func() float64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(f())
		}
		return v
	}
	seq := func(row int, f func() float64) Seq {
		return Seq{Data: fill(s.B*s.T*row, f), StrideB: s.T * row, StrideT: row}
	}
	a := &Args{B: s.B, T: s.T, HQ: s.HQ, HKV: s.HKV, DK: s.DK, DV: s.DV, Scale: float32(1 / math.Sqrt(float64(s.DK))), PerKey: perKey,
		Q: seq(s.HQ*s.DK, r.NormFloat64), K: seq(s.HKV*s.DK, r.NormFloat64), V: seq(s.HKV*s.DV, r.NormFloat64), O: seq(s.HQ*s.DV, func() float64 { return math.NaN() })}
	for i := 0; i < len(a.K.Data); i += s.DK {
		sum := 0.0
		for _, v := range a.K.Data[i : i+s.DK] {
			sum += float64(v) * float64(v)
		}
		for j := range s.DK {
			a.K.Data[i+j] /= float32(math.Sqrt(sum))
		}
	}
	if rule == "gated" || rule == "gated_delta" {
		n := s.HKV
		if perKey {
			n *= s.DK
		}
		a.Decay = seq(n, func() float64 { return -strength * r.Float64() })
	}
	if rule == "delta" || rule == "gated_delta" {
		a.Beta = seq(s.HKV, r.Float64)
	}
	a.S0 = fill(s.B*s.HKV*s.DK*s.DV, r.NormFloat64)
	a.ST = make([]float32, len(a.S0))
	return a
}

func run(t testing.TB, a *Args, workers int) {
	t.Helper()
	p := pool.New(workers)
	defer p.Close()
	if err := Run(p, a, NewWorkspace(workers, a.Shape())); err != nil {
		t.Fatal(err)
	}
}

// far is the largest error relative to the largest value.
func far(got []float32, want []float64) float64 {
	worst, top := 0.0, 0.0
	for i, w := range want {
		d := math.Abs(float64(got[i]) - w)
		if !(d <= worst) {
			worst = d
		}
		top = max(top, math.Abs(w))
	}
	return worst / max(top, 1e-30)
}

var shapes = []shape{{1, 1, 2, 2, 16, 8}, {2, 7, 2, 1, 5, 3}, {1, 64, 4, 4, 128, 64}, {2, 100, 6, 2, 32, 40}, {1, 130, 8, 8, 64, 64}, {1, 33, 1, 1, 24, 72}}

func TestAgainstDefinition(t *testing.T) {
	was := isa.Current()
	defer func() { _ = isa.Force(was) }()
	for level := isa.Portable; level <= isa.Best(); level++ {
		if err := isa.Force(level); err != nil {
			t.Fatal(err)
		}
		t.Run(level.String(), func(t *testing.T) {
			for _, s := range shapes {
				for _, rule := range []string{"linear", "gated", "delta", "gated_delta"} {
					for _, perKey := range []bool{false, true} {
						for _, strength := range []float64{0.1, 3, 200} {
							if rule != "gated" && rule != "gated_delta" && (perKey || strength != 3) {
								continue
							}
							a := random(s, rule, strength, perKey, 1)
							o, st := reference(a)
							run(t, a, 2)
							if e := max(far(a.O.Data, o), far(a.ST, st)); !(e < 3e-6) {
								t.Errorf("%v %s, per key %v, decay %v: error %.2g", s, rule, perKey, strength, e)
							}
						}
					}
				}
			}
		})
	}
}

// TestLaws: any number of workers, and a cut sequence with the state carried in
// place, give the same bits; decays of -Inf forget.
func TestLaws(t *testing.T) {
	for _, rule := range []string{"gated", "gated_delta"} {
		for _, perKey := range []bool{false, true} {
			s := shape{1, 90, 4, 2, 16, 72}
			a := random(s, rule, 0.5, perKey, 3)
			a.Decay.Data[40*a.Decay.StrideT] = float32(math.Inf(-1))
			o, st := reference(a)
			run(t, a, 1)
			first := append([]float32{}, a.O.Data...)
			run(t, a, 2)
			if e := max(far(a.O.Data, o), far(a.ST, st)); !(e < 3e-6) {
				t.Errorf("%s: error %.2g", rule, e)
			}
			for i, v := range first {
				if a.O.Data[i] != v {
					t.Fatalf("%s: output %d depends on the number of workers", rule, i)
				}
			}
			cut := *a
			cut.ST = append([]float32{}, a.S0...)
			cut.S0 = cut.ST
			for at := 0; at < a.T; at += 3 {
				part := cut
				part.T = 3
				for _, q := range []*Seq{&part.Q, &part.K, &part.V, &part.O, &part.Decay, &part.Beta} {
					if q.Data != nil {
						q.Data = q.Data[at*q.StrideT:]
					}
				}
				run(t, &part, 2)
			}
			if !slices.Equal(a.O.Data, first) || !slices.Equal(cut.ST, a.ST) {
				t.Errorf("%s: differs when taken three steps at a time", rule)
			}
		}
	}
}

// TestNaNStaysBehind: a NaN or Inf at step t reaches no earlier output.
func TestNaNStaysBehind(t *testing.T) {
	for _, rule := range []string{"linear", "gated_delta"} {
		for _, bad := range []float64{math.NaN(), math.Inf(1)} {
			for operand := range 3 {
				a := random(shape{1, 80, 2, 1, 16, 40}, rule, 0.5, false, 5)
				seq := []*Seq{&a.Q, &a.K, &a.V}[operand]
				seq.Data[50*seq.StrideT+1] = float32(bad)
				o, _ := reference(a)
				run(t, a, 2)
				if e := far(a.O.Data[:50*a.O.StrideT], o[:50*a.O.StrideT]); !(e < 3e-6) {
					t.Errorf("%s, %v in operand %d: error %.2g before it", rule, bad, operand, e)
				}
				for i, w := range o {
					if math.IsNaN(w) != math.IsNaN(float64(a.O.Data[i])) {
						t.Fatalf("%s, %v in operand %d: output %d is %v, want %v", rule, bad, operand, i, a.O.Data[i], w)
					}
				}
			}
		}
	}
}

func TestAllocatesNothing(t *testing.T) {
	a := random(shape{1, 70, 2, 2, 32, 32}, "gated_delta", 0.5, false, 1)
	p := pool.New(1)
	defer p.Close()
	ws := NewWorkspace(1, a.Shape())
	if n := testing.AllocsPerRun(5, func() { _ = Run(p, a, ws) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCheck(t *testing.T) {
	a := random(shape{1, 4, 2, 2, 8, 8}, "gated_delta", 1, false, 1)
	a.V.Data = a.V.Data[:5]
	if err := a.Check(); err == nil {
		t.Error("a short operand passes")
	}
	a = random(shape{1, 4, 3, 2, 8, 8}, "linear", 1, false, 1)
	if err := a.Check(); err == nil {
		t.Error("3 query heads over 2")
	}
}

func BenchmarkRun(b *testing.B) {
	for _, T := range []int{1, 512, 2048} {
		for _, c := range []struct {
			rule   string
			perKey bool
		}{{"linear", false}, {"gated", false}, {"gated", true}, {"delta", false}, {"gated_delta", false}, {"gated_delta", true}} {
			b.Run(fmt.Sprintf("T=%d/%s/perkey=%v", T, c.rule, c.perKey), func(b *testing.B) {
				a := random(shape{1, T, 24, 24, 128, 64}, c.rule, 0.1, c.perKey, 1)
				p := pool.New(2)
				defer p.Close()
				ws := NewWorkspace(2, a.Shape())
				for b.Loop() {
					if err := Run(p, a, ws); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
