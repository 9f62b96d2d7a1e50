package gemm

// The blocking, in the terms of Goto and van de Geijn ("Anatomy of
// High-Performance Matrix Multiplication", 2008). A block of A of at most
// blockM x blockK stays in the second-level cache while a panel slice of
// blockK x 32 of B passes the first level, once per group of kernel rows.
// blockK is part of the definition of the result (see the package comment);
// the other sizes are not.
const (
	blockK = 256
	blockM = 168 // rows of A in a block; also a multiple of every kernel's height
	blockP = 32  // panels of B that meet one block of A

	// skinnyM rows or fewer read A in place and stream B panel by panel.
	skinnyM = 16
	// scratchStride is the row stride of a packed block of A. The odd number of
	// cache lines keeps the rows of a group out of each other's cache sets.
	scratchStride = blockK + 16
	// stripP panels are finished before their epilogue runs over them.
	stripP = 4
	// serialWork multiply-adds are not worth waking a second worker for.
	serialWork = 1 << 16
	// tasksPerWorker evens out workers that the system slows down.
	tasksPerWorker = 8
)

// Workspace is the memory that Run and RunStrided need: one per pool, used by
// one call at a time, and not shared with a call nested inside another.
type Workspace struct {
	scratch []scratch // by worker
	dense   denseJob
	strided stridedJob
}

// scratch belongs to one worker.
type scratch struct {
	product product   // the one of a batch that is in work
	packA   []float32 // blockM rows of scratchStride: a block of A
	packB   []float32 // blockK rows of a panel: a slice of B that arrives unpacked
	rim     []float32 // maxRows x PanelWidth: the rim of C, whose last panel is narrower
}

// NewWorkspace makes the workspace for a pool of the given number of workers.
func NewWorkspace(workers int) *Workspace {
	w := &Workspace{scratch: make([]scratch, workers)}
	for i := range w.scratch {
		const na, nb, nt = blockM * scratchStride, blockK * PanelWidth, maxRows * PanelWidth
		buf := make([]float32, na+nb+nt)
		w.scratch[i] = scratch{packA: buf[:na:na], packB: buf[na : na+nb : na+nb], rim: buf[na+nb:]}
	}
	return w
}
