module github.com/ssdc-go/ssdc/backends/cpu/asm

go 1.26

require github.com/mmcloughlin/avo v0.5.0 // indirect
