package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/conv"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// layoutTaps is the weight of a depthwise convolution as [K,C].
const layoutTaps = "taps.f32"

func convKernels() []*Kernel {
	return []*Kernel{
		{
			Op: ssmOp("CausalConv"), Name: "rows", Over: map[int][]int{1: {3}},
			Accepts: func(n *graph.Node, t backends.Target) error {
				w := n.In[1].Type
				if w.Rank() != 2 {
					return fmt.Errorf("weight is %s", w)
				}
				if k, ok := w.Shape[1].Const(); !ok || k < 1 || k > conv.MaxK {
					return fmt.Errorf("%s taps, not 1 to %d", w.Shape[1], conv.MaxK)
				}
				return floats()(n, t)
			},
			Rows: func(n *graph.Node, i int) int {
				if i == 0 {
					return 2
				}
				return -1
			},
			Pack:  packTaps,
			Lower: lowerCausalConv,
		},
		{
			Op: onnxOp("Conv", 1), Name: "depthwise-1d", Accepts: acceptDepthwise, Lower: lowerDepthwise,
		},
	}
}

func packTaps(n *graph.Node, _ backends.Target) []Packing {
	w := n.In[1].Const
	if w == nil {
		return nil
	}
	c, k := w.Shape[0], w.Shape[1]
	return []Packing{{
		In: 1, Layout: layoutTaps, DType: tensor.Float32, Shape: []int{k, c},
		Pack: func(src *tensor.Tensor) (*tensor.Tensor, error) {
			dst := tensor.New(tensor.Float32, k, c)
			conv.Pack(tensor.Of[float32](dst), tensor.Of[float32](src), c, k)
			return dst, nil
		},
		Unpack: func(packed *tensor.Tensor, shape []int) (*tensor.Tensor, error) {
			dst := tensor.New(tensor.Float32, shape...)
			conv.Pack(tensor.Of[float32](dst), tensor.Of[float32](packed), k, c)
			return dst, nil
		},
	}}
}

// lowerCausalConv: x[B,L,C] to y[B,L,C], state [B,C,W].
func lowerCausalConv(b *Bind, n *graph.Node) (Step, error) {
	x, w, bias, state := b.In(0), b.In(1), b.In(2), b.In(3)
	y, next := b.Out(0), b.Out(1)
	batch, length, c, k := x.Shape[0], x.Shape[1], x.Shape[2], w.Shape[1]
	if w.Shape[0] != c || bias != nil && bias.Len() != c {
		return nil, fmt.Errorf("x is %v, the weight %v", x.Shape, w.Shape)
	}
	widthIn, widthOut := k-1, k-1
	if state != nil {
		if widthIn = state.Shape[2]; state.Shape[0] != batch || state.Shape[1] != c || widthIn < k-1 {
			return nil, fmt.Errorf("x is %v and the weight %v, but the state %v", x.Shape, w.Shape, state.Shape)
		}
	}
	if next != nil {
		if widthOut = next.Shape[2]; widthOut > k || widthOut < k-1 {
			return nil, ErrFallback
		}
	}
	if length == 0 || batch == 0 || c == 0 {
		return nil, ErrFallback
	}
	xs := x.strides()
	sb, sl := xs[0], xs[1]
	silu := n.Attrs.Str("activation", "none") == "silu"

	var taps func() []float32
	if p := b.Packed(1); p != nil {
		t := tensor.Of[float32](p)
		taps = func() []float32 { return t }
	} else {
		s := b.Scratch(tensor.Float32, k*c)
		taps = func() []float32 { conv.Pack(s.F32, w.F32, c, k); return s.F32 }
	}
	vector := func(m *Mem) []float32 {
		if m == nil {
			return nil
		}
		return m.F32
	}
	var wt, bs []float32 // of the run in progress
	p := b.Pool()

	if length == 1 && state != nil && next != nil && widthIn == widthOut && widthIn > 0 && widthIn <= k {
		const grain = 1024 // channels
		pieces := (c + grain - 1) / grain
		job := b.Split(batch*pieces, 4, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				r, c0 := i/pieces, i%pieces*grain
				conv.Step(y.F32[r*c:][:c], x.F32[r*sb:][:c], next.F32[r*c*widthIn:][:c*widthIn], state.F32[r*c*widthIn:][:c*widthIn],
					wt, bs, c, k, widthIn, silu, c0, min(c, c0+grain))
			}
		})
		return func() error {
			wt, bs = taps(), vector(bias)
			return job()
		}, nil
	}

	shape := conv.Shape{C: c, K: k, LdX: sl, LdY: c, LdS: c, SiLU: silu}
	var rows *Mem // the state as rows, [B,K-1,C]
	if state != nil && k > 1 {
		rows = b.Scratch(tensor.Float32, batch*(k-1)*c)
	}
	past := func(r int) []float32 {
		if rows == nil {
			return nil
		}
		return rows.F32[r*(k-1)*c:][:(k-1)*c]
	}
	const blockT, blockC = 64, 512
	nt, nc := (length+blockT-1)/blockT, (c+blockC-1)/blockC
	var tiles pool.Task = task(func(_, i int) {
		r, t, cc := i/(nt*nc), i/nc%nt*blockT, i%nc*blockC
		conv.Causal(y.F32[r*length*c:], x.F32[r*sb:], past(r), wt, bs, shape, t, min(length, t+blockT), cc, min(c, cc+blockC))
	})
	return func() error {
		wt, bs = taps(), vector(bias)
		if rows != nil {
			for r := range batch {
				conv.ReadState(past(r), state.F32[r*c*widthIn:], shape, widthIn, 0, c)
			}
		}
		p.Run(batch*nt*nc, tiles)
		if next != nil {
			for r := range batch {
				conv.WriteState(next.F32[r*c*widthOut:], x.F32[r*sb:], past(r), shape, widthOut, length, 0, c)
			}
		}
		return nil
	}, nil
}

// acceptDepthwise takes ONNX's Conv over [B,C,L] with one filter per channel.
func acceptDepthwise(n *graph.Node, t backends.Target) error {
	x, w := n.In[0].Type, n.In[1].Type
	if x.Rank() != 3 || w.Rank() != 3 || !w.Shape[1].Is(1) || !w.Shape[0].Is(n.Attrs.Int("group", 1)) || x.Shape[1] != w.Shape[0] {
		return fmt.Errorf("not a depthwise convolution in one dimension: x is %s, the weight %s", x, w)
	}
	if a := n.Attrs.Str("auto_pad", "NOTSET"); a != "NOTSET" && a != "VALID" {
		return fmt.Errorf("auto_pad is %s", a)
	}
	if s := n.Attrs.Ints("strides"); len(s) == 1 && s[0] != 1 {
		return fmt.Errorf("stride is %d", s[0])
	}
	return floats()(n, t)
}

func lowerDepthwise(b *Bind, n *graph.Node) (Step, error) {
	y, x, w, bias := b.Out(0), b.In(0), b.In(1), b.In(2)
	c, lx, ly, k := x.Shape[1], x.Shape[2], y.Shape[2], w.Shape[2]
	left, dilation := 0, 1
	if p := n.Attrs.Ints("pads"); len(p) == 2 {
		left = int(p[0])
	}
	if d := n.Attrs.Ints("dilations"); len(d) == 1 {
		dilation = int(d[0])
	}
	if left < 0 || dilation < 1 || bias != nil && bias.Len() != c {
		return nil, ErrFallback
	}
	return b.Split(x.Shape[0]*c, max(1, heavyGrain/max(1, ly*k)), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			ch := i % c
			dst, src := y.F32[i*ly:][:ly], x.F32[i*lx:][:lx]
			start := float32(0)
			if bias != nil {
				start = bias.F32[ch]
			}
			vec.Fill(dst, start)
			for j := range k {
				shift := j*dilation - left // dst[t] takes src[t+shift]
				from, to := max(0, -shift), min(ly, lx-shift)
				if from < to {
					vec.Axpy(dst[from:to], src[from+shift:to+shift], w.F32[ch*k+j])
				}
			}
		}
	}), nil
}
