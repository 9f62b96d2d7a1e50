//go:build !(amd64 || arm64) || purego

package pool

import (
	"bytes"
	"runtime"
	"strconv"
	"sync"
)

var stackHeads = sync.Pool{New: func() any { return new([64]byte) }}

// goroutine identifies the calling goroutine by the number that heads its
// stack trace ("goroutine 17 [running]"); slow, but it needs no assembly.
func goroutine() uintptr {
	buf := stackHeads.Get().(*[64]byte)
	defer stackHeads.Put(buf)
	head := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	end := bytes.IndexByte(head, ' ')
	if end < 0 {
		return 0
	}
	id, err := strconv.ParseUint(string(head[:end]), 10, 64)
	if err != nil {
		return 0
	}
	return uintptr(id)
}

func pause() {}
