package norm

import (
	"math"

	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

func silu64(x float64) float64 {
	if x < 0 {
		e := math.Exp(x)
		return x * e / (1 + e)
	}
	return x / (1 + math.Exp(-x))
}

func scalePortable(y, x, w []float32, s float32) {
	for i := range y {
		y[i] = x[i] * s * w[i]
	}
}

func scaleGatePortable(y, x, w, z []float32, s float32) {
	for i := range y {
		y[i] = float32(float64(x[i]*s*w[i]) * silu64(float64(z[i])))
	}
}

func centerPortable(y, x, w []float32, mean, rstd, shift float32) {
	for i := range y {
		y[i] = float32((float64(x[i]-mean)*float64(rstd) + float64(shift)) * float64(w[i]))
	}
}

func centerAddPortable(y, x, w, b []float32, mean, rstd, shift float32) {
	for i := range y {
		y[i] = float32((float64(x[i]-mean)*float64(rstd)+float64(shift))*float64(w[i]) + float64(b[i]))
	}
}

func addSumSqPortable(r, a, b []float32) float64 {
	ss := 0.0
	for i := range r {
		v := a[i] + b[i]
		r[i] = v
		ss += float64(v) * float64(v)
	}
	return ss
}

func gateSumSqPortable(v, x, z []float32) float64 {
	ss := 0.0
	for i := range v {
		f := float32(float64(x[i]) * silu64(float64(z[i])))
		v[i] = f
		ss += float64(f) * float64(f)
	}
	return ss
}

func devSumSqPortable(x []float32, mean float32) float64 {
	ss := 0.0
	for _, v := range x {
		d := float64(v - mean)
		ss += d * d
	}
	return ss
}

func sumExactPortable(x []float32) float64 { return vec.Sum64(x) }
