//go:build linux

package vec

import (
	"testing"

	"github.com/ssdc-go/ssdc/internal/guardpage"
)

// TestNoAccessOutside runs every function with its slices against inaccessible
// pages.
func TestNoAccessOutside(t *testing.T) {
	pa, pb, pc, pd := guardpage.New(t), guardpage.New(t), guardpage.New(t), guardpage.New(t)
	eachISA(t, func(t *testing.T) {
		var sink float32
		for _, n := range testSizes()[1:] {
			a, b, c, d, h := pa.Floats(n), pb.Floats(n), pc.Floats(n), pd.Floats(n), pd.Halves(n)
			for range 2 {
				for _, u := range unaryLimits {
					u.f(d, a)
				}
				for _, o := range binaryOps {
					o.f(d, a, b, c)
				}
				sink += Sum(a) + SumSq(a) + Dot(a, b) + MaxOf(a) + MinOf(a) + ExpSum(d, a, 1)
				// The same at the front of the mapping.
				a, b, c, d = pa.First(n), pb.First(n), pc.First(n), pd.First(n)
			}
			BF16ToF32(pa.Floats(n), h)
			F16ToF32(pa.Floats(n), h)
			F32ToBF16(h, pa.Floats(n))
			F32ToF16(h, pa.Floats(n))
		}
		for _, rows := range []int{1, 8, 9, 16, 31} {
			for _, cols := range []int{1, 7, 8, 24, 33} {
				src := pa.Floats((rows-1)*(cols+2) + cols)
				dst := pb.Floats((cols-1)*(rows+1) + rows)
				Transpose2D(dst, rows+1, src, cols+2, rows, cols)
			}
		}
		_ = sink
	})
}
