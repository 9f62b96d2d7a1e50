package attention

const (
	// keyBlock keys are scored at a time: their panels of K and V, and the scores
	// of a block of queries, stay in the second level of cache.
	keyBlock = 128
	// queryBlock is four times the height of the AVX-512 kernels.
	queryBlock = 56
	// fewRows query rows that share keys do not pay for packing these.
	fewRows = 4
	// panel is the width of gemm's panels.
	panel = 32
)

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func roundUp(a, b int) int { return ceilDiv(a, b) * b }

// direct: so few queries that keys and values are read where they are.
func (s Shape) direct() bool { return s.S*(s.HQ/s.HKV) <= fewRows }

// rows is the number of queries in a block.
func (s Shape) rows() int {
	if s.S < queryBlock+queryBlock/4 {
		return max(s.S, 1)
	}
	return queryBlock
}

func (s Shape) queryBlocks() int { return ceilDiv(s.S, s.rows()) }
func (s Shape) keyBlocks() int   { return ceilDiv(s.T, keyBlock) }

// keySize and valueSize are the lengths of one head's panels.
func (s Shape) keySize() int   { return roundUp(s.T, panel) * s.D }
func (s Shape) valueSize() int { return roundUp(s.DV, panel) * s.T }

// PackSize is the number of floats that Workspace.Packed must have.
func (s Shape) PackSize() int {
	if s.direct() {
		return 0
	}
	return s.B * s.HKV * (s.keySize() + s.valueSize())
}

// FlagSize is the number of bytes that Workspace.Flags must have for a mask.
func (s Shape) FlagSize() int {
	if s.direct() {
		return 0
	}
	return s.B * s.HQ * s.queryBlocks() * s.keyBlocks()
}

// Workspace is the memory of one call's Shape.
type Workspace struct {
	// Packed and Flags are the caller's: PackSize floats and FlagSize bytes.
	Packed []float32
	Flags  []byte

	scratch []scratch
	job     job
}

// scratch belongs to one worker.
type scratch struct {
	scores []float32 // [rows,keyBlock]
	acc    []float32 // [rows,DV rounded up]: the weighted sums
	top    []float32 // by row: the largest score so far
	sum    []float64 // by row: the sum of exponentials
	_      [64]byte
}

// NewWorkspace makes the workspace for a pool of the given number of workers.
func NewWorkspace(workers int, s Shape) *Workspace {
	w := &Workspace{scratch: make([]scratch, workers)}
	rows := max(s.rows(), fewRows)
	for i := range w.scratch {
		w.scratch[i] = scratch{
			scores: make([]float32, rows*keyBlock), acc: make([]float32, rows*roundUp(max(s.DV, 1), panel)),
			top: make([]float32, rows), sum: make([]float64, rows),
		}
	}
	return w
}
