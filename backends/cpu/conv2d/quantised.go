package conv2d

import (
	"github.com/ssdc-go/ssdc/backends/cpu/igemm"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// QuantArgs are the operands of a convolution of bytes,
//
//	y = (sum (x - Zero)*w + bias) * Scale, as Out says
//
// where x and y are both signed or both unsigned, and w signed.
type QuantArgs struct {
	X, W, Y []uint8
	Add     []int32   // per output channel: the bias, less Zero (128 more for signed x) times the sum of the weights
	Scale   []float32 // per output channel
	Out     igemm.Output
	Zero    uint8 // what padding holds
	Signed  bool  // x
}

// QuantRowStride is the distance of the rows of the packed weight in bytes.
func QuantRowStride(k int) int {
	ld := (4*igemm.Quads(k) + 63) &^ 63
	if ld%512 == 0 {
		ld += 64
	}
	return ld
}

// QuantPack writes W[rows,k] to dst with rows QuantRowStride(k) apart.
func QuantPack(dst, w []uint8, rows, k int) {
	ld := QuantRowStride(k)
	clear(dst[:rows*ld])
	for r := range rows {
		copy(dst[r*ld:], w[r*k:(r+1)*k])
	}
}

// QuantUnpack is the inverse of QuantPack.
func QuantUnpack(dst, packed []uint8, rows, k int) {
	ld := QuantRowStride(k)
	for r := range rows {
		copy(dst[r*k:(r+1)*k], packed[r*ld:])
	}
}

// Quantised is a convolution of bytes prepared for one shape.
type Quantised struct {
	s      Shape
	planes planes
	taps   []int32 // in fours: beyond the last, where the weights are zeros, it stands again
	size   int     // bytes of a panel
	quads  int     // of which this many are multiplied; those without taps meet weights of zero
	reach  int     // the largest of them
	panels []panel
	tiles  split
	args   QuantArgs
	src    []uint8
	image  int
	store  []uint8 // the planes
	worker []quantScratch

	shared []uint8 // as of Conv
	at     int

	fill, collect, multiply pool.Task
}

type quantScratch struct {
	packB []uint8
	rows  [4 * panelWidth]uint8
	sums  [igemm.MaxRows * panelWidth]int32
}

// quantPanelBytes bounds the panels of a tile: half of the second level of cache.
const quantPanelBytes = 512 << 10

// NewQuantised prepares a convolution; signed: of signed bytes.
func NewQuantised(s Shape, workers int, signed bool) (*Quantised, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	c := &Quantised{s: s, planes: newPlanes(&s), worker: make([]quantScratch, workers)}
	if signed { // they become unsigned on the way
		c.planes.direct = false
	}
	c.taps, c.panels = c.planes.taps(&s), c.planes.panels(&s)
	for len(c.taps)%4 != 0 {
		c.taps = append(c.taps, c.taps[len(c.taps)-1])
	}
	c.reach = farthest(c.taps)
	c.quads = igemm.Quads(s.K())
	if igemm.Current().Tiles { // which want whole steps
		c.quads = (c.quads + igemm.Step - 1) / igemm.Step * igemm.Step
	}
	size := c.quads * 4 * panelWidth
	c.size = size
	most := min(maxPanels, max(1, quantPanelBytes/max(size, 1)))
	c.tiles = divide(&s, len(c.panels), workers)
	if c.tiles.panels > most {
		c.tiles.panels, c.tiles.panelTiles = most, ceilDiv(len(c.panels), most)
	}
	c.image = s.Cin * s.In[0] * s.In[1]
	if !c.planes.direct {
		c.image = s.Cin * c.planes.channel()
		c.store = make([]uint8, s.Batch*s.Groups*c.image)
	}
	for i := range c.worker {
		c.worker[i].packB = make([]uint8, c.tiles.panels*size)
	}
	if c.tiles.rowTiles > 1 {
		c.shared = make([]uint8, len(c.panels)*size)
	}
	c.fill, c.collect, c.multiply = quantFill{c}, quantCollect{c}, quantMultiply{c}
	return c, nil
}

// Run computes the convolution. It allocates nothing.
func (c *Quantised) Run(p *pool.Pool, a QuantArgs) {
	s := &c.s
	if s.Batch*s.Out[0]*s.Out[1] == 0 {
		return
	}
	c.args, c.src = a, a.X
	if !c.planes.direct {
		c.src = c.store
		p.Run(s.Batch*s.Groups*s.Cin, c.fill)
	}
	per := c.tiles.rowTiles * c.tiles.panelTiles
	if c.shared != nil {
		for c.at = range s.Batch * s.Groups {
			p.Run(len(c.panels), c.collect)
			p.Run(per, c.multiply)
		}
		c.at = 0
	} else {
		p.Run(s.Batch*s.Groups*per, c.multiply)
	}
	c.args, c.src = QuantArgs{}, nil
}

type quantCollect struct{ *Quantised }

// Do gathers one panel.
func (c quantCollect) Do(worker, p int) {
	size := c.size
	quantMultiply(c).gather(&c.worker[worker], igemm.Current(), c.shared[p*size:(p+1)*size], c.src[c.at*c.image:], &c.panels[p])
}

type quantFill struct{ *Quantised }

// Do writes the planes of one channel of one image.
func (c quantFill) Do(_, i int) {
	n, size := c.s.In[0]*c.s.In[1], c.planes.channel()
	dst := c.src[i*size : (i+1)*size]
	flip := uint8(0)
	if c.args.Signed {
		flip = 0x80
	}
	border(&c.planes, dst, c.args.Zero^flip)
	c.planes.insideBytes(dst, c.args.X[i*n:(i+1)*n], flip)
}

type quantMultiply struct{ *Quantised }

// Do computes one tile of one image and group.
func (c quantMultiply) Do(worker, i int) {
	s, t := &c.s, &c.tiles
	ig := c.at + i/(t.rowTiles*t.panelTiles)
	r0, p0 := i%t.rowTiles*t.rows, i/t.rowTiles%t.panelTiles*t.panels
	rows, panels := min(t.rows, s.Cout-r0), min(t.panels, len(c.panels)-p0)
	if rows <= 0 || panels <= 0 {
		return
	}
	k, pixels := s.K(), s.Out[0]*s.Out[1]
	ld, size, quads := QuantRowStride(k), c.size, c.quads
	ch0 := ig%s.Groups*s.Cout + r0
	w := c.args.W[ch0*ld:]
	out := c.args.Y[(ig*s.Cout+r0)*pixels:]
	ws, ks := &c.worker[worker], igemm.Current()
	b := ws.packB
	if c.shared != nil {
		b = c.shared[p0*size:]
	}
	for p := 0; p < panels && c.shared == nil; p++ {
		c.gather(ws, ks, ws.packB[p*size:(p+1)*size], c.src[ig*c.image:], &c.panels[p0+p])
	}
	for r, groups := 0, ceilDiv(rows, ks.Rows); groups > 0; groups-- {
		m := ceilDiv(rows-r, groups)
		for p := range panels {
			j := (p0 + p) * panelWidth
			cols := min(panelWidth, pixels-j)
			ks.UnsignedB(m, quads, w[r*ld:], ld, b[p*size:(p+1)*size], ws.sums[:], panelWidth)
			if cols == panelWidth {
				c.args.Out.RequantizeRows(out[r*pixels+j:], pixels, ws.sums[:], c.args.Add[ch0+r:][:m], c.args.Scale[ch0+r:])
				continue
			}
			for q := range m {
				c.args.Out.Requantize(out[(r+q)*pixels+j:][:cols], ws.sums[q*panelWidth:][:cols], c.args.Add[ch0+r+q], c.args.Scale[ch0+r+q])
			}
		}
		r += m
	}
}

// fourRows are the taps of four rows one behind the other.
var fourRows = []int32{0, panelWidth, 2 * panelWidth, 3 * panelWidth}

// gather writes one panel.
func (c quantMultiply) gather(ws *quantScratch, ks *igemm.Kernels, dst, src []uint8, p *panel) {
	if len(p.runs) == 1 && p.runs[0].n == panelWidth {
		ks.Interleave(dst, src[p.runs[0].from:], c.taps, c.reach)
		return
	}
	for q := 0; q < len(c.taps); q += 4 {
		for i, tap := range c.taps[q : q+4] {
			row := ws.rows[i*panelWidth:][:panelWidth]
			for _, r := range p.runs {
				copy(row[r.at:r.at+r.n], src[int(tap)+r.from:])
			}
		}
		ks.Interleave(dst[q*panelWidth:], ws.rows[:], fourRows, 3*panelWidth)
	}
}
