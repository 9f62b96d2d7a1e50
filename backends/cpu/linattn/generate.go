package linattn

//go:generate go run -C ../asm . -kernels linattn/kernels -out ../linattn/kernels_avx_amd64.s -stubs ../linattn/kernels_avx_amd64.go -pkg linattn
