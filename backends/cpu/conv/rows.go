package conv

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

// rowTaps is one output row for any K through package vec: a pass per tap, all
// in cache.
func rowTaps(y []float32, x *[MaxK]*float32, w, bias []float32, s Shape) {
	copy(y, bias)
	for j := range s.K {
		vec.MulAdd(y, unsafe.Slice(x[j], len(y)), w[j*s.C:], y)
	}
	if s.SiLU {
		vec.SiLU(y, y)
	}
}
