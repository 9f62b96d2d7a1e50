//go:build (amd64 || arm64) && !purego

package pool

// goroutine identifies the calling goroutine while it lives: the address of
// the runtime's record of it, which the assembler can name.
//
//go:noescape
func goroutine() uintptr

// pause tells the processor that this is a polling loop.
//
//go:noescape
func pause()
