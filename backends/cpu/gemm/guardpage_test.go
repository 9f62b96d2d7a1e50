//go:build linux

package gemm

import (
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/internal/guardpage"
)

// TestNoAccessOutside runs every format with its operands against inaccessible
// pages, behind and before.
func TestNoAccessOutside(t *testing.T) {
	pa, pb, pc, pd, pe := guardpage.New(t), guardpage.New(t), guardpage.New(t), guardpage.New(t), guardpage.New(t)
	ws := NewWorkspace(1)
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(33, 34))
		for _, f := range []Format{F32, BF16, Int8, Int4} {
			for _, m := range []int{1, 2, 7, 14, 20} {
				for _, n := range []int{1, 31, 32, 40} {
					for _, k := range []int{1, 31, 32, 63} {
						b := pack(t, f, random(r, k*n), k, n, n, false)
						for _, place := range []func(guardpage.Span, int) []float32{guardpage.Span.Floats, guardpage.Span.First} {
							q := view[byte](place(pb, len(b)/4))
							copy(q, b)
							args := Args{M: m, N: n, K: k, A: place(pa, m*k), Lda: k, Format: f, Q: q, B: view[float32](q),
								C: place(pc, m*n), Ldc: n, Bias: place(pd, n), Residual: place(pe, m*n), Ldr: n}
							Run(nil, &args, ws)
						}
					}
				}
			}
		}
	})
}
