package ssd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var (
	nan = float32(math.NaN())
	inf = float32(math.Inf(1))
)

// A value that is not finite in any operand at step t must leave every earlier
// output as it was, bit for bit, and reach the outputs that the recurrence says.
func TestNotFiniteStaysCausal(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		for _, algo := range []Algo{Recurrent, Chunked, Quadratic} {
			for _, bad := range []float32{nan, inf, -inf} {
				for _, at := range []int{0, 1, 7, 8, 30, 31, 32, 50} {
					for _, which := range []string{"x", "B", "C", "dt"} {
						s := Shape{B: 1, L: 60, H: 2, P: 33, G: 1, N: 17, Algo: algo}
						o := options{h0: true, d: 1, ht: true}
						clean := newProblem(rand.New(rand.NewPCG(9, 1)), s, o)
						dirty := newProblem(rand.New(rand.NewPCG(9, 1)), s, o)
						sq := map[string]*Seq{"x": &dirty.X, "B": &dirty.BMat, "C": &dirty.CMat, "dt": &dirty.Dt}[which]
						sq.Data[at*sq.StrideL] = bad
						for _, p := range []*problem{clean, dirty} {
							if err := Run(nil, &p.Args, nil); err != nil {
								t.Fatal(err)
							}
							p.checkGuards(t)
						}
						a, b := clean.gotY(), dirty.gotY()
						for i := range at * s.H * s.P {
							if a[i] != b[i] {
								t.Fatalf("%v %s=%g at %d: earlier output %d changed from %g to %g", algo, which, bad, at, i, a[i], b[i])
							}
						}
						want, _ := reference(dirty)
						for i, w := range want {
							if math.IsNaN(w) && !math.IsNaN(float64(b[i])) && !math.IsInf(float64(b[i]), 0) {
								t.Fatalf("%v %s=%g at %d: output %d is %g, recurrence gives %g", algo, which, bad, at, i, b[i], w)
							}
						}
					}
				}
			}
		}
	})
}

// A sequence that ends in NaN does not touch the next one.
func TestResetDropsNaN(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		for _, algo := range []Algo{Recurrent, Chunked} {
			s := Shape{B: 1, L: 40, H: 1, P: 8, G: 1, N: 8, Algo: algo}
			p := newProblem(rand.New(rand.NewPCG(2, 1)), s, options{h0: true, ht: true})
			p.SeqIdx = make([]int32, 40)
			for i := 13; i < 40; i++ {
				p.SeqIdx[i] = 1
			}
			p.X.Data[5*p.X.StrideL] = nan
			p.H0[3] = inf
			y, h := reference(p)
			if err := Run(nil, &p.Args, nil); err != nil {
				t.Fatal(err)
			}
			if e := max(relErr(p.gotY()[13*8:], y[13*8:]), relErr(p.HT, h)); e > limit(27) {
				t.Errorf("%v: error %g", algo, e)
			}
		}
	})
}

// Strong decay forgets everything but the current step; no decay forgets
// nothing; a huge step in between must not cost the digits of later ones.
func TestExtremeDecay(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		for _, a := range []float32{-1e30, -inf, -3e4, -104, -1e-8, 0} {
			for _, algo := range []Algo{Recurrent, Chunked, Quadratic} {
				var w worst
				s := Shape{B: 1, L: 70, H: 1, P: 12, G: 1, N: 9, Algo: algo}
				for _, every := range []int{1, 10} {
					p := newProblem(rand.New(rand.NewPCG(2, 1)), s, options{noDt: true, ht: true, h0: true})
					for i := 0; i < 70; i++ {
						v := &p.LogDecay.Data[i*p.LogDecay.StrideL]
						*v = -float32(math.Abs(float64(*v)))
						if i%every == 0 {
							*v = a
						}
					}
					y, h := reference(p)
					w.check(t, p, y, h, fmt.Sprintf("%v a=%g every %d", algo, a, every))
				}
			}
		}
	})
}

// dt far out on both sides: softplus is the identity above and exp below.
func TestExtremeDt(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		for _, v := range []float32{1e4, 100, 21, 19.9, -17, -40, -87, -100, -1e4} {
			for _, algo := range []Algo{Recurrent, Chunked} {
				var w worst
				s := Shape{B: 1, L: 40, H: 2, P: 5, G: 1, N: 9, Algo: algo}
				p := newProblem(rand.New(rand.NewPCG(2, 1)), s, options{softplus: true, ht: true, h0: true})
				for i := range p.Dt.Data {
					if i%3 == 0 {
						p.Dt.Data[i] = v
					}
				}
				y, h := reference(p)
				w.check(t, p, y, h, fmt.Sprintf("%v dt=%g", algo, v))
			}
		}
	})
}
