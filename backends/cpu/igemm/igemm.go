// Package igemm multiplies 8-bit integers exactly for the CPU backend: unsigned
// by signed bytes, summed in int32 without saturation.
//
// As in package gemm, B is cut into panels of 32 columns. Four values of k stand
// together, a quad, because the processor multiplies and adds them at once:
// panel[k/4][column][k%4], K rounded up to whole quads with zeros. A has rows
// of whole quads too.
//
// Zero points are the callers': sum (a-za)*(b-zb) is what the kernels give plus
// terms in the sums of the rows of A and of the columns of B.
package igemm

// Width is the number of columns of a panel.
const Width = 32

// MaxRows is the most rows that a kernel takes.
const MaxRows = 32

// Step is how many quads the tile registers take at a time: other numbers of quads are
// left to the vector registers.
const Step = 16

// A kernel computes m rows (m is part of the function's name) by one panel,
//
//	c[i*ldc+j] = sum_k a[i*lda+k] * b[k/4*128+4*j+k%4]    0 <= i < m, 0 <= j < 32
//
// One of a and b holds unsigned, the other signed bytes.
type kernel func(quads int, a *uint8, lda int, b *uint8, c *int32, ldc int)

// Kernels is the set of one instruction set.
type Kernels struct {
	Rows           int // the best height
	unsignedA      [MaxRows + 1]kernel
	unsignedB      [MaxRows + 1]kernel
	interleaveFast bool
	Tiles          bool // whole Steps are several times as fast
}

// Quads is the number of quads of k values.
func Quads(k int) int { return (k + 3) / 4 }

// PanelSize is the number of bytes of one panel.
func PanelSize(k int) int { return Quads(k) * 4 * Width }

// PackedSize is the number of bytes of B[k,n] in panels.
func PackedSize(k, n int) int { return (n + Width - 1) / Width * PanelSize(k) }

// Pack writes B, element (i,j) at b[i*row+j*col], in panels.
func Pack(dst, b []uint8, k, n, row, col int) {
	clear(dst[:PackedSize(k, n)])
	if k == 0 {
		return
	}
	for j := range n {
		p := dst[j/Width*PanelSize(k)+j%Width*4:]
		for i := range k {
			p[i/4*4*Width+i%4] = b[i*row+j*col]
		}
	}
}

// UnsignedA computes m rows with unsigned A and signed B.
func (ks *Kernels) UnsignedA(m, quads int, a []uint8, lda int, b []uint8, c []int32, ldc int) {
	check(m, quads, a, lda, b, c, ldc)
	ks.unsignedA[m](quads, first(a), lda, first(b), &c[0], ldc)
}

// UnsignedB computes m rows with signed A and unsigned B.
func (ks *Kernels) UnsignedB(m, quads int, a []uint8, lda int, b []uint8, c []int32, ldc int) {
	check(m, quads, a, lda, b, c, ldc)
	ks.unsignedB[m](quads, first(a), lda, first(b), &c[0], ldc)
}

func first(s []uint8) *uint8 {
	if len(s) == 0 {
		return nil
	}
	return &s[0]
}

// check touches the last element of every operand, since the kernels check nothing.
func check(m, quads int, a []uint8, lda int, b []uint8, c []int32, ldc int) {
	_ = c[(m-1)*ldc+Width-1]
	if quads > 0 {
		_, _ = a[(m-1)*lda+4*quads-1], b[quads*4*Width-1]
	}
}

// Interleave writes the quads of a panel: row i has the 32 bytes of src from
// taps[i] on. Taps come in fours; reach is the largest.
func (ks *Kernels) Interleave(dst, src []uint8, taps []int32, reach int) {
	quads := len(taps) / 4
	if quads == 0 {
		return
	}
	dst = dst[:quads*4*Width]
	if ks.interleaveFast {
		_ = src[reach+Width-1]
		interleave(&dst[0], &src[0], &taps[0], quads)
		return
	}
	for i, tap := range taps {
		quad := dst[i/4*4*Width+i%4:]
		for j, v := range src[tap : int(tap)+Width] {
			quad[4*j] = v
		}
	}
}
