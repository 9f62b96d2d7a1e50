package vec

func transposePortable(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	for r := range rows {
		row := src[r*lds : r*lds+cols]
		for c, v := range row {
			dst[c*ldd+r] = v
		}
	}
}
