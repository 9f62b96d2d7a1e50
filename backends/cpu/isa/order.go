//go:build !arm64

package isa

const (
	AVX2 ISA = 1 + iota
	AVX512
	AMX
	NEON
)
