package norm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

func eachISA(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	was := isa.Level()
	defer func() { _ = isa.Force(was) }()
	for _, i := range []isa.ISA{isa.Portable, isa.AVX2, isa.AVX512} {
		if err := isa.Force(i); err != nil {
			t.Logf("NOT TESTED: %v", err)
			continue
		}
		t.Run(i.String(), f)
	}
}

const sentinel = float32(-12345.678)

func normals(r *rand.Rand, n int, scale, offset float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64()*scale + offset)
	}
	return x
}

func filled(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = sentinel
	}
	return x
}

// compare checks rows x d of got, limit relative to scale(r, c), and that the
// gaps between rows were left alone.
func compare(t *testing.T, name string, got []float32, rows, d, ld int, limit float64, want func(r, c int) (v, scale float64)) {
	t.Helper()
	worst := 0.0
	for i, v := range got {
		r, c := i/ld, i%ld
		if r >= rows || c >= d {
			if v != sentinel {
				t.Fatalf("%s: wrote [%d,%d]", name, r, c)
			}
			continue
		}
		w, scale := want(r, c)
		e := math.Abs(float64(v)-w) / scale
		if !(e <= limit) {
			t.Fatalf("%s: [%d,%d] = %g, want %g: relative error %.3g, limit %.3g", name, r, c, v, w, e, limit)
		}
		worst = max(worst, e)
	}
	if d == 4099 {
		t.Logf("%-40s %.3g", name, worst)
	}
}

func silu(x float64) float64 { return x / (1 + math.Exp(-x)) }

var widths = []int{1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 511, 513, 768, 1536, 4099}

const eps = float32(1e-5)

func TestRMSNorm(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 1))
		for _, d := range widths {
			const rows = 3
			ldx, ldy := d+3, d+5
			x, b, w := normals(r, rows*ldx, 2, 0.3), normals(r, rows*ldx, 1, 0), normals(r, d, 1, 1)
			var plain, added [rows]float64
			root := func(memo *[rows]float64, i int, at func(c int) float64) float64 {
				if memo[i] == 0 {
					ss := 0.0
					for c := range d {
						ss += at(c) * at(c)
					}
					memo[i] = 1 / math.Sqrt(ss/float64(d)+float64(eps))
				}
				return memo[i]
			}
			for _, weight := range [][]float32{w, nil} {
				y := filled(rows * ldy)
				RMSNorm(y, x, weight, rows, d, ldy, ldx, eps)
				compare(t, fmt.Sprintf("RMSNorm d=%d", d), y, rows, d, ldy, 2.5e-7, func(i, c int) (float64, float64) {
					v := float64(x[i*ldx+c]) * root(&plain, i, func(c int) float64 { return float64(x[i*ldx+c]) })
					if weight != nil {
						v *= float64(w[c])
					}
					return v, math.Abs(v) + 1e-30
				})
				sum := filled(rows * ldy)
				for i := range y {
					y[i] = sentinel
				}
				AddRMSNorm(y, sum, x, b, weight, rows, d, ldy, ldy, ldx, ldx, eps)
				at := func(i, c int) float64 { return float64(x[i*ldx+c] + b[i*ldx+c]) }
				compare(t, "AddRMSNorm sum", sum, rows, d, ldy, 0, func(i, c int) (float64, float64) { return at(i, c), 1 })
				compare(t, fmt.Sprintf("AddRMSNorm d=%d", d), y, rows, d, ldy, 2.5e-7, func(i, c int) (float64, float64) {
					v := at(i, c) * root(&added, i, func(c int) float64 { return at(i, c) })
					if weight != nil {
						v *= float64(w[c])
					}
					return v, math.Abs(v) + 1e-30
				})
			}
			// In place.
			in := append([]float32(nil), x...)
			y := filled(rows * ldx)
			RMSNorm(y, x, w, rows, d, ldx, ldx, eps)
			RMSNorm(in, in, w, rows, d, ldx, ldx, eps)
			for i := range rows {
				for c := range d {
					if in[i*ldx+c] != y[i*ldx+c] {
						t.Fatalf("d=%d: in place differs at [%d,%d]", d, i, c)
					}
				}
			}
		}
	})
}

func TestLayerNorm(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(2, 2))
		for _, d := range widths {
			for _, offset := range []float64{0, 1000} {
				const rows = 3
				ldx, ldy := d+2, d+1
				x, w, b := normals(r, rows*ldx, 2, offset), normals(r, d, 1, 0), normals(r, d, 1, 0)
				var means, rstds [rows]float64
				for i := range rows {
					ss := 0.0
					for k := range d {
						means[i] += float64(x[i*ldx+k])
					}
					means[i] /= float64(d)
					for k := range d {
						ss += (float64(x[i*ldx+k]) - means[i]) * (float64(x[i*ldx+k]) - means[i])
					}
					rstds[i] = 1 / math.Sqrt(ss/float64(d)+float64(eps))
				}
				for _, bias := range [][]float32{b, nil} {
					y := filled(rows * ldy)
					LayerNorm(y, x, w, bias, rows, d, ldy, ldx, eps)
					compare(t, fmt.Sprintf("LayerNorm d=%d offset=%g", d, offset), y, rows, d, ldy, 3e-7, func(i, c int) (float64, float64) {
						mean, rstd := means[i], rstds[i]
						v := (float64(x[i*ldx+c]) - mean) * rstd * float64(w[c])
						// The deviation from a rounded mean carries an error of a
						// unit in the last place of itself or, corrected, of 1.
						scale := (math.Abs(float64(x[i*ldx+c])-mean)*rstd + 1) * (math.Abs(float64(w[c])) + 0.1)
						if d == 1 {
							// Nothing but rounding is left; eps bounds it.
							scale += math.Abs(offset) * rstd
						}
						if bias != nil {
							v += float64(b[c])
							scale += math.Abs(float64(b[c]))
						}
						return v, scale
					})
				}
			}
		}
	})
}

func TestGatedRMSNorm(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 3))
		for _, d := range widths {
			for _, groups := range []int{1, 2, 3, 4} {
				if d%groups != 0 {
					continue
				}
				for _, before := range []bool{false, true} {
					const rows = 3
					group := d / groups
					ldx, ldy, ldz := d+2, d+1, 2*d+3
					x, z, w := normals(r, rows*ldx, 2, 0), normals(r, rows*ldz, 2, 0), normals(r, d, 1, 0)
					sums := make([]float64, rows*groups)
					for i := range rows {
						for k := range d {
							v := float64(x[i*ldx+k])
							if !before {
								v *= silu(float64(z[i*ldz+k]))
							}
							sums[i*groups+k/group] += v * v
						}
					}
					y := filled(rows * ldy)
					GatedRMSNorm(y, x, z, w, rows, d, group, ldy, ldx, ldz, eps, before)
					compare(t, fmt.Sprintf("GatedRMSNorm d=%d groups=%d before=%v", d, groups, before), y, rows, d, ldy, 7e-7, func(i, c int) (float64, float64) {
						ss := sums[i*groups+c/group]
						v := float64(x[i*ldx+c]) * silu(float64(z[i*ldz+c])) * float64(w[c]) / math.Sqrt(ss/float64(group)+float64(eps))
						return v, math.Abs(v) + 1e-30
					})
				}
			}
		}
	})
}

// TestSpecialValues: a NaN or Inf spoils its own row and no other.
func TestSpecialValues(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		const rows, d = 3, 37
		r := rand.New(rand.NewPCG(4, 4))
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
			x, z, w := normals(r, rows*d, 1, 0), normals(r, rows*d, 1, 0), normals(r, d, 1, 0)
			x[d+5] = bad
			for name, f := range map[string]func(y []float32){
				"RMSNorm":           func(y []float32) { RMSNorm(y, x, w, rows, d, d, d, eps) },
				"AddRMSNorm":        func(y []float32) { AddRMSNorm(y, make([]float32, rows*d), x, z, w, rows, d, d, d, d, d, eps) },
				"LayerNorm":         func(y []float32) { LayerNorm(y, x, w, w, rows, d, d, d, eps) },
				"GatedRMSNorm":      func(y []float32) { GatedRMSNorm(y, x, z, w, rows, d, d, d, d, d, eps, false) },
				"GatedRMSNorm true": func(y []float32) { GatedRMSNorm(y, x, z, w, rows, d, d, d, d, d, eps, true) },
			} {
				y := make([]float32, rows*d)
				f(y)
				for i, v := range y {
					finite := !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0)
					if i/d != 1 && !finite {
						t.Fatalf("%s with %g in row 1: [%d,%d] = %g", name, bad, i/d, i%d, v)
					}
					if i == d+5 && v == v {
						t.Fatalf("%s: element that was %g became %g, want NaN", name, bad, v)
					}
				}
			}
		}
		// A row of zeros, and one whose values are all equal.
		y := filled(2 * d)
		x := make([]float32, 2*d)
		for i := range d {
			x[d+i] = 3.3
		}
		ones := make([]float32, d)
		for i := range ones {
			ones[i] = 1
		}
		LayerNorm(y, x, ones, nil, 2, d, d, d, eps)
		for i, v := range y {
			if !(math.Abs(float64(v)) < 1e-4) {
				t.Fatalf("LayerNorm of a constant row: [%d] = %g, want 0", i, v)
			}
		}
	})
}

func TestNoAllocation(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		const rows, d = 3, 100
		r := rand.New(rand.NewPCG(5, 5))
		x, z, w, y, s := normals(r, rows*d, 1, 0), normals(r, rows*d, 1, 0), normals(r, d, 1, 0), make([]float32, rows*d), make([]float32, rows*d)
		if n := testing.AllocsPerRun(10, func() {
			RMSNorm(y, x, w, rows, d, d, d, eps)
			AddRMSNorm(y, s, x, z, w, rows, d, d, d, d, d, eps)
			LayerNorm(y, x, w, w, rows, d, d, d, eps)
			GatedRMSNorm(y, x, z, w, rows, d, 50, d, d, d, eps, false)
			GatedRMSNorm(y, x, z, w, rows, d, 50, d, d, d, eps, true)
		}); n != 0 {
			t.Errorf("%g allocations per run", n)
		}
	})
}

// BenchmarkNorm has the shapes of a mamba2-130m layer: 64 rows, in cache.
func BenchmarkNorm(b *testing.B) {
	const rows, d, di = 64, 768, 1536
	r := rand.New(rand.NewPCG(6, 6))
	x, z, w, y, s := normals(r, rows*di, 1, 0), normals(r, rows*di, 1, 0), normals(r, di, 1, 0), make([]float32, rows*di), make([]float32, rows*di)
	run := func(name string, bytes int64, f func()) {
		b.Run(isa.Current().String()+"/"+name, func(b *testing.B) {
			b.SetBytes(bytes)
			for b.Loop() {
				f()
			}
		})
	}
	run("RMSNorm", 8*rows*d, func() { RMSNorm(y, x, w, rows, d, d, d, eps) })
	run("AddRMSNorm", 16*rows*d, func() { AddRMSNorm(y, s, x, z, w, rows, d, d, d, d, d, eps) })
	run("LayerNorm", 8*rows*d, func() { LayerNorm(y, x, w, w, rows, d, d, d, eps) })
	run("GatedRMSNorm", 12*rows*di, func() { GatedRMSNorm(y, x, z, w, rows, di, di, di, di, di, eps, false) })
	run("GatedRMSNormBefore", 12*rows*di, func() { GatedRMSNorm(y, x, z, w, rows, di, di, di, di, di, eps, true) })
}
