package selscan

//go:generate go run -C ../asm . -kernels selscan/kernels -out ../selscan/kernels_avx_amd64.s -stubs ../selscan/kernels_avx_amd64.go -pkg selscan
