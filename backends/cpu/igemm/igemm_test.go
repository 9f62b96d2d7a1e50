package igemm

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

func eachISA(t *testing.T, f func(t *testing.T)) {
	was := isa.Current()
	t.Cleanup(func() { _ = isa.Force(was) })
	for _, name := range []string{"amx", "avx512", "avx2", "portable"} {
		if isa.ForceName(name) != nil {
			continue
		}
		t.Run(name, f)
	}
}

// TestKernels compares every height with the definition, extreme bytes included:
// nothing saturates.
func TestKernels(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		ks, r := Current(), rand.New(rand.NewPCG(1, 2))
		for m := 1; m <= ks.Rows; m++ {
			for _, k := range []int{0, 1, 4, 7, 64, 192, 333} {
				quads := Quads(k)
				a, b := make([]uint8, max(m*(4*quads+8), 1)), make([]uint8, k*Width)
				lda, ldc := 4*quads+8, Width+3
				for i := range a {
					a[i] = uint8(r.IntN(256))
					if r.IntN(3) == 0 {
						a[i] = []uint8{255, 128, 127, 0}[r.IntN(4)]
					}
				}
				for i := range b {
					b[i] = uint8(r.IntN(256))
				}
				packed := make([]uint8, PackedSize(k, Width))
				Pack(packed, b, k, Width, Width, 1)
				for _, unsignedA := range []bool{true, false} {
					c := make([]int32, m*ldc)
					if unsignedA {
						ks.UnsignedA(m, quads, a, lda, packed, c, ldc)
					} else {
						ks.UnsignedB(m, quads, a, lda, packed, c, ldc)
					}
					for i := range m {
						for j := range ldc {
							want := int32(0)
							for x := 0; x < k && j < Width; x++ {
								if u, v := a[i*lda+x], b[x*Width+j]; unsignedA {
									want += int32(u) * int32(int8(v))
								} else {
									want += int32(int8(u)) * int32(v)
								}
							}
							if i*ldc+j < len(c) && c[i*ldc+j] != want {
								t.Fatalf("%d rows, k=%d, unsigned A %v: c[%d,%d] = %d, want %d", m, k, unsignedA, i, j, c[i*ldc+j], want)
							}
						}
					}
				}
			}
		}
	})
}

// TestRequantize checks rounding and saturation at all lengths.
func TestRequantize(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for n := range 40 {
			for _, o := range []Output{{Zero: 7, Lo: 0, Hi: 255}, {Zero: -3, Lo: -128, Hi: 127}} {
				acc, dst := make([]int32, n), make([]uint8, n+1)
				for i := range acc {
					acc[i] = int32(r.IntN(2000) - 1000)
				}
				dst[n] = 77
				o.Requantize(dst, acc, 5, 0.25)
				for i, v := range acc {
					want := int32(math.RoundToEven(float64(v+5)*0.25)) + o.Zero
					if want = min(max(want, o.Lo), o.Hi); dst[i] != uint8(want) {
						t.Fatalf("n=%d: %d becomes %d, want %d", n, v, dst[i], uint8(want))
					}
				}
				sums := make([]float32, n)
				for i, v := range acc {
					sums[i] = float32(v)
				}
				o.RequantizeSums(dst, sums, 5, 0.25)
				for i, v := range acc {
					want := int32(math.RoundToEven(float64(v+5)*0.25)) + o.Zero
					if want = min(max(want, o.Lo), o.Hi); dst[i] != uint8(want) {
						t.Fatalf("n=%d: sum %d becomes %d, want %d", n, v, dst[i], uint8(want))
					}
				}
				scales := make([]float32, n)
				for i := range scales {
					scales[i] = float32(1+i%5) / 8
				}
				o.RequantizeColumns(dst, acc, scales)
				for i, v := range acc {
					want := int32(math.RoundToEven(float64(v)*float64(scales[i]))) + o.Zero
					if want = min(max(want, o.Lo), o.Hi); dst[i] != uint8(want) {
						t.Fatalf("n=%d: %d times %v becomes %d, want %d", n, v, scales[i], dst[i], uint8(want))
					}
				}
				if dst[n] != 77 {
					t.Fatal("wrote too far")
				}
			}
		}
	})
}

// TestRequantizeRows: rows of full width are what Requantize makes of each, and nothing between them is written.
func TestRequantizeRows(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		for rows := 1; rows <= MaxRows; rows++ {
			const ldd = Width + 5
			o := Output{Zero: 7, Lo: 0, Hi: 255}
			acc, add, scales := make([]int32, rows*Width), make([]int32, rows), make([]float32, rows)
			for i := range acc {
				acc[i] = int32(r.IntN(2000) - 1000)
			}
			for i := range add {
				add[i], scales[i] = int32(r.IntN(50)), r.Float32()/4
			}
			got, want := make([]uint8, (rows-1)*ldd+Width), make([]uint8, (rows-1)*ldd+Width)
			o.RequantizeRows(got, ldd, acc, add, scales)
			for i := range rows {
				o.Requantize(want[i*ldd:], acc[i*Width:(i+1)*Width], add[i], scales[i])
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%d rows: %v, want %v", rows, got, want)
			}
		}
	})
}

// TestSubtractRows and whole numbers as floats, at all lengths.
func TestSubtractRows(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		var less [Width]int32
		for j := range less {
			less[j] = int32(3*j - 40)
		}
		const rows, ldc = 5, Width + 3
		c := make([]int32, (rows-1)*ldc+Width)
		for i := range c {
			c[i] = int32(i * i)
		}
		SubtractRows(c, ldc, rows, &less)
		for i, v := range c {
			want := int32(i * i)
			if j := i % ldc; j < Width {
				want -= less[j]
			}
			if v != want {
				t.Fatalf("element %d is %d, want %d", i, v, want)
			}
		}
		for n := range 40 {
			src, dst := make([]int32, n), make([]float32, n+1)
			for i := range src {
				src[i] = int32(i)*1000003 - 1<<30
			}
			dst[n] = 77
			Floats(dst[:n], src)
			for i, v := range src {
				if dst[i] != float32(v) {
					t.Fatalf("%d becomes %v", v, dst[i])
				}
			}
			if dst[n] != 77 {
				t.Fatal("wrote too far")
			}
		}
	})
}

// TestInterleave compares with the definition.
func TestInterleave(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		taps := []int32{3, 90, 1, 40, 0, 33, 68, 68}
		src, dst := make([]uint8, 90+Width), make([]uint8, len(taps)*Width)
		for i := range src {
			src[i] = uint8(i * 7)
		}
		Current().Interleave(dst, src, taps, 90)
		for i, tap := range taps {
			for j := range Width {
				if got := dst[i/4*4*Width+4*j+i%4]; got != src[int(tap)+j] {
					t.Fatalf("column %d, row %d: %d, want %d", j, i, got, src[int(tap)+j])
				}
			}
		}
	})
}
