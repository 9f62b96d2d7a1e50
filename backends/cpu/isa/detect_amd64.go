//go:build amd64 && !purego

package isa

import (
	"runtime"

	"golang.org/x/sys/cpu"
)

// detect trusts x/sys/cpu, which also checks that the operating system saves
// the wide registers.
func detect() ISA {
	x := &cpu.X86
	switch {
	case runtime.GOOS == "linux" && x.HasAMXTile && x.HasAMXBF16 && x.HasAVX512BF16 && x.HasAVX512F && x.HasAVX512VL && x.HasAVX512DQ && x.HasAVX512BW && x.HasAVX2 && x.HasFMA:
		return AMX
	case x.HasAVX512F && x.HasAVX512VL && x.HasAVX512DQ && x.HasAVX512BW && x.HasAVX2 && x.HasFMA:
		return AVX512
	case x.HasAVX2 && x.HasFMA:
		return AVX2
	}
	return Portable
}

func detectExtensions() (vnni, bf16, byteTiles bool) {
	return cpu.X86.HasAVX512VNNI, cpu.X86.HasAVX512BF16, cpu.X86.HasAMXInt8
}
