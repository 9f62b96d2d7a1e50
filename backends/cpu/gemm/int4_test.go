package gemm

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestScale4 compares the error that int4 leaves with that of the best of
// thousands of scales and with that of ggml's Q4_0, which divides the largest
// value by -8.
func TestScale4(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var ours, best, ggml, norm float64
	squares := func(v *[group]float32, scale float32) (e float64) {
		var q [group]float32
		round4(&q, v, scale)
		for i := range v {
			d := float64(v[i]) - float64(q[i])*float64(scale)
			e += d * d
		}
		return e
	}
	for range 500 {
		var v [group]float32
		most := float32(0)
		for i := range v {
			v[i] = float32(r.NormFloat64())
			norm += float64(v[i] * v[i])
			if abs(v[i]) > abs(most) {
				most = v[i]
			}
		}
		ours += squares(&v, scale4(&v))
		ggml += squares(&v, most/-8)
		least := math.Inf(1)
		for level := float32(4); level < 10; level += 0.005 {
			least = min(least, squares(&v, most/level), squares(&v, -most/level))
		}
		best += least
	}
	rms := func(x float64) float64 { return math.Sqrt(x / norm) }
	t.Logf("relative error of normal weights: %.4f, of the best scales %.4f, of Q4_0's %.4f", rms(ours), rms(best), rms(ggml))
	if rms(ours) > 1.005*rms(best) || rms(ours) > 0.95*rms(ggml) {
		t.Errorf("relative error %.4f; the best scales reach %.4f, Q4_0 %.4f", rms(ours), rms(best), rms(ggml))
	}
	for name, v := range map[string][group]float32{"zeros": {}, "one value": {3: 2}, "huge": {3e38, -3e38, 1e38}, "tiny": {1e-38, -2e-38}} {
		if e := math.Sqrt(squares(&v, scale4(&v))); !(e <= 0.07*math.Abs(float64(v[0]))+1e-36+0.005*float64(v[3])) {
			t.Errorf("%s: scale %v, error %v", name, scale4(&v), e)
		}
	}
}
