//go:build !amd64 || purego

package isa

func detect() ISA { return Portable }
