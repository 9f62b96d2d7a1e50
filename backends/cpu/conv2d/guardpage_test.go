//go:build linux

package conv2d

import (
	"math"
	"testing"

	"github.com/ssdc-go/ssdc/internal/guardpage"
)

// TestRows: all lengths, with both operands against an inaccessible page.
func TestRows(t *testing.T) {
	from, to := guardpage.New(t), guardpage.New(t)
	eachISA(t, func(t *testing.T) {
		for n := 1; n < 100; n++ {
			for _, step := range []int{1, 2} {
				const rows = 3
				lds, ldd := step*n+2, n+1
				src, dst := from.Floats((rows-1)*lds+step*(n-1)+1), to.Floats((rows-1)*ldd+n)
				for i := range src {
					src[i] = float32(i)
				}
				clear(dst)
				if step == 1 {
					copyFloats(dst, ldd, src, lds, rows, n)
				} else {
					secondOfRows(dst, ldd, src, lds, rows, n)
				}
				for i, v := range dst {
					want := float32(i/ldd*lds + i%ldd*step)
					if i%ldd == n { // between two rows
						want = 0
					}
					if v != want {
						t.Fatalf("step %d, %d elements: element %d is %v, want %v", step, n, i, v, want)
					}
				}
			}
		}
	})
}

// TestSecondBytes: the same of bytes.
func TestSecondBytes(t *testing.T) {
	from, to := guardpage.New(t), guardpage.New(t)
	eachISA(t, func(t *testing.T) {
		for n := 1; n < 150; n++ {
			const rows = 3
			lds, ldd := 2*n+2, n+1
			src, dst := from.Bytes((rows-1)*lds+2*n-1), to.Bytes((rows-1)*ldd+n)
			for i := range src {
				src[i] = uint8(i * 7)
			}
			clear(dst)
			secondBytes(dst, ldd, src, lds, rows, n, 0x80)
			for i, v := range dst {
				want := uint8((i/ldd*lds+i%ldd*2)*7) ^ 0x80
				if i%ldd == n { // between two rows
					want = 0
				}
				if v != want {
					t.Fatalf("%d bytes: byte %d is %d, want %d", n, i, v, want)
				}
			}
			most, other := from.Bytes(n), to.Bytes(n)
			for i := range most {
				most[i], other[i] = uint8(i*91), uint8(i*57)
			}
			mostBytes(most, other)
			for i, v := range most {
				if v != max(uint8(i*91), uint8(i*57)) {
					t.Fatalf("%d bytes: the larger of two is %d at %d", n, v, i)
				}
			}
		}
	})
}

// TestClampRows: all lengths against an inaccessible page; NaN stays NaN.
func TestClampRows(t *testing.T) {
	g := guardpage.New(t)
	nan := float32(math.NaN())
	eachISA(t, func(t *testing.T) {
		for n := 1; n < 70; n++ {
			const rows = 3
			ld := n + 1
			x := g.Floats((rows-1)*ld + n)
			for i := range x {
				x[i] = float32(i%9 - 4)
				if i%7 == 0 {
					x[i] = nan
				}
			}
			clampRows(x, ld, rows, n, -2, 3)
			for i, v := range x {
				want := float32(i%9 - 4)
				if i%ld < n {
					want = min(max(want, -2), 3)
				}
				if i%7 == 0 {
					want = nan
				}
				if v != want && !(v != v && want != want) {
					t.Fatalf("%d elements: element %d is %v, want %v", n, i, v, want)
				}
			}
		}
	})
}
