//go:build amd64 && !purego

package ssd

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

// ptr passes an argument struct to the assembly.
func ptr[T any](a *T) *byte { return (*byte)(unsafe.Pointer(a)) }

func (c *call) score(a *scoreArgs) {
	switch {
	case a.tiles == 0:
	case c.isa == isa.AVX512:
		scoreAVX512(ptr(a))
	case c.isa == isa.AVX2:
		scoreAVX2(ptr(a))
	default:
		scorePortable(a)
	}
}

func (c *call) weight(a *weightArgs) {
	switch c.isa {
	case isa.AVX512:
		weightAVX512(ptr(a))
	case isa.AVX2:
		weightAVX2(ptr(a))
	default:
		weightPortable(a)
	}
}

func (c *call) pack(a *packArgs) {
	switch c.isa {
	case isa.AVX512:
		packAVX512(ptr(a))
	case isa.AVX2:
		packAVX2(ptr(a))
	default:
		packPortable(a)
	}
}

func (c *call) mix(a *mixArgs) {
	switch c.isa {
	case isa.AVX512:
		mixAVX512(ptr(a))
	case isa.AVX2:
		mixAVX2(ptr(a))
	default:
		mixPortable(a)
	}
}

func (c *call) absorb(a *absorbArgs) {
	switch c.isa {
	case isa.AVX512:
		absorbAVX512(ptr(a))
	case isa.AVX2:
		absorbAVX2(ptr(a))
	default:
		absorbPortable(a)
	}
}

func (c *call) step(a *stepArgs) {
	switch c.isa {
	case isa.AVX512:
		stepAVX512(ptr(a))
	case isa.AVX2:
		stepAVX2(ptr(a))
	default:
		stepPortable(a)
	}
}

// fetch starts loading the first n elements of rows of s for a later chunk.
func (c *call) fetch(s *Seq, b, t, rows, i, n int) {
	if s.Data == nil || n == 0 || c.isa == isa.Portable {
		return
	}
	touch(&s.Data[b*s.StrideB+t*s.StrideL+i], 4*s.StrideL, rows, (4*n+63)/64)
}
