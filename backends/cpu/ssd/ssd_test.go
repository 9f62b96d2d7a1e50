package ssd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// eachISA runs f at every level that this machine has.
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

// worst remembers the largest error seen, for the log.
type worst struct {
	err  float64
	what string
}

func (w *worst) see(e float64, what string) {
	if e >= w.err {
		w.err, w.what = e, what
	}
}

func (w *worst) check(t *testing.T, p *problem, wantY, wantH []float64, what string) {
	t.Helper()
	if err := Run(nil, &p.Args, nil); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	p.checkGuards(t)
	e := relErr(p.gotY(), wantY)
	if p.HT != nil {
		e = max(e, relErr(p.HT, wantH))
	}
	if e > limit(p.L) {
		t.Errorf("%s: relative error %g, limit %g", what, e, limit(p.L))
	}
	w.see(e/math.Sqrt(float64(max(p.L, 1))), what)
}

func TestShapes(t *testing.T) {
	lengths := []int{0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 513}
	states := [][2]int{{24, 40}, {64, 256}, {1, 1}, {3, 5}, {64, 128}, {33, 16}}
	for _, pn := range states {
		for _, L := range lengths {
			G := []int{1, 2, 8}[L%3]
			s := Shape{B: 1 + L%2, L: L, H: G * (1 + L%2), P: pn[0], G: G, N: pn[1]}
			if L > 100 {
				s.B, s.G, s.H = 1, 2, 2
			}
			fresh := func(algo Algo) *problem {
				s.Algo = algo
				return newProblem(rand.New(rand.NewPCG(uint64(L), uint64(s.P))), s,
					options{softplus: true, bias: true, d: 1, h0: L%2 == 0, ht: true})
			}
			y, h := reference(fresh(Auto))
			eachISA(t, func(t *testing.T) {
				var w worst
				for _, algo := range []Algo{Auto, Recurrent, Chunked, Quadratic} {
					w.check(t, fresh(algo), y, h, fmt.Sprintf("%+v", s))
				}
				t.Logf("largest error/sqrt(L): %.2g at %s", w.err, w.what)
			})
		}
	}
}

func TestOptions(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		var w worst
		r := rand.New(rand.NewPCG(1, 2))
		coin := func() bool { return r.IntN(2) == 0 }
		for range 300 {
			G := 1 + r.IntN(3)
			s := Shape{
				B: r.IntN(3), L: r.IntN(80), H: G * (1 + r.IntN(3)), P: 1 + r.IntN(70), G: G, N: 1 + r.IntN(70),
				ChunkSize: r.IntN(40), Algo: Algo(r.IntN(4)),
			}
			o := options{
				softplus: coin(), bias: coin(), clamp: coin(), logDecay: coin(), noDt: r.IntN(4) == 0,
				d: r.IntN(3), z: coin(), h0: coin(), ht: coin(), alias: coin(), seq: coin(),
				aScale: []float64{0.01, 1, 30}[r.IntN(3)],
			}
			if o.logDecay || o.noDt {
				o.aScale = 1
			}
			p := newProblem(r, s, o)
			y, h := reference(p)
			w.check(t, p, y, h, fmt.Sprintf("%+v %+v", s, o))
		}
		t.Logf("largest error/sqrt(L): %.2g at %s", w.err, w.what)
	})
}

func TestEveryChunkSize(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		var w worst
		for q := 1; q <= 101; q++ {
			s := Shape{B: 1, L: 100, H: 2, P: 20, G: 1, N: 24, ChunkSize: q, Algo: Chunked}
			p := newProblem(rand.New(rand.NewPCG(3, 4)), s, options{softplus: true, h0: true, ht: true, seq: q%2 == 0, z: true})
			y, h := reference(p)
			w.check(t, p, y, h, fmt.Sprintf("Q=%d", q))
		}
		t.Logf("largest error/sqrt(L): %.2g at %s", w.err, w.what)
	})
}

// A prompt split at any point, with the state carried, equals the whole.
func TestSplit(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		s := Shape{B: 2, L: 70, H: 4, P: 40, G: 2, N: 33}
		p := newProblem(rand.New(rand.NewPCG(5, 6)), s, options{softplus: true, h0: true, ht: true, d: 2, z: true})
		y, h := reference(p)
		for _, cut := range []int{0, 1, 2, 31, 32, 33, 69, 70} {
			state := append([]float32(nil), p.H0...)
			part := p.Args
			part.H0, part.HT = state, state
			for _, r := range [][2]int{{0, cut}, {cut, s.L}} {
				part.L = r[1] - r[0]
				for _, m := range []struct{ to, from *Seq }{
					{&part.X, &p.X}, {&part.Dt, &p.Dt}, {&part.BMat, &p.BMat}, {&part.CMat, &p.CMat}, {&part.Z, &p.Z}, {&part.Y, &p.Y},
				} {
					*m.to = *m.from
					m.to.Data = m.from.Data[r[0]*m.from.StrideL:]
				}
				if err := Run(nil, &part, nil); err != nil {
					t.Fatal(err)
				}
			}
			if e := max(relErr(p.gotY(), y), relErr(state, h)); e > limit(s.L) {
				t.Errorf("cut at %d: error %g", cut, e)
			}
		}
	})
}

func TestWorkers(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		for _, s := range []Shape{
			{B: 1, L: 77, H: 24, P: 40, G: 1, N: 20},
			{B: 3, L: 40, H: 6, P: 16, G: 2, N: 16},
			{B: 2, L: 1, H: 5, P: 16, G: 5, N: 48},
			{B: 1, L: 50, H: 1, P: 100, G: 1, N: 16},
			{B: 1, L: 50, H: 1, P: 1, G: 1, N: 16},
		} {
			var first []float32
			for _, workers := range []int{1, 2, 3, 16} {
				p := newProblem(rand.New(rand.NewPCG(7, 8)), s, options{softplus: true, h0: true, ht: true, alias: true, d: 1, seq: true})
				pl := pool.New(workers)
				ws := NewWorkspace(workers, s)
				if err := Run(pl, &p.Args, ws); err != nil {
					t.Fatal(err)
				}
				pl.Close()
				got := append(p.gotY(), p.HT...)
				if first == nil {
					first = got
				}
				for i, v := range got {
					if math.Float32bits(v) != math.Float32bits(first[i]) {
						t.Fatalf("%+v: element %d differs with %d workers: %g, %g", s, i, workers, v, first[i])
					}
				}
			}
		}
	})
}

func TestAllocs(t *testing.T) {
	pl := pool.New(2)
	defer pl.Close()
	eachISA(t, func(t *testing.T) {
		for _, l := range []int{1, 100} {
			s := Shape{B: 1, L: l, H: 4, P: 40, G: 2, N: 33}
			p := newProblem(rand.New(rand.NewPCG(7, 8)), s, options{softplus: true, bias: true, clamp: true, h0: true, ht: true, d: 1, z: true, seq: true})
			ws := NewWorkspace(2, s)
			if n := testing.AllocsPerRun(20, func() {
				if err := Run(pl, &p.Args, ws); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("L=%d: %v allocations per call", l, n)
			}
		}
	})
}

func TestErrors(t *testing.T) {
	s := Shape{B: 1, L: 3, H: 4, P: 2, G: 2, N: 3}
	for name, spoil := range map[string]func(a *Args){
		"groups": func(a *Args) { a.G = 3 }, "short x": func(a *Args) { a.X.Data = a.X.Data[:4] },
		"no dt": func(a *Args) { a.Dt.Data = nil }, "A": func(a *Args) { a.A = a.A[:1] },
		"bias": func(a *Args) { a.DtBias = make([]float32, 1) }, "D": func(a *Args) { a.D = make([]float32, 3) },
		"h0": func(a *Args) { a.H0 = make([]float32, 1) }, "ht": func(a *Args) { a.HT = make([]float32, 1) },
		"seq": func(a *Args) { a.SeqIdx = make([]int32, 1) }, "limits": func(a *Args) { a.DtLo, a.DtHi = 2, 1 },
		"stride": func(a *Args) { a.Y.StrideL = -1 }, "algo": func(a *Args) { a.Algo = 9 }, "dim": func(a *Args) { a.L = -1 },
		"chunk": func(a *Args) { a.ChunkSize = -1 },
	} {
		p := newProblem(rand.New(rand.NewPCG(1, 1)), s, options{})
		spoil(&p.Args)
		if Run(nil, &p.Args, nil) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s.L = 40
	p := newProblem(rand.New(rand.NewPCG(1, 1)), s, options{})
	if Run(nil, &p.Args, NewWorkspace(1, Shape{B: 1, L: 1, H: 1, P: 1, G: 1, N: 1})) == nil {
		t.Error("small workspace accepted")
	}
}
