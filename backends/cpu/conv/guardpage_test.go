//go:build linux

package conv

import (
	"testing"

	"github.com/ssdc-go/ssdc/internal/guardpage"
)

// TestNoAccessOutside runs the kernels with every slice against an inaccessible
// page.
func TestNoAccessOutside(t *testing.T) {
	var p [6]guardpage.Span
	for i := range p {
		p[i] = guardpage.New(t)
	}
	eachISA(t, func(t *testing.T) {
		for k := 1; k <= MaxK; k++ {
			for _, c := range []int{1, 7, 8, 9, 15, 16, 17, 31, 33} {
				for _, l := range []int{1, 3, 4, 5, 9} {
					for _, silu := range []bool{false, true} {
						s := Shape{C: c, K: k, LdX: c + 1, LdY: c + 2, LdS: c + 3, SiLU: silu}
						y, x := p[0].Floats((l-1)*s.LdY+c), p[1].Floats((l-1)*s.LdX+c)
						w, bias := p[2].Floats(k*c), p[3].Floats(c)
						var state []float32
						if k > 1 {
							state = p[4].Floats((k-2)*s.LdS + c)
						}
						Causal(y, x, state, w, bias, s, 0, l, 0, c)
						for _, width := range []int{k - 1, k} {
							out := p[5].Floats(c * width)
							WriteState(out, x, state, s, width, l, 0, c)
							ReadState(state, out, s, width, 0, c)
							Step(p[0].Floats(c), p[1].Floats(c), out, out, w, bias, c, k, width, silu, 0, c)
						}
					}
				}
			}
		}
	})
}
