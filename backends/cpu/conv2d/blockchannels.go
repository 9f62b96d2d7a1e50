package conv2d

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// BlockChannels computes every channel of an image in blocks from that channel alone,
// a depthwise convolution or a maximum, prepared for one shape. A piece of work copies
// some rows of a block with their padding to where they stay in cache.
type BlockChannels struct {
	s       Shape
	planes  blockPlanes
	taps    []int32
	band    int // output rows of a piece of work
	tiling  tiling
	last    tiling // of the last, shorter band
	filters []float32
	most    bool
	worker  []blockScratch
	args    Args
	task    pool.Task
}

// bandBytes bounds the rows of a piece of work.
const bandBytes = 48 << 10

// NewBlockDepthwise prepares a convolution of as many groups as channels; W is
// [channels, taps], a constant.
func NewBlockDepthwise(s Shape, w []float32, workers int) (*BlockChannels, error) {
	c, err := newBlockChannels(s, workers)
	if err != nil {
		return nil, err
	}
	k := len(c.taps)
	c.filters = make([]float32, s.Groups*k)
	for ch := range s.Groups {
		for t := range k {
			c.filters[(ch/Block*k+t)*Block+ch%Block] = w[ch*k+t]
		}
	}
	return c, nil
}

// NewBlockMaxPool prepares a maximum; padding never wins.
func NewBlockMaxPool(s Shape, workers int) (*BlockChannels, error) {
	c, err := newBlockChannels(s, workers)
	if err != nil {
		return nil, err
	}
	c.most = true
	for i := range c.worker {
		for j := range c.worker[i].bias {
			c.worker[i].bias[j] = float32(math.Inf(-1))
		}
	}
	return c, nil
}

func newBlockChannels(s Shape, workers int) (*BlockChannels, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if s.Cin != 1 || s.Cout != 1 || s.Groups%Block != 0 {
		return nil, fmt.Errorf("conv2d: %d groups of %d to %d channels cannot be in blocks of %d", s.Groups, s.Cin, s.Cout, Block)
	}
	c := &BlockChannels{s: s, planes: newBlockPlanes(&s, true), worker: make([]blockScratch, workers)}
	pitch := c.planes.pitch * Block
	for ky := range s.Kernel[0] {
		for kx := range s.Kernel[1] {
			c.taps = append(c.taps, int32(ky*s.Dilation[0]*pitch+kx*s.Dilation[1]*Block))
		}
	}
	tall := (s.Kernel[0]-1)*s.Dilation[0] + 1
	c.band = max(1, (bandBytes/4/max(pitch, 1)-tall)/s.Stride[0]+1)
	c.band = ceilDiv(max(s.Out[0], 1), ceilDiv(max(s.Out[0], 1), c.band))
	if !c.planes.direct {
		for i := range c.worker {
			c.worker[i].pad = make([]float32, ((c.band-1)*s.Stride[0]+tall)*pitch)
		}
	}
	make := func(rows int) tiling {
		return newTiling(s.Out[1], rows, s.Stride[1]*Block, s.Stride[0]*pitch, Block)
	}
	c.tiling, c.last = make(c.band), make((max(s.Out[0], 1)-1)%c.band+1)
	c.task = blockChannelsTask{c}
	return c, nil
}

// Run computes the result; a.W is not used. It allocates nothing.
func (c *BlockChannels) Run(p *pool.Pool, a Args) {
	s := &c.s
	if s.Batch*s.Out[0]*s.Out[1] == 0 {
		return
	}
	c.args = a
	p.Run(s.Batch*s.Groups/Block*c.bands(), c.task)
	c.args = Args{}
	for i := range c.worker {
		c.worker[i].tile = blockTile{}
	}
}

func (c *BlockChannels) bands() int { return ceilDiv(c.s.Out[0], c.band) }

type blockChannelsTask struct{ *BlockChannels }

// Do computes one band of rows of one block of channels.
func (c blockChannelsTask) Do(worker, i int) {
	s, ws, a := &c.s, &c.worker[worker], &c.args
	// By rows first, as convolutions of large images cut them: what a worker wrote it reads.
	blocks := s.Groups / Block
	image, i := i/(blocks*c.bands()), i%(blocks*c.bands())
	block, band := image*blocks+i%blocks, i/blocks
	in, out := s.In[0]*s.In[1]*Block, s.Out[0]*s.Out[1]*Block
	y0 := band * c.band
	tl := &c.tiling
	if band == c.bands()-1 {
		tl = &c.last
	}
	rows := min(c.band, s.Out[0]-y0)
	t := &ws.tile
	*t = blockTile{
		pixel: s.Stride[1] * Block, taps: c.taps, unit: Block, reach: farthest(c.taps) + Block - 1,
		dst: a.Y, dstPixel: Block, dstBlock: out, residual: a.Residual, clamp: a.Act == nil && a.Clamp, lo: a.Lo, hi: a.Hi, bias: ws.bias[:],
	}
	x, src := a.X[block*in:(block+1)*in], 0
	if c.planes.direct {
		t.src, src = x, y0*s.Stride[0]*s.In[1]*Block
	} else {
		padding := float32(0)
		if c.most {
			padding = float32(math.Inf(-1))
		}
		from := y0 * s.Stride[0]
		c.planes.fill(ws.pad, x, from, from+(rows-1)*s.Stride[0]+(s.Kernel[0]-1)*s.Dilation[0]+1, padding)
		t.src = ws.pad
	}
	to := block*out + y0*s.Out[1]*Block
	if !c.most {
		group := block % blocks
		t.w = c.filters[group*len(c.taps)*Block:][:len(c.taps)*Block]
		clear(ws.bias[:Block])
		if a.Bias != nil {
			copy(ws.bias[:Block], a.Bias[group*Block:])
		}
	}
	t.prepare(1)
	for j := range tl.count() {
		n := tl.place(t, j, src, to)
		if c.most {
			t.most(n)
		} else {
			t.depthwise(n)
		}
	}
	if a.Act != nil {
		y := a.Y[to:][:rows*s.Out[1]*Block]
		a.Act(y)
		if a.Clamp {
			clampRows(y, len(y), 1, len(y), a.Lo, a.Hi)
		}
	}
}
