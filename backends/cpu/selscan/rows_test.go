package selscan

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

// rowCases are numbers around the bounds of the kernels' exponentials, and ordinary ones.
func rowCases(n int) []float32 {
	inf := float32(math.Inf(1))
	v := []float32{0, float32(math.Copysign(0, -1)), inf, -inf, float32(math.NaN()), 1e30, -1e30, 1e-40, -1e-40, 88, -88, 89.5, -86, 127, 128, 104, -103, 1e-8, -1e-8}
	r := rand.New(rand.NewPCG(7, 7))
	for len(v) < n {
		v = append(v, float32(r.NormFloat64()*10))
	}
	return v
}

// near allows a relative error: of e^x it grows with x, since log2(e) is rounded.
func near(t *testing.T, what string, x, got, want float32, rel float64) {
	t.Helper()
	g, w := float64(got), float64(want)
	if g == w || math.IsNaN(g) && math.IsNaN(w) || math.Abs(g-w) <= rel*math.Abs(w)+1.2e-38 {
		return
	}
	t.Errorf("%s(%g) = %g, want %g", what, x, got, want)
}

func TestRates(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		c := &call{isa: isa.Current()}
		for _, w := range []int{1, 7, 8, 15, 16, 17, 31, 32, 33, 48, 130} {
			const rows, pad = 3, 5
			raw, bias := rowCases(rows*(w+pad)), make([]float32, w)
			for i := range bias {
				bias[i] = float32(i%3) * 0.25
			}
			for softplus := range 2 {
				for _, hi := range []float32{float32(math.Inf(1)), 2} {
					dt, want := guarded(rows*(w+1)), guarded(rows*(w+1))
					k := rateArgs{t: rows, w: w, raw: &raw[0], ldraw: w + pad, dt: &dt[0], lddt: w + 1, bias: &bias[0], softplus: softplus, lo: [2]float32{-3}, hi: [2]float32{hi}}
					c.rates(&k)
					k.dt = &want[0]
					ratePortable(&k)
					for i := range want {
						x := float32(guard)
						if r, j := i/(w+1), i%(w+1); j < w {
							x = raw[r*(w+pad)+j] + bias[j]
						}
						near(t, "rate", x, dt[i], want[i], 3e-7+1.5e-8*math.Abs(float64(x)))
					}
				}
			}
		}
	})
}

func TestGate(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		c := &call{isa: isa.Current()}
		for _, w := range []int{1, 8, 15, 16, 33, 130} {
			const rows, pad = 3, 5
			z, sum := rowCases(rows*(w+pad)), normals(rand.New(rand.NewPCG(8, 8)), rows*w, 1)
			y, want := guarded(rows*(w+1)), guarded(rows*(w+1))
			k := gateArgs{t: rows, w: w, sum: &sum[0], ldsum: w, z: &z[0], ldz: w + pad, y: &y[0], ldy: w + 1}
			c.gate(&k)
			k.y = &want[0]
			gatePortable(&k)
			for i := range want {
				x := float32(guard)
				if r, j := i/(w+1), i%(w+1); j < w {
					x = z[r*(w+pad)+j]
				}
				if x < -86 && !math.IsInf(float64(x), 0) { // e^-z is Inf before silu vanishes
					if math.Abs(float64(y[i])) > 1e-33 {
						t.Errorf("gate(%g) = %g", x, y[i])
					}
					continue
				}
				near(t, "gate", x, y[i], want[i], 4e-7+1.5e-8*math.Abs(float64(x)))
			}
		}
	})
}
