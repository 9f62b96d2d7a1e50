package conv2d

import (
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

// Transposed is a transposed convolution (the gradient of one), prepared for
// one shape. What every input pixel adds to every tap is a product,
// W[Cin, Cout*taps] transposed by X[Cin, pixels]; then the taps are added up
// where they fall. Shape reads as that of the convolution that it is the
// gradient of, with In and Out as the data flows: In is the image that is read.
type Transposed struct {
	s       Shape
	product gemm.StridedArgs
	terms   []float32 // [Cout, taps, pixels] of one image and group
	args    Args
	ws      *gemm.Workspace
	group   int // at hand
	image   int
	task    pool.Task
}

// NewTransposed prepares a transposed convolution.
func NewTransposed(s Shape, ws *gemm.Workspace) (*Transposed, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	taps, pixels := s.Kernel[0]*s.Kernel[1], s.In[0]*s.In[1]
	t := &Transposed{s: s, ws: ws, terms: make([]float32, s.Cout*taps*pixels)}
	t.product = gemm.StridedArgs{M: s.Cout * taps, N: pixels, K: s.Cin, ARow: 1, ACol: s.Cout * taps, BRow: pixels, BCol: 1, Ldc: pixels}
	t.task = transposedTask{t}
	return t, nil
}

// Run computes it; W is [Groups*Cin, Cout, taps]. It allocates nothing.
func (t *Transposed) Run(p *pool.Pool, a Args) {
	s := &t.s
	if s.Batch*s.Out[0]*s.Out[1] == 0 {
		return
	}
	t.args = a
	taps, pixels := s.Kernel[0]*s.Kernel[1], s.In[0]*s.In[1]
	for t.image = range s.Batch {
		for t.group = range s.Groups {
			t.product.A = a.W[t.group*s.Cin*s.Cout*taps:]
			t.product.B = a.X[(t.image*s.Groups+t.group)*s.Cin*pixels:]
			t.product.C = t.terms
			gemm.RunStrided(p, &t.product, t.ws)
			p.Run(s.Cout, t.task)
		}
	}
	t.args, t.product.A, t.product.B, t.product.C = Args{}, nil, nil, nil
}

type transposedTask struct{ *Transposed }

// Do adds up one output channel.
func (t transposedTask) Do(_, m int) {
	s := &t.s
	ch := t.group*s.Cout + m
	pixels, size := s.In[0]*s.In[1], s.Out[0]*s.Out[1]
	y := t.args.Y[(t.image*s.Groups*s.Cout+ch)*size:][:size]
	start := float32(0)
	if t.args.Bias != nil {
		start = t.args.Bias[ch]
	}
	vec.Fill(y, start)
	for ky := range s.Kernel[0] {
		for kx := range s.Kernel[1] {
			terms := t.terms[((m*s.Kernel[0]+ky)*s.Kernel[1]+kx)*pixels:]
			// Input column x falls on x*step+shift.
			step, shift := s.Stride[1], kx*s.Dilation[1]-s.Pad[1]
			from := 0
			if shift < 0 {
				from = ceilDiv(-shift, step)
			}
			to := 0
			if s.Out[1] > shift {
				to = min(s.In[1], ceilDiv(s.Out[1]-shift, step))
			}
			if from >= to {
				continue
			}
			for r := range s.In[0] {
				o := r*s.Stride[0] + ky*s.Dilation[0] - s.Pad[0]
				if o < 0 || o >= s.Out[0] {
					continue
				}
				src, dst := terms[r*s.In[1]+from:r*s.In[1]+to], y[o*s.Out[1]:][:s.Out[1]]
				if step == 1 {
					d := dst[from+shift:][:len(src)]
					vec.Add(d, d, src)
					continue
				}
				at := from*step + shift
				for _, v := range src {
					dst[at] += v
					at += step
				}
			}
		}
	}
	if t.args.Act != nil {
		t.args.Act(y)
	}
}
