//go:build amd64 && !purego

package selscan

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

// ptr passes an argument struct to the assembly.
func ptr[T any](a *T) *byte { return (*byte)(unsafe.Pointer(a)) }

func (c *call) run(k *scanArgs) {
	switch c.isa {
	case isa.AVX512:
		scanAVX512(ptr(k))
	case isa.AVX2:
		scanAVX2(ptr(k))
	default:
		scanPortable(k)
	}
}

func (c *call) rates(k *rateArgs) {
	switch c.isa {
	case isa.AVX512:
		rateAVX512(ptr(k))
	case isa.AVX2:
		rateAVX2(ptr(k))
	default:
		ratePortable(k)
	}
}

func (c *call) gate(k *gateArgs) {
	switch c.isa {
	case isa.AVX512:
		gateAVX512(ptr(k))
	case isa.AVX2:
		gateAVX2(ptr(k))
	default:
		gatePortable(k)
	}
}

func (c *call) step(k *stepArgs) {
	switch c.isa {
	case isa.AVX512:
		stepAVX512(ptr(k))
	case isa.AVX2:
		stepAVX2(ptr(k))
	default:
		stepPortable(k)
	}
}

func (c *linCall) run(k *linArgs) {
	switch c.isa {
	case isa.AVX512:
		linAVX512(ptr(k))
	case isa.AVX2:
		linAVX2(ptr(k))
	default:
		linPortable(k)
	}
}
