// Package cases holds the calls of the CPU kernels that the benchmarks time, on
// the shapes of mamba2-130m.
package cases

import (
	"fmt"
	"math/rand/v2"
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/conv"
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/selscan"
	"github.com/ssdc-go/ssdc/backends/cpu/ssd"
	"github.com/ssdc-go/ssdc/internal/memory"
)

// A Case is one call, on memory of its own.
type Case struct {
	Name string
	Run  func()
}

// Maker makes cases for a number of threads.
type Maker struct {
	pool    *pool.Pool
	threads int
	r       *rand.Rand
}

// New starts a pool of threads; the numbers are the same in every process.
func New(threads int) *Maker {
	return &Maker{pool: pool.New(threads), threads: threads, r: rand.New(rand.NewPCG(1, 1))}
}

func (b *Maker) normals(n int) []float32 {
	x := floats(n)
	for i := range x {
		x[i] = float32(b.r.NormFloat64())
	}
	return x
}

// floats is memory as the activations of a session have it.
func floats(n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(memory.Large(4*n)))), n)
}

// Matmul is C[m,n] = A[m,k] B[k,n] with B packed.
func (b *Maker) Matmul(f gemm.Format, m, n, k int) Case {
	w := b.normals(k * n)
	a := &gemm.Args{M: m, N: n, K: k, A: b.normals(m * k), Lda: k, Format: f, C: floats(m * n), Ldc: n}
	if f == gemm.F32 {
		a.B = make([]float32, gemm.PackedSize(k, n))
		gemm.Pack(a.B, w, k, n, n, false)
	} else {
		words := make([]uint64, f.Size(k, n)/8)
		a.Q = unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words))
		if err := f.Pack(a.Q, w, k, n, n, false); err != nil {
			panic(err) // normal numbers fit every format
		}
	}
	ws := gemm.NewWorkspace(b.threads)
	return Case{fmt.Sprintf("matmul %s %dx%dx%d", f, m, n, k), func() { gemm.Run(b.pool, a, ws) }}
}

// SSD is the scan of a mamba2-130m layer.
func (b *Maker) SSD(l int) Case {
	const h, p, n = 24, 64, 128
	row := h*p + 2*n
	xbc := b.normals(l * row)
	part := func(from int) ssd.Seq { return ssd.Seq{Data: xbc[from:], StrideB: l * row, StrideL: row} }
	dense := func(x []float32, w int) ssd.Seq { return ssd.Seq{Data: x, StrideB: l * w, StrideL: w} }
	a := &ssd.Args{
		B: 1, L: l, H: h, P: p, G: 1, N: n, X: part(0), BMat: part(h * p), CMat: part(h*p + n),
		Dt: dense(b.normals(l*h), h), DtBias: b.normals(h), DtSoftplus: true, A: make([]float32, h), D: b.normals(h),
		H0: make([]float32, h*p*n), Y: dense(make([]float32, l*h*p), h*p),
	}
	a.HT = a.H0
	for i := range a.A {
		a.A[i] = -1 - float32(i%16)
	}
	ws := ssd.NewWorkspace(b.threads, ssd.Shape{B: 1, L: l, H: h, P: p, G: 1, N: n})
	return Case{fmt.Sprintf("ssd L=%d", l), func() {
		if err := ssd.Run(b.pool, a, ws); err != nil {
			panic(err)
		}
	}}
}

// CopyState moves the bytes that one token of SSD moves: 24 heads of 64 x 128.
func (b *Maker) CopyState() Case {
	const heads, part = 24, 64 * 128
	from, to := b.normals(heads*part), make([]float32, heads*part)
	return Case{"copy of the state", func() {
		b.pool.Run(heads, task(func(i int) { copy(to[i*part:(i+1)*part], from[i*part:(i+1)*part]) }))
	}}
}

type task func(i int)

func (t task) Do(_, i int) { t(i) }

// Conv is the causal convolution with bias and SiLU, 1792 channels.
func (b *Maker) Conv(l int) Case {
	const c, parts = 1792, 16
	s := conv.Shape{C: c, K: 4, LdX: c, LdY: c, LdS: c, SiLU: true}
	x, w, bias, y := b.normals(l*c), b.normals(4*c), b.normals(c), make([]float32, l*c)
	return Case{fmt.Sprintf("conv L=%d", l), func() {
		b.pool.Run(parts, task(func(i int) { conv.Causal(y, x, nil, w, bias, s, i*l/parts, (i+1)*l/parts, 0, c) }))
	}}
}

// SelScan is a Mamba-1 scan, 1536 channels with 16 states.
func (b *Maker) SelScan(l int) Case {
	const d, n = 1536, 16
	a := &selscan.Args{
		B: 1, L: l, D: d, N: n, U: selscan.Dense(b.normals(l*d), l, d), Dt: selscan.Dense(b.normals(l*d), l, d), DtSoftplus: true,
		A: make([]float32, d*n), BMat: selscan.Dense(b.normals(l*n), l, n), CMat: selscan.Dense(b.normals(l*n), l, n),
		Y: selscan.Dense(make([]float32, l*d), l, d), HT: make([]float32, d*n),
	}
	for i := range a.A {
		a.A[i] = -1 - float32(i%n)
	}
	ws := selscan.NewWorkspace(b.threads, selscan.Shape{B: 1, L: l, D: d, N: n})
	return Case{fmt.Sprintf("selective scan L=%d", l), func() {
		if err := selscan.Run(b.pool, a, ws); err != nil {
			panic(err)
		}
	}}
}
