package gemm

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// BenchmarkRun reports GFLOP/s and, as MB/s, the rate at which B is read.
func BenchmarkRun(b *testing.B) {
	for _, s := range [][3]int{
		{2048, 2048, 2048},
		{512, 3352, 768}, {512, 768, 1536}, {2048, 3352, 768}, {2048, 768, 1536}, // mamba2-130m, in and out
		{1, 3352, 768}, {1, 768, 1536}, {4, 3352, 768}, {8, 3352, 768},
		{1, 50288, 768}, {8, 50288, 768}, // its head: 154 MB of weights
		{32, 3352, 768}, {100, 100, 100},
	} {
		for _, workers := range []int{1, 2} {
			m, n, k := s[0], s[1], s[2]
			b.Run(fmt.Sprintf("M=%d/N=%d/K=%d/workers=%d", m, n, k, workers), func(b *testing.B) {
				r := rand.New(rand.NewPCG(1, 1))
				args := Args{M: m, N: n, K: k, A: random(r, m*k), Lda: k, B: make([]float32, PackedSize(k, n)), C: make([]float32, m*n), Ldc: n}
				Pack(args.B, random(r, k*n), k, n, n, false)
				p := pool.New(workers)
				defer p.Close()
				ws := NewWorkspace(workers)
				b.SetBytes(int64(4 * len(args.B)))
				for b.Loop() {
					Run(p, &args, ws)
				}
				b.ReportMetric(2*float64(m)*float64(n)*float64(k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}

// BenchmarkStrided is one attention-like batch: scores of 8 heads, then values.
func BenchmarkStrided(b *testing.B) {
	const heads, l, d = 8, 256, 64
	r := rand.New(rand.NewPCG(1, 1))
	q, k, s := random(r, heads*l*d), random(r, heads*l*d), random(r, heads*l*l)
	row, square := []int{l * d}, []int{l * l}
	for name, args := range map[string]StridedArgs{
		"QxKT": {M: l, N: l, K: d, A: q, ABatch: row, ARow: d, ACol: 1, B: k, BBatch: row, BRow: 1, BCol: d, C: s, CBatch: square, Ldc: l},
		"SxV":  {M: l, N: d, K: l, A: s, ABatch: square, ARow: l, ACol: 1, B: k, BBatch: row, BRow: d, BCol: 1, C: q, CBatch: row, Ldc: d},
		"4x4":  {M: 4, N: 4, K: 4, A: q, ABatch: row, ARow: 4, ACol: 1, B: k, BBatch: row, BRow: 4, BCol: 1, C: s, CBatch: square, Ldc: 4},
	} {
		args.Batch = []int{heads}
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/workers=%d", name, workers), func(b *testing.B) {
				p := pool.New(workers)
				defer p.Close()
				ws := NewWorkspace(workers)
				for b.Loop() {
					RunStrided(p, &args, ws)
				}
				b.ReportMetric(2*heads*float64(args.M*args.N*args.K)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}

// BenchmarkFormat is BenchmarkRun for the other formats of B.
func BenchmarkFormat(b *testing.B) {
	for _, f := range narrow {
		for _, s := range [][3]int{{2048, 2048, 2048}, {512, 3352, 768}, {512, 768, 1536}, {1, 3352, 768}, {8, 3352, 768}, {1, 50288, 768}, {8, 50288, 768}} {
			for _, workers := range []int{1, 2} {
				m, n, k := s[0], s[1], s[2]
				b.Run(fmt.Sprintf("%s/M=%d/N=%d/K=%d/workers=%d", f, m, n, k, workers), func(b *testing.B) {
					r := rand.New(rand.NewPCG(1, 1))
					args := Args{M: m, N: n, K: k, A: random(r, m*k), Lda: k, Format: f, Q: pack(b, f, random(r, k*n), k, n, n, false), C: make([]float32, m*n), Ldc: n}
					p := pool.New(workers)
					defer p.Close()
					ws := NewWorkspace(workers)
					b.SetBytes(int64(len(args.Q)))
					for b.Loop() {
						Run(p, &args, ws)
					}
					b.ReportMetric(2*float64(m)*float64(n)*float64(k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}
