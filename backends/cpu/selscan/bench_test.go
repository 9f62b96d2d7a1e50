package selscan

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// mamba-130m as its layer calls it; the metric counts exponentials, which are
// the bulk of the work.
func BenchmarkScan(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for _, s := range []Shape{{1, 1, 1536, 16}, {1, 2, 1536, 16}, {1, 3, 1536, 16}, {1, 4, 1536, 16}, {64, 1, 1536, 16}, {1, 512, 1536, 16}, {1, 2048, 1536, 16}, {1, 16, 256, 16}, {100, 16, 256, 16}} {
			b.Run(fmt.Sprintf("workers=%d/B=%d/L=%d", workers, s.B, s.L), func(b *testing.B) {
				p := newProblem(rand.New(rand.NewPCG(1, 1)), s, options{softplus: true, bias: true, skip: true, z: true, h0: true, ht: true, alias: true})
				pl := pool.New(workers)
				defer pl.Close()
				ws := NewWorkspace(workers, s)
				b.ResetTimer()
				for b.Loop() {
					if err := Run(pl, &p.Args, ws); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(s.B*s.L*s.D*s.N)*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gexp/s")
			})
		}
	}
}

func BenchmarkLinear(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			L, C := 2048, 1536
			r := rand.New(rand.NewPCG(1, 1))
			a := LinArgs{B: 1, L: L, C: C, A: Dense(normals(r, L*C, 0.1), L, C), U: Dense(normals(r, L*C, 1), L, C), Y: Dense(make([]float32, L*C), L, C)}
			pl := pool.New(workers)
			defer pl.Close()
			ws := NewLinWorkspace(workers)
			b.ResetTimer()
			for b.Loop() {
				if err := RunLinear(pl, &a, ws); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(12*L*C)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
		})
	}
}
