//go:build !amd64 || purego

package gemm

func amxKernel(*amxArgs) { panic("gemm: no tile registers") }
