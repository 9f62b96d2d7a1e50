//go:build linux

package vec

import (
	"syscall"
	"testing"
	"unsafe"
)

// atPageEnd gives slices of up to 4096 elements that end (or begin) exactly
// where an inaccessible page begins (or ends), so that a read past them faults.
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

func (p atPageEnd) halves(n int) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(p.mem[len(p.mem)-2*n:]))), n)
}

func (p atPageEnd) first(n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(p.mem))), n)
}

// TestNoAccessOutside runs every function with its slices against inaccessible
// pages.
func TestNoAccessOutside(t *testing.T) {
	pa, pb, pc, pd := newPageEnd(t), newPageEnd(t), newPageEnd(t), newPageEnd(t)
	eachISA(t, func(t *testing.T) {
		var sink float32
		for _, n := range testSizes()[1:] {
			a, b, c, d, h := pa.floats(n), pb.floats(n), pc.floats(n), pd.floats(n), pd.halves(n)
			for range 2 {
				for _, u := range unaryLimits {
					u.f(d, a)
				}
				for _, o := range binaryOps {
					o.f(d, a, b, c)
				}
				sink += Sum(a) + SumSq(a) + Dot(a, b) + MaxOf(a) + MinOf(a) + ExpSum(d, a, 1)
				// The same at the front of the mapping.
				a, b, c, d = pa.first(n), pb.first(n), pc.first(n), pd.first(n)
			}
			BF16ToF32(pa.floats(n), h)
			F16ToF32(pa.floats(n), h)
			F32ToBF16(h, pa.floats(n))
			F32ToF16(h, pa.floats(n))
		}
		for _, rows := range []int{1, 8, 9, 16, 31} {
			for _, cols := range []int{1, 7, 8, 24, 33} {
				src := pa.floats((rows-1)*(cols+2) + cols)
				dst := pb.floats((cols-1)*(rows+1) + rows)
				Transpose2D(dst, rows+1, src, cols+2, rows, cols)
			}
		}
		_ = sink
	})
}
