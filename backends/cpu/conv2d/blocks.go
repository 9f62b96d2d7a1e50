package conv2d

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

// Blocks is a convolution of one group prepared for one shape, whose input and
// output may each be in blocks of channels. A tile of pixels by one panel of 32
// output channels is summed over all taps in registers, so nothing is gathered and
// nothing is added up in memory; a panel of the weight is one stream.
//
// An output that is not in blocks is computed some tiles at a time and transposed. An
// input that is not becomes blocks while its padding is written; if its channels do not
// make up blocks, planes take their place.
type Blocks struct {
	s         Shape
	in, out   bool // x and y are in blocks
	blocks    bool // src is
	planes    planes
	padded    blockPlanes
	tiling    tiling
	tile      blockTile // what all tiles have in common
	image     int       // distance of two images in src
	panels    int
	cuts      [2]int // of the pixels, of the panels
	perWorker []blockScratch
	ws        *Workspace
	args      Args
	src       []float32

	fill, multiply pool.Task
}

type blockScratch struct {
	tile blockTile
	bias [panelWidth]float32
	pad  []float32 // of a depthwise convolution: the rows at hand
	_    [128]byte // its neighbour changes its tile all the time
}

// PackedBlocksSize is the length of the packed weight of rows output channels of k taps.
func PackedBlocksSize(rows, k int) int { return ceilDiv(rows, panelWidth) * panelWidth * k }

// eachTap calls f for the taps of a weight in the order of the packed one: by blocks of
// input channels, then by position, then by channel.
func eachTap(channels, positions int, f func(channel, position int)) {
	for c0 := 0; c0 < channels; c0 += Block {
		for p := range positions {
			for c := c0; c < min(c0+Block, channels); c++ {
				f(c, p)
			}
		}
	}
}

// PackBlocks writes W[rows, channels, positions] to dst: panels of 32 output channels,
// in each of them a row per tap.
func PackBlocks(dst, w []float32, rows, channels, positions int) {
	k := channels * positions
	clear(dst)
	for r := range rows {
		at := r/panelWidth*panelWidth*k + r%panelWidth
		eachTap(channels, positions, func(c, p int) {
			dst[at] = w[(r*channels+c)*positions+p]
			at += panelWidth
		})
	}
}

// UnpackBlocks is the inverse of PackBlocks.
func UnpackBlocks(dst, packed []float32, rows, channels, positions int) {
	k := channels * positions
	for r := range rows {
		at := r/panelWidth*panelWidth*k + r%panelWidth
		eachTap(channels, positions, func(c, p int) {
			dst[(r*channels+c)*positions+p] = packed[at]
			at += panelWidth
		})
	}
}

// NewBlocks prepares a convolution; in and out say whether x and y are in blocks.
func NewBlocks(s Shape, in, out bool, workers int, ws *Workspace) (*Blocks, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if s.Groups != 1 || in && s.Cin%Block != 0 || out && s.Cout%Block != 0 {
		return nil, fmt.Errorf("conv2d: %d to %d channels in %d groups cannot be in blocks of %d", s.Cin, s.Cout, s.Groups, Block)
	}
	c := &Blocks{s: s, in: in, out: out, blocks: s.Cin%Block == 0, ws: ws, panels: ceilDiv(s.Cout, panelWidth), perWorker: make([]blockScratch, workers)}
	t, planeSize := &c.tile, 0
	positions := s.Kernel[0] * s.Kernel[1]
	dstPixel := Block
	if c.blocks {
		c.padded = newBlockPlanes(&s, in)
		pitch := c.padded.pitch * Block
		channel := c.padded.rows * pitch
		c.image = s.Cin / Block * channel
		for b := range s.Cin / Block {
			for p := range positions {
				y, x := p/s.Kernel[1]*s.Dilation[0], p%s.Kernel[1]*s.Dilation[1]
				t.taps = append(t.taps, int32(b*channel+y*pitch+x*Block))
			}
		}
		t.unit, t.pixel = Block, s.Stride[1]*Block
		c.tiling = newTiling(s.Out[1], s.Out[0], t.pixel, s.Stride[0]*pitch, dstPixel)
		if !c.padded.direct {
			planeSize = s.Batch * c.image
		}
	} else {
		c.planes = newPlanes(&s)
		channel := c.planes.channel()
		if c.planes.direct {
			channel = s.In[0] * s.In[1]
		}
		c.image = s.Cin * channel
		eachTap(s.Cin, positions, func(ch, p int) {
			t.taps = append(t.taps, int32(ch*channel+c.planes.at(&s, p/s.Kernel[1], p%s.Kernel[1])))
		})
		t.unit, t.pixel = 1, 1
		c.tiling = newTiling(s.Out[1], s.Out[0], 1, c.planes.pitch, dstPixel)
		if !c.planes.direct {
			planeSize = s.Batch * c.image
		}
	}
	t.reach = farthest(t.taps) + t.unit - 1
	t.dstPixel, t.dstBlock = dstPixel, s.Out[0]*s.Out[1]*Block
	if !out {
		t.dstBlock = turnTiles * maxTile * Block
	}
	c.divide(workers)
	ws.reserveBlocks(planeSize, !out)
	c.fill, c.multiply = blockFillTask{c}, blockTask{c}
	return c, nil
}

const (
	// blockPixelBytes is how much of the input a piece of work may see: it is read
	// again for each panel, from the second level of cache.
	blockPixelBytes = 512 << 10
	// blockTasks per worker even out the load.
	blockTasks = 4
	// turnTiles are computed before they are transposed: they stay in the second level of cache.
	turnTiles = 64
)

// divide cuts the work: what is larger is shared out, the weight by panels or the
// image by tiles, so that it is read once.
func (c *Blocks) divide(workers int) {
	s := &c.s
	input, weight := 4*s.Cin*s.In[0]*s.In[1], 4*s.K()*s.Cout
	want := ceilDiv(blockTasks*workers, s.Batch)
	if workers == 1 {
		want = 1
	}
	tiles := max(c.tiling.count(), 1)
	if weight > input {
		c.cuts[1] = min(c.panels, want)
		c.cuts[0] = min(tiles, max(ceilDiv(want, c.cuts[1]), ceilDiv(input, 2*blockPixelBytes)))
		return
	}
	c.cuts[0] = min(tiles, max(want, ceilDiv(input, blockPixelBytes)))
	c.cuts[1] = min(c.panels, ceilDiv(want, c.cuts[0]))
}

// Run computes the convolution; W is packed by PackBlocks. It allocates nothing.
func (c *Blocks) Run(p *pool.Pool, a Args) {
	s := &c.s
	if s.Batch*s.Out[0]*s.Out[1] == 0 {
		return
	}
	c.args, c.src = a, a.X
	if c.blocks && !c.padded.direct {
		c.src = c.ws.planes
		p.Run(s.Batch*s.Cin/Block, c.fill)
	} else if !c.blocks && !c.planes.direct {
		c.src = c.ws.planes
		p.Run(s.Batch*s.Cin, c.fill)
	}
	p.Run(s.Batch*c.cuts[0]*c.cuts[1], c.multiply)
	c.args, c.src = Args{}, nil
	for i := range c.perWorker {
		c.perWorker[i].tile = blockTile{}
	}
}

type blockFillTask struct{ *Blocks }

// Do writes the planes of one channel, or block of channels, of one image.
func (c blockFillTask) Do(_, i int) {
	if c.blocks {
		n, size := c.s.In[0]*c.s.In[1]*Block, c.padded.rows*c.padded.pitch*Block
		c.padded.fill(c.src[i*size:(i+1)*size], c.args.X[i*n:(i+1)*n], 0, c.padded.rows, 0)
		return
	}
	n := c.s.In[0] * c.s.In[1]
	c.planes.fill(c.src[i*c.planes.channel():], c.args.X[i*n:(i+1)*n])
}

type blockTask struct{ *Blocks }

// Do computes some tiles of some panels of one image.
func (c blockTask) Do(worker, i int) {
	s, ws := &c.s, &c.perWorker[worker]
	n := i / (c.cuts[0] * c.cuts[1])
	q, p := i/c.cuts[1]%c.cuts[0], i%c.cuts[1]
	tiles := c.tiling.count()
	t0, t1 := q*tiles/c.cuts[0], (q+1)*tiles/c.cuts[0]
	pixels, k := s.Out[0]*s.Out[1], s.K()
	t := &ws.tile
	*t = c.tile
	t.src, t.lo, t.hi = c.src, c.args.Lo, c.args.Hi
	fused := c.out && c.args.Act == nil // limits in the kernel; so is the residual of blocks
	t.clamp = fused && c.args.Clamp
	first := c.tiling.begin(t0)
	count := min(c.tiling.begin(t1), pixels) - first
	for panel := p * c.panels / c.cuts[1]; panel < (p+1)*c.panels/c.cuts[1]; panel++ {
		rows := min(panelWidth, s.Cout-panel*panelWidth)
		blocks := ceilDiv(rows, Block)
		clear(ws.bias[:])
		if c.args.Bias != nil {
			copy(ws.bias[:], c.args.Bias[panel*panelWidth:][:rows])
		}
		t.bias, t.w = ws.bias[:], c.args.W[panel*panelWidth*k:][:panelWidth*k]
		ahead := t.w
		if panel+1 < c.panels {
			ahead = c.args.W[(panel+1)*panelWidth*k:][:panelWidth*k]
		}
		at := (n*s.Cout + panel*panelWidth) * pixels
		if c.out {
			t.dst = c.args.Y
			t.residual = c.args.Residual
		} else {
			t.dst = c.ws.worker[worker].turn
		}
		t.prepare(blocks)
		for i := t0; i < t1; i++ {
			t.next = ahead[min(i-t0, 3)*(k/4)*panelWidth:]
			if c.out {
				t.product(c.tiling.place(t, i, n*c.image, at), blocks)
				continue
			}
			from := t0 + (i-t0)/turnTiles*turnTiles // the first of those that are transposed together
			begin := c.tiling.begin(from)
			t.product(c.tiling.place(t, i, n*c.image, -begin*Block), blocks)
			if i+1 == min(from+turnTiles, t1) {
				for b := range blocks {
					y := c.args.Y[at+b*Block*pixels+begin:]
					vec.Transpose2D(y, pixels, t.dst[b*t.dstBlock:], Block, min(c.tiling.begin(i+1), pixels)-begin, min(Block, rows-b*Block))
				}
			}
		}
		switch {
		case c.out && c.args.Act != nil:
			for b := range blocks {
				y := c.args.Y[at+b*Block*pixels+first*Block:][:count*Block]
				c.args.Act(y)
				if c.args.Clamp {
					vec.Clamp(y, y, c.args.Lo, c.args.Hi)
				}
			}
		case !c.out:
			c.args.finish(at+first, pixels, rows, count)
		}
	}
}

// blockPlanes are an image in blocks of channels with its padding.
type blockPlanes struct {
	direct      bool // the image itself
	plain       bool // the image is not in blocks yet
	rows, pitch int  // in pixels
	in, pad     [2]int
}

// newBlockPlanes lays out the planes of an image that is in blocks, or is not yet.
func newBlockPlanes(s *Shape, blocks bool) blockPlanes {
	var size [2]int
	direct := blocks
	for a := range 2 {
		size[a] = (max(s.Out[a], 1)-1)*s.Stride[a] + (s.Kernel[a]-1)*s.Dilation[a] + 1
		direct = direct && s.Pad[a] == 0 && size[a] <= s.In[a]
	}
	if direct {
		return blockPlanes{direct: true, rows: s.In[0], pitch: s.In[1], in: s.In}
	}
	return blockPlanes{plain: !blocks, rows: size[0], pitch: size[1], in: s.In, pad: s.Pad}
}

// fill writes rows [from,to) of the plane of one block of channels.
func (p *blockPlanes) fill(dst, src []float32, from, to int, padding float32) {
	pitch, width := p.pitch*Block, p.in[1]*Block
	left := min(p.pad[1]*Block, pitch)
	n := min(width, pitch-left)
	inside := [2]int{min(max(p.pad[0], from), to), max(min(p.pad[0]+p.in[0], to), from)}
	if n <= 0 || inside[0] >= inside[1] {
		vec.Fill(dst[:(to-from)*pitch], padding)
		return
	}
	// What lies between two rows is one gap.
	first, last := (inside[0]-from)*pitch+left, (inside[1]-1-from)*pitch+left+n
	vec.Fill(dst[:first], padding)
	for at := first + n; at < last; at += pitch {
		vec.Fill(dst[at:at+pitch-n], padding)
	}
	vec.Fill(dst[last:(to-from)*pitch], padding)
	y, rows := inside[0]-p.pad[0], inside[1]-inside[0]
	if !p.plain {
		copyFloats(dst[first:], pitch, src[y*width:], width, rows, n)
		return
	}
	pixels := p.in[0] * p.in[1]
	if pitch == n && n == width { // the rows are one
		vec.Transpose2D(dst[first:], Block, src[y*p.in[1]:], pixels, Block, rows*p.in[1])
		return
	}
	for r := range rows {
		vec.Transpose2D(dst[first+r*pitch:], Block, src[(y+r)*p.in[1]:], pixels, Block, n/Block)
	}
}
