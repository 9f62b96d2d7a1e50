//go:build linux

// Package guardpage gives tests memory between inaccessible pages, so that a
// kernel that reads or writes one element too far faults at once.
package guardpage

import (
	"syscall"
	"testing"
	"unsafe"
)

// Span holds 4096 float32 values, or more, between two inaccessible pages.
type Span struct{ mem []byte }

// New maps a span for the length of a test.
func New(t testing.TB) Span {
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
	return Span{mem[page : n-page]}
}

// Floats are the last n elements: behind them is the guard.
func (s Span) Floats(n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(s.mem[len(s.mem)-4*n:]))), n)
}

// Halves are the last n elements of 16 bits.
func (s Span) Halves(n int) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(s.mem[len(s.mem)-2*n:]))), n)
}

// Bytes are the last n bytes.
func (s Span) Bytes(n int) []uint8 { return s.mem[len(s.mem)-n:] }

// First are the first n elements: before them is the guard.
func (s Span) First(n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(s.mem))), n)
}
