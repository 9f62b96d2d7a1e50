package conv

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

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

func normals(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// sentinel marks elements that nothing may write.
const sentinel = float32(-12345.678)

func filled(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = sentinel
	}
	return x
}

// reference is the definition in float64, with the sum of the magnitudes of the
// terms, the scale of the rounding error.
func reference(x, state, w, bias []float32, s Shape, t, c int) (y, scale float64) {
	if bias != nil {
		y = float64(bias[c])
		scale = math.Abs(y)
	}
	for j := range s.K {
		h := 0.0
		if i := t + j - (s.K - 1); i >= 0 {
			h = float64(x[i*s.LdX+c])
		} else if state != nil {
			h = float64(state[(t+j)*s.LdS+c])
		}
		y += float64(w[j*s.C+c]) * h
		scale += math.Abs(float64(w[j*s.C+c]) * h)
	}
	if s.SiLU {
		y = y / (1 + math.Exp(-y))
	}
	return y, scale
}

func TestCausal(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for k := 1; k <= MaxK; k++ {
			for _, c := range []int{1, 7, 8, 15, 16, 17, 33, 100} {
				for _, l := range []int{1, 2, 3, 4, 7, 13} {
					for v := range 8 {
						s := Shape{C: c, K: k, LdX: c + 3, LdY: c + 5, LdS: c + 2, SiLU: v&1 != 0}
						x, w := normals(r, l*s.LdX), normals(r, k*c)
						var state, bias []float32
						if v&2 != 0 && k > 1 {
							state = normals(r, (k-1)*s.LdS)
						}
						if v&4 != 0 {
							bias = normals(r, c)
						}
						y := filled(l*s.LdY + 64)
						Causal(y, x, state, w, bias, s, 0, l, 0, c)
						for i, got := range y {
							ti, ci := i/s.LdY, i%s.LdY
							if ti >= l || ci >= c {
								if got != sentinel {
									t.Fatalf("K=%d C=%d L=%d: wrote y[%d,%d]", k, c, l, ti, ci)
								}
								continue
							}
							want, scale := reference(x, state, w, bias, s, ti, ci)
							if d := math.Abs(float64(got) - want); !(d <= 5e-7*(scale+math.Abs(want))) {
								t.Fatalf("K=%d C=%d L=%d y[%d,%d] = %g, want %g", k, c, l, ti, ci, got, want)
							}
						}
						// Any division of the work gives the same bits.
						z := filled(len(y))
						for range 3 {
							t0, c0 := r.IntN(l+1), r.IntN(c+1)
							Causal(z, x, state, w, bias, s, 0, t0, 0, c0)
							Causal(z, x, state, w, bias, s, t0, l, 0, c0)
							Causal(z, x, state, w, bias, s, 0, t0, c0, c)
							Causal(z, x, state, w, bias, s, t0, l, c0, c)
							if !slices.Equal(y, z) {
								t.Fatalf("K=%d C=%d L=%d: cut at row %d, channel %d changes the result", k, c, l, t0, c0)
							}
						}
					}
				}
			}
		}
	})
}

// TestCausalSpecialValues: NaN and Inf reach the K rows that see them and no
// other element. The slices end where the data ends.
func TestCausalSpecialValues(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		for _, c := range []int{5, 16, 21} {
			s := Shape{C: c, K: 4, LdX: c, LdY: c, LdS: c, SiLU: true}
			x, w, y := make([]float32, 9*c), make([]float32, 4*c), make([]float32, 9*c)
			for i := range w {
				w[i] = 1
			}
			x[4*c+2] = float32(math.NaN())
			x[4*c+3] = float32(math.Inf(1))
			Causal(y, x, nil, w, nil, s, 0, 9, 0, c)
			for i, v := range y {
				ti, ci := i/c, i%c
				touched := ti >= 4 && ti < 8
				switch {
				case ci == 2 && touched:
					if v == v {
						t.Fatalf("C=%d y[%d,%d] = %g, want NaN", c, ti, ci, v)
					}
				case ci == 3 && touched:
					if !math.IsInf(float64(v), 1) {
						t.Fatalf("C=%d y[%d,%d] = %g, want +Inf", c, ti, ci, v)
					}
				case v != 0:
					t.Fatalf("C=%d y[%d,%d] = %g, want 0", c, ti, ci, v)
				}
			}
		}
	})
}

// TestStates feeds a sequence in pieces, through both outside layouts and token
// by token, and compares with one long run, bit for bit.
func TestStates(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		const l = 11
		for k := 1; k <= MaxK; k++ {
			for _, c := range []int{1, 5, 8, 19, 70} {
				for v := range 4 {
					s := Shape{C: c, K: k, LdX: c + 1, LdY: c, LdS: c, SiLU: v&1 != 0}
					x, w := normals(r, l*s.LdX), normals(r, k*c)
					var bias []float32
					if v&2 != 0 {
						bias = normals(r, c)
					}
					want := make([]float32, l*c)
					Causal(want, x, nil, w, bias, s, 0, l, 0, c)
					name := fmt.Sprintf("K=%d C=%d silu=%v bias=%v", k, c, s.SiLU, bias != nil)

					state := make([]float32, (k-1)*c)
					got := make([]float32, l*c)
					for _, cut := range [][2]int{{0, 1}, {1, 3}, {3, 4}, {4, l}} {
						n := cut[1] - cut[0]
						Causal(got[cut[0]*c:], x[cut[0]*s.LdX:], state, w, bias, s, 0, n, 0, c)
						NextState(state, x[cut[0]*s.LdX:], state, s, n, 0, c)
					}
					if !slices.Equal(got, want) {
						t.Fatalf("%s: pieces differ from the whole", name)
					}

					for _, width := range []int{k - 1, k} {
						// Three tokens at once, the rest one by one in place.
						outside := filled(c*width + 8)
						Causal(got, x, nil, w, bias, s, 0, 3, 0, c)
						WriteState(outside, x, nil, s, width, 3, 0, c)
						rows := make([]float32, (k-1)*c)
						ReadState(rows, outside, s, width, 0, c)
						inside := make([]float32, (k-1)*c)
						NextState(inside, x, nil, s, 3, 0, c)
						if !slices.Equal(rows, inside) {
							t.Fatalf("%s: state [C,%d] does not read back", name, width)
						}
						next := filled(len(outside))
						for i := 3; i < l; i++ {
							h := min(c/2, c)
							Step(got[i*c:], x[i*s.LdX:], next, outside, w, bias, c, k, width, s.SiLU, 0, h)
							Step(got[i*c:], x[i*s.LdX:], next, outside, w, bias, c, k, width, s.SiLU, h, c)
							Step(got[i*c:], x[i*s.LdX:], outside, outside, w, bias, c, k, width, s.SiLU, 0, c)
							if !slices.Equal(next, outside) {
								t.Fatalf("%s width=%d: state in place differs from the state in a new buffer", name, width)
							}
						}
						if !slices.Equal(got, want) {
							t.Fatalf("%s width=%d: decode differs from prefill", name, width)
						}
						last := filled(len(outside))
						WriteState(last, x, nil, s, width, l, 0, c)
						if !slices.Equal(last, outside) {
							t.Fatalf("%s width=%d: decode leaves another state than prefill", name, width)
						}
					}
				}
			}
		}
	})
}

func TestPack(t *testing.T) {
	src := []float32{1, 2, 3, 4, 5, 6}
	dst := make([]float32, 6)
	Pack(dst, src, 2, 3)
	if want := []float32{1, 4, 2, 5, 3, 6}; !slices.Equal(dst, want) {
		t.Fatalf("Pack = %v, want %v", dst, want)
	}
}

func TestNoAllocation(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		for _, k := range []int{4, 6} {
			s := Shape{C: 37, K: k, LdX: 37, LdY: 37, LdS: 37, SiLU: true}
			x, w, state := normals(r, 9*37), normals(r, k*37), normals(r, (k)*37)
			y := make([]float32, 9*37)
			if n := testing.AllocsPerRun(10, func() {
				Causal(y, x, state, w, nil, s, 0, 9, 0, 37)
				NextState(state, x, state, s, 9, 0, 37)
				Step(y, x, state, state, w, nil, 37, k, k, true, 0, 37)
			}); n != 0 {
				t.Errorf("K=%d: %g allocations per run", k, n)
			}
		}
	})
}

// BenchmarkCausal is the convolution of a mamba2-130m layer at 2048 tokens.
func BenchmarkCausal(b *testing.B) {
	const l, c = 2048, 1792
	r := rand.New(rand.NewPCG(7, 8))
	for _, wide := range []int{c, 3352} {
		s := Shape{C: c, K: 4, LdX: wide, LdY: c, LdS: c, SiLU: true}
		x, w, bias, y := normals(r, l*wide), normals(r, 4*c), normals(r, c), make([]float32, l*c)
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/stride=%d/workers=%d", isa.Current(), wide, workers), func(b *testing.B) {
				b.SetBytes(2 * 4 * l * c)
				start := make([]chan bool, workers)
				done := make(chan bool, workers)
				for i := range start {
					start[i] = make(chan bool)
					go func() {
						for range start[i] {
							Causal(y, x, nil, w, bias, s, i*l/workers, (i+1)*l/workers, 0, c)
							done <- true
						}
					}()
				}
				best := time.Hour // a shared machine blurs the mean
				for b.Loop() {
					t0 := time.Now()
					for i := range start {
						start[i] <- true
					}
					for range start {
						<-done
					}
					best = min(best, time.Since(t0))
				}
				b.ReportMetric(best.Seconds()*1e3, "best-ms")
				for i := range start {
					close(start[i])
				}
			})
		}
	}
}

// BenchmarkStep is the same layer's decode step.
func BenchmarkStep(b *testing.B) {
	const c = 1792
	r := rand.New(rand.NewPCG(9, 10))
	for _, width := range []int{3, 4} {
		x, w, bias, y, state := normals(r, c), normals(r, 4*c), normals(r, c), make([]float32, c), normals(r, c*width)
		b.Run(fmt.Sprintf("%s/width=%d", isa.Current(), width), func(b *testing.B) {
			b.SetBytes(int64(4 * c * (2 + 2*width + 5)))
			for b.Loop() {
				Step(y, x, state, state, w, bias, c, 4, width, true, 0, c)
			}
		})
	}
}
