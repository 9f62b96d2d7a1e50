package gemm

// The blocking. A group of kernel rows of A, up to blockK deep, stays in the first
// level of cache while a block of B, blockP panels of blockK rows, streams past
// it from the second; then the next group of rows meets the same block. The
// processor fetches the one long stream of B ahead by itself, which it does not
// for the many short rows of A.
//
// blockK is part of the definition of the result (see the package comment);
// the other sizes are not.
const (
	blockK = 256 // most; see stepK. 512 is a percent faster and a third less exact
	blockP = 16  // panels in a block of B
	blockM = 252 // most rows of a tile; a multiple of the kernels' heights

	// skinnyM rows or fewer stream B panel by panel, from top to bottom.
	skinnyM = 16
	// scratchStride is the row stride of a copied group of A. The odd number of
	// cache lines keeps its rows out of each other's cache sets.
	scratchStride = blockK + 16
	// stripP panels are finished before their epilogue runs over them.
	stripP = 4
	// serialWork multiply-adds are not worth waking a second worker for.
	serialWork = 1 << 16
	// tilesPerWorker evens out workers that the system slows down.
	tilesPerWorker = 8
)

// stepK is the depth of the blocks of K: even ones, not a full and a shallow.
func stepK(k int) int {
	blocks := max(ceilDiv(k, blockK), 1)
	return max(ceilDiv(ceilDiv(k, blocks), 16)*16, 16)
}

// Workspace is the memory that Run and RunStrided need: one per pool, used by
// one call at a time, and not shared with a call nested inside another.
type Workspace struct {
	scratch []scratch // by worker
	dense   denseJob
	strided stridedJob
	convert convertJob
	quant   quantProduct
	tile    tileProduct
	share   shareJob
	slab    []uint64 // converted rows of A, see quant.go
}

// scratch belongs to one worker.
type scratch struct {
	product product   // the one of a batch that is in work
	packA   []float32 // a group of rows of A
	packB   []float32 // a block of B that arrives unpacked
	rim     []float32 // the rim of C, whose last panel is narrower
	tilesA  []float32 // the rows of A that are held for them, from row held on
	held    int
}

// NewWorkspace makes the workspace for a pool of the given number of workers.
func NewWorkspace(workers int) *Workspace {
	w := &Workspace{scratch: make([]scratch, workers), share: shareJob{seen: make([]int, workers)}}
	for i := range w.scratch {
		const na, nb, nr = skinnyM * scratchStride, blockP * blockK * PanelWidth, maxRows * PanelWidth
		buf := make([]float32, na+nb+nr)
		w.scratch[i] = scratch{packA: buf[:na:na], packB: buf[na : na+nb : na+nb], rim: buf[na+nb:]}
	}
	return w
}
