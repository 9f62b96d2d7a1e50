package selscan

import (
	"fmt"
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

const (
	lanes = 16 // channels side by side in a vector
	steps = 16 // steps staged at a time

	// A task has a multiple of minWidth channels. Wide rows stream from memory, and
	// keep a batch row with the worker that has it in the steps before and after;
	// those of maxWidth still fit the second level of cache, 16 states each.
	minWidth  = 128
	maxWidth  = 512
	perWorker = 3 // tasks at least, before they become wider than minWidth
)

// stepMax is the longest L for which walking the states in place, lanes along
// N, beats turning them into channel panels.
const stepMax = 2

// Shape is what the size of a Workspace depends on.
type Shape struct{ B, L, D, N int }

// Shape gives the shape of a call.
func (a *Args) Shape() Shape { return Shape{a.B, a.L, a.D, a.N} }

// layout of one worker's memory, in float32 elements, and the channels of a task.
type layout struct{ width, a, state, dt, u, y, logs, ones, skip, total int }

func newLayout(s Shape, workers int) layout {
	l := layout{width: minWidth}
	for w := 2 * minWidth; w <= maxWidth && w < s.D+minWidth && s.B*((s.D+w-1)/w) >= perWorker*workers; w *= 2 {
		l.width = w
	}
	width := l.width
	next := func(n int) int {
		at := l.total
		l.total += (n + 15) / 16 * 16
		return at
	}
	l.a = next(width * s.N)
	l.state = next(width * s.N)
	l.dt = next(steps * width)
	l.u = next(steps * width)
	l.y = next(steps * width)
	l.logs = next(steps * lanes * s.N)
	l.ones = next(width)
	l.skip = next(width)
	return l
}

// Workspace is the scratch memory of Run, reusable for any call that fits it;
// one Run at a time may use it.
type Workspace struct {
	workers int
	size    int
	mem     []float32
	panel   []int // per worker, the first channel of the panel of A that is loaded, plus 1
	call    call
}

// NewWorkspace makes a workspace for calls of the given shapes on pools of at
// most the given number of workers.
func NewWorkspace(workers int, shapes ...Shape) *Workspace {
	w := &Workspace{workers: max(workers, 1)}
	for _, s := range shapes {
		w.size = max(w.size, newLayout(s, w.workers).total)
	}
	w.mem, w.panel = make([]float32, w.workers*w.size+16), make([]int, w.workers)
	if off := uintptr(unsafe.Pointer(&w.mem[0])) / 4 % 16; off != 0 {
		w.mem = w.mem[16-off:]
	}
	return w
}

// call is the task of one Run.
type call struct {
	*Args
	layout
	ws     *Workspace
	isa    isa.ISA
	blocks int // channel blocks per batch row
}

// Run computes a. It allocates nothing when ws fits the shape; a nil ws makes
// Run allocate its own. A nil pool runs on the caller alone.
func Run(p *pool.Pool, a *Args, ws *Workspace) error {
	if err := a.Check(); err != nil {
		return err
	}
	workers := 1
	if p != nil {
		workers = p.Workers()
	}
	if ws == nil {
		ws = NewWorkspace(workers, a.Shape())
	}
	lay := newLayout(a.Shape(), ws.workers)
	if ws.workers < workers || ws.size < lay.total {
		return fmt.Errorf("selscan: workspace has %d workers x %d bytes: shape %+v needs %d x %d; make it with NewWorkspace for this shape",
			ws.workers, 4*ws.size, a.Shape(), workers, 4*lay.total)
	}
	if a.B == 0 || a.D == 0 {
		return nil
	}
	if a.L == 0 {
		if a.HT != nil {
			if a.H0 != nil {
				copy(a.HT, a.H0)
			} else {
				clear(a.HT)
			}
		}
		return nil
	}
	ws.call = call{Args: a, layout: lay, ws: ws, isa: isa.Current(), blocks: (a.D + lay.width - 1) / lay.width}
	clear(ws.panel)
	c := &ws.call
	n := a.B * c.blocks
	if p == nil || n == 1 {
		for i := range n {
			c.Do(0, i)
		}
	} else {
		p.Run(n, c)
	}
	ws.call = call{} // do not keep the operands alive
	return nil
}

// Do runs one channel block of one batch row.
func (c *call) Do(worker, i int) {
	m := c.ws.mem[worker*c.ws.size : (worker+1)*c.ws.size]
	// The rows of a batch follow one another, so that they find what their
	// channels need in place.
	b, d := i%c.B, i/c.B*c.width
	loaded := c.ws.panel[worker] == d+1
	c.ws.panel[worker] = d + 1
	c.scan(m, b, d, min(c.width, c.D-d), loaded)
}
