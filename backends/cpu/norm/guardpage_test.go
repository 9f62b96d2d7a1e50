//go:build linux

package norm

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
	var p [5]atPageEnd
	for i := range p {
		p[i] = newPageEnd(t)
	}
	eachISA(t, func(t *testing.T) {
		for d := 1; d < 70; d++ {
			const rows = 3
			n := rows * d
			y, x, z, w, r := p[0].floats(n), p[1].floats(n), p[2].floats(n), p[3].floats(d), p[4].floats(n)
			RMSNorm(y, x, w, rows, d, d, d, eps)
			RMSNorm(y, x, nil, rows, d, d, d, eps)
			AddRMSNorm(y, r, x, z, w, rows, d, d, d, d, d, eps)
			LayerNorm(y, x, w, w, rows, d, d, d, eps)
			LayerNorm(y, x, w, nil, rows, d, d, d, eps)
			GatedRMSNorm(y, x, z, w, rows, d, d, d, d, d, eps, false)
			GatedRMSNorm(y, x, z, w, rows, d, d, d, d, d, eps, true)
		}
	})
}
