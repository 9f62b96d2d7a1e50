//go:build (!amd64 && !arm64) || purego

package isa

func detect() ISA { return Portable }

func detectExtensions() (vnni, bf16, byteTiles bool) { return false, false, false }
