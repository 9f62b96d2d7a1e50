// Package conv2d convolves images for the CPU backend: NCHW, any kernel,
// stride, dilation, padding and groups; one spatial axis is an image of height 1.
//
// A convolution is the product W[M,K] @ P[K,N] per image and group, where M are
// the output channels, N the output pixels and a row of P is what one tap
// (channel, ky, kx) sees at every pixel. P is never stored: the micro-kernels of
// package gemm want panels of 32 columns, and a panel is gathered when its
// turn comes, a few kilobytes that stay in cache.
//
// Gathering is cheap because the image first becomes planes: a stride of s cuts
// it into s phases per axis, and with the padding written out, every tap sees
// at pixel (y, x) the element base + y*pitch + x of its phase. A 1x1
// convolution without stride needs no planes; it reads the image itself.
//
// A depthwise convolution has one channel on either side and would waste a
// product; it adds up shifted planes instead.
package conv2d

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// Shape describes Y[Batch, Groups*Cout, Out] = conv(X[Batch, Groups*Cin, In]).
// Pairs are vertical, horizontal; Pad is what stands above and to the left.
type Shape struct {
	Batch, Groups, Cin, Cout               int
	In, Out, Kernel, Stride, Dilation, Pad [2]int
}

// Args are the operands of one convolution.
type Args struct {
	X, W, Y []float32
	// Bias has one element per output channel, Residual the shape of Y; nil: none.
	Bias, Residual []float32
	// Act is applied last, in place; nil: none.
	Act func(x []float32)
	// Clamp: what is left is kept between Lo and Hi, as most activations ask.
	Clamp  bool
	Lo, Hi float32
}

// K is the number of taps of one output element.
func (s *Shape) K() int { return s.Cin * s.Kernel[0] * s.Kernel[1] }

// Check says what is wrong with the sizes, if anything.
func (s *Shape) Check() error {
	for a := range 2 {
		if s.Stride[a] < 1 || s.Dilation[a] < 1 || s.Kernel[a] < 1 || s.Pad[a] < 0 || s.In[a] < 0 || s.Out[a] < 0 {
			return fmt.Errorf("conv2d: stride %v, dilation %v, kernel %v, pad %v, in %v, out %v: not all are in range", s.Stride, s.Dilation, s.Kernel, s.Pad, s.In, s.Out)
		}
	}
	if s.Batch < 0 || s.Groups < 1 || s.Cin < 1 || s.Cout < 1 {
		return fmt.Errorf("conv2d: batch %d, groups %d, channels %d to %d: not all are in range", s.Batch, s.Groups, s.Cin, s.Cout)
	}
	return nil
}

// RowStride is the distance of the rows of the packed weight: not a multiple
// of the distance at which a cache's sets repeat.
func RowStride(k int) int {
	ld := (k + 15) &^ 15
	if ld%128 == 0 {
		ld += 16
	}
	return ld
}

// PackedSize is the length of the packed weight of rows output channels.
func PackedSize(rows, k int) int { return rows * RowStride(k) }

// Pack writes W[rows,k] to dst with rows RowStride(k) apart.
func Pack(dst, w []float32, rows, k int) {
	ld := RowStride(k)
	for r := range rows {
		copy(dst[r*ld:], w[r*k:(r+1)*k])
	}
}

// Unpack is the inverse of Pack.
func Unpack(dst, packed []float32, rows, k int) {
	ld := RowStride(k)
	for r := range rows {
		copy(dst[r*k:(r+1)*k], packed[r*ld:])
	}
}

const (
	panelWidth = gemm.PanelWidth
	// maxPanels is how many panels of pixels a tile has: with BlockK taps they
	// fill half of the second level of cache.
	maxPanels = 16
	// tilesPerWorker evens out the load.
	tilesPerWorker = 4
)

// Conv is a convolution prepared for one shape: Run computes it.
type Conv struct {
	s      Shape
	planes planes
	taps   []int32 // per tap: where its first pixel is in the planes of a group
	panels []panel
	tiles  split
	args   Args
	ws     *Workspace
	src    []float32 // the planes, or the images themselves
	image  int       // distance of two groups in src
	// Where several tiles of rows share their panels, these are gathered before,
	// one image and group at a time: panel p from shared[p*K*panelWidth] on.
	shared []float32
	at     int // the image and group at hand

	fill, collect, multiply pool.Task
}

// Workspace is memory that convolutions use in turn.
type Workspace struct {
	worker []scratch
	planes []float32
	shared []float32
}

type scratch struct {
	packB []float32 // maxPanels panels of BlockK taps
	rim   []float32 // one block of C, for the last panel
	bias  []float32 // one block of C that holds the bias of each row
	turn  []float32 // what of Blocks is to be transposed
}

// NewWorkspace makes a workspace for that many workers.
func NewWorkspace(workers int) *Workspace { return &Workspace{worker: make([]scratch, workers)} }

func (w *Workspace) reservePlanes(n int) {
	if len(w.planes) < n {
		w.planes = make([]float32, n)
	}
}

func (w *Workspace) reserveBlocks(planes int, turn bool) {
	w.reservePlanes(planes)
	for i := range w.worker {
		if s := &w.worker[i]; turn && s.turn == nil {
			s.turn = make([]float32, turnTiles*maxTile*panelWidth)
		}
	}
}

func (w *Workspace) reserve(planes, shared int) {
	if len(w.shared) < shared {
		w.shared = make([]float32, shared)
	}
	w.reservePlanes(planes)
	for i := range w.worker {
		if s := &w.worker[i]; s.packB == nil {
			s.packB = make([]float32, maxPanels*gemm.BlockK*panelWidth)
			s.rim, s.bias = make([]float32, gemm.MaxRows*panelWidth), make([]float32, gemm.MaxRows*panelWidth)
		}
	}
}

// split divides the output channels and pixels of one image and group.
type split struct{ rowTiles, panelTiles, rows, panels int }

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// New prepares a convolution; the weight is packed.
func New(s Shape, workers int, ws *Workspace) (*Conv, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	c := &Conv{s: s, ws: ws, planes: newPlanes(&s)}
	c.taps = c.planes.taps(&s)
	c.panels = c.planes.panels(&s)
	c.tiles = divide(&s, len(c.panels), workers)
	if c.planes.direct {
		c.image = s.Cin * s.In[0] * s.In[1]
	} else {
		c.image = s.Cin * c.planes.channel()
	}
	planeSize := 0
	if !c.planes.direct {
		planeSize = s.Batch * s.Groups * c.image
	}
	sharedSize := 0
	if c.shares() {
		sharedSize = len(c.panels) * s.K() * panelWidth
	}
	ws.reserve(planeSize, sharedSize)
	c.fill, c.collect, c.multiply = fillTask{c}, collectTask{c}, multiplyTask{c}
	return c, nil
}

func divide(s *Shape, np, workers int) split {
	rows, _ := gemm.MicroKernels()
	groups := ceilDiv(s.Cout, rows)
	want := ceilDiv(tilesPerWorker*workers, s.Batch*s.Groups)
	if workers == 1 {
		want = 1
	}
	pt := ceilDiv(np, maxPanels)
	// Each tile of rows gathers its panels anew: cut pixels first, down to four
	// panels, and rows only to keep everybody busy.
	pt = max(pt, min(want, ceilDiv(np, 4)))
	rt := min(max(1, ceilDiv(want, max(pt, 1))), ceilDiv(groups, 3))
	return split{rt, pt, ceilDiv(groups, rt) * rows, ceilDiv(np, max(pt, 1))}
}

// Run computes the convolution. It allocates nothing.
func (c *Conv) Run(p *pool.Pool, a Args) {
	s := &c.s
	if s.Batch*s.Out[0]*s.Out[1] == 0 {
		return
	}
	c.args, c.src = a, a.X
	if !c.planes.direct {
		c.src = c.ws.planes
		p.Run(s.Batch*s.Groups*s.Cin, c.fill)
	}
	per := c.tiles.rowTiles * c.tiles.panelTiles
	if c.shares() {
		c.shared = c.ws.shared
		for c.at = range s.Batch * s.Groups {
			p.Run(len(c.panels), c.collect)
			p.Run(per, c.multiply)
		}
		c.at, c.shared = 0, nil
	} else {
		p.Run(s.Batch*s.Groups*per, c.multiply)
	}
	c.args, c.src = Args{}, nil
}

// shares reports that gathering the panels once is worth a step of its own.
func (c *Conv) shares() bool { return c.tiles.rowTiles > 1 }

type collectTask struct{ *Conv }

// Do gathers one panel.
func (c collectTask) Do(_, p int) {
	size := c.s.K() * panelWidth
	c.panels[p].gather(c.shared[p*size:(p+1)*size], c.src[c.at*c.image:], c.taps)
}

type fillTask struct{ *Conv }

// Do writes the planes of one channel of one image.
func (c fillTask) Do(_, i int) {
	n := c.s.In[0] * c.s.In[1]
	c.planes.fill(c.src[i*c.planes.channel():], c.args.X[i*n:(i+1)*n])
}

type multiplyTask struct{ *Conv }

// Do computes one tile of one image and group.
func (c multiplyTask) Do(worker, i int) {
	s, t := &c.s, &c.tiles
	ig := c.at + i/(t.rowTiles*t.panelTiles)
	r0, p0 := i%t.rowTiles*t.rows, i/t.rowTiles%t.panelTiles*t.panels
	rows, panels := min(t.rows, s.Cout-r0), min(t.panels, len(c.panels)-p0)
	if rows <= 0 || panels <= 0 {
		return
	}
	k, pixels := s.K(), s.Out[0]*s.Out[1]
	ld := RowStride(k)
	w := c.args.W[(ig%s.Groups*s.Cout+r0)*ld:]
	src, first := c.src[ig*c.image:], (ig*s.Cout+r0)*pixels
	out := c.args.Y[first:]
	ws := &c.ws.worker[worker]
	height, kernels := gemm.MicroKernels()
	step := gemm.StepK(k)
	for k0 := 0; k0 < k; k0 += step {
		kc := min(step, k-k0)
		for p := 0; p < panels && c.shared == nil; p++ {
			c.panels[p0+p].gather(ws.packB[p*gemm.BlockK*panelWidth:], src, c.taps[k0:k0+kc])
		}
		for r, groups := 0, ceilDiv(rows, height); groups > 0; groups-- {
			m := ceilDiv(rows-r, groups) // even heights: 15 rows are 8+7
			if k0 == 0 && c.args.Bias != nil {
				biasRows(ws.bias, c.args.Bias[ig%s.Groups*s.Cout+r0+r:][:m])
			}
			for p := range panels {
				b, j := ws.packB[p*gemm.BlockK*panelWidth:], (p0+p)*panelWidth
				if c.shared != nil {
					b = c.shared[((p0+p)*k+k0)*panelWidth:]
				}
				b = b[:kc*panelWidth]
				dst := out[r*pixels+j:]
				var d []float32 // what the block of K is added to
				ldd := pixels
				switch {
				case k0 > 0:
					d = dst
				case c.args.Bias != nil:
					d, ldd = ws.bias, panelWidth
				}
				if cols := pixels - j; cols >= panelWidth {
					kernels[m](kc, w[r*ld+k0:], ld, b, dst, pixels, d, ldd, 1)
				} else {
					c.edge(ws, kernels[m], m, cols, kc, w[r*ld+k0:], ld, b, dst, d, ldd)
				}
			}
			if k0+step >= k {
				j0 := p0 * panelWidth
				c.args.finish(first+r*pixels+j0, pixels, m, min((p0+panels)*panelWidth, pixels)-j0)
			}
			r += m
		}
	}
}

// edge computes a block of the last, narrower panel in scratch.
func (c multiplyTask) edge(ws *scratch, kernel gemm.Micro, m, cols, kc int, w []float32, ld int, b, dst, d []float32, ldd int) {
	pixels := c.s.Out[0] * c.s.Out[1]
	var add []float32
	if d != nil {
		for i := range m {
			copy(ws.rim[i*panelWidth:][:cols], d[i*ldd:])
		}
		add = ws.rim
	}
	kernel(kc, w, ld, b, ws.rim, panelWidth, add, panelWidth, 1)
	for i := range m {
		copy(dst[i*pixels:][:cols], ws.rim[i*panelWidth:])
	}
}
