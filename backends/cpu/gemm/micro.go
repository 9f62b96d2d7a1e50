package gemm

// Micro is the innermost kernel for packages that bring their own blocking and
// packing: see type kernel for what it computes. All slices reach the last
// element used; nothing is checked again.
type Micro = kernel

// MicroKernels gives the kernels of this processor: byRows[m] for m rows, 1 <= m <= rows.
func MicroKernels() (rows int, byRows *[MaxRows + 1]Micro) {
	ks := currentKernels()
	return ks.rows, &ks.byRows
}

// MaxRows is the most rows that a micro-kernel takes.
const MaxRows = maxRows

// BlockK is the depth of a block of K that keeps its rows of A in the first
// level of cache; StepK cuts k in even blocks of at most that.
const BlockK = blockK

// StepK is the depth of the blocks that k is cut in.
func StepK(k int) int { return stepK(k) }
