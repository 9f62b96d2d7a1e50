package ssd

import (
	"fmt"
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// Shape is what the size of a Workspace depends on. B and L matter only to
// choose the algorithm.
type Shape struct {
	B, L, H, P, G, N int
	ChunkSize        int // as in Args
	Algo             Algo
}

// Shape gives the shape of a call.
func (a *Args) Shape() Shape {
	return Shape{a.B, a.L, a.H, a.P, a.G, a.N, a.ChunkSize, a.Algo}
}

// defaultChunk was measured: a larger chunk pays more for the diagonal block
// (Q/2 products per output element), a smaller one for streaming the state.
const defaultChunk = 32

// recurrentMax is the longest L at which stepping beats a padded chunk.
const recurrentMax = 6

// Choose resolves Auto and the chunk size (0 for Recurrent). It looks at the
// shape only, so that results do not depend on the machine's load or workers.
func (s Shape) Choose() (Algo, int) {
	q := s.ChunkSize
	if q == 0 {
		q = defaultChunk
	}
	algo := s.Algo
	if algo == Auto {
		algo = Chunked
		if s.L <= recurrentMax {
			algo = Recurrent
		}
	}
	switch algo {
	case Recurrent:
		return Recurrent, 0
	case Quadratic:
		return Quadratic, max(s.L, 1)
	}
	return Chunked, max(min(q, s.L), 1)
}

// headBlock bounds the heads that one task carries through the chunks: their
// states (32 KB each at P=64, N=128) should stay in the second-level cache.
const headBlock = 16

// layout holds the block sizes of a shape. All blocks are in float32 elements
// and multiples of a cache line.
type layout struct {
	algo   Algo
	q      int // steps per chunk
	q8, ql int // q up to a multiple of tileRows, and of tileCols
	n8     int // N up to a multiple of tileRows
	pp     int // column panels of P
	heads  int // heads per task at most

	c, bt, scores, weights, x, xw, hi, lo, dt, grow, fade, raw, skip, edge, state, total int
}

func ceilTo(n, m int) int { return (n + m - 1) / m * m }

func newLayout(s Shape) layout {
	l := layout{}
	l.algo, l.q = s.Choose()
	l.pp = (s.P + tileCols - 1) / tileCols
	l.n8 = ceilTo(s.N, tileRows)
	l.heads = 1
	if s.G > 0 {
		l.heads = max(1, min(headBlock, s.H/s.G))
	}
	next := func(n int) int {
		at := l.total
		l.total += ceilTo(n, 16)
		return at
	}
	if l.algo == Recurrent {
		l.raw = next(2 * recurrentSteps)
		l.state = next(s.P * s.N)
		return l
	}
	l.q8, l.ql = ceilTo(l.q, tileRows), ceilTo(l.q, tileCols)
	panel := l.q8 * tileCols
	l.c = next(l.q8 * s.N)
	l.bt = next(l.n8 * l.ql)
	l.scores = next(l.q8 * l.ql)
	l.weights = next(l.q8 * l.ql)
	l.x = next(l.pp * panel)
	l.xw = next(l.pp * panel)
	for _, v := range []*int{&l.hi, &l.lo, &l.dt, &l.grow, &l.fade} {
		*v = next(l.ql)
	}
	l.raw = next(2 * l.q * l.heads)
	l.skip = next(l.pp * tileCols)
	l.edge = next(panel)
	l.state = next(l.heads * l.pp * l.n8 * tileCols)
	return l
}

// Workspace is the scratch memory of Run, reusable for any call that fits it;
// one Run at a time may use it.
type Workspace struct {
	workers int
	size    int // elements per worker
	mem     []float32
	call    call
}

// NewWorkspace makes a workspace for calls of the given shapes on pools of at
// most the given number of workers.
func NewWorkspace(workers int, shapes ...Shape) *Workspace {
	w := &Workspace{workers: max(workers, 1)}
	for _, s := range shapes {
		w.size = max(w.size, newLayout(s).total)
	}
	w.mem = make([]float32, w.workers*w.size+16)
	if off := uintptr(unsafe.Pointer(&w.mem[0])) / 4 % 16; off != 0 {
		w.mem = w.mem[16-off:]
	}
	return w
}

// scratch is the memory of one worker.
func (w *Workspace) scratch(worker int) []float32 {
	return w.mem[worker*w.size : (worker+1)*w.size]
}

// call is the task of one Run.
type call struct {
	*Args
	layout
	ws     *Workspace
	isa    isa.ISA
	blocks int // head blocks per (b, g)
	split  int // tasks per head block, each with some panels of P
	units  int // (b, h) per task when recurrent
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
	lay := newLayout(a.Shape())
	if ws.workers < workers || ws.size < lay.total {
		return fmt.Errorf("ssd: workspace has %d workers x %d bytes: shape %+v needs %d x %d; make it with NewWorkspace for this shape",
			ws.workers, 4*ws.size, a.Shape(), workers, 4*lay.total)
	}
	if a.B == 0 || a.H == 0 {
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
	ws.call = call{Args: a, layout: lay, ws: ws, isa: isa.Current()}
	c := &ws.call
	hpg := a.H / a.G
	n := 0
	if lay.algo == Recurrent {
		// Enough elements to be worth claiming, and by another worker, whose cache
		// does not hold them; enough tasks to balance.
		const worth = 1 << 16
		c.units = max(1, min(worth/max(a.P*a.N, 1), a.B*a.H/(2*workers)))
		n = (a.B*a.H + c.units - 1) / c.units
	} else {
		c.blocks = headBlocks(a.B*a.G, hpg, workers)
		n = a.B * a.G * c.blocks
		c.split = 1
		if n < workers {
			c.split = max(1, min(lay.pp, (workers+n-1)/n))
		}
		n *= c.split
	}
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

// headBlocks cuts the hpg heads of each of n groups into equal tasks: at most
// headBlock heads each, and a number of tasks that the workers share evenly.
// Each task computes C B^T for itself, so few large blocks are best.
func headBlocks(n, hpg, workers int) int {
	k := (hpg + headBlock - 1) / headBlock
	for j := k; j <= min(hpg, k+workers); j++ {
		if n*j%workers == 0 {
			return j
		}
	}
	if n*k < workers {
		return min(hpg, (workers+n-1)/n)
	}
	return k
}

// Do runs one task: some (b, h) when recurrent, else a block of heads of a
// (b, g), and of those perhaps only some panels.
func (c *call) Do(worker, i int) {
	m := c.ws.scratch(worker)
	if c.algo == Recurrent {
		for u, end := i*c.units, min((i+1)*c.units, c.B*c.H); u < end; {
			h := u % c.H
			n := c.together(h, end-u)
			c.recurrent(m, u/c.H, h, n)
			u += n
		}
		return
	}
	part := i % c.split
	i /= c.split
	blk := i % c.blocks
	bg := i / c.blocks
	hpg := c.H / c.G
	g := bg % c.G
	r := headRange{b: bg / c.G, g: g}
	r.h0, r.h1 = g*hpg+hpg*blk/c.blocks, g*hpg+hpg*(blk+1)/c.blocks
	r.p0, r.p1 = c.pp*part/c.split*tileCols, min(c.pp*(part+1)/c.split*tileCols, c.P)
	c.chunked(m, r)
}

// segmentEnd is the first t in (t, L] where the sequence changes.
func (c *call) segmentEnd(b, t int) int {
	if c.SeqIdx == nil {
		return c.L
	}
	row := c.SeqIdx[b*c.L : (b+1)*c.L]
	e := t + 1
	for e < c.L && row[e] == row[t] {
		e++
	}
	return e
}
