//go:build linux

package linattn

import (
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/internal/guardpage"
)

// TestNoAccessOutside runs with every operand against an inaccessible page.
func TestNoAccessOutside(t *testing.T) {
	var p [8]guardpage.Span
	for i := range p {
		p[i] = guardpage.New(t)
	}
	was := isa.Current()
	defer func() { _ = isa.Force(was) }()
	for level := isa.Portable; level <= isa.Best(); level++ {
		if err := isa.Force(level); err != nil {
			t.Fatal(err)
		}
		for _, s := range []shape{{1, 1, 1, 1, 3, 32}, {1, 2, 2, 1, 5, 7}, {1, 5, 2, 2, 4, 33}, {1, 1, 9, 9, 2, 64}} {
			for _, perKey := range []bool{false, true} {
				a := random(s, "gated_delta", 0.5, perKey, 2)
				for i, v := range []*[]float32{&a.Q.Data, &a.K.Data, &a.V.Data, &a.Decay.Data, &a.Beta.Data, &a.O.Data, &a.S0, &a.ST} {
					g := p[i].Floats(len(*v))
					copy(g, *v)
					*v = g
				}
				run(t, a, 2)
			}
		}
	}
}
