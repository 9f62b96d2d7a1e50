//go:build linux

package attention

import (
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/internal/guardpage"
)

// TestNoAccessOutside runs with every operand against an inaccessible page.
func TestNoAccessOutside(t *testing.T) {
	var pages [6]guardpage.Span
	for i := range pages {
		pages[i] = guardpage.New(t)
	}
	p := pool.New(2)
	defer p.Close()
	forEachISA(t, func(t *testing.T) {
		for i, c := range []call{
			{a: none(Args{B: 1, HQ: 1, HKV: 1, S: 1, T: 33, D: 5, DV: 7}), mask: "float"},
			{a: none(Args{B: 1, HQ: 2, HKV: 1, S: 1, T: 35, D: 19, DV: 33})},
			{a: none(Args{B: 1, HQ: 2, HKV: 2, S: 15, T: 33, D: 5, DV: 7}), mask: "float"},
			{a: none(Args{B: 1, HQ: 2, HKV: 2, S: 6, T: 33, D: 5, DV: 33}), packed: true, mask: "causal"},
		} {
			a := c.make(rand.New(rand.NewPCG(1, uint64(i))))
			for i, v := range []*[]float32{&a.Q.Data, &a.K.Data, &a.V.Data, &a.O.Data, &a.Mask.F} {
				if *v != nil {
					g := pages[i].Floats(len(*v))
					copy(g, *v)
					*v = g
				}
			}
			compute(t, p, a)
		}
	})
}
