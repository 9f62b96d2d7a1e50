package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

func TestStridedSizes(t *testing.T) {
	p := pool.New(3)
	defer p.Close()
	ws := NewWorkspace(3)
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(21, 22))
		for _, m := range []int{0, 1, 2, 7, 14, 15, 16, 17, 33, 180} {
			for _, n := range []int{0, 1, 13, 31, 32, 33, 100} {
				for _, k := range []int{0, 1, 7, 32, 257} {
					for layout := range 5 {
						if m*n*k > 100000 && layout != r.IntN(5) {
							continue
						}
						testStrided(t, p, ws, r, m, n, k, layout)
					}
				}
			}
		}
	})
}

// testStrided checks a batch of [2,3] products. The layouts: row major; A, B or
// both transposed; and no stride equal to 1. A is broadcast over the first
// batch dimension and B over the second.
func testStrided(t *testing.T, p *pool.Pool, ws *Workspace, r *rand.Rand, m, n, k, layout int) {
	t.Helper()
	s := StridedArgs{M: m, N: n, K: k, Batch: []int{2, 3}, Act: Activation(r.IntN(int(activations)))}
	s.ARow, s.ACol, s.BRow, s.BCol = k+1, 1, n+2, 1
	if layout&1 != 0 {
		s.ARow, s.ACol = 1, m+1
	}
	if layout&2 != 0 {
		s.BRow, s.BCol = 1, k+3
	}
	if layout == 4 {
		s.ARow, s.ACol, s.BRow, s.BCol = 2*k+1, 2, 3, 3*k+1
	}
	s.A = random(r, 3*((m+2)*(2*k+2)))
	s.B = random(r, 2*((n+3)*(3*k+3)))
	s.ABatch, s.BBatch = []int{0, len(s.A) / 3}, []int{len(s.B) / 2, 0}
	s.Ldc, s.Ldr = n+4, n
	c := newGuarded(6*m, n, s.Ldc)
	s.C = c.data()
	s.CBatch = []int{3 * m * s.Ldc, m * s.Ldc}
	if r.IntN(2) == 0 {
		s.Bias = random(r, n)
	}
	if r.IntN(2) == 0 {
		s.Residual, s.RBatch = random(r, m*n+m), []int{m, 0}
	}
	if r.IntN(2) == 0 {
		s.Alpha = -1.75
	}
	RunStrided(p, &s, ws)
	for b0 := range 2 {
		for b1 := range 3 {
			a, b := s.A[b1*s.ABatch[1]:], s.B[b0*s.BBatch[0]:]
			var residual func(i, j int) float64
			if s.Residual != nil {
				residual = func(i, j int) float64 { return float64(s.Residual[b0*m+i*s.Ldr+j]) }
			}
			verify(t, fmt.Sprintf("M=%d N=%d K=%d layout %d batch %d,%d", m, n, k, layout, b0, b1), m, n, k,
				func(i, j int) float64 { return float64(a[i*s.ARow+j*s.ACol]) },
				func(i, j int) float64 { return float64(b[i*s.BRow+j*s.BCol]) },
				s.Bias, residual, s.Act, s.Alpha,
				func(i, j int) float32 { return s.C[b0*s.CBatch[0]+b1*s.CBatch[1]+i*s.Ldc+j] })
		}
	}
	c.check(t)
}

func TestStridedManySmall(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	ws := NewWorkspace(2)
	eachISA(t, func(t *testing.T) {
		const batch, m, n, k = 700, 3, 5, 4
		r := rand.New(rand.NewPCG(23, 24))
		a, b, c := random(r, batch*m*k), random(r, batch*k*n), newGuarded(batch*m, n, n)
		s := StridedArgs{M: m, N: n, K: k, Batch: []int{batch}, A: a, ABatch: []int{m * k}, ARow: k, ACol: 1,
			B: b, BBatch: []int{k * n}, BRow: n, BCol: 1, C: c.data(), CBatch: []int{m * n}, Ldc: n}
		RunStrided(p, &s, ws)
		for x := range batch {
			verify(t, fmt.Sprint("batch ", x), m, n, k,
				func(i, j int) float64 { return float64(a[x*m*k+i*k+j]) },
				func(i, j int) float64 { return float64(b[x*k*n+i*n+j]) },
				nil, nil, None, 1,
				func(i, j int) float32 { return s.C[x*m*n+i*n+j] })
		}
		c.check(t)
	})
}

// TestStridedEqualsRun: packing on the fly changes no bit, nor do the workers.
func TestStridedEqualsRun(t *testing.T) {
	const m, n, k = 200, 333, 700
	r := rand.New(rand.NewPCG(25, 26))
	a, b := random(r, m*k), random(r, k*n)
	packed := make([]float32, PackedSize(k, n))
	Pack(packed, b, k, n, n, false)
	eachISA(t, func(t *testing.T) {
		want := make([]float32, m*n)
		Run(nil, &Args{M: m, N: n, K: k, A: a, Lda: k, B: packed, C: want, Ldc: n}, NewWorkspace(1))
		for _, workers := range []int{1, 2, 3, 16} {
			p := pool.New(workers)
			got := make([]float32, m*n)
			RunStrided(p, &StridedArgs{M: m, N: n, K: k, A: a, ARow: k, ACol: 1, B: b, BRow: n, BCol: 1, C: got, Ldc: n}, NewWorkspace(workers))
			p.Close()
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("workers=%d: element %d is %v, expected %v", workers, i, got[i], want[i])
				}
			}
		}
	})
}

func TestStridedCheck(t *testing.T) {
	one := []int{1}
	good := StridedArgs{M: 2, N: 3, K: 4, Batch: []int{2}, ABatch: []int{8}, BBatch: []int{12}, CBatch: []int{6},
		A: make([]float32, 16), ARow: 4, ACol: 1, B: make([]float32, 24), BRow: 3, BCol: 1, C: make([]float32, 12), Ldc: 3}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*StridedArgs){
		"negative size":                func(a *StridedArgs) { a.K = -1 },
		"negative batch size":          func(a *StridedArgs) { a.Batch = []int{-1} },
		"A has 2 batch strides":        func(a *StridedArgs) { a.ABatch = []int{1, 1} },
		"negative strides (-3, 1)":     func(a *StridedArgs) { a.BRow = -3 },
		"negative batch stride":        func(a *StridedArgs) { a.BBatch = []int{-3} },
		"has 15 elements: expected 16": func(a *StridedArgs) { a.A = a.A[:15] },
		"C[2,3] with strides":          func(a *StridedArgs) { a.C = a.C[:11] },
		"Residual[2,3]":                func(a *StridedArgs) { a.Residual, a.RBatch, a.Ldr = make([]float32, 3), one, 3 },
		"bias has":                     func(a *StridedArgs) { a.Bias = make([]float32, 1) },
		"unknown activation":           func(a *StridedArgs) { a.Act = 77 },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("expected an error with %q, got %v", want, err)
		}
	}
}
