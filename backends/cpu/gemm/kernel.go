package gemm

import "github.com/ssdc-go/ssdc/backends/cpu/isa"

// A kernel computes a block of m rows (m is part of the function's name) by
// one panel of columns:
//
//	c[i*ldc+j] = alpha * sum_k a[i*lda+k] * b[k*32+j] + d[i*ldd+j]    0 <= i < m, 0 <= j < 32
//
// A nil d counts as zeros; d may be c, which accumulates, and ldd may be 0,
// which adds one row to all. The slices must reach the last element used.
type kernel func(k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32)

// An aheadKernel is a kernel that also asks for what will be needed next: k floats
// of A from nextA on and twice as many of B from nextB on. The addresses need not
// be readable.
type aheadKernel func(k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32, nextA, nextB *float32)

// A streamKernel is a kernel that also asks for as much of B as it reads, a quarter
// each from next on and from one, two and three times stride further on: so many
// streams come from memory faster than one.
type streamKernel func(k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32, next *float32, stride int)

//go:generate go run -C ../asm . -kernels gemm/neon

// maxRows is the most rows that any kernel takes.
const maxRows = 14

// kernels is the set of one instruction set: rows is its best block height and
// byRows[m] the kernel for m rows, 1 <= m <= rows.
type kernels struct {
	rows   int
	byRows [maxRows + 1]kernel
	// ahead is byRows for the heights of groups of more than skinnyM rows; may be nil.
	ahead  [maxRows + 1]aheadKernel
	stream [maxRows + 1]streamKernel // byRows where B comes from memory; may be nil
	half   [maxRows + 1]kernel       // byRows for the first half of the columns; may be nil
	// wide, which may be nil, computes one row by widePanels panels, lda apart,
	// whose parts of c and d follow one another: so many streams come from memory
	// faster than one.
	wide kernel
}

const widePanels = 4

var portable = kernels{rows: 4, byRows: [maxRows + 1]kernel{1: portable1, 2: portable2, 3: portable3, 4: portable4}}

// ForceISA makes all kernel packages use the named instruction set: "amx",
// "avx512", "avx2" or "portable". It is for tests and measurements.
func ForceISA(name string) error { return isa.ForceName(name) }

func portable1(k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32) {
	portableRows(1, k, a, lda, b, c, ldc, d, ldd, alpha)
}

func portable2(k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32) {
	portableRows(2, k, a, lda, b, c, ldc, d, ldd, alpha)
}

func portable3(k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32) {
	portableRows(3, k, a, lda, b, c, ldc, d, ldd, alpha)
}

func portable4(k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32) {
	portableRows(4, k, a, lda, b, c, ldc, d, ldd, alpha)
}

// portableRows walks the panel in slices of 8 columns, whose sums fit the
// registers of any machine.
func portableRows(m, k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32) {
	for i := range m {
		row := a[min(i*lda, len(a)):][:k]
		for j := 0; j < PanelWidth; j += 8 {
			var s0, s1, s2, s3, s4, s5, s6, s7 float32
			for p, x := range row {
				w := (*[8]float32)(b[p*PanelWidth+j:])
				s0 += x * w[0]
				s1 += x * w[1]
				s2 += x * w[2]
				s3 += x * w[3]
				s4 += x * w[4]
				s5 += x * w[5]
				s6 += x * w[6]
				s7 += x * w[7]
			}
			out := (*[8]float32)(c[i*ldc+j:])
			sums := [8]float32{s0 * alpha, s1 * alpha, s2 * alpha, s3 * alpha, s4 * alpha, s5 * alpha, s6 * alpha, s7 * alpha}
			if d != nil {
				for q, v := range (*[8]float32)(d[i*ldd+j:]) {
					sums[q] += v
				}
			}
			*out = sums
		}
	}
}
