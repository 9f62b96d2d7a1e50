//go:build purego

package isa

func detect() ISA { return Portable }
