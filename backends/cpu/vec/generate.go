package vec

//go:generate go run -C ../asm . -kernels vec/dispatch
//go:generate go run -C ../asm . -kernels vec/unary -out ../vec/unary_amd64.s -stubs ../vec/unary_amd64.go -pkg vec
//go:generate go run -C ../asm . -kernels vec/binary -out ../vec/binary_amd64.s -stubs ../vec/binary_amd64.go -pkg vec
//go:generate go run -C ../asm . -kernels vec/reduce -out ../vec/reduce_amd64.s -stubs ../vec/reduce_amd64.go -pkg vec
//go:generate go run -C ../asm . -kernels vec/convert -out ../vec/convert_amd64.s -stubs ../vec/convert_amd64.go -pkg vec
//go:generate go run -C ../asm . -kernels vec/transpose -out ../vec/transpose_amd64.s -stubs ../vec/transpose_amd64.go -pkg vec
