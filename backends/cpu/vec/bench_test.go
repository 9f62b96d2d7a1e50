package vec

import (
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

// BenchmarkVec runs each function on 4096 elements, in cache. Choose the
// instruction set with SSDC_ISA.
func BenchmarkVec(b *testing.B) {
	const n = 4096
	r := rand.New(rand.NewPCG(6, 6))
	x, y, z, dst, h := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n), make([]uint16, n)
	for i := range x {
		x[i], y[i], z[i] = float32(r.NormFloat64()), float32(r.NormFloat64()), float32(r.NormFloat64())
	}
	var sink float32
	run := func(name string, bytes int64, f func()) {
		b.Run(isa.Current().String()+"/"+name, func(b *testing.B) {
			b.SetBytes(bytes * n)
			for b.Loop() {
				f()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
		})
	}
	for _, u := range unaryLimits {
		run(u.name, 8, func() { u.f(dst, x) })
	}
	run("Add", 12, func() { Add(dst, x, y) })
	run("Div", 12, func() { Div(dst, x, y) })
	run("Max", 12, func() { Max(dst, x, y) })
	run("SiLUMul", 12, func() { SiLUMul(dst, x, y) })
	run("MulAdd", 16, func() { MulAdd(dst, x, y, z) })
	run("MulS", 8, func() { MulS(dst, x, 1.5) })
	run("Axpy", 12, func() { Axpy(dst, x, 1e-9) })
	run("Sum", 4, func() { sink += Sum(x) })
	run("Dot", 8, func() { sink += Dot(x, y) })
	run("MaxOf", 4, func() { sink += MaxOf(x) })
	run("ExpSum", 8, func() { sink += ExpSum(dst, x, 1) })
	run("F32ToBF16", 6, func() { F32ToBF16(h, x) })
	run("BF16ToF32", 6, func() { BF16ToF32(dst, h) })
	run("F32ToF16", 6, func() { F32ToF16(h, x) })
	run("Transpose64", 8, func() { Transpose2D(dst, 64, x, 64, 64, 64) })
}
