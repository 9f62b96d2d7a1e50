// Package vec holds the element-wise functions, reductions, conversions and
// 2-D copies of the CPU backend, on plain float32 slices.
//
// Every function works on n = len(dst) elements; the sources must be at least
// that long. dst may be the very same slice as a source; partial overlap is not
// supported. Nothing allocates, and element i of a result depends only on
// element i of the sources: never on the length, the position or the alignment
// of the slice, so a caller may cut a slice between workers as it likes.
//
// Each function has an AVX-512, an AVX2 and a portable implementation; package
// isa says which one runs. They may differ from each other in the last bit or
// two, within these limits, which TestUnaryAccuracy holds against float64 over
// the whole range of float32, denormals, infinities and NaN included. An error
// below the floor (an absolute value) is allowed whatever it is in units in the
// last place (ulp); "largest" is the largest error seen on one float32 in 61 and in 127.
//
//	function    limit, ulp   largest   floor
//	Exp             1          0.94
//	Log             1          0.81
//	Log1p           2          1.44
//	Sigmoid         2.5        2.31
//	SiLU            2.5        2.27     2^-121 (0 below x = -88.4)
//	Softplus        3          2.64
//	Tanh            3          2.42
//	Erf             2          1.50
//	GELU            6          5.09     2^-142
//	GELUTanh        5          4.62     2^-25
//	Rsqrt           1.5        1.50
//
// Sqrt, Reciprocal, Square and the arithmetic are correctly rounded; MulAdd and
// Axpy round once. The portable forms compute in float64: 0.5 ulp throughout.
package vec
