package tensor

import (
	"io"
	"runtime"
)

// hidden hides the length of a reader.
type hidden struct{ r io.Reader }

func (h *hidden) Read(p []byte) (int, error) { return h.r.Read(p) }

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
