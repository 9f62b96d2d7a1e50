package vec

import (
	"math"
	"math/rand/v2"
	"testing"
)

// half64 is the value of IEEE half-precision bits.
func half64(h uint16) float64 {
	sign, e, m := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 != 0 {
		sign = -1
	}
	switch e {
	case 0:
		return sign * math.Ldexp(m, -24)
	case 31:
		if m != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+m, e-25)
}

func bfloat64(h uint16) float64 { return float64(math.Float32frombits(uint32(h) << 16)) }

// TestWiden tries every bit pattern.
func TestWiden(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		src, dst := make([]uint16, 65536), make([]float32, 65536)
		for i := range src {
			src[i] = uint16(i)
		}
		for name, c := range map[string]struct {
			f   func([]float32, []uint16)
			ref func(uint16) float64
		}{"BF16ToF32": {BF16ToF32, bfloat64}, "F16ToF32": {F16ToF32, half64}} {
			c.f(dst, src)
			for i, v := range dst {
				if want := c.ref(uint16(i)); !equalBits(v, float32(want)) {
					t.Fatalf("%s(%#04x) = %g, want %g", name, i, v, want)
				}
			}
		}
	})
}

// TestNarrow rounds numbers on, beside and between the representable ones and
// checks that the nearest is taken, the even one in a tie.
func TestNarrow(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 5))
		for name, c := range map[string]struct {
			f    func([]uint16, []float32)
			ref  func(uint16) float64
			inf  uint16
			step float64 // what the number after the largest would be
		}{"F32ToBF16": {F32ToBF16, bfloat64, 0x7f80, math.Ldexp(1, 128)}, "F32ToF16": {F32ToF16, half64, 0x7c00, 65536}} {
			var src []float32
			for h := range uint32(c.inf) {
				lo, hi := c.ref(uint16(h)), c.ref(uint16(h+1))
				if uint16(h+1) == c.inf {
					hi = c.step
				}
				mid := float32((lo + hi) / 2)
				src = append(src, float32(lo), mid, math.Nextafter32(mid, 0), math.Nextafter32(mid, float32(math.Inf(1))), -mid)
			}
			for range 50000 {
				src = append(src, math.Float32frombits(r.Uint32()))
			}
			src = append(src, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.Float32frombits(0xffffffff), math.Float32frombits(0x7f800001))
			dst := make([]uint16, len(src))
			c.f(dst, src)
			for i, x := range src {
				got := c.ref(dst[i])
				if x != x {
					if got == got {
						t.Fatalf("%s(NaN) = %#04x", name, dst[i])
					}
					continue
				}
				if math.Signbit(float64(x)) != (dst[i]>>15 != 0) {
					t.Fatalf("%s(%g) = %#04x has the wrong sign", name, x, dst[i])
				}
				// Neighbours in magnitude; Inf counts as the next number.
				m, ax := dst[i]&0x7fff, math.Abs(float64(x))
				val := func(h uint16) float64 {
					if h == c.inf {
						return c.step
					}
					return c.ref(h)
				}
				if math.IsInf(ax, 1) {
					if m != c.inf {
						t.Fatalf("%s(%g) = %#04x", name, x, dst[i])
					}
					continue
				}
				d := math.Abs(val(m) - ax)
				if m > 0 {
					below := math.Abs(val(m-1) - ax)
					if below < d || below == d && m&1 != 0 {
						t.Fatalf("%s(%g) = %#04x, %#04x is nearer", name, x, m, m-1)
					}
				}
				if m < c.inf {
					above := math.Abs(val(m+1) - ax)
					if above < d || above == d && m&1 != 0 {
						t.Fatalf("%s(%g) = %#04x, %#04x is nearer", name, x, m, m+1)
					}
				}
			}
			// Lengths that are not whole vectors, without touching what follows.
			for n := range 40 {
				out := make([]uint16, n+4)
				for i := range out {
					out[i] = 0x1234
				}
				c.f(out[:n], src[1000:1000+n])
				for i, h := range out {
					if i < n && h != dst[1000+i] || i >= n && h != 0x1234 {
						t.Fatalf("%s: length %d, element %d is %#04x", name, n, i, h)
					}
				}
			}
		}
		h := make([]uint16, 40)
		for i := range h {
			h[i] = uint16(i * 977)
		}
		for n := range 40 {
			for name, f := range map[string]func([]float32, []uint16){"BF16ToF32": BF16ToF32, "F16ToF32": F16ToF32} {
				g, whole := guard(n, 1), make([]float32, 40)
				f(g.data(), h)
				f(whole, h)
				g.check(t, name)
				for i, v := range g.data() {
					if !equalBits(v, whole[i]) {
						t.Fatalf("%s: length %d changes element %d", name, n, i)
					}
				}
			}
		}
	})
}

func TestTranspose2D(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		for _, rows := range []int{0, 1, 3, 7, 8, 9, 16, 31, 64, 65, 130} {
			for _, cols := range []int{0, 1, 2, 8, 13, 16, 24, 63, 64, 71, 129} {
				lds, ldd := cols+3, rows+5
				src := make([]float32, max(0, (rows-1)*lds+cols))
				for i := range src {
					src[i] = float32(i)
				}
				g := guard(max(0, (cols-1)*ldd+rows), 7)
				Transpose2D(g.data(), ldd, src, lds, rows, cols)
				g.check(t, "Transpose2D")
				for i, v := range g.data() {
					c, r := i/ldd, i%ldd
					want := sentinel
					if r < rows {
						want = src[r*lds+c]
					}
					if v != want {
						t.Fatalf("Transpose2D %dx%d: [%d,%d] = %g, want %g", rows, cols, c, r, v, want)
					}
				}
				out := guard(max(0, (rows-1)*(cols+1)+cols), 2)
				Copy2D(out.data(), cols+1, src, lds, rows, cols)
				for i, v := range out.data() {
					if r, c := i/(cols+1), i%(cols+1); c < cols && v != src[r*lds+c] || c == cols && v != sentinel {
						t.Fatalf("Copy2D %dx%d: [%d,%d] = %g", rows, cols, r, c, v)
					}
				}
			}
		}
	})
}
