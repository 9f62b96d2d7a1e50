package vec

// Add writes a+b.
func Add(dst, a, b []float32) { addISA(dst, a[:len(dst)], b[:len(dst)]) }

// Sub writes a-b.
func Sub(dst, a, b []float32) { subISA(dst, a[:len(dst)], b[:len(dst)]) }

// Mul writes a*b.
func Mul(dst, a, b []float32) { mulISA(dst, a[:len(dst)], b[:len(dst)]) }

// Div writes a/b.
func Div(dst, a, b []float32) { divISA(dst, a[:len(dst)], b[:len(dst)]) }

// Max writes the larger of a and b; NaN if either is NaN.
func Max(dst, a, b []float32) { maxISA(dst, a[:len(dst)], b[:len(dst)]) }

// Min writes the smaller of a and b; NaN if either is NaN.
func Min(dst, a, b []float32) { minISA(dst, a[:len(dst)], b[:len(dst)]) }

// SiLUMul writes x*silu(z), the gate of a Mamba block or a SwiGLU.
func SiLUMul(dst, x, z []float32) { siluMulISA(dst, x[:len(dst)], z[:len(dst)]) }

// MulAdd writes a*b+c; the assembly rounds once.
func MulAdd(dst, a, b, c []float32) {
	mulAddISA(dst, a[:len(dst)], b[:len(dst)], c[:len(dst)])
}

// AddS writes x+s.
func AddS(dst, x []float32, s float32) { addSISA(dst, x[:len(dst)], s) }

// SubS writes x-s.
func SubS(dst, x []float32, s float32) { addSISA(dst, x[:len(dst)], -s) }

// RSubS writes s-x.
func RSubS(dst, x []float32, s float32) { rsubSISA(dst, x[:len(dst)], s) }

// MulS writes x*s.
func MulS(dst, x []float32, s float32) { mulSISA(dst, x[:len(dst)], s) }

// Scale is MulS in place.
func Scale(x []float32, s float32) { mulSISA(x, x, s) }

// DivS writes x/s.
func DivS(dst, x []float32, s float32) { divSISA(dst, x[:len(dst)], s) }

// RDivS writes s/x.
func RDivS(dst, x []float32, s float32) { rdivSISA(dst, x[:len(dst)], s) }

// MaxS writes max(x, s); NaN if either is NaN.
func MaxS(dst, x []float32, s float32) { maxSISA(dst, x[:len(dst)], s) }

// MinS writes min(x, s); NaN if either is NaN.
func MinS(dst, x []float32, s float32) { minSISA(dst, x[:len(dst)], s) }

// Clamp writes min(max(x, lo), hi); NaN stays NaN.
func Clamp(dst, x []float32, lo, hi float32) { clampISA(dst, x[:len(dst)], lo, hi) }

// Axpy adds a*x to dst; the assembly rounds once.
func Axpy(dst, x []float32, a float32) { axpyISA(dst, x[:len(dst)], a) }

// Fill sets every element of dst to s.
func Fill(dst []float32, s float32) {
	for i := range dst {
		dst[i] = s
	}
}
