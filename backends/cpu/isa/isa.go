// Package isa says which instruction set the CPU kernels of this process use.
//
// Every kernel package of the backend asks Current when it picks an
// implementation, so one switch moves all of them together: the environment
// variable SSDC_ISA (amx, avx512, avx2, neon or portable) at start, or Force in a test.
// A request above what the processor supports is refused.
package isa

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// ISA is an instruction-set level; a larger value includes the smaller ones, up
// to Best. Above that stand those of other architectures.
//
//	AVX2    needs AVX2 and FMA3
//	AVX512  needs AVX-512 F, VL, DQ and BW, the set of Skylake-SP and Zen 4
//	AMX     is AVX512 with BF16 and tile registers, for products in bfloat16; for
//	        all other kernels it is AVX512. Linux only
//	NEON    is what every arm64 processor has, for products in float32 and the SSD
//	        scan; all other kernels are then portable
type ISA int32

// Portable is plain Go: any architecture, and the definition of what the
// assembly kernels compute.
const Portable ISA = 0

// EnvVar names the environment variable that lowers the level at start.
const EnvVar = "SSDC_ISA"

var names = [...]string{Portable: "portable", AVX2: "avx2", AVX512: "avx512", AMX: "amx", NEON: "neon"}

// String gives the name that Parse accepts.
func (i ISA) String() string {
	if i < 0 || int(i) >= len(names) {
		return fmt.Sprintf("isa(%d)", int32(i))
	}
	return names[i]
}

// Parse reads a level by name, in any letter case.
func Parse(s string) (ISA, error) {
	for i, n := range names {
		if strings.EqualFold(s, n) {
			return ISA(i), nil
		}
	}
	return Portable, fmt.Errorf("isa: unknown instruction set %q: expected %s", s, strings.Join(names[:], ", "))
}

var (
	best    = detect()
	current atomic.Int32
	envErr  error
)

func init() {
	current.Store(int32(best))
	if s := os.Getenv(EnvVar); s != "" {
		if err := ForceName(s); err != nil {
			envErr = fmt.Errorf("%s: %w", EnvVar, err)
		}
	}
}

// Best is the highest level that this processor (and build) supports.
func Best() ISA { return best }

// Extensions of AVX512 that processors of that level may lack.
var (
	hasVNNI, hasBF16, hasByteTiles = detectExtensions()
	allowTiles                     = sync.OnceValue(requestTiles)
)

// VNNI reports whether VPDPBUSD may be used.
func VNNI() bool { return Current() == AVX512 && hasVNNI }

// BF16 reports whether VDPBF16PS may be used.
func BF16() bool { return Current() == AVX512 && hasBF16 }

// Tiles reports whether TDPBF16PS and the instructions around it may be used. The
// first call asks the system for the process's permission.
func Tiles() bool { return Level() == AMX && allowTiles() }

// ByteTiles reports the same of TDPBUSD.
func ByteTiles() bool { return hasByteTiles && hasVNNI && Tiles() }

// Level is the level in use: Best, unless SSDC_ISA or Force lowered it.
func Level() ISA { return ISA(current.Load()) }

// Current is the level in use for kernels in general, AVX512 at most.
func Current() ISA {
	if l := Level(); l != AMX {
		return l
	}
	return AVX512
}

// EnvError reports an unusable SSDC_ISA value; the variable was then ignored.
func EnvError() error { return envErr }

// Force sets the level for the whole process. It is for tests and
// measurements: plans already compiled for another level are not changed.
func Force(i ISA) error {
	if i < Portable || int(i) >= len(names) {
		return fmt.Errorf("isa: unknown instruction set %v: expected %s", i, strings.Join(names[:], ", "))
	}
	if i > best {
		return fmt.Errorf("isa: %v is not supported here: this processor and build go up to %v", i, best)
	}
	current.Store(int32(i))
	return nil
}

// ForceName is Force with the level's name.
func ForceName(s string) error {
	i, err := Parse(s)
	if err != nil {
		return err
	}
	return Force(i)
}
