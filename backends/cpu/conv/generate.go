package conv

//go:generate go run -C ../asm . -kernels conv/rows -out ../conv/rows_amd64.s -stubs ../conv/rows_amd64.go -pkg conv
//go:generate go run -C ../asm . -kernels conv/step -out ../conv/step_amd64.s -stubs ../conv/step_amd64.go -pkg conv
