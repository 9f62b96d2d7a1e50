package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// eachISA runs a test once for every instruction set of this processor.
func eachISA(t *testing.T, f func(t *testing.T)) {
	was := isa.Level()
	defer isa.Force(was)
	for i := isa.Portable; i <= isa.Best(); i++ {
		t.Run(i.String(), func(t *testing.T) {
			if err := ForceISA(i.String()); err != nil {
				t.Fatal(err)
			}
			f(t)
		})
	}
}

func random(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

const (
	canary = float32(-12345.5)
	guard  = 40 // elements around every output, and between its rows
)

// guarded is an output matrix amid canaries; rows are ld apart.
type guarded struct {
	all            []float32
	rows, cols, ld int
}

func newGuarded(rows, cols, ld int) *guarded {
	g := &guarded{make([]float32, 2*guard+max(rows*ld, 1)), rows, cols, ld}
	for i := range g.all {
		g.all[i] = canary
	}
	return g
}

// data ends with the last element of the matrix.
func (g *guarded) data() []float32 {
	n := 0
	if g.rows > 0 {
		n = (g.rows-1)*g.ld + g.cols
	}
	return g.all[guard : guard+n : guard+n]
}

func (g *guarded) check(t *testing.T) {
	t.Helper()
	for i, v := range g.all {
		at := i - guard
		inside := at >= 0 && g.ld > 0 && at/g.ld < g.rows && at%g.ld < g.cols
		if !inside && v != canary {
			t.Fatalf("C[%d,%d] rows %d apart: wrote outside, at %d", g.rows, g.cols, g.ld, at)
		}
	}
}

// reference is act(x) in float64.
func reference(act Activation, x float64) float64 {
	switch act {
	case ReLU:
		return math.Max(x, 0)
	case SiLU:
		return x / (1 + math.Exp(-x))
	case GELUErf:
		return x / 2 * math.Erfc(-x/math.Sqrt2)
	case GELUTanh:
		return x / (1 + math.Exp(-2*math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	case Sigmoid:
		return 1 / (1 + math.Exp(-x))
	case Softplus:
		return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x)))
	}
	return x
}

// epsilon is the unit roundoff of float32.
const epsilon = 1.0 / (1 << 24)

// verify compares one product with float64. The bound is the standard one for
// a chain of n operations, n*eps*sum|terms|, and every activation here changes
// by at most 1.13 times its argument's change and is accurate to some ulp.
func verify(t *testing.T, what string, m, n, k int, a, b func(i, j int) float64, bias []float32, residual func(i, j int) float64, act Activation, alpha float32, got func(i, j int) float32) {
	t.Helper()
	if alpha == 0 {
		alpha = 1
	}
	for i := range m {
		for j := range n {
			var sum, size float64
			for p := range k {
				v := a(i, p) * b(p, j)
				sum += v
				size += math.Abs(v)
			}
			sum *= float64(alpha)
			size *= math.Abs(float64(alpha))
			if bias != nil {
				sum += float64(bias[j])
				size += math.Abs(float64(bias[j]))
			}
			want := reference(act, sum)
			limit := 1.2*float64(k+3)*epsilon*size + 8*epsilon*math.Abs(want)
			if residual != nil {
				want += residual(i, j)
				limit += epsilon * (math.Abs(want) + math.Abs(residual(i, j)))
			}
			if diff := math.Abs(float64(got(i, j)) - want); !(diff <= limit+1e-37) {
				t.Fatalf("%s: C[%d,%d] is %v, expected %v: off by %.3g, limit %.3g", what, i, j, got(i, j), want, diff, limit)
			}
		}
	}
}

var (
	testM = []int{0, 1, 2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 17, 31, 100}
	testN = []int{0, 1, 2, 7, 13, 31, 32, 33, 64, 100, 257}
	testK = []int{0, 1, 2, 3, 7, 15, 33, 257}
)

func TestRunSizes(t *testing.T) {
	p := pool.New(3)
	defer p.Close()
	ws := NewWorkspace(3)
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for _, m := range testM {
			for _, n := range testN {
				for _, k := range testK {
					testRun(t, p, ws, r, m, n, k, Activation(r.IntN(int(activations))), r.IntN(4), r.IntN(2) == 0)
				}
			}
		}
	})
}

func TestRunLarger(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	ws := NewWorkspace(2)
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for _, s := range [][3]int{{257, 257, 257}, {170, 100, 513}, {337, 64, 31}, {64, 1100, 100}, {16, 160, 1030}, {17, 160, 1030}, {45, 550, 1024}, {60, 40, 512}} {
			testRun(t, p, ws, r, s[0], s[1], s[2], SiLU, 3, true)
		}
	})
}

func TestRunEpilogues(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	ws := NewWorkspace(2)
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		for act := range activations {
			for extras := range 4 {
				for _, scaled := range []bool{false, true} {
					testRun(t, p, ws, r, 5, 70, 40, act, extras, scaled)
					testRun(t, p, ws, r, 30, 70, 300, act, extras, scaled)
					testRun(t, p, ws, r, 3, 33, 0, act, extras, scaled)
				}
			}
		}
	})
}

// testRun checks one Run. Bit 0 of extras asks for a bias, bit 1 for a residual.
func testRun(t *testing.T, p *pool.Pool, ws *Workspace, r *rand.Rand, m, n, k int, act Activation, extras int, scaled bool) {
	t.Helper()
	lda, ldb, ldc, ldr := k+r.IntN(3), n+r.IntN(3), n+r.IntN(5), n+r.IntN(3)
	a, b := random(r, m*lda), random(r, k*ldb)
	c := newGuarded(m, n, ldc)
	args := Args{M: m, N: n, K: k, A: a, Lda: lda, B: make([]float32, PackedSize(k, n)), C: c.data(), Ldc: ldc, Act: act}
	Pack(args.B, b, k, n, ldb, false)
	if extras&1 != 0 {
		args.Bias = random(r, n)
	}
	var residual func(i, j int) float64
	if extras&2 != 0 {
		args.Residual, args.Ldr = random(r, m*ldr), ldr
		residual = func(i, j int) float64 { return float64(args.Residual[i*ldr+j]) }
	}
	if scaled {
		args.Alpha = 0.375
	}
	Run(p, &args, ws)
	what := fmt.Sprintf("M=%d N=%d K=%d act=%d extras=%d", m, n, k, act, extras)
	verify(t, what, m, n, k,
		func(i, j int) float64 { return float64(a[i*lda+j]) },
		func(i, j int) float64 { return float64(b[i*ldb+j]) },
		args.Bias, residual, act, args.Alpha,
		func(i, j int) float32 { return args.C[i*ldc+j] })
	c.check(t)
}

func TestResidualInPlace(t *testing.T) {
	ws := NewWorkspace(1)
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 8))
		for _, biased := range []bool{false, true} {
			for _, m := range []int{3, 40} {
				const n, k = 70, 530
				a, b, c := random(r, m*k), random(r, k*n), random(r, m*n)
				before := append([]float32(nil), c...)
				packed := make([]float32, PackedSize(k, n))
				Pack(packed, b, k, n, n, false)
				var bias []float32
				if biased {
					bias = b[:n]
				}
				Run(nil, &Args{M: m, N: n, K: k, A: a, Lda: k, B: packed, C: c, Ldc: n, Bias: bias, Residual: c, Ldr: n}, ws)
				verify(t, fmt.Sprintf("M=%d bias %v", m, biased), m, n, k,
					func(i, j int) float64 { return float64(a[i*k+j]) },
					func(i, j int) float64 { return float64(b[i*n+j]) },
					bias, func(i, j int) float64 { return float64(before[i*n+j]) }, None, 1,
					func(i, j int) float32 { return c[i*n+j] })
			}
		}
	})
}

func TestPackTransposed(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, k := range []int{0, 1, 7, 33, 100} {
		for _, n := range []int{0, 1, 31, 32, 33, 70} {
			b := random(r, (k+2)*n)
			got := make([]float32, PackedSize(k, n))
			for i := range got {
				got[i] = canary
			}
			Pack(got, b, k, n, k+2, true)
			for at, v := range got {
				p, i, j := at/(PanelWidth*k), at/PanelWidth%k, at%PanelWidth
				want := float32(0)
				if col := p*PanelWidth + j; col < n {
					want = b[col*(k+2)+i]
				}
				if v != want {
					t.Fatalf("K=%d N=%d: panel %d row %d column %d is %v, expected %v", k, n, p, i, j, v, want)
				}
			}
		}
	}
}

// TestAssemblyAgrees: the two assembly kernels round alike.
func TestAssemblyAgrees(t *testing.T) {
	if isa.Best() < isa.AVX512 {
		t.Skip("needs AVX-512 to compare with AVX2")
	}
	defer isa.Force(isa.Level())
	r := rand.New(rand.NewPCG(15, 16))
	const m, n, k = 37, 130, 1100
	a, b, bias, residual := random(r, m*k), random(r, k*n), random(r, n), random(r, m*n)
	packed := make([]float32, PackedSize(k, n))
	Pack(packed, b, k, n, n, false)
	var got [2][]float32
	for i, level := range []isa.ISA{isa.AVX2, isa.AVX512} {
		if err := isa.Force(level); err != nil {
			t.Fatal(err)
		}
		got[i] = make([]float32, m*n)
		Run(nil, &Args{M: m, N: n, K: k, A: a, Lda: k, B: packed, C: got[i], Ldc: n, Bias: bias, Residual: residual, Ldr: n, Alpha: 0.7}, NewWorkspace(1))
	}
	for i := range got[0] {
		if math.Float32bits(got[0][i]) != math.Float32bits(got[1][i]) {
			t.Fatalf("element %d: %v with AVX2, %v with AVX-512", i, got[0][i], got[1][i])
		}
	}
}

// TestSameBits: neither the workers nor the number of rows change a result.
func TestSameBits(t *testing.T) {
	const n, k, most = 333, 700, 200
	r := rand.New(rand.NewPCG(11, 12))
	a, b, bias := random(r, most*k), random(r, k*n), random(r, n)
	packed := make([]float32, PackedSize(k, n))
	Pack(packed, b, k, n, n, false)
	eachISA(t, func(t *testing.T) {
		run := func(workers, m int) []float32 {
			p := pool.New(workers)
			defer p.Close()
			c := make([]float32, m*n)
			Run(p, &Args{M: m, N: n, K: k, A: a, Lda: k, B: packed, C: c, Ldc: n, Bias: bias, Act: SiLU}, NewWorkspace(workers))
			return c
		}
		want := run(1, most)
		for _, m := range []int{1, 2, 8, 15, 16, 17, 100, most} {
			for _, workers := range []int{1, 2, 3, 16} {
				for i, v := range run(workers, m) {
					if math.Float32bits(v) != math.Float32bits(want[i]) {
						t.Fatalf("M=%d workers=%d: element %d is %v, expected %v as with M=%d on one worker", m, workers, i, v, want[i], most)
					}
				}
			}
		}
	})
}

func TestNonFinite(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		const n, k = 40, 3
		inf := float32(math.Inf(1))
		a := []float32{1, inf, 0, 1, 2, 3}
		b := make([]float32, k*n)
		for i := range b {
			b[i] = 1
		}
		packed := make([]float32, PackedSize(k, n))
		Pack(packed, b, k, n, n, false)
		c := make([]float32, 2*n)
		Run(nil, &Args{M: 2, N: n, K: k, A: a, Lda: k, B: packed, C: c, Ldc: n}, NewWorkspace(1))
		for j := range n {
			if c[j] != inf || c[n+j] != 6 {
				t.Fatalf("column %d: %v, %v; expected +Inf, 6", j, c[j], c[n+j])
			}
		}
	})
}

func TestAllocatesNothing(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	ws := NewWorkspace(2)
	r := rand.New(rand.NewPCG(13, 14))
	const n, k = 200, 300
	a, b, c := random(r, 64*k), random(r, k*n), make([]float32, 64*n)
	packed := make([]float32, PackedSize(k, n))
	Pack(packed, b, k, n, n, false)
	eachISA(t, func(t *testing.T) {
		for _, m := range []int{1, 64} {
			args := Args{M: m, N: n, K: k, A: a, Lda: k, B: packed, C: c, Ldc: n, Bias: b[:n], Act: GELUErf}
			if got := testing.AllocsPerRun(10, func() { Run(p, &args, ws) }); got != 0 {
				t.Errorf("Run with M=%d: %v allocations", m, got)
			}
			batch, strides := []int{2}, []int{0}
			s := StridedArgs{M: m, N: n, K: k, Batch: batch, ABatch: strides, BBatch: strides, CBatch: strides, A: a, ARow: k, ACol: 1, B: b, BRow: n, BCol: 1, C: c, Ldc: n}
			if got := testing.AllocsPerRun(10, func() { RunStrided(nil, &s, ws) }); got != 0 {
				t.Errorf("RunStrided with M=%d: %v allocations", m, got)
			}
		}
	})
}

func TestCheck(t *testing.T) {
	good := Args{M: 2, N: 3, K: 4, A: make([]float32, 8), Lda: 4, B: make([]float32, 128), C: make([]float32, 6), Ldc: 3}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Args){
		"negative size":              func(a *Args) { a.M = -1 },
		"unknown activation":         func(a *Args) { a.Act = 99 },
		"A[2,4] with rows 4 apart":   func(a *Args) { a.A = a.A[:7] },
		"rows of A[2,4] are 3 apart": func(a *Args) { a.Lda = 3 },
		"C[2,3] with rows 3 apart":   func(a *Args) { a.C = a.C[:5] },
		"packed B[4,3] has 127":      func(a *Args) { a.B = a.B[:127] },
		"bias has 2 elements":        func(a *Args) { a.Bias = make([]float32, 2) },
		"Residual is C":              func(a *Args) { a.Residual, a.Ldr, a.Act = a.C, 3, SiLU },
		"Residual[2,3]":              func(a *Args) { a.Residual, a.Ldr = make([]float32, 2), 3 },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("expected an error with %q, got %v", want, err)
		}
	}
}
