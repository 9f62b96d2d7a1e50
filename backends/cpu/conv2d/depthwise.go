package conv2d

import (
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

// Depthwise is a convolution with one input channel per group, prepared for
// one shape.
type Depthwise struct {
	s      Shape
	planes planes
	taps   []int32
	reach  int // the largest of them
	group  int // channels of a piece of work
	args   Args
	worker []planeScratch
	task   pool.Task
}

type planeScratch struct{ plane, sum []float32 }

// chunk is how many elements are summed before the next ones: they and the
// plane they come from stay in the first level of cache.
const chunk = 2048

// NewDepthwise prepares a convolution whose Cin is 1.
func NewDepthwise(s Shape, workers int) (*Depthwise, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	d := &Depthwise{s: s, planes: newPlanes(&s), worker: make([]planeScratch, workers)}
	d.taps = d.planes.taps(&s)
	d.reach = farthest(d.taps)
	// Planes are written for several channels at a time: what was just stored in
	// pieces cannot be loaded whole.
	d.group = 1
	if !d.planes.direct {
		d.group = min(max(1, planesBytes/4/max(d.planes.channel(), 1)), 16)
	}
	for i := range d.worker {
		if !d.planes.direct {
			d.worker[i].plane = make([]float32, d.group*d.planes.channel()) // zeros, as padding is
		}
		d.worker[i].sum = make([]float32, s.Out[0]*d.planes.pitch)
	}
	d.task = depthwiseTask{d}
	return d, nil
}

// Run computes the convolution; W is [Groups*Cout, taps], not packed. It
// allocates nothing.
func (d *Depthwise) Run(p *pool.Pool, a Args) {
	if d.s.Batch*d.s.Out[0]*d.s.Out[1] == 0 {
		return
	}
	d.args = a
	p.Run(ceilDiv(d.s.Batch*d.s.Groups, d.group), d.task)
	d.args = Args{}
}

type depthwiseTask struct{ *Depthwise }

// Do computes all output channels of some input channels.
func (d depthwiseTask) Do(worker, i int) {
	s, ws := &d.s, &d.worker[worker]
	in, size := s.In[0]*s.In[1], d.planes.channel()
	first, last := i*d.group, min((i+1)*d.group, s.Batch*s.Groups)
	for c := first; c < last && !d.planes.direct; c++ {
		d.planes.inside(ws.plane[(c-first)*size:], d.args.X[c*in:(c+1)*in])
	}
	for c := first; c < last; c++ {
		if d.planes.direct {
			d.channel(ws, d.args.X[c*in:(c+1)*in], c)
		} else {
			d.channel(ws, ws.plane[(c-first)*size:(c-first+1)*size], c)
		}
	}
}

// channel computes the output channels of input channel i.
func (d depthwiseTask) channel(ws *planeScratch, src []float32, i int) {
	s, pixels := &d.s, d.s.Out[0]*d.s.Out[1]
	pitch := d.planes.pitch
	// Whole rows of the planes are summed, what lies between two output rows too.
	total := (s.Out[0]-1)*pitch + s.Out[1]
	for m := range s.Cout {
		ch := i%s.Groups*s.Cout + m
		w := d.args.W[ch*len(d.taps):][:len(d.taps)]
		start := float32(0)
		if d.args.Bias != nil {
			start = d.args.Bias[ch]
		}
		at := (i*s.Cout + m) * pixels
		sum := ws.sum
		if pitch == s.Out[1] {
			sum = d.args.Y[at : at+pixels]
		}
		for lo := 0; lo < total; lo += chunk {
			hi := min(lo+chunk, total)
			sumTaps(sum[lo:hi], src[lo:], d.taps, d.reach, w, start)
		}
		if pitch != s.Out[1] {
			copyFloats(d.args.Y[at:at+pixels], s.Out[1], sum, pitch, s.Out[0], s.Out[1])
		}
		d.args.finish(at, pixels, 1, pixels)
	}
}

// farthest is the largest tap, 0 when there is none.
func farthest(taps []int32) int {
	m := int32(0)
	for _, t := range taps {
		m = max(m, t)
	}
	return int(m)
}

// sumTapsPortable writes dst[i] = start + sum_t w[t]*src[taps[t]+i].
func sumTapsPortable(dst, src []float32, taps []int32, w []float32, start float32) {
	vec.Fill(dst, start)
	for t, base := range taps {
		vec.Axpy(dst, src[int(base):int(base)+len(dst)], w[t])
	}
}
