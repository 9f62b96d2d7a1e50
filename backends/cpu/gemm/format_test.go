package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

var narrow = []Format{BF16, Int8, Int4}

func pack(t testing.TB, f Format, b []float32, k, n, ldb int, trans bool) []byte {
	t.Helper()
	q := view[byte](make([]uint64, (f.Size(k, n)+7)/8))[:f.Size(k, n)]
	if err := f.Pack(q, b, k, n, ldb, trans); err != nil {
		t.Fatal(err)
	}
	return q
}

// rounded is a row of A as products in a format see it, by the definition in the
// comment of Format.
func rounded(f Format, row []float32) []float64 {
	out := make([]float64, len(row))
	for g := 0; g < len(row); g += group {
		part := row[g:min(g+group, len(row))]
		most := float32(0)
		for _, v := range part {
			most = max(most, abs(v))
		}
		for i, v := range part {
			switch {
			case f == BF16:
				out[g+i] = float64(tensor.BF16ToF32(tensor.F32ToBF16(v)))
			case most > 0:
				out[g+i] = math.RoundToEven(float64(v*(127/most))) * float64(most/127)
			}
		}
	}
	return out
}

func testFormat(t *testing.T, p *pool.Pool, ws *Workspace, r *rand.Rand, f Format, m, n, k int, act Activation, extras int, scaled bool) {
	t.Helper()
	lda, ldb, ldc, ldr := k+r.IntN(3), n+r.IntN(3), n+r.IntN(5), n+r.IntN(3)
	a, b := random(r, m*lda), random(r, k*ldb)
	c := newGuarded(m, n, ldc)
	args := Args{M: m, N: n, K: k, A: a, Lda: lda, Format: f, Q: pack(t, f, b, k, n, ldb, false), C: c.data(), Ldc: ldc, Act: act}
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
	columns, rows := make([][]float32, n), make([][]float64, m)
	for j := range columns {
		columns[j] = make([]float32, k)
		f.Column(columns[j], args.Q, k, j)
	}
	for i := range rows {
		rows[i] = rounded(f, a[i*lda:][:k])
	}
	verify(t, fmt.Sprintf("%s M=%d N=%d K=%d act=%d extras=%d", f, m, n, k, act, extras), m, n, k,
		func(i, j int) float64 { return rows[i][j] },
		func(i, j int) float64 { return float64(columns[j][i]) },
		args.Bias, residual, act, args.Alpha,
		func(i, j int) float32 { return args.C[i*ldc+j] })
	c.check(t)
}

func TestFormatSizes(t *testing.T) {
	p := pool.New(3)
	defer p.Close()
	ws := NewWorkspace(3)
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(21, 22))
		for _, f := range narrow {
			for _, m := range []int{0, 1, 2, 3, 7, 8, 14, 15, 17, 40} {
				for _, n := range []int{0, 1, 31, 32, 33, 100} {
					for _, k := range []int{0, 1, 2, 31, 32, 33, 64, 100, 257} {
						testFormat(t, p, ws, r, f, m, n, k, Activation(r.IntN(int(activations))), r.IntN(4), r.IntN(2) == 0)
					}
				}
			}
			testFormat(t, p, ws, r, f, 100, 550, 1030, SiLU, 3, true)
		}
		testFormat(t, p, ws, r, BF16, 260, 544, 300, None, 0, false)
		testFormat(t, p, ws, r, BF16, 530, 301, 700, GELUErf, 1, true)
	})
}

// TestSlabs has more rows than fit into converted memory at once.
func TestSlabs(t *testing.T) {
	ws := NewWorkspace(1)
	r := rand.New(rand.NewPCG(23, 24))
	const k = 40000
	for _, f := range narrow {
		m := slabBytes/f.rowBytes(k) + 9
		testFormat(t, nil, ws, r, f, m, 5, k, None, 3, false)
	}
}

// TestFormatSameBits: neither workers nor the number of rows change a result; and
// AVX2 and AVX-512 agree, in the formats with exact products of integers.
func TestFormatSameBits(t *testing.T) {
	const n, k, most = 101, 530, 60
	r := rand.New(rand.NewPCG(25, 26))
	a, b, bias := random(r, most*k), random(r, k*n), random(r, n)
	for _, f := range narrow {
		packed := pack(t, f, b, k, n, n, false)
		first := map[isa.ISA][]float32{}
		eachISA(t, func(t *testing.T) {
			run := func(workers, m int) []float32 {
				p := pool.New(workers)
				defer p.Close()
				c := make([]float32, m*n)
				Run(p, &Args{M: m, N: n, K: k, A: a, Lda: k, Format: f, Q: packed, C: c, Ldc: n, Bias: bias, Act: SiLU}, NewWorkspace(workers))
				return c
			}
			want := run(1, most)
			first[isa.Level()] = want
			for _, m := range []int{1, 2, 7, 8, 16, 17, most} {
				for _, workers := range []int{1, 2, 3, 16} {
					for i, v := range run(workers, m) {
						if math.Float32bits(v) != math.Float32bits(want[i]) {
							t.Fatalf("%s M=%d workers=%d: element %d is %v, expected %v", f, m, workers, i, v, want[i])
						}
					}
				}
			}
		})
		if wide, ok := first[isa.AVX512]; ok {
			for i, v := range first[isa.AVX2] {
				if v != wide[i] {
					t.Errorf("%s: element %d is %v with AVX2, %v with AVX-512", f, i, v, wide[i])
					break
				}
			}
		}
	}
}

// TestTallSameBits: neither do they with more rows than a worker holds at a time, nor
// does it matter whether rows of C start with a line of the cache.
func TestTallSameBits(t *testing.T) {
	const n, k, most = 416, 531, 600
	r := rand.New(rand.NewPCG(35, 36))
	a, bias, residual := random(r, most*k), random(r, n), random(r, most*n)
	packed := pack(t, BF16, random(r, k*n), k, n, n, false)
	eachISA(t, func(t *testing.T) {
		for _, added := range []bool{false, true} {
			run := func(workers, m, ldc int) []float32 {
				p := pool.New(workers)
				defer p.Close()
				args := Args{M: m, N: n, K: k, A: a, Lda: k, Format: BF16, Q: packed, C: make([]float32, m*ldc), Ldc: ldc}
				if added {
					args.Bias, args.Residual, args.Ldr = bias, residual, n
				}
				Run(p, &args, NewWorkspace(workers))
				return args.C
			}
			want := run(1, most, n)
			for _, m := range []int{17, 33, 64, 100, 255, 300, most} {
				for _, workers := range []int{1, 3, 16} {
					for _, ldc := range []int{n, n + 3} {
						got := run(workers, m, ldc)
						for i := range m * n {
							if v := got[i/n*ldc+i%n]; math.Float32bits(v) != math.Float32bits(want[i]) {
								t.Fatalf("M=%d workers=%d ldc=%d: element %d is %v, expected %v", m, workers, ldc, i, v, want[i])
							}
						}
					}
				}
			}
		}
	})
}

func TestFormatNonFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	eachISA(t, func(t *testing.T) {
		for _, f := range narrow {
			const n, k = 40, 70
			b := make([]float32, k*n)
			for i := range b {
				b[i] = 1
			}
			a := make([]float32, 4*k)
			for i := range a {
				a[i] = 1e-42 // denormal
			}
			a[3], a[k+69], a[2*k+5] = nan, inf, 2
			c := make([]float32, 4*n)
			Run(nil, &Args{M: 4, N: n, K: k, A: a, Lda: k, Format: f, Q: pack(t, f, b, k, n, n, false), C: c, Ldc: n}, NewWorkspace(1))
			for j := range n {
				if c[j] == c[j] || c[n+j]-c[n+j] == 0 || math.Abs(float64(c[2*n+j]-2)) > 0.02 || abs(c[3*n+j]) > 1e-38 {
					t.Fatalf("%s column %d: %v %v %v %v, expected NaN, infinite or NaN, 2, 0", f, j, c[j], c[n+j], c[2*n+j], c[3*n+j])
				}
			}
		}
	})
	for _, f := range narrow {
		err := f.Pack(make([]byte, f.Size(2, 40)), append(make([]float32, 79), nan), 2, 40, 40, false)
		if wrong := f == BF16; (err == nil) != wrong {
			t.Errorf("%s of a NaN: %v", f, err)
		} else if err != nil && !strings.Contains(err.Error(), "columns 32 to 39: a weight is NaN (row 1, column 7") {
			t.Error(err)
		}
	}
}

// TestFormatError: what a format costs on normally distributed numbers.
func TestFormatError(t *testing.T) {
	const m, n, k = 8, 64, 768
	r := rand.New(rand.NewPCG(27, 28))
	a, b := random(r, m*k), random(r, k*n)
	exact := make([]float32, PackedSize(k, n))
	Pack(exact, b, k, n, n, false)
	want, got := make([]float32, m*n), make([]float32, m*n)
	Run(nil, &Args{M: m, N: n, K: k, A: a, Lda: k, B: exact, C: want, Ldc: n}, NewWorkspace(1))
	for f, limit := range map[Format]float64{BF16: 0.003, Int8: 0.011, Int4: 0.09} {
		Run(nil, &Args{M: m, N: n, K: k, A: a, Lda: k, Format: f, Q: pack(t, f, b, k, n, n, false), C: got, Ldc: n}, NewWorkspace(1))
		var diff, size float64
		for i := range want {
			diff += float64(got[i]-want[i]) * float64(got[i]-want[i])
			size += float64(want[i]) * float64(want[i])
		}
		if e := math.Sqrt(diff / size); e > limit {
			t.Errorf("%s: relative error %.4f, expected at most %g", f, e, limit)
		} else {
			t.Logf("%s: relative error %.5f", f, e)
		}
	}
}

func TestFormatPack(t *testing.T) {
	r := rand.New(rand.NewPCG(29, 30))
	const k, n = 45, 70
	b := random(r, k*n)
	across := make([]float32, k*n)
	for i := range k {
		for j := range n {
			across[j*k+i] = b[i*n+j]
		}
	}
	for _, f := range []Format{F32, BF16, Int8, Int4} {
		q := pack(t, f, b, k, n, n, false)
		if string(q) != string(pack(t, f, across, k, n, k, true)) {
			t.Errorf("%s: packing the transpose gives other bytes", f)
		}
		col := make([]float32, k)
		for j := range n {
			f.Column(col, q, k, j)
			for i, v := range col {
				limit := map[Format]float64{F32: 0, BF16: 0.004 * math.Abs(float64(b[i*n+j])), Int8: 0.02, Int4: 0.45}[f]
				if math.Abs(float64(v-b[i*n+j])) > limit {
					t.Fatalf("%s: row %d column %d is %v, expected %v", f, i, j, v, b[i*n+j])
				}
			}
		}
		if g, err := ParseFormat(f.String()); g != f || err != nil {
			t.Errorf("ParseFormat(%s) = %v, %v", f, g, err)
		}
	}
	if _, err := ParseFormat("int3"); err == nil || !strings.Contains(err.Error(), "expected f32, bf16, int8, int4") {
		t.Error(err)
	}
}

func TestFormatAllocatesNothing(t *testing.T) {
	ws := NewWorkspace(1)
	r := rand.New(rand.NewPCG(31, 32))
	const n, k = 200, 300
	a, b, c := random(r, 64*k), random(r, k*n), make([]float32, 64*n)
	for _, f := range narrow {
		ws.Reserve(f, k)
		args := Args{M: 64, N: n, K: k, A: a, Lda: k, Format: f, Q: pack(t, f, b, k, n, n, false), C: c, Ldc: n}
		if got := testing.AllocsPerRun(10, func() { Run(nil, &args, ws) }); got != 0 {
			t.Errorf("%s: %v allocations", f, got)
		}
	}
}
