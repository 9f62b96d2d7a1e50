package gemm

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// Every byte is in a piece of some call, and few calls have one.
func TestSharePiece(t *testing.T) {
	for _, n := range []int{0, 64, 1000, 1024, 1 << 20, 10 << 20, 10<<20 + 4, 200 << 20} {
		at, due, calls := 0, 0, uint(1<<40)
		for ; due == 0 || at < n; calls++ {
			from, to := sharePiece(calls, n)
			if from == to {
				if n < shareLine*shareParts && calls > 1<<40+2*shareEvery {
					break
				}
				continue
			}
			if to-from > shareBytes || to-from > n/shareParts || to > n {
				t.Fatalf("%d bytes: a piece from %d to %d", n, from, to)
			}
			if due == 0 && from != 0 { // begins in the middle of a cycle
				continue
			}
			if from != at {
				t.Fatalf("%d bytes: a piece from %d after one to %d", n, from, at)
			}
			at = to
			due++
		}
	}
}

// A product that is repeated gives the same bits, and allocates nothing.
func TestRepeated(t *testing.T) {
	const n, k = 1000, 256
	r := rand.New(rand.NewPCG(5, 5))
	for _, workers := range []int{1, 2, 3, 5} {
		p := pool.New(workers)
		ws := NewWorkspace(workers)
		for _, f := range []Format{F32, BF16, Int8, Int4} {
			for _, m := range []int{1, 5, 17} {
				w, x := random(r, k*n), random(r, m*k)
				a := &Args{M: m, N: n, K: k, A: x, Lda: k, Format: f, C: make([]float32, m*n), Ldc: n}
				if f == F32 {
					a.B = make([]float32, PackedSize(k, n))
					Pack(a.B, w, k, n, n, false)
				} else {
					words := make([]uint64, f.Size(k, n)/8)
					a.Q = view[byte](words)
					if err := f.Pack(a.Q, w, k, n, n, false); err != nil {
						t.Fatal(err)
					}
				}
				Run(p, a, ws)
				first := append([]float32{}, a.C...)
				if allocs := testing.AllocsPerRun(shareEvery*(shareParts+2), func() {
					clear(a.C)
					Run(p, a, ws)
					for i, c := range a.C {
						if math.Float32bits(c) != math.Float32bits(first[i]) {
							t.Fatalf("%s, %d rows, %d workers: element %d is %g, was %g", f, m, workers, i, c, first[i])
						}
					}
				}); allocs != 0 {
					t.Errorf("%s, %d rows, %d workers: %g allocations", f, m, workers, allocs)
				}
			}
		}
		p.Close()
	}
}
