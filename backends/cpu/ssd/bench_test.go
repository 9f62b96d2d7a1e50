package ssd

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// flops is the work of the chunked form: state to output and back, the causal
// half of the diagonal blocks, and C B^T once per group.
func flops(s Shape, q int) float64 {
	perHead := 4*s.P*s.N + q*s.P + 2*s.P*s.N/q
	perGroup := q * s.N
	return float64(s.B) * float64(s.L) * float64(s.H*perHead+s.G*perGroup)
}

// bench is mamba2-130m as its layer calls it: x, B and C are columns of one row.
func bench(b *testing.B, workers int, s Shape, z bool) *Args {
	r := rand.New(rand.NewPCG(1, 1))
	p := newProblem(r, s, options{softplus: true, bias: true, d: 1, h0: true, ht: true, alias: true, z: z})
	for i := range p.HT {
		p.HT[i] *= 1e-3
	}
	row := s.H*s.P + 2*s.G*s.N
	xbc := Seq{normals(r, s.B*s.L*row, 1), s.L * row, row}
	p.X, p.BMat, p.CMat = xbc, xbc, xbc
	p.BMat.Data = xbc.Data[s.H*s.P:]
	p.CMat.Data = xbc.Data[s.H*s.P+s.G*s.N:]
	for i := range p.A { // the usual range, so that states neither die nor grow
		p.A[i] = -1 - float32(i%16)
	}
	pl := pool.New(workers)
	defer pl.Close()
	ws := NewWorkspace(workers, s)
	b.ResetTimer()
	for b.Loop() {
		if err := Run(pl, &p.Args, ws); err != nil {
			b.Fatal(err)
		}
	}
	return &p.Args
}

func BenchmarkPrefill(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for _, l := range []int{8, 64, 512, 2048} {
			for _, q := range []int{0, 16, 24, 32, 48, 64, 128} {
				if q != 0 && l != 2048 {
					continue
				}
				b.Run(fmt.Sprintf("workers=%d/L=%d/Q=%d", workers, l, q), func(b *testing.B) {
					s := Shape{B: 1, L: l, H: 24, P: 64, G: 1, N: 128, ChunkSize: q}
					bench(b, workers, s, false)
					_, q := s.Choose()
					b.ReportMetric(flops(s, q)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}

// Groups of one head, as linear attention has them, gain nothing from a shared
// C B^T.
func BenchmarkPrefillGroups(b *testing.B) {
	s := Shape{B: 1, L: 512, H: 24, P: 64, G: 24, N: 128}
	bench(b, 2, s, false)
	b.ReportMetric(flops(s, defaultChunk)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func BenchmarkPrefillGated(b *testing.B) {
	s := Shape{B: 1, L: 512, H: 24, P: 64, G: 1, N: 128}
	bench(b, 2, s, true)
	b.ReportMetric(flops(s, defaultChunk)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func BenchmarkDecode(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for _, batch := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("workers=%d/B=%d", workers, batch), func(b *testing.B) {
				s := Shape{B: batch, L: 1, H: 24, P: 64, G: 1, N: 128}
				bench(b, workers, s, false)
				b.ReportMetric(2*4*float64(s.B*s.H*s.P*s.N)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
			})
		}
	}
}

// copyTask moves the same bytes as a decode step: the bar for BenchmarkDecode.
type copyTask struct {
	from, to []float32
	part     int
}

func (c *copyTask) Do(_, i int) {
	copy(c.to[i*c.part:(i+1)*c.part], c.from[i*c.part:(i+1)*c.part])
}

func BenchmarkCopy(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for _, batch := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("workers=%d/B=%d", workers, batch), func(b *testing.B) {
				n := batch * 24 * 64 * 128
				c := &copyTask{make([]float32, n), make([]float32, n), 64 * 128}
				for i := range c.from {
					c.from[i], c.to[i] = 1, 2
				}
				pl := pool.New(workers)
				defer pl.Close()
				b.ResetTimer()
				for b.Loop() {
					pl.Run(batch*24, c)
				}
				b.ReportMetric(8*float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
			})
		}
	}
}
