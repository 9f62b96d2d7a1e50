package vec

import "math"

// The portable twins compute in float64 and round once, so they are within one
// unit in the last place everywhere and serve as a second opinion on the
// assembly.

func each(dst, src []float32, f func(float64) float64) {
	for i, x := range src {
		dst[i] = float32(f(float64(x)))
	}
}

func expPortable(dst, src []float32)     { each(dst, src, math.Exp) }
func logPortable(dst, src []float32)     { each(dst, src, math.Log) }
func log1pPortable(dst, src []float32)   { each(dst, src, math.Log1p) }
func sigmoidPortable(dst, src []float32) { each(dst, src, sigmoid64) }
func siluPortable(dst, src []float32)    { each(dst, src, silu64) }
func softplusPortable(dst, src []float32) {
	each(dst, src, func(x float64) float64 {
		return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x)))
	})
}
func tanhPortable(dst, src []float32) { each(dst, src, math.Tanh) }
func erfPortable(dst, src []float32)  { each(dst, src, math.Erf) }
func geluPortable(dst, src []float32) {
	each(dst, src, func(x float64) float64 { return x * 0.5 * math.Erfc(-x/math.Sqrt2) })
}
func geluTanhPortable(dst, src []float32) {
	each(dst, src, func(x float64) float64 {
		const k = 2 * 0.7978845608028654 // 2*sqrt(2/pi)
		return x * sigmoid64(k*(x+0.044715*x*x*x))
	})
}
func sqrtPortable(dst, src []float32) { each(dst, src, math.Sqrt) }
func rsqrtPortable(dst, src []float32) {
	each(dst, src, func(x float64) float64 { return 1 / math.Sqrt(x) })
}

// sigmoid64 keeps its relative accuracy when e^-x would overflow.
func sigmoid64(x float64) float64 {
	if x < 0 {
		e := math.Exp(x)
		return e / (1 + e)
	}
	return 1 / (1 + math.Exp(-x))
}

func silu64(x float64) float64 { return x * sigmoid64(x) }

func reluPortable(dst, src []float32) {
	for i, x := range src {
		dst[i] = max(x, 0)
	}
}

func negPortable(dst, src []float32) {
	for i, x := range src {
		dst[i] = -x
	}
}

func absPortable(dst, src []float32) {
	for i, x := range src {
		dst[i] = math.Float32frombits(math.Float32bits(x) &^ (1 << 31))
	}
}

func reciprocalPortable(dst, src []float32) {
	for i, x := range src {
		dst[i] = 1 / x
	}
}

func squarePortable(dst, src []float32) {
	for i, x := range src {
		dst[i] = x * x
	}
}
