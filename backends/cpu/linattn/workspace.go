package linattn

// Shape is what decides the size of a workspace.
type Shape struct{ DK, DV int }

// Shape of the call.
func (a *Args) Shape() Shape { return Shape{a.DK, a.DV} }

// Workspace is the memory of the workers of a pool, for calls of one Shape.
type Workspace struct {
	scratch []scratch
	job     job
}

// scratch belongs to one worker.
type scratch struct {
	state    []float32 // panels of [DK,32]
	grow, gk []float32 // [block,DK]: exp(g), exp(g)*k
	v, w, o  [cols]float32
	rd       readArgs
	wr       writeArgs
	_        [64]byte
}

// NewWorkspace makes the workspace for a pool of the given number of workers.
func NewWorkspace(workers int, s Shape) *Workspace {
	w := &Workspace{scratch: make([]scratch, workers)}
	for i := range w.scratch {
		n, panels := block*max(s.DK, 1), ceilDiv(s.DV, cols)*cols*s.DK
		buf := make([]float32, panels+2*n+16)
		w.scratch[i] = scratch{state: buf[:panels:panels], grow: buf[panels : panels+n : panels+n], gk: buf[panels+n : panels+2*n]}
	}
	return w
}
