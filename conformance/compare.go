package conformance

import (
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// bf16Rtol is two units in the last place of a bfloat16: what ONNX's own runner
// allows for that type, in which 1e-3 would mean "the same bits".
const bf16Rtol = 1.0 / 64

// Compare checks a result: same type and shape, floats within
// |got-want| <= atol + rtol*|want| (0 means 1e-7 and 1e-3; for bfloat16 rtol is
// at least two units in the last place), NaN equal to NaN, infinities and
// everything that is not a float exact.
func Compare(got, want *tensor.Tensor, rtol, atol float64) error {
	if rtol == 0 {
		rtol = 1e-3
	}
	if atol == 0 {
		atol = 1e-7
	}
	if want.DType == tensor.BFloat16 {
		rtol = max(rtol, bf16Rtol)
	}
	if got == nil {
		return fmt.Errorf("is missing, want %s", want.TypeString())
	}
	if got.DType != want.DType || !want.DType.IsContainer() && !slices.Equal(got.Shape, want.Shape) || len(got.Elems) != len(want.Elems) {
		return fmt.Errorf("is %s, want %s", got.TypeString(), want.TypeString())
	}
	for i := range want.Elems {
		if err := Compare(got.Elems[i], want.Elems[i], rtol, atol); err != nil {
			return fmt.Errorf("member %d %w", i, err)
		}
	}
	if want.DType.IsContainer() {
		return nil
	}
	if n := want.Len(); len(got.Strings) != len(want.Strings) || want.DType != tensor.String && len(got.Data) < want.DType.Bytes(n) {
		return fmt.Errorf("is %s but holds %d bytes and %d strings", got.TypeString(), len(got.Data), len(got.Strings))
	}
	// differ describes the first and the number of differing elements.
	first, bad := "", 0
	differ := func(i int, g, w any) {
		if bad++; bad == 1 {
			first = fmt.Sprintf("element %d is %v, want %v", i, g, w)
		}
	}
	near := func(g, w float64) bool {
		return g == w || g != g && w != w || math.Abs(g-w) <= atol+rtol*math.Abs(w) && !math.IsInf(w, 0)
	}
	switch d := want.DType; {
	case d == tensor.String:
		for i, w := range want.Strings {
			if got.Strings[i] != w {
				differ(i, fmt.Sprintf("%q", got.Strings[i]), fmt.Sprintf("%q", w))
			}
		}
	case d == tensor.Complex64:
		g := tensor.Of[complex64](got)
		for i, w := range tensor.Of[complex64](want) {
			if !near(float64(real(g[i])), float64(real(w))) || !near(float64(imag(g[i])), float64(imag(w))) {
				differ(i, g[i], w)
			}
		}
	case d == tensor.Complex128:
		g := tensor.Of[complex128](got)
		for i, w := range tensor.Of[complex128](want) {
			if !near(real(g[i]), real(w)) || !near(imag(g[i]), imag(w)) {
				differ(i, g[i], w)
			}
		}
	case d.IsFloat():
		for i := range want.Len() {
			if g, w := got.At(i), want.At(i); !near(g, w) {
				differ(i, g, w)
			}
		}
	default:
		for i := range want.Len() {
			if g, w := got.IntAt(i), want.IntAt(i); g != w {
				differ(i, g, w)
			}
		}
	}
	if bad == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s (%d of %d elements differ)", want.TypeString(), first, bad, want.Len())
}
