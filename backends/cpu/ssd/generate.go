package ssd

//go:generate go run -C ../asm . -kernels ssd/tile -out ../ssd/tile_amd64.s -stubs ../ssd/tile_amd64.go -pkg ssd
//go:generate go run -C ../asm . -kernels ssd/vector -out ../ssd/vector_amd64.s -stubs ../ssd/vector_amd64.go -pkg ssd
//go:generate go run -C ../asm . -kernels ssd/neon
