package conv2d

import (
	"github.com/ssdc-go/ssdc/backends/cpu/igemm"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// QuantDepthwise is a convolution of bytes with one input channel per group.
//
// Where the processor multiplies four bytes at once, that is done with four
// neighbours of a row (quads.go). Elsewhere it adds up shifted planes as
// Depthwise does, of whole numbers in float32, which are exact while a window
// has less than 500 elements.
type QuantDepthwise struct {
	s      Shape
	quads  *quadDepthwise // nil: planes
	planes planes
	taps   []int32
	reach  int // the largest of them
	args   QuantArgs
	worker []quantPlanes
	task   pool.Task
}

type quantPlanes struct {
	image, plane, sum []float32
	w                 []float32
	bytes             []uint8
}

// MaxExact is the largest window that QuantDepthwise takes.
const MaxExact = 1 << 24 / (255 * 128)

// NewQuantDepthwise prepares a convolution whose Cin is 1.
func NewQuantDepthwise(s Shape, workers int) (*QuantDepthwise, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if q := newQuadDepthwise(s, workers); q != nil {
		return &QuantDepthwise{s: s, quads: q}, nil
	}
	d := &QuantDepthwise{s: s, planes: newPlanes(&s), worker: make([]quantPlanes, workers)}
	d.taps = d.planes.taps(&s)
	d.reach = farthest(d.taps)
	for i := range d.worker {
		w := &d.worker[i]
		w.image = make([]float32, s.In[0]*s.In[1])
		w.plane = w.image
		if !d.planes.direct {
			w.plane = make([]float32, d.planes.channel()) // zeros, as padding is
		}
		w.w = make([]float32, len(d.taps))
		w.sum, w.bytes = make([]float32, chunk), make([]uint8, s.Out[0]*d.planes.pitch)
	}
	d.task = quantDepthwiseTask{d}
	return d, nil
}

// Run computes the convolution; W is [Groups*Cout, taps], not packed and the
// same in every run, Add the bias alone. It allocates nothing after the first run.
func (d *QuantDepthwise) Run(p *pool.Pool, a QuantArgs) {
	if d.s.Batch*d.s.Out[0]*d.s.Out[1] == 0 {
		return
	}
	if d.quads != nil {
		d.quads.run(p, a)
		return
	}
	d.args = a
	p.Run(d.s.Batch*d.s.Groups, d.task)
	d.args = QuantArgs{}
}

type quantDepthwiseTask struct{ *QuantDepthwise }

// Do computes all output channels of one input channel of one image.
func (d quantDepthwiseTask) Do(worker, i int) {
	s, ws := &d.s, &d.worker[worker]
	in, pixels := s.In[0]*s.In[1], s.Out[0]*s.Out[1]
	zero := int32(d.args.Zero)
	if d.args.Signed {
		zero = int32(int8(d.args.Zero))
	}
	igemm.Dequantize(ws.image, d.args.X[i*in:(i+1)*in], d.args.Signed, zero, 1)
	if !d.planes.direct {
		d.planes.inside(ws.plane, ws.image)
	}
	pitch := d.planes.pitch
	total := (s.Out[0]-1)*pitch + s.Out[1]
	for m := range s.Cout {
		ch := i%s.Groups*s.Cout + m
		for t, v := range d.args.W[ch*len(d.taps):][:len(d.taps)] {
			ws.w[t] = float32(int8(v))
		}
		dst := d.args.Y[(i*s.Cout+m)*pixels:][:pixels]
		out := ws.bytes
		if pitch == s.Out[1] {
			out = dst
		}
		// Whole numbers of this size are exact in float32, and adding the bias
		// rounds as converting the sum would.
		o := d.args.Out
		for lo := 0; lo < total; lo += chunk {
			hi := min(lo+chunk, total)
			sum := ws.sum[:hi-lo]
			sumTaps(sum, ws.plane[lo:], d.taps, d.reach, ws.w, 0)
			o.RequantizeSums(out[lo:hi], sum, float32(d.args.Add[ch]), d.args.Scale[ch])
		}
		if pitch != s.Out[1] {
			copyBytes(dst, s.Out[1], out, pitch, s.Out[0], s.Out[1], 0)
		}
	}
}
