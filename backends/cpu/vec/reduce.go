package vec

import "math"

// Sum returns the sum of x. Reductions add in a fixed order that depends on the
// length alone: partial sums of at most 512 elements in float32 lanes, those in
// float64.
func Sum(x []float32) float32 { return float32(sumISA(x)) }

// SumSq returns the sum of squares of x.
func SumSq(x []float32) float32 { return float32(sumSqISA(x)) }

// Dot returns the sum of a[i]*b[i], for len(a) elements.
func Dot(a, b []float32) float32 { return float32(dotISA(a, b[:len(a)])) }

// MaxOf returns the largest element, NaN if any is NaN, -Inf for no elements.
func MaxOf(x []float32) float32 { return maxOfISA(x) }

// MinOf returns the smallest element, NaN if any is NaN, +Inf for no elements.
func MinOf(x []float32) float32 { return minOfISA(x) }

// ExpSum writes e^(src-shift) and returns the sum of what it wrote.
func ExpSum(dst, src []float32, shift float32) float32 {
	return float32(expSumISA(dst, src[:len(dst)], shift))
}

// Softmax writes e^(src-max)/sum for one row. A row whose elements are all -Inf
// gives NaN, as the definition does.
func Softmax(dst, src []float32) {
	src = src[:len(dst)]
	if len(dst) == 0 {
		return
	}
	m := maxOfISA(src)
	s := expSumISA(dst, src, m)
	mulSISA(dst, dst, float32(1/s))
}

// LogSoftmax writes src-max-log(sum(e^(src-max))) for one row.
func LogSoftmax(dst, src []float32) {
	src = src[:len(dst)]
	if len(dst) == 0 {
		return
	}
	m := maxOfISA(src)
	var block [256]float32 // dst may be src, which is needed once more
	s := 0.0
	for i := 0; i < len(src); i += len(block) {
		part := src[i:min(i+len(block), len(src))]
		s += expSumISA(block[:len(part)], part, m)
	}
	addSISA(dst, src, -m)
	addSISA(dst, dst, -float32(math.Log(s)))
}

// Sum64 is Sum without the last rounding.
func Sum64(x []float32) float64 { return sumISA(x) }

// SumSq64 is SumSq without the last rounding.
func SumSq64(x []float32) float64 { return sumSqISA(x) }

// Dot64 is Dot without the last rounding.
func Dot64(a, b []float32) float64 { return dotISA(a, b[:len(a)]) }
