//go:build amd64 && !purego

package linattn

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

// ptr passes an argument struct to the assembly.
func ptr[T any](a *T) *byte { return (*byte)(unsafe.Pointer(a)) }

func (j *job) read(a *readArgs) {
	switch j.isa {
	case isa.AVX512:
		readAVX512(ptr(a))
	case isa.AVX2:
		readAVX2(ptr(a))
	default:
		readPortable(a)
	}
}

func (j *job) write(a *writeArgs) {
	switch j.isa {
	case isa.AVX512:
		writeAVX512(ptr(a))
	case isa.AVX2:
		writeAVX2(ptr(a))
	default:
		writePortable(a)
	}
}

// fetch prefetches the n elements at p.
func fetch(p []float32, n int) {
	if len(p) > 0 && n > 0 {
		touch(&p[0], 0, 1, ceilDiv(n, 16))
	}
}
