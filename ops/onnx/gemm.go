package onnx

// accumulator is the type products are summed in: float64 for floats, int64
// (wrapping) for integers.
type accumulator interface{ float64 | int64 }

// gemm adds A*B to C: A is [m,k], B is [k,n], C is [m,n], row-major. Every
// element sums its k products in order, whatever the blocking.
func gemm[T accumulator](m, n, k int, a, b, c []T) {
	const width = 4
	panel := make([]T, width*k)
	j := 0
	for ; j+width <= n; j += width { // pack four columns of B side by side
		for p := range k {
			copy(panel[p*width:p*width+width], b[p*n+j:p*n+j+width])
		}
		i := 0
		for ; i+2 <= m; i += 2 {
			tile2x4(k, a[i*k:i*k+k], a[i*k+k:i*k+2*k], panel, c[i*n+j:i*n+j+4], c[i*n+n+j:i*n+n+j+4])
		}
		if i < m {
			ar, cr := a[i*k:i*k+k], c[i*n+j:i*n+j+4]
			for p, x := range ar {
				q := (*[4]T)(panel[p*4:])
				cr[0] += x * q[0]
				cr[1] += x * q[1]
				cr[2] += x * q[2]
				cr[3] += x * q[3]
			}
		}
	}
	for ; j < n; j++ {
		for p := range k {
			panel[p] = b[p*n+j]
		}
		for i := range m {
			s := c[i*n+j]
			for p, x := range a[i*k : i*k+k] {
				s += x * panel[p]
			}
			c[i*n+j] = s
		}
	}
}

// tile2x4 keeps eight sums in registers.
func tile2x4[T accumulator](k int, a0, a1, panel, c0, c1 []T) {
	s00, s01, s02, s03 := c0[0], c0[1], c0[2], c0[3]
	s10, s11, s12, s13 := c1[0], c1[1], c1[2], c1[3]
	a1 = a1[:len(a0)]
	for p, x := range a0 {
		y := a1[p]
		q := (*[4]T)(panel[p*4:])
		s00 += x * q[0]
		s01 += x * q[1]
		s02 += x * q[2]
		s03 += x * q[3]
		s10 += y * q[0]
		s11 += y * q[1]
		s12 += y * q[2]
		s13 += y * q[3]
	}
	c0[0], c0[1], c0[2], c0[3] = s00, s01, s02, s03
	c1[0], c1[1], c1[2], c1[3] = s10, s11, s12, s13
}

// transposed returns the [n,m] transpose of an [m,n] matrix.
func transposed[T any](m, n int, a []T) []T {
	out := make([]T, m*n)
	for i := range m {
		for j := range n {
			out[j*m+i] = a[i*n+j]
		}
	}
	return out
}
