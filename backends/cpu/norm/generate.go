package norm

//go:generate go run -C ../asm . -kernels norm/dispatch
//go:generate go run -C ../asm . -kernels norm/rows -out ../norm/rows_amd64.s -stubs ../norm/rows_amd64.go -pkg norm
