package vec

// Exp writes e^x. Results below the normal range round to denormals, above the
// range to +Inf.
func Exp(dst, src []float32) { expISA(dst, src[:len(dst)]) }

// Log writes the natural logarithm: -Inf at ±0, NaN below 0.
func Log(dst, src []float32) { logISA(dst, src[:len(dst)]) }

// Log1p writes log(1+x), accurate for small x.
func Log1p(dst, src []float32) { log1pISA(dst, src[:len(dst)]) }

// Sigmoid writes 1/(1+e^-x).
func Sigmoid(dst, src []float32) { sigmoidISA(dst, src[:len(dst)]) }

// SiLU writes x*sigmoid(x). As in the product, SiLU(-Inf) is NaN.
func SiLU(dst, src []float32) { siluISA(dst, src[:len(dst)]) }

// Softplus writes log(1+e^x), which is x for large x and e^x for very negative x.
func Softplus(dst, src []float32) { softplusISA(dst, src[:len(dst)]) }

// Tanh writes the hyperbolic tangent.
func Tanh(dst, src []float32) { tanhISA(dst, src[:len(dst)]) }

// Erf writes the error function.
func Erf(dst, src []float32) { erfISA(dst, src[:len(dst)]) }

// GELU writes x*Phi(x), Phi the normal distribution function (the exact form:
// x/2*(1+erf(x/sqrt 2)), without its cancellation for negative x).
func GELU(dst, src []float32) { geluISA(dst, src[:len(dst)]) }

// GELUTanh writes the tanh approximation of GELU,
// x/2*(1+tanh(sqrt(2/pi)*(x+0.044715x^3))).
func GELUTanh(dst, src []float32) { geluTanhISA(dst, src[:len(dst)]) }

// ReLU writes max(x, 0); NaN stays NaN.
func ReLU(dst, src []float32) { reluISA(dst, src[:len(dst)]) }

// Neg writes -x.
func Neg(dst, src []float32) { negISA(dst, src[:len(dst)]) }

// Abs writes |x|.
func Abs(dst, src []float32) { absISA(dst, src[:len(dst)]) }

// Sqrt writes the square root, correctly rounded.
func Sqrt(dst, src []float32) { sqrtISA(dst, src[:len(dst)]) }

// Rsqrt writes 1/sqrt(x).
func Rsqrt(dst, src []float32) { rsqrtISA(dst, src[:len(dst)]) }

// Reciprocal writes 1/x, correctly rounded.
func Reciprocal(dst, src []float32) { reciprocalISA(dst, src[:len(dst)]) }

// Square writes x*x.
func Square(dst, src []float32) { squareISA(dst, src[:len(dst)]) }
