//go:build (!amd64 && !arm64) || purego

package isa

func detect() ISA { return Portable }

func detectExtensions() (vnni, bf16 bool) { return false, false }
