// Command kernels times the kernels of the CPU backend alone: a line of JSON for
// every case, best and median seconds of repeated calls. bench/mamba.py runs it in
// turn with other libraries.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sort"
	"time"
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/conv"
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cpu/peak"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/selscan"
	"github.com/ssdc-go/ssdc/backends/cpu/ssd"
)

// matmuls are the products of mamba2-130m, a square one, and skinny ones.
var matmuls = [][3]int{{512, 3352, 768}, {512, 768, 1536}, {2048, 3352, 768}, {2048, 768, 1536}, {2048, 2048, 2048}, {8, 3352, 768}, {1, 3352, 768}, {1, 50288, 768}, {8, 50288, 768}}

func main() {
	threads := flag.Int("threads", 2, "number of threads")
	seconds := flag.Float64("seconds", 0.25, "time for each case")
	only := flag.String("only", "", "matmul, scan or peak; all by default")
	flag.Parse()
	b := &bench{pool: pool.New(*threads), threads: *threads, seconds: *seconds, r: rand.New(rand.NewPCG(1, 1))}
	if *only == "" || *only == "peak" {
		m := peak.Measure(*threads)
		print(map[string]any{"case": "peak", "f32": m.F32, "bf16": m.BF16, "int8": m.Int8, "read": m.Read})
	}
	if *only == "" || *only == "matmul" {
		for _, s := range matmuls {
			for _, f := range []gemm.Format{gemm.F32, gemm.BF16, gemm.Int8, gemm.Int4} {
				b.matmul(f, s[0], s[1], s[2])
			}
		}
	}
	if *only == "" || *only == "scan" {
		for _, l := range []int{1, 512, 2048} {
			b.ssd(l)
		}
		b.copyState()
		b.conv(2048)
		b.selscan(2048)
	}
}

type bench struct {
	pool    *pool.Pool
	threads int
	seconds float64
	r       *rand.Rand
}

func (b *bench) normals(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(b.r.NormFloat64())
	}
	return x
}

func print(v any) {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

// time calls f until the time is up.
func (b *bench) time(name string, f func()) {
	runtime.GC() // not while the clock runs
	f()
	var took []float64
	for start := time.Now(); len(took) < 3 || time.Since(start).Seconds() < b.seconds; {
		t := time.Now()
		f()
		took = append(took, time.Since(t).Seconds())
	}
	sort.Float64s(took)
	print(map[string]any{"case": name, "best": took[0], "median": took[len(took)/2], "runs": len(took)})
}

func (b *bench) matmul(f gemm.Format, m, n, k int) {
	w := b.normals(k * n)
	a := &gemm.Args{M: m, N: n, K: k, A: b.normals(m * k), Lda: k, Format: f, C: make([]float32, m*n), Ldc: n}
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
	b.time(fmt.Sprintf("matmul %s %dx%dx%d", f, m, n, k), func() { gemm.Run(b.pool, a, ws) })
}

// ssd is the scan of a mamba2-130m layer.
func (b *bench) ssd(l int) {
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
	b.time(fmt.Sprintf("ssd L=%d", l), func() {
		if err := ssd.Run(b.pool, a, ws); err != nil {
			panic(err)
		}
	})
}

// copyState moves the bytes that one token of ssd moves: 24 heads of 64 x 128.
func (b *bench) copyState() {
	const heads, part = 24, 64 * 128
	from, to := b.normals(heads*part), make([]float32, heads*part)
	b.time("copy of the state", func() {
		b.pool.Run(heads, task(func(i int) { copy(to[i*part:(i+1)*part], from[i*part:(i+1)*part]) }))
	})
}

type task func(i int)

func (t task) Do(_, i int) { t(i) }

func (b *bench) conv(l int) {
	const c, parts = 1792, 16
	s := conv.Shape{C: c, K: 4, LdX: c, LdY: c, LdS: c, SiLU: true}
	x, w, bias, y := b.normals(l*c), b.normals(4*c), b.normals(c), make([]float32, l*c)
	b.time(fmt.Sprintf("conv L=%d", l), func() {
		b.pool.Run(parts, task(func(i int) { conv.Causal(y, x, nil, w, bias, s, i*l/parts, (i+1)*l/parts, 0, c) }))
	})
}

func (b *bench) selscan(l int) {
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
	b.time(fmt.Sprintf("selective scan L=%d", l), func() {
		if err := selscan.Run(b.pool, a, ws); err != nil {
			panic(err)
		}
	})
}
