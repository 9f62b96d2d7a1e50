package attention

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

func forEachISA(t *testing.T, f func(t *testing.T)) {
	was := isa.Current()
	defer func() { _ = isa.Force(was) }()
	for level := isa.Portable; level <= isa.Best(); level++ {
		if err := isa.Force(level); err != nil {
			t.Fatal(err)
		}
		t.Run(level.String(), f)
	}
}

func random(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// call is a case of the tests: args without data, and what shapes the mask.
type call struct {
	name   string
	a      Args
	packed bool // heads lie side by side, [B,S,H*d]
	mask   string
}

func (c *call) make(rng *rand.Rand) *Args {
	a := c.a
	operand := func(h, s, d int) Heads {
		x := Heads{Data: random(rng, a.B*h*s*d), StrideB: h * s * d, StrideH: s * d, StrideS: d}
		if c.packed {
			x.StrideH, x.StrideS = d, h*d
		}
		return x
	}
	a.Q, a.K, a.V, a.O = operand(a.HQ, a.S, a.D), operand(a.HKV, a.T, a.D), operand(a.HKV, a.T, a.DV), operand(a.HQ, a.S, a.DV)
	if a.Scale == 0 {
		a.Scale = float32(1 / math.Sqrt(float64(max(a.D, 1))))
	}
	full := Mask{StrideB: a.HQ * a.S * a.T, StrideH: a.S * a.T, StrideS: a.T, StrideT: 1, Len: a.T}
	switch c.mask {
	case "float":
		a.Mask = full
		a.Mask.F = random(rng, a.B*a.HQ*a.S*a.T)
	case "bool":
		a.Mask = full
		a.Mask.Bool = make([]byte, a.B*a.HQ*a.S*a.T)
		for i := range a.Mask.Bool {
			a.Mask.Bool[i] = byte(rng.IntN(2))
		}
	case "short":
		a.Mask = Mask{StrideS: a.T / 2, StrideT: 1, Len: a.T / 2, F: random(rng, a.S*(a.T/2))}
	case "causal", "causal-inf", "causal-bool":
		a.Mask = Mask{StrideS: a.T, StrideT: 1, Len: a.T}
		f, b := make([]float32, a.S*a.T), make([]byte, a.S*a.T)
		for s := range a.S {
			for t := range a.T {
				switch {
				case t <= s+a.T-a.S:
					b[s*a.T+t] = 1
				case c.mask == "causal":
					f[s*a.T+t] = -math.MaxFloat32
				default:
					f[s*a.T+t] = negInf
				}
			}
		}
		if c.mask == "causal-bool" {
			a.Mask.Bool = b
		} else {
			a.Mask.F = f
		}
	case "padding":
		a.Mask = Mask{StrideB: a.T, StrideT: 1, Len: a.T, F: make([]float32, a.B*a.T)}
		for b := range a.B {
			for t := a.T * (b + 1) / (a.B + 1); t < a.T; t++ {
				a.Mask.F[b*a.T+t] = -math.MaxFloat32
			}
		}
	case "all hidden": // by a finite number: every key counts alike
		a.Mask = Mask{StrideS: a.T, StrideT: 1, Len: a.T, F: make([]float32, a.S*a.T)}
		for i := range a.Mask.F {
			a.Mask.F[i] = -math.MaxFloat32
		}
	case "row":
		a.Mask = Mask{StrideS: 1, Len: a.T, F: random(rng, a.S)}
	}
	return &a
}

// reference is the definition in float64, and the largest magnitude of a result.
func reference(a *Args) []float64 {
	out := make([]float64, len(a.O.Data))
	for b := range a.B {
		for h := range a.HQ {
			kv := h / (a.HQ / a.HKV)
			for s := range a.S {
				lo, hi := a.sees(b, s)
				p := make([]float64, a.T)
				top, sum := math.Inf(-1), 0.0
				for t := range p {
					p[t] = math.Inf(-1)
					if t < lo || t >= hi {
						continue
					}
					x := 0.0
					for i := range a.D {
						x += float64(a.Q.at(b, h, s)[i]) * float64(a.K.at(b, kv, t)[i])
					}
					x *= float64(a.Scale)
					if c := float64(a.Softcap); c > 0 {
						x = c * math.Tanh(x/c)
					}
					at := a.Mask.at(b, h, s) + t*a.Mask.StrideT
					switch {
					case a.Mask.F != nil && a.Mask.F[at] == -math.MaxFloat32: // what float32 makes of it
						x = -math.MaxFloat32
					case a.Mask.F != nil:
						x += float64(a.Mask.F[at])
					case a.Mask.Bool != nil && a.Mask.Bool[at] == 0:
						x = math.Inf(-1)
					}
					p[t], top = x, max(top, x)
				}
				if math.IsInf(top, -1) {
					continue
				}
				for t := range p {
					p[t] = math.Exp(p[t] - top)
					sum += p[t]
				}
				at := b*a.O.StrideB + h*a.O.StrideH + s*a.O.StrideS
				for t, w := range p {
					if w == 0 {
						continue
					}
					for i := range a.DV {
						out[at+i] += w / sum * float64(a.V.at(b, kv, t)[i])
					}
				}
			}
		}
	}
	return out
}

func compute(t *testing.T, p *pool.Pool, a *Args) []float32 {
	t.Helper()
	s := a.Shape()
	ws := NewWorkspace(p.Workers(), s)
	ws.Packed, ws.Flags = make([]float32, s.PackSize()), make([]byte, s.FlagSize())
	for i := range ws.Packed {
		ws.Packed[i] = float32(math.NaN()) // what is read must have been written
	}
	for i := range a.O.Data {
		a.O.Data[i] = float32(math.NaN())
	}
	if err := Run(p, a, ws); err != nil {
		t.Fatal(err)
	}
	return append([]float32{}, a.O.Data...)
}

func none(a Args) Args { a.Left, a.Right = -1, -1; return a }

var calls = []call{
	{name: "one key", a: none(Args{B: 1, HQ: 1, HKV: 1, S: 1, T: 1, D: 4, DV: 4})},
	{name: "odd sizes", a: none(Args{B: 2, HQ: 3, HKV: 3, S: 37, T: 141, D: 13, DV: 37}), mask: "float"},
	{name: "no features", a: none(Args{B: 1, HQ: 1, HKV: 1, S: 9, T: 40, D: 0, DV: 5})},
	{name: "no keys", a: none(Args{B: 1, HQ: 2, HKV: 1, S: 9, T: 0, D: 8, DV: 5})},
	{name: "long", a: none(Args{B: 1, HQ: 2, HKV: 2, S: 300, T: 300, D: 64, DV: 64}), packed: true, mask: "causal"},
	{name: "long, infinite", a: none(Args{B: 1, HQ: 2, HKV: 1, S: 200, T: 333, D: 64, DV: 32}), mask: "causal-inf"},
	{name: "long, Boolean", a: none(Args{B: 2, HQ: 2, HKV: 1, S: 200, T: 333, D: 32, DV: 64}), mask: "causal-bool"},
	{name: "causal", a: Args{B: 2, HQ: 4, HKV: 2, S: 150, T: 290, D: 32, DV: 32, Causal: true, Offset: 140, Left: -1, Right: -1}, packed: true},
	{name: "window", a: Args{B: 1, HQ: 2, HKV: 2, S: 400, T: 400, D: 16, DV: 16, Causal: true, Left: 70, Right: -1}},
	{name: "two-sided window", a: Args{B: 1, HQ: 1, HKV: 1, S: 300, T: 300, D: 16, DV: 16, Left: 3, Right: 140}},
	{name: "padding", a: none(Args{B: 3, HQ: 2, HKV: 2, S: 100, T: 260, D: 24, DV: 24}), mask: "padding", packed: true},
	{name: "some seen", a: none(Args{B: 2, HQ: 2, HKV: 2, S: 33, T: 65, D: 8, DV: 8}), mask: "bool"},
	{name: "all hidden", a: none(Args{B: 1, HQ: 1, HKV: 1, S: 80, T: 300, D: 8, DV: 8}), mask: "all hidden"},
	{name: "mask ends early", a: none(Args{B: 1, HQ: 2, HKV: 2, S: 20, T: 300, D: 8, DV: 8}), mask: "short"},
	{name: "mask by row", a: none(Args{B: 1, HQ: 2, HKV: 2, S: 80, T: 300, D: 8, DV: 8}), mask: "row"},
	{name: "softcap", a: none(Args{B: 1, HQ: 2, HKV: 2, S: 80, T: 140, D: 8, DV: 8, Softcap: 2})},
	{name: "lengths", a: Args{B: 3, HQ: 2, HKV: 1, S: 40, T: 200, D: 8, DV: 8, Causal: true, Valid: []int{0, 60, 200}, Offsets: []int{-40, 20, 160}, Left: -1, Right: -1}},
	{name: "decode", a: none(Args{B: 2, HQ: 4, HKV: 4, S: 1, T: 300, D: 64, DV: 64}), mask: "padding"},
	{name: "decode, shared keys", a: Args{B: 1, HQ: 8, HKV: 2, S: 1, T: 301, D: 64, DV: 48, Causal: true, Offset: 300, Left: -1, Right: -1}},
	{name: "a few at once", a: Args{B: 1, HQ: 2, HKV: 1, S: 2, T: 301, D: 20, DV: 36, Causal: true, Offset: 299, Left: 150, Right: -1}, mask: "bool"},
}

func TestRun(t *testing.T) {
	one, three := pool.New(1), pool.New(3)
	defer one.Close()
	defer three.Close()
	forEachISA(t, func(t *testing.T) {
		for i, c := range calls {
			t.Run(c.name, func(t *testing.T) {
				a := c.make(rand.New(rand.NewPCG(1, uint64(i))))
				got, want := compute(t, one, a), reference(a)
				var diff, norm float64
				for k := range got {
					d := float64(got[k]) - want[k]
					diff += d * d
					norm += want[k] * want[k]
				}
				if e := math.Sqrt(diff); !(e <= 1e-6*math.Sqrt(norm)) {
					t.Errorf("error %.2g beside %.2g", e, math.Sqrt(norm))
				}
				for k, v := range compute(t, three, a) {
					if math.Float32bits(v) != math.Float32bits(got[k]) {
						t.Fatalf("element %d is %v with one thread and %v with three", k, got[k], v)
					}
				}
			})
		}
	})
}

// What is hidden from all queries may hold anything.
func TestHiddenKeysAreNotRead(t *testing.T) {
	p := pool.New(1)
	defer p.Close()
	for _, s := range []int{1, 100} {
		c := call{a: Args{B: 1, HQ: 2, HKV: 1, S: s, T: 700, D: 16, DV: 16, Causal: true, Offset: 200, Left: -1, Right: -1}}
		a := c.make(rand.New(rand.NewPCG(3, 4)))
		for h := range a.HKV {
			for k := 200 + s; k < a.T; k++ {
				for i := range a.D {
					a.K.at(0, h, k)[i], a.V.at(0, h, k)[i] = float32(math.NaN()), negInf
				}
			}
		}
		for i, v := range compute(t, p, a) {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("%d queries: element %d is %v", s, i, v)
			}
		}
	}
}

func TestNaN(t *testing.T) {
	p := pool.New(1)
	defer p.Close()
	for _, s := range []int{1, 50} {
		c := call{a: none(Args{B: 1, HQ: 1, HKV: 1, S: s, T: 300, D: 16, DV: 16})}
		a := c.make(rand.New(rand.NewPCG(3, 4)))
		a.K.at(0, 0, 150)[3] = float32(math.NaN())
		for i, v := range compute(t, p, a) {
			if !math.IsNaN(float64(v)) {
				t.Fatalf("%d queries: element %d is %v beside a key that is NaN", s, i, v)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	c := call{a: none(Args{B: 2, HQ: 4, HKV: 2, S: 3, T: 5, D: 4, DV: 4}), mask: "float"}
	for name, spoil := range map[string]func(a *Args){
		"heads":       func(a *Args) { a.HKV = 3 },
		"short query": func(a *Args) { a.Q.Data = a.Q.Data[1:] },
		"short key":   func(a *Args) { a.K.Data = a.K.Data[1:] },
		"strides":     func(a *Args) { a.V.StrideS = -1 },
		"short mask":  func(a *Args) { a.Mask.F = a.Mask.F[1:] },
		"long mask":   func(a *Args) { a.Mask.Len = 6 },
		"lengths":     func(a *Args) { a.Valid = []int{1} },
	} {
		a := c.make(rand.New(rand.NewPCG(1, 2)))
		spoil(a)
		if a.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	for _, s := range []int{1, 100} {
		c := call{a: none(Args{B: 1, HQ: 2, HKV: 2, S: s, T: 200, D: 32, DV: 32}), mask: "padding"}
		a := c.make(rand.New(rand.NewPCG(1, 2)))
		ws := NewWorkspace(2, a.Shape())
		ws.Packed, ws.Flags = make([]float32, a.Shape().PackSize()), make([]byte, a.Shape().FlagSize())
		if n := testing.AllocsPerRun(10, func() { _ = Run(p, a, ws) }); n > 0 {
			t.Errorf("%d queries: %v allocations", s, n)
		}
	}
}

// The memory of a long prompt is linear in its length.
func TestLinearMemory(t *testing.T) {
	size := func(l int) float64 {
		s := Shape{B: 1, HQ: 12, HKV: 12, S: l, T: l, D: 64, DV: 64}
		w := NewWorkspace(1, s)
		return float64(4*s.PackSize() + 4*len(w.scratch[0].scores) + 4*len(w.scratch[0].acc))
	}
	if r := size(1<<17) / size(1<<16); r > 2.01 {
		t.Errorf("twice the length takes %.2f times the memory", r)
	}
}

func BenchmarkRun(b *testing.B) {
	for _, c := range []call{
		{a: none(Args{B: 1, HQ: 12, HKV: 12, S: 128, T: 128, D: 64, DV: 64}), packed: true},
		{a: none(Args{B: 1, HQ: 8, HKV: 8, S: 1500, T: 1500, D: 64, DV: 64}), packed: true},
		{a: Args{B: 1, HQ: 12, HKV: 12, S: 1024, T: 1024, D: 64, DV: 64, Causal: true, Left: -1, Right: -1}, packed: true},
		{a: none(Args{B: 1, HQ: 12, HKV: 12, S: 1, T: 128, D: 64, DV: 64})},
		{a: none(Args{B: 1, HQ: 12, HKV: 12, S: 1, T: 2048, D: 64, DV: 64})},
		{a: none(Args{B: 1, HQ: 12, HKV: 4, S: 1, T: 2048, D: 64, DV: 64})},
	} {
		a := c.make(rand.New(rand.NewPCG(1, 2)))
		b.Run(fmt.Sprintf("S%d_T%d_H%d_%d", a.S, a.T, a.HQ, a.HKV), func(b *testing.B) {
			p := pool.New(1)
			defer p.Close()
			ws := NewWorkspace(1, a.Shape())
			ws.Packed, ws.Flags = make([]float32, a.Shape().PackSize()), make([]byte, a.Shape().FlagSize())
			for b.Loop() {
				_ = Run(p, a, ws)
			}
			flops := 2 * float64(a.B*a.HQ*a.S*a.T*(a.D+a.DV))
			if a.Causal {
				flops /= 2
			}
			b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			b.ReportMetric(4*float64(a.B*a.HKV*a.T*(a.D+a.DV))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
		})
	}
}
