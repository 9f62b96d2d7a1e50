package gemm

import "github.com/ssdc-go/ssdc/backends/cpu/vec"

// PanelWidth is the number of columns in a panel of the packed layout.
const PanelWidth = 32

// panels is the number of panels of n columns.
func panels(n int) int { return (n + PanelWidth - 1) / PanelWidth }

// PackedSize is the length of a packed B[k,n].
func PackedSize(k, n int) int { return panels(n) * PanelWidth * k }

// Pack writes B[k,n] to dst in the packed layout; dst has PackedSize(k, n)
// elements. The source is b[row*ldb+col], where rows are k and columns n, or
// with transB the other way round: b[n*ldb+k], the layout of a linear layer's
// weight [out,in].
func Pack(dst, b []float32, k, n, ldb int, transB bool) {
	rowStride, colStride := ldb, 1
	if transB {
		rowStride, colStride = 1, ldb
	}
	for p := range panels(n) {
		j := p * PanelWidth
		packPanel(dst[p*k*PanelWidth:][:k*PanelWidth], b[min(j*colStride, len(b)):], k, min(PanelWidth, n-j), rowStride, colStride)
	}
}

// packPanel writes one panel of k rows from a source whose element (i,j) is
// src[i*rowStride+j*colStride], cols of them to a row; the rest is zero.
func packPanel(dst, src []float32, k, cols, rowStride, colStride int) {
	if cols < PanelWidth {
		clear(dst)
	}
	if k == 0 {
		return
	}
	switch {
	case colStride == 1 && cols == PanelWidth:
		for i := range k {
			*(*[PanelWidth]float32)(dst[i*PanelWidth:]) = *(*[PanelWidth]float32)(src[i*rowStride:])
		}
	case colStride == 1:
		for i := range k {
			copy(dst[i*PanelWidth:][:cols], src[i*rowStride:])
		}
	case rowStride == 1:
		vec.Transpose2D(dst, PanelWidth, src, colStride, cols, k)
	default:
		for i := range k {
			row := dst[i*PanelWidth:][:cols]
			for j := range row {
				row[j] = src[i*rowStride+j*colStride]
			}
		}
	}
}

// packRows copies a block of A, element (i,k) at src[i*rowStride+k*colStride],
// to rows of scratchStride floats.
func packRows(dst, src []float32, rows, k, rowStride, colStride int) {
	if k == 0 {
		return
	}
	switch {
	case colStride == 1:
		for i := range rows {
			copy(dst[i*scratchStride:][:k], src[i*rowStride:])
		}
	case rowStride == 1:
		vec.Transpose2D(dst, scratchStride, src, colStride, k, rows)
	default:
		for i := range rows {
			row := dst[i*scratchStride:][:k]
			for j := range row {
				row[j] = src[i*rowStride+j*colStride]
			}
		}
	}
}
