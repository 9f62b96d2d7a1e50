package vec

// Copy2D copies rows x cols elements between row-major matrices whose rows lie
// ldd and lds elements apart.
func Copy2D(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if rows <= 0 || cols <= 0 {
		return
	}
	if ldd == cols && lds == cols {
		copy(dst[:rows*cols], src[:rows*cols])
		return
	}
	for r := range rows {
		copy(dst[r*ldd:r*ldd+cols], src[r*lds:r*lds+cols])
	}
}

// transposeTile is the side of the blocks Transpose2D works in: two blocks of
// 64x64 floats fit the first-level cache.
const transposeTile = 64

// Transpose2D writes dst[c*ldd+r] = src[r*lds+c] for r < rows, c < cols.
func Transpose2D(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if rows <= 0 || cols <= 0 {
		return
	}
	_ = src[(rows-1)*lds+cols-1]
	_ = dst[(cols-1)*ldd+rows-1]
	for c := 0; c < cols; c += transposeTile {
		nc := min(transposeTile, cols-c)
		for r := 0; r < rows; r += transposeTile {
			nr := min(transposeTile, rows-r)
			transposeISA(dst[c*ldd+r:], ldd, src[r*lds+c:], lds, nr, nc)
		}
	}
}
