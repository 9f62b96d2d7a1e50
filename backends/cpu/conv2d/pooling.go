package conv2d

import (
	"math"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

// Pooling is a maximum or mean over windows, prepared for one shape. Like a
// depthwise convolution it combines shifted planes.
type Pooling struct {
	s       Shape
	mean    bool
	inverse []float32 // per output pixel: 1 / number of elements that count
	planes  planes
	taps    []int32
	x, y    []float32
	worker  []planeScratch
	task    pool.Task
}

// NewMaxPool prepares a maximum; padding never wins. s has one channel per group.
func NewMaxPool(s Shape, workers int) (*Pooling, error) {
	return newPooling(s, workers, false)
}

// NewMeanPool prepares a mean. Windows count what lies inside the image or, with
// padded, also the padding, of which end is below and to the right.
func NewMeanPool(s Shape, workers int, padded bool, end [2]int) (*Pooling, error) {
	p, err := newPooling(s, workers, true)
	if err != nil {
		return nil, err
	}
	count := func(a, o int) int {
		n := 0
		for k := range s.Kernel[a] {
			at := o*s.Stride[a] + k*s.Dilation[a] - s.Pad[a]
			if padded && at < s.In[a]+end[a] || at >= 0 && at < s.In[a] {
				n++
			}
		}
		return n
	}
	p.inverse = make([]float32, s.Out[0]*s.Out[1])
	for i := range p.inverse {
		p.inverse[i] = 1 / float32(count(0, i/s.Out[1])*count(1, i%s.Out[1]))
	}
	return p, nil
}

func newPooling(s Shape, workers int, mean bool) (*Pooling, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	p := &Pooling{s: s, mean: mean, planes: newPlanes(&s), worker: make([]planeScratch, workers)}
	padding := float32(0)
	if !mean {
		padding = float32(math.Inf(-1))
	}
	p.taps = p.planes.taps(&s)
	for i := range p.worker {
		if !p.planes.direct {
			p.worker[i].plane = make([]float32, p.planes.channel())
			border(&p.planes, p.worker[i].plane, padding) // once: it stays
		}
		p.worker[i].sum = make([]float32, s.Out[0]*p.planes.pitch)
	}
	p.task = poolingTask{p}
	return p, nil
}

// Run pools x to y. It allocates nothing.
func (p *Pooling) Run(on *pool.Pool, y, x []float32) {
	if p.s.Batch*p.s.Out[0]*p.s.Out[1] == 0 {
		return
	}
	p.x, p.y = x, y
	on.Run(p.s.Batch*p.s.Groups, p.task)
	p.x, p.y = nil, nil
}

type poolingTask struct{ *Pooling }

// Do pools one channel of one image.
func (p poolingTask) Do(worker, i int) {
	s, ws := &p.s, &p.worker[worker]
	in, pixels := s.In[0]*s.In[1], s.Out[0]*s.Out[1]
	src := p.x[i*in : (i+1)*in]
	if !p.planes.direct {
		p.planes.inside(ws.plane, src)
		src = ws.plane
	}
	y, pitch := p.y[i*pixels:(i+1)*pixels], p.planes.pitch
	total := (s.Out[0]-1)*pitch + s.Out[1]
	out := ws.sum
	if pitch == s.Out[1] {
		out = y
	}
	for lo := 0; lo < total; lo += chunk {
		hi := min(lo+chunk, total)
		acc := out[lo:hi]
		copy(acc, src[int(p.taps[0])+lo:])
		for _, base := range p.taps[1:] {
			if from := src[int(base)+lo : int(base)+hi]; p.mean {
				vec.Add(acc, acc, from)
			} else {
				vec.Max(acc, acc, from)
			}
		}
	}
	if pitch != s.Out[1] {
		for r := range s.Out[0] {
			copy(y[r*s.Out[1]:][:s.Out[1]], out[r*pitch:])
		}
	}
	if p.mean {
		vec.Mul(y, y, p.inverse)
	}
}
