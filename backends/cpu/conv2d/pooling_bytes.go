package conv2d

import "github.com/ssdc-go/ssdc/backends/cpu/pool"

// BytePooling is a maximum of bytes over windows, prepared for one shape; see Pooling.
// Signed bytes become unsigned ones of the same order on the way.
type BytePooling struct {
	s      Shape
	planes planes
	taps   []int32
	flip   uint8
	x, y   []uint8
	worker []bytePlane
	task   pool.Task
}

type bytePlane struct{ plane, most []uint8 }

// NewByteMaxPool prepares a maximum; padding never wins. s has one channel per group.
func NewByteMaxPool(s Shape, workers int, signed bool) (*BytePooling, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	p := &BytePooling{s: s, planes: newPlanes(&s), worker: make([]bytePlane, workers)}
	if signed {
		p.flip, p.planes.direct = 0x80, false
	}
	p.taps = p.planes.taps(&s)
	for i := range p.worker {
		if !p.planes.direct {
			p.worker[i].plane = make([]uint8, p.planes.channel()) // padding is the least byte
		}
		p.worker[i].most = make([]uint8, s.Out[0]*p.planes.pitch)
	}
	p.task = bytePoolingTask{p}
	return p, nil
}

// Run pools x to y. It allocates nothing.
func (p *BytePooling) Run(on *pool.Pool, y, x []uint8) {
	if p.s.Batch*p.s.Out[0]*p.s.Out[1] == 0 {
		return
	}
	p.x, p.y = x, y
	on.Run(p.s.Batch*p.s.Groups, p.task)
	p.x, p.y = nil, nil
}

type bytePoolingTask struct{ *BytePooling }

// Do pools one channel of one image.
func (p bytePoolingTask) Do(worker, i int) {
	s, ws := &p.s, &p.worker[worker]
	in, pixels, pitch := s.In[0]*s.In[1], s.Out[0]*s.Out[1], p.planes.pitch
	src := p.x[i*in : (i+1)*in]
	if !p.planes.direct {
		p.planes.insideBytes(ws.plane, src, p.flip)
		src = ws.plane
	}
	// Whole rows of the planes, what lies between two rows of the result too.
	total := (s.Out[0]-1)*pitch + s.Out[1]
	most := ws.most[:total]
	copy(most, src[p.taps[0]:])
	for _, base := range p.taps[1:] {
		mostBytes(most, src[base:])
	}
	copyBytes(p.y[i*pixels:(i+1)*pixels], s.Out[1], most, pitch, s.Out[0], s.Out[1], p.flip)
}
