package vec

import (
	"math"
	"math/rand/v2"
	"testing"
)

const sentinel = float32(-12345.678)

// guarded is a slice of n elements at an odd offset inside a larger one, whose
// other elements must keep the sentinel.
type guarded struct {
	all []float32
	at  int
	n   int
}

func guard(n, at int) guarded {
	g := guarded{make([]float32, at+n+40), at, n}
	for i := range g.all {
		g.all[i] = sentinel
	}
	return g
}

func (g guarded) data() []float32 { return g.all[g.at : g.at+g.n : g.at+g.n] }

func (g guarded) check(t *testing.T, name string) {
	t.Helper()
	for i, v := range g.all {
		if (i < g.at || i >= g.at+g.n) && v != sentinel {
			t.Fatalf("%s, n=%d: wrote element %d", name, g.n, i-g.at)
		}
	}
}

var mixedSpecials = []float32{0, float32(math.Copysign(0, -1)), 1, -1, 1e-40, -1e-40, 3e38, -3e38,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), 88, -88, 0.5}

// mixed is random numbers with a special one here and there.
func mixed(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * 3)
		if r.IntN(6) == 0 {
			x[i] = mixedSpecials[r.IntN(len(mixedSpecials))]
		}
	}
	return x
}

func equalBits(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// testSizes are lengths around every vector width and unrolling.
func testSizes() []int {
	var s []int
	for n := range 70 {
		s = append(s, n)
	}
	return append(s, 127, 128, 129, 511, 512, 513, 1000)
}

// TestPlacement checks that no function writes outside dst, and that a result
// is the same whatever the length, the position and the alignment, in place too.
func TestPlacement(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 1))
		const total = 1100
		a, b, c := mixed(r, total), mixed(r, total), mixed(r, total)
		type op struct {
			name string
			f    func(dst, a, b, c []float32)
		}
		var ops []op
		for _, u := range unaryLimits {
			ops = append(ops, op{u.name, func(dst, a, _, _ []float32) { u.f(dst, a) }})
		}
		for _, o := range binaryOps {
			ops = append(ops, op{o.name, func(dst, a, b, c []float32) { o.f(dst, a, b, c) }})
		}
		for _, o := range ops {
			one := make([]float32, total) // element by element
			for i := range one {
				o.f(one[i:i+1], a[i:i+1], b[i:i+1], c[i:i+1])
			}
			for _, n := range testSizes() {
				off, at := r.IntN(total-n+1), r.IntN(17)
				g := guard(n, at)
				if o.name == "Axpy" { // reads dst
					copy(g.data(), c[off:])
				}
				o.f(g.data(), a[off:off+n:off+n], b[off:off+n:off+n], c[off:off+n:off+n])
				g.check(t, o.name)
				for i, v := range g.data() {
					if !equalBits(v, one[off+i]) && o.name != "Axpy" {
						t.Fatalf("%s: element %d of %d is %g, alone it is %g", o.name, i, n, v, one[off+i])
					}
				}
				if o.name == "Axpy" {
					continue
				}
				in := append([]float32(nil), a[off:off+n]...)
				o.f(in, in, b[off:off+n], c[off:off+n])
				for i, v := range in {
					if !equalBits(v, one[off+i]) {
						t.Fatalf("%s in place: element %d of %d is %g, want %g", o.name, i, n, v, one[off+i])
					}
				}
			}
		}
	})
}

var binaryOps = []struct {
	name string
	f    func(dst, a, b, c []float32)
	ref  func(a, b, c float64) float64
	ulp  float64
}{
	{"Add", func(d, a, b, c []float32) { Add(d, a, b) }, func(a, b, c float64) float64 { return a + b }, 0.5},
	{"Sub", func(d, a, b, c []float32) { Sub(d, a, b) }, func(a, b, c float64) float64 { return a - b }, 0.5},
	{"Mul", func(d, a, b, c []float32) { Mul(d, a, b) }, func(a, b, c float64) float64 { return a * b }, 0.5},
	{"Div", func(d, a, b, c []float32) { Div(d, a, b) }, func(a, b, c float64) float64 { return a / b }, 0.5},
	{"Max", func(d, a, b, c []float32) { Max(d, a, b) }, func(a, b, c float64) float64 { return max(a, b) }, 0},
	{"Min", func(d, a, b, c []float32) { Min(d, a, b) }, func(a, b, c float64) float64 { return min(a, b) }, 0},
	{"SiLUMul", func(d, a, b, c []float32) { SiLUMul(d, b, a) }, func(a, b, c float64) float64 { return b * (a * sig64(a)) }, 4},
	{"MulAdd", func(d, a, b, c []float32) { MulAdd(d, a, b, c) }, func(a, b, c float64) float64 { return a*b + c }, 0.5},
	{"AddS", func(d, a, b, c []float32) { AddS(d, a, 1.7) }, func(a, b, c float64) float64 { return a + float64(float32(1.7)) }, 0.5},
	{"SubS", func(d, a, b, c []float32) { SubS(d, a, 1.7) }, func(a, b, c float64) float64 { return a - float64(float32(1.7)) }, 0.5},
	{"RSubS", func(d, a, b, c []float32) { RSubS(d, a, 1.7) }, func(a, b, c float64) float64 { return float64(float32(1.7)) - a }, 0.5},
	{"MulS", func(d, a, b, c []float32) { MulS(d, a, 1.7) }, func(a, b, c float64) float64 { return a * float64(float32(1.7)) }, 0.5},
	{"DivS", func(d, a, b, c []float32) { DivS(d, a, 1.7) }, func(a, b, c float64) float64 { return a / float64(float32(1.7)) }, 0.5},
	{"RDivS", func(d, a, b, c []float32) { RDivS(d, a, 1.7) }, func(a, b, c float64) float64 { return float64(float32(1.7)) / a }, 0.5},
	{"MaxS", func(d, a, b, c []float32) { MaxS(d, a, 0.25) }, func(a, b, c float64) float64 { return max(a, 0.25) }, 0},
	{"MinS", func(d, a, b, c []float32) { MinS(d, a, 0.25) }, func(a, b, c float64) float64 { return min(a, 0.25) }, 0},
	{"Clamp", func(d, a, b, c []float32) { Clamp(d, a, -0.5, 1.5) }, func(a, b, c float64) float64 { return min(max(a, -0.5), 1.5) }, 0},
	{"Axpy", func(d, a, b, c []float32) { Axpy(d, a, 1.7) }, nil, 0},
}

func TestBinary(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(2, 2))
		const n = 5000
		a, b, c := mixed(r, n), mixed(r, n), mixed(r, n)
		dst := make([]float32, n)
		for _, o := range binaryOps {
			ref := o.ref
			if o.name == "Axpy" {
				copy(dst, c)
				ref = func(a, _, c float64) float64 { return a*float64(float32(1.7)) + c }
				o.ulp = 0.5
			}
			o.f(dst, a, b, c)
			for i, got := range dst {
				want := ref(float64(a[i]), float64(b[i]), float64(c[i]))
				// 1e-6: the reference itself rounds, to float64.
				if e := ulpError(got, want); e > o.ulp+1e-6 {
					if o.name == "SiLUMul" && math.Abs(float64(got)-want) <= 0x1p-142*(1+math.Abs(float64(b[i]))) {
						continue // the floor of SiLU, times the other factor
					}
					t.Fatalf("%s(%g, %g, %g) = %g, want %g: %.3f ulp", o.name, a[i], b[i], c[i], got, want, e)
				}
			}
		}
	})
}

func TestReductions(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 3))
		for _, n := range append(testSizes(), 4096, 5003, 100003) {
			x, y := make([]float32, n), make([]float32, n)
			for i := range x {
				x[i], y[i] = float32(r.NormFloat64()+0.5), float32(r.NormFloat64())
			}
			var sum, abs, sq, dot, adot float64
			hi, lo := math.Inf(-1), math.Inf(1)
			for i := range x {
				v, w := float64(x[i]), float64(y[i])
				sum, abs, sq, dot, adot = sum+v, abs+math.Abs(v), sq+v*v, dot+v*w, adot+math.Abs(v*w)
				hi, lo = max(hi, v), min(lo, v)
			}
			near := func(name string, got float64, want, scale float64) {
				t.Helper()
				if !(math.Abs(got-want) <= 2e-7*scale) {
					t.Errorf("%s of %d: %g, want %g (off by %.3g of the magnitudes)", name, n, got, want, math.Abs(got-want)/scale)
				}
			}
			near("Sum", Sum64(x), sum, abs)
			near("SumSq", SumSq64(x), sq, sq)
			near("Dot", Dot64(x, y), dot, adot)
			near("Sum", float64(Sum(x)), sum, abs)
			near("SumSq", float64(SumSq(x)), sq, sq)
			near("Dot", float64(Dot(x, y)), dot, adot)
			if got := MaxOf(x); float64(got) != hi {
				t.Errorf("MaxOf of %d: %g, want %g", n, got, hi)
			}
			if got := MinOf(x); float64(got) != lo {
				t.Errorf("MinOf of %d: %g, want %g", n, got, lo)
			}
			// Alignment changes nothing.
			moved := append(make([]float32, 3, n+3), x...)[3:]
			if Sum64(moved) != Sum64(x) || SumSq64(moved) != SumSq64(x) || Dot64(moved, y) != Dot64(x, y) {
				t.Errorf("n=%d: a sum depends on the alignment", n)
			}
			g := guard(n, 5)
			es := ExpSum(g.data(), x, 0.25)
			g.check(t, "ExpSum")
			want := 0.0
			for i, v := range g.data() {
				w := math.Exp(float64(x[i] - 0.25))
				want += w
				if ulpError(v, w) > 1 {
					t.Fatalf("ExpSum(%g) wrote %g, want %g", x[i], v, w)
				}
			}
			near("ExpSum", float64(es), want, want)
			if n == 0 {
				continue
			}
			// A NaN anywhere shows.
			i := r.IntN(n)
			x[i] = float32(math.NaN())
			for name, v := range map[string]float32{"MaxOf": MaxOf(x), "MinOf": MinOf(x), "Sum": Sum(x)} {
				if v == v {
					t.Errorf("%s of %d with a NaN at %d: %g", name, n, i, v)
				}
			}
		}
	})
}

func TestSoftmax(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(4, 4))
		for _, n := range testSizes() {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(r.NormFloat64()*20 + 300)
				if i%7 == 3 {
					x[i] = float32(math.Inf(-1))
				}
			}
			s, l := guard(n, 3), guard(n, 3)
			Softmax(s.data(), x)
			LogSoftmax(l.data(), x)
			s.check(t, "Softmax")
			l.check(t, "LogSoftmax")
			for name, f := range map[string]func(dst, src []float32){"Softmax": Softmax, "LogSoftmax": LogSoftmax} {
				apart, in := make([]float32, n), append([]float32{}, x...)
				f(apart, x)
				f(in, in)
				for i := range in {
					if math.Float32bits(in[i]) != math.Float32bits(apart[i]) {
						t.Fatalf("%s of %d in place: [%d] = %g, apart %g", name, n, i, in[i], apart[i])
					}
				}
			}
			m, sum := math.Inf(-1), 0.0
			for _, v := range x {
				m = max(m, float64(v))
			}
			for _, v := range x {
				sum += math.Exp(float64(v) - m)
			}
			for i, v := range x {
				want := math.Exp(float64(v)-m) / sum
				if math.Abs(float64(s.data()[i])-want) > 3e-7*want+1e-44 {
					t.Fatalf("Softmax of %d: [%d] = %g, want %g", n, i, s.data()[i], want)
				}
				wl := float64(v) - m - math.Log(sum)
				if got := float64(l.data()[i]); got != wl && !(math.Abs(got-wl) <= 2e-7*(math.Abs(wl)+math.Log(sum))+1e-7) {
					t.Fatalf("LogSoftmax of %d: [%d] = %g, want %g", n, i, got, wl)
				}
			}
		}
	})
}

func TestNoAllocation(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		a, b, c, d := make([]float32, 1003), make([]float32, 1003), make([]float32, 1003), make([]float32, 1003)
		h := make([]uint16, 1003)
		var sink float32
		if n := testing.AllocsPerRun(5, func() {
			for _, u := range unaryLimits {
				u.f(d, a)
			}
			for _, o := range binaryOps {
				o.f(d, a, b, c)
			}
			sink += Sum(a) + SumSq(a) + Dot(a, b) + MaxOf(a) + MinOf(a) + ExpSum(d, a, 1)
			Softmax(d, a)
			F32ToBF16(h, a)
			BF16ToF32(d, h)
			F32ToF16(h, a)
			F16ToF32(d, h)
			Transpose2D(d, 17, a, 59, 17, 59)
			Fill(d, sink)
			Scale(d, 2)
		}); n != 0 {
			t.Errorf("%g allocations per run", n)
		}
	})
}
