//go:build linux

package norm

import (
	"testing"

	"github.com/ssdc-go/ssdc/internal/guardpage"
)

// TestNoAccessOutside runs the kernels with every slice against an inaccessible
// page.
func TestNoAccessOutside(t *testing.T) {
	var p [5]guardpage.Span
	for i := range p {
		p[i] = guardpage.New(t)
	}
	eachISA(t, func(t *testing.T) {
		for d := 1; d < 70; d++ {
			const rows = 3
			n := rows * d
			y, x, z, w, r := p[0].Floats(n), p[1].Floats(n), p[2].Floats(n), p[3].Floats(d), p[4].Floats(n)
			RMSNorm(y, x, w, rows, d, d, d, eps)
			RMSNorm(y, x, nil, rows, d, d, d, eps)
			AddRMSNorm(y, r, x, z, w, rows, d, d, d, d, d, eps)
			LayerNorm(y, x, w, w, rows, d, d, d, eps)
			LayerNorm(y, x, w, nil, rows, d, d, d, eps)
			GatedRMSNorm(y, x, z, w, rows, d, d, d, d, d, eps, false)
			GatedRMSNorm(y, x, z, w, rows, d, d, d, d, d, eps, true)
		}
	})
}
