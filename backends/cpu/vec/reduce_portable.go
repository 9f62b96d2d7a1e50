package vec

import "math"

// Four float64 accumulators: shorter chains of dependent additions, and an
// order that depends on the length alone.

func sumPortable(x []float32) float64 {
	var s [4]float64
	for len(x) >= 4 {
		s[0] += float64(x[0])
		s[1] += float64(x[1])
		s[2] += float64(x[2])
		s[3] += float64(x[3])
		x = x[4:]
	}
	for i, v := range x {
		s[i] += float64(v)
	}
	return (s[0] + s[2]) + (s[1] + s[3])
}

func sumSqPortable(x []float32) float64 { return dotPortable(x, x) }

func dotPortable(a, b []float32) float64 {
	var s [4]float64
	for len(a) >= 4 && len(b) >= 4 {
		s[0] += float64(a[0]) * float64(b[0])
		s[1] += float64(a[1]) * float64(b[1])
		s[2] += float64(a[2]) * float64(b[2])
		s[3] += float64(a[3]) * float64(b[3])
		a, b = a[4:], b[4:]
	}
	for i, v := range a {
		s[i] += float64(v) * float64(b[i])
	}
	return (s[0] + s[2]) + (s[1] + s[3])
}

func maxOfPortable(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		m = max(m, v)
	}
	return m
}

func minOfPortable(x []float32) float32 {
	m := float32(math.Inf(1))
	for _, v := range x {
		m = min(m, v)
	}
	return m
}

func expSumPortable(dst, src []float32, shift float32) float64 {
	for i, v := range src {
		dst[i] = float32(math.Exp(float64(v - shift)))
	}
	return sumPortable(dst)
}
