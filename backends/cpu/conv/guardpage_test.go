//go:build linux

package conv

import (
	"syscall"
	"testing"
	"unsafe"
)

// atPageEnd gives slices of up to 4096 elements that end exactly where
// an inaccessible page begins, so that a read past them faults.
type atPageEnd struct{ mem []byte }

func newPageEnd(t *testing.T) atPageEnd {
	t.Helper()
	page := syscall.Getpagesize()
	n := (4*4096+page-1)/page*page + 2*page
	mem, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	for _, guard := range [][]byte{mem[:page], mem[n-page:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = syscall.Munmap(mem) })
	return atPageEnd{mem[page : n-page]}
}

func (p atPageEnd) floats(n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(p.mem[len(p.mem)-4*n:]))), n)
}

// TestNoAccessOutside runs the kernels with every slice against an inaccessible
// page.
func TestNoAccessOutside(t *testing.T) {
	var p [6]atPageEnd
	for i := range p {
		p[i] = newPageEnd(t)
	}
	eachISA(t, func(t *testing.T) {
		for k := 1; k <= MaxK; k++ {
			for _, c := range []int{1, 7, 8, 9, 15, 16, 17, 31, 33} {
				for _, l := range []int{1, 3, 4, 5, 9} {
					for _, silu := range []bool{false, true} {
						s := Shape{C: c, K: k, LdX: c + 1, LdY: c + 2, LdS: c + 3, SiLU: silu}
						y, x := p[0].floats((l-1)*s.LdY+c), p[1].floats((l-1)*s.LdX+c)
						w, bias := p[2].floats(k*c), p[3].floats(c)
						var state []float32
						if k > 1 {
							state = p[4].floats((k-2)*s.LdS + c)
						}
						Causal(y, x, state, w, bias, s, 0, l, 0, c)
						for _, width := range []int{k - 1, k} {
							out := p[5].floats(c * width)
							WriteState(out, x, state, s, width, l, 0, c)
							ReadState(state, out, s, width, 0, c)
							Step(p[0].floats(c), p[1].floats(c), out, out, w, bias, c, k, width, silu, 0, c)
						}
					}
				}
			}
		}
	})
}
