package memory

import "unsafe"

// Large allocates n zero bytes that start on a 64-byte boundary, on huge pages where
// the system has them and n is many: a product of matrices that lie on pages of 4 KiB
// spends a few percent of its time looking them up.
func Large(n int) []byte {
	const align = 64
	if n < 2*hugePage {
		b := make([]byte, n+align-1)
		return aligned(b, n, align)
	}
	b := aligned(make([]byte, n+hugePage-1), n, hugePage)
	adviseHuge(b)
	return b
}

func aligned(b []byte, n, align int) []byte {
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & uintptr(align-1))
	return b[off : off+n : off+n]
}
