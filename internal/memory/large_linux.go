package memory

import (
	"syscall"
	"unsafe"
)

// hugePage is what x86-64 and arm64 with pages of 4 KiB have.
const hugePage = 2 << 20

// adviseHuge asks for huge pages in the part of b that they can cover. The advice is
// about speed alone, so that a refusal changes nothing.
func adviseHuge(b []byte) {
	const adviceHugePage = 14 // MADV_HUGEPAGE
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	from := int(-at & (hugePage - 1))
	if size := (len(b) - from) &^ (hugePage - 1); size > 0 {
		_ = syscall.Madvise(b[from:from+size], adviceHugePage)
	}
}
