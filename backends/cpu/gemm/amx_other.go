//go:build !amd64 || purego

package gemm

// Where there are no tile registers, nothing asks for them.

func amxTallKernel(*amxArgs) { panic("gemm: no tile registers") }

func amxRestKernel(*amxArgs, int) { panic("gemm: no tile registers") }

func amxWriteKernel(_ *float32, _ int, _ *float32, _ int, _ *float32, _, _, _ int, _ uint32, _ float32) {
	panic("gemm: no tile registers")
}

func amxConvert(_, _ []float32) { panic("gemm: no tile registers") }
