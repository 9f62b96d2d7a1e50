// Package norm holds the CPU backend's normalisations over rows of float32.
//
// Matrices are row-major with a stride per operand, so an operand may be a
// column slice of a wider projection. A call normalises rows [0, rows); the
// caller divides a matrix between workers by slicing. Sums of squares are
// accumulated as in package vec (float32 lanes over at most 512 elements, then
// float64) and the reciprocal root is taken in float64, so a row's scale is
// accurate to about 1e-7 and depends on nothing but the row. Nothing allocates.
//
// An output may be the same slice, with the same stride, as an input of the
// same shape; other overlap is not supported.
package norm

import (
	"math"

	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

// RMSNorm writes y = x / sqrt(mean(x^2)+eps) * w for each row of d elements
// (ONNX RMSNormalization-23, last axis). A nil w stands for ones.
func RMSNorm(y, x, w []float32, rows, d, ldy, ldx int, eps float32) {
	for r := range rows {
		xr := x[r*ldx:][:d]
		scaleRow(y[r*ldy:][:d], xr, w, rootOf(vec.SumSq64(xr), d, eps))
	}
}

// AddRMSNorm is RMSNorm of the sum r = a + b, which it writes too: the residual
// stream and its normalisation in one pass.
func AddRMSNorm(y, r, a, b, w []float32, rows, d, ldy, ldr, lda, ldb int, eps float32) {
	for i := range rows {
		rr := r[i*ldr:][:d]
		ss := addSumSqISA(rr, a[i*lda:][:d], b[i*ldb:][:d])
		scaleRow(y[i*ldy:][:d], rr, w, rootOf(ss, d, eps))
	}
}

// LayerNorm writes y = (x-mean) / sqrt(var+eps) * w + b for each row of d
// elements (ONNX LayerNormalization-17, last axis). A nil b stands for zeros.
func LayerNorm(y, x, w, b []float32, rows, d, ldy, ldx int, eps float32) {
	for r := range rows {
		xr, yr := x[r*ldx:][:d], y[r*ldy:][:d]
		mean := sumExactISA(xr) / float64(d)
		m := float32(mean)
		// The deviations are taken from the rounded mean and corrected.
		off := mean - float64(m)
		variance := max(devSumSqISA(xr, m)/float64(d)-off*off, 0)
		rstd := 1 / math.Sqrt(variance+float64(eps))
		if b == nil {
			centerISA(yr, xr, w[:d], m, float32(rstd), float32(-off*rstd))
		} else {
			centerAddISA(yr, xr, w[:d], b[:d], m, float32(rstd), float32(-off*rstd))
		}
	}
}

// GatedRMSNorm normalises groups of `group` elements of each row of d, gated by
// silu(z), as at the end of a Mamba-2 block:
//
//	normBeforeGate false:  v = x*silu(z);  y = v / sqrt(mean(v^2)+eps) * w
//	normBeforeGate true:   y = x / sqrt(mean(x^2)+eps) * w * silu(z)
//
// group must divide d; group = d normalises whole rows.
func GatedRMSNorm(y, x, z, w []float32, rows, d, group, ldy, ldx, ldz int, eps float32, normBeforeGate bool) {
	for r := range rows {
		for g := 0; g+group <= d; g += group {
			yg, xg, zg := y[r*ldy+g:][:group], x[r*ldx+g:][:group], z[r*ldz+g:][:group]
			wg := w[g:][:group]
			if normBeforeGate {
				scaleGateISA(yg, xg, wg, zg, rootOf(vec.SumSq64(xg), group, eps))
				continue
			}
			ss := gateSumSqISA(yg, xg, zg)
			scaleISA(yg, yg, wg, rootOf(ss, group, eps))
		}
	}
}

func rootOf(sumSq float64, d int, eps float32) float32 {
	return float32(1 / math.Sqrt(sumSq/float64(d)+float64(eps)))
}

func scaleRow(y, x, w []float32, s float32) {
	if w == nil {
		vec.MulS(y, x, s)
		return
	}
	scaleISA(y, x, w[:len(y)], s)
}
