package vec

func addPortable(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] + b[i]
	}
}

func subPortable(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] - b[i]
	}
}

func mulPortable(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] * b[i]
	}
}

func divPortable(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] / b[i]
	}
}

func maxPortable(dst, a, b []float32) {
	for i := range dst {
		dst[i] = max(a[i], b[i])
	}
}

func minPortable(dst, a, b []float32) {
	for i := range dst {
		dst[i] = min(a[i], b[i])
	}
}

func siluMulPortable(dst, x, z []float32) {
	for i := range dst {
		dst[i] = float32(float64(x[i]) * silu64(float64(z[i])))
	}
}

func mulAddPortable(dst, a, b, c []float32) {
	for i := range dst {
		dst[i] = float32(float64(a[i])*float64(b[i]) + float64(c[i]))
	}
}

func addSPortable(dst, x []float32, s float32) {
	for i := range dst {
		dst[i] = x[i] + s
	}
}

func rsubSPortable(dst, x []float32, s float32) {
	for i := range dst {
		dst[i] = s - x[i]
	}
}

func mulSPortable(dst, x []float32, s float32) {
	for i := range dst {
		dst[i] = x[i] * s
	}
}

func divSPortable(dst, x []float32, s float32) {
	for i := range dst {
		dst[i] = x[i] / s
	}
}

func rdivSPortable(dst, x []float32, s float32) {
	for i := range dst {
		dst[i] = s / x[i]
	}
}

func maxSPortable(dst, x []float32, s float32) {
	for i := range dst {
		dst[i] = max(x[i], s)
	}
}

func minSPortable(dst, x []float32, s float32) {
	for i := range dst {
		dst[i] = min(x[i], s)
	}
}

func clampPortable(dst, x []float32, lo, hi float32) {
	for i := range dst {
		dst[i] = min(max(x[i], lo), hi)
	}
}

func axpyPortable(dst, x []float32, a float32) {
	for i := range dst {
		dst[i] = float32(float64(a)*float64(x[i]) + float64(dst[i]))
	}
}
