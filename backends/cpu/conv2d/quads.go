package conv2d

import (
	"github.com/ssdc-go/ssdc/backends/cpu/igemm"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// quadDepthwise convolves bytes channel by channel, four taps of a row at once:
// an instruction sums the products of four unsigned with four signed bytes. An
// image is copied into a plane with its padding, of which each vector sees
// 16 neighbouring outputs' bytes; a window's row of three is a quad whose last
// weight is 0.
type quadDepthwise struct {
	s           Shape
	rows, pitch int      // of a plane
	offsets     []int32  // per quad: where the first output finds its bytes
	group       int      // channels of a piece of work: planes that fit in the first level of cache
	filters     []uint32 // of all output channels, and
	totals      []int32  // the sums of their weights, both from the first run on
	args        QuantArgs
	worker      []quadScratch
	task        pool.Task
}

type quadScratch struct {
	planes []uint8
	filled int // the byte that their padding holds, -1 for none yet
}

// planesBytes bounds the planes of a piece of work.
const planesBytes = 16 << 10

// overread is how far behind a plane the kernels read.
const overread = 64

// newQuadDepthwise prepares a convolution, or returns nil where the kernels do not take it.
func newQuadDepthwise(s Shape, workers int) *quadDepthwise {
	if !haveQuads() || s.Stride[1] > 2 || s.Dilation[1] != 1 || s.Out[0] == 0 || s.Out[1] == 0 {
		return nil
	}
	reach := func(a int) int { return (s.Out[a]-1)*s.Stride[a] + (s.Kernel[a]-1)*s.Dilation[a] + 1 }
	d := &quadDepthwise{s: s, rows: max(reach(0), s.Pad[0]+s.In[0]), pitch: max(reach(1), s.Pad[1]+s.In[1]), worker: make([]quadScratch, workers)}
	for ky := range s.Kernel[0] {
		for kx := 0; kx < s.Kernel[1]; kx += 4 {
			d.offsets = append(d.offsets, int32(ky*s.Dilation[0]*d.pitch+kx))
		}
	}
	plane := d.rows * d.pitch
	d.group = min(max(1, planesBytes/plane), 16)
	for i := range d.worker {
		d.worker[i] = quadScratch{planes: make([]uint8, d.group*plane+overread), filled: -1}
	}
	d.task = quadTask{d}
	return d
}

func (d *quadDepthwise) run(p *pool.Pool, a QuantArgs) {
	if d.filters == nil {
		d.pack(a.W)
	}
	d.args = a
	p.Run(ceilDiv(d.s.Batch*d.s.Groups, d.group), d.task)
	d.args = QuantArgs{}
}

type quadTask struct{ *quadDepthwise }

// Do computes the channels of one piece of work. All planes are written before
// the first is read: what was just stored in pieces cannot be loaded whole.
func (d quadTask) Do(worker, i int) {
	s, ws := &d.s, &d.worker[worker]
	in, pixels, plane := s.In[0]*s.In[1], s.Out[0]*s.Out[1], d.rows*d.pitch
	flip := uint8(0)
	if d.args.Signed {
		flip = 0x80
	}
	padding := d.args.Zero ^ flip
	if ws.filled != int(padding) {
		for j := range ws.planes {
			ws.planes[j] = padding
		}
		ws.filled = int(padding)
	}
	first, last := i*d.group, min((i+1)*d.group, s.Batch*s.Groups)
	for c := first; c < last; c++ {
		copyBytes(ws.planes[(c-first)*plane+s.Pad[0]*d.pitch+s.Pad[1]:], d.pitch, d.args.X[c*in:(c+1)*in], s.In[1], s.In[0], s.In[1], flip)
	}
	o := d.args.Out
	for c := first; c < last; c++ {
		for m := range s.Cout {
			ch := c%s.Groups*s.Cout + m
			add := d.args.Add[ch] - int32(padding)*d.totals[ch]
			w := d.filters[ch*len(d.offsets):][:len(d.offsets)]
			depthwiseQuads(d.args.Y[(c*s.Cout+m)*pixels:][:pixels], ws.planes[(c-first)*plane:], d.pitch*s.Stride[0], d.offsets, w, s, add, d.args.Scale[ch], &o)
		}
	}
}

// pack lays out the filters in quads and adds up their weights.
func (d *quadDepthwise) pack(w []uint8) {
	maps, kw := d.s.Groups*d.s.Cout, d.s.Kernel[1]
	d.filters, d.totals = make([]uint32, 0, maps*len(d.offsets)), make([]int32, maps)
	for row := range maps * d.s.Kernel[0] {
		for kx := 0; kx < kw; kx += 4 {
			quad := uint32(0)
			for i, v := range w[row*kw:][kx:min(kx+4, kw)] {
				quad |= uint32(v) << (8 * i)
				d.totals[row/d.s.Kernel[0]] += int32(int8(v))
			}
			d.filters = append(d.filters, quad)
		}
	}
}

// limits are the least and the largest value of an output before its zero point is added.
func limits(o *igemm.Output) (lo, hi float32) { return float32(o.Lo - o.Zero), float32(o.Hi - o.Zero) }
