package vec

import (
	"flag"
	"fmt"
	"math"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

var step = flag.Uint64("step", 2003, "test every `n`-th float32; 1 is exhaustive and takes an hour")

// eachISA runs f under every instruction set; one that the processor lacks is
// named in the log.
func eachISA(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	was := isa.Level()
	defer func() { _ = isa.Force(was) }()
	for _, i := range []isa.ISA{isa.Portable, isa.AVX2, isa.AVX512} {
		if err := isa.Force(i); err != nil {
			t.Logf("NOT TESTED: %v", err)
			continue
		}
		t.Run(i.String(), f)
	}
}

// ulpError is |got-want| in units of the float32 spacing at want; 0 where both
// are NaN or the same infinity.
func ulpError(got float32, want float64) float64 {
	g := float64(got)
	if math.IsNaN(want) || math.IsNaN(g) {
		if math.IsNaN(want) && math.IsNaN(g) {
			return 0
		}
		return math.Inf(1)
	}
	// Infinity counts as the number that would follow the largest one.
	const top = 1 << 127 * 2.0
	g, w := max(min(g, top), -top), max(min(want, top), -top)
	return math.Abs(g-w) / spacing(w)
}

func spacing(x float64) float64 {
	_, e := math.Frexp(x)
	if x == 0 || e < -125 {
		e = -125
	}
	return math.Ldexp(1, min(e, 128)-24)
}

// gelu64 and friends are the references; x*Phi(x) is written so that it keeps
// its accuracy in float64.
func gelu64(x float64) float64 { return x * 0.5 * math.Erfc(-x/math.Sqrt2) }

func geluTanh64(x float64) float64 {
	return x * sig64(2*math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))
}

func sig64(x float64) float64 {
	if x < 0 {
		return math.Exp(x) / (1 + math.Exp(x))
	}
	return 1 / (1 + math.Exp(-x))
}

func softplus64(x float64) float64 {
	if x > 0 {
		return x + math.Log1p(math.Exp(-x))
	}
	return math.Log1p(math.Exp(x))
}

// unaryLimits states the error each function promises: ulp everywhere, or floor
// in absolute value where that is larger (for results that underflow).
var unaryLimits = []struct {
	name  string
	f     func(dst, src []float32)
	ref   func(float64) float64
	ulp   float64
	floor float64
}{
	{"Exp", Exp, math.Exp, 1, 0},
	{"Log", Log, math.Log, 1, 0},
	{"Log1p", Log1p, math.Log1p, 2, 0},
	{"Sigmoid", Sigmoid, sig64, 2.5, 0},
	{"SiLU", SiLU, func(x float64) float64 { return x * sig64(x) }, 2.5, 0x1p-121},
	{"Softplus", Softplus, softplus64, 3, 0},
	{"Tanh", Tanh, math.Tanh, 3, 0},
	{"Erf", Erf, math.Erf, 2, 0},
	{"GELU", GELU, gelu64, 6, 0x1p-142},
	{"GELUTanh", GELUTanh, geluTanh64, 5, 0x1p-25},
	{"ReLU", ReLU, func(x float64) float64 { return max(x, 0) }, 0, 0},
	{"Neg", Neg, func(x float64) float64 { return -x }, 0, 0},
	{"Abs", Abs, math.Abs, 0, 0},
	{"Sqrt", Sqrt, math.Sqrt, 0.5, 0},
	{"Rsqrt", Rsqrt, func(x float64) float64 { return 1 / math.Sqrt(x) }, 1.5, 0},
	{"Reciprocal", Reciprocal, func(x float64) float64 { return 1 / x }, 0.5, 0},
	{"Square", Square, func(x float64) float64 { return x * x }, 0.5, 0},
}

// TestUnaryAccuracy measures every function over the whole range of float32:
// both signs, denormals, infinities and NaN.
func TestUnaryAccuracy(t *testing.T) {
	special := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 20, -20, float32(math.Inf(1)), float32(math.Inf(-1)),
		float32(math.NaN()), math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32,
		0x1p-126, -0x1p-126, 88.72283, 88.72284, -87.33655, -103.97207, -103.97208, -104, 89, 0.75, 1.5, 0.74999994, 1.4999999}
	eachISA(t, func(t *testing.T) {
		for _, u := range unaryLimits {
			var src, dst [4096]float32
			worst, at := 0.0, float32(0)
			beyond := 0.0 // largest error, in ulp, that the floor excuses
			check := func(n int) {
				u.f(dst[:n], src[:n])
				for i, x := range src[:n] {
					want := u.ref(float64(x))
					e := ulpError(dst[i], want)
					if d := math.Abs(float64(dst[i]) - want); e > 0 && d <= u.floor {
						beyond = max(beyond, e)
						continue
					}
					if e > worst {
						worst, at = e, x
					}
				}
			}
			copy(src[:], special)
			check(len(special))
			n := 0
			for b := uint64(0); b < 1<<32; b += *step {
				src[n] = math.Float32frombits(uint32(b))
				if n++; n == len(src) {
					check(n)
					n = 0
				}
			}
			check(n)
			note := ""
			if beyond > u.ulp {
				note = fmt.Sprintf(" (%.3g below the floor of %.3g)", beyond, u.floor)
			}
			t.Logf("%-10s %.3f ulp at %g%s", u.name, worst, at, note)
			if worst > u.ulp {
				t.Errorf("%s: %.3f ulp at %g (%x), limit %g ulp or %g", u.name, worst, at, math.Float32bits(at), u.ulp, u.floor)
			}
		}
	})
}
