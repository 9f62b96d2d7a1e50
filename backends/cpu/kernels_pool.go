package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/conv2d"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Poolings over one or two spatial axes, over all of them, and transposed
// convolutions.

func poolKernels() []*Kernel {
	accept := func(n *graph.Node, t backends.Target) error {
		if r := n.In[0].Type.Rank(); r != 3 && r != 4 {
			return fmt.Errorf("input is %s: neither one nor two spatial axes", n.In[0].Type)
		}
		if len(n.Out) > 1 && n.Out[1] != nil {
			return fmt.Errorf("the positions are asked for")
		}
		for _, p := range n.Attrs.Ints("pads") {
			if p < 0 {
				return fmt.Errorf("padding is negative: %v", n.Attrs.Ints("pads"))
			}
		}
		if n.Op.Name == "MaxPool" && isByte(n.In[0].Type.DType) {
			return nil
		}
		return floats()(n, t)
	}
	global := func(name string, f func(x []float32) float32) *Kernel {
		return &Kernel{
			Op: onnxOp(name, 1), Name: "rows", Accepts: floats(),
			Blocks: func(b *Bind, n *graph.Node) (Blocking, bool) {
				return Blocking{In: []int{0}}, name == "GlobalAveragePool"
			},
			Lower: func(b *Bind, n *graph.Node) (Step, error) {
				y, x := b.Out(0), b.In(0)
				if len(x.Shape) < 3 || x.Len() == 0 {
					return nil, ErrFallback
				}
				if x.Blocks {
					return meanOfBlocks(b, y, x), nil
				}
				w := x.Len() / y.Len()
				return b.Split(y.Len(), max(1, lightGrain/w), func(lo, hi int) {
					for i := lo; i < hi; i++ {
						y.F32[i] = f(x.F32[i*w : (i+1)*w])
					}
				}), nil
			},
		}
	}
	return []*Kernel{
		{Op: onnxOp("MaxPool", 1), Name: "planes", Accepts: accept, Blocks: blocksOfMaxPool, Lower: lowerPool},
		{Op: onnxOp("AveragePool", 1), Name: "planes", Accepts: accept, Lower: lowerPool},
		global("GlobalAveragePool", func(x []float32) float32 { return float32(vec.Sum64(x) / float64(len(x))) }),
		global("GlobalMaxPool", vec.MaxOf),
		{Op: onnxOp("ConvTranspose", 1), Name: "terms", Accepts: func(n *graph.Node, t backends.Target) error { return acceptConv(n, t, 3) }, Lower: lowerConvTranspose},
	}
}

func blocksOfMaxPool(b *Bind, n *graph.Node) (Blocking, bool) {
	return Blocking{Tied: []int{0}}, len(n.Attrs.Ints("kernel_shape")) == 2
}

func lowerPool(b *Bind, n *graph.Node) (Step, error) {
	y, x := b.Out(0), b.In(0)
	kernel := ints(n.Attrs.Ints("kernel_shape"))
	if len(kernel) != len(x.Shape)-2 || y.Len() == 0 {
		return nil, ErrFallback
	}
	s, err := windowOf(n, x.Shape, y.Shape, kernel)
	if err != nil {
		return nil, err
	}
	for a := range s.Kernel { // most of such a window is padding, which the definition does not walk
		if s.Kernel[a] > 1<<10 && s.Kernel[a] > 4*s.In[a] {
			return nil, ErrFallback
		}
	}
	s.Groups, s.Cin, s.Cout = s.Cin, 1, 1
	p := b.Pool()
	if x.Blocks {
		c, err := conv2d.NewBlockMaxPool(s, p.Workers())
		if err != nil {
			return nil, err
		}
		return func() error { c.Run(p, conv2d.Args{X: x.F32, Y: y.F32}); return nil }, nil
	}
	if isByte(x.DType) { // only MaxPool
		c, err := conv2d.NewByteMaxPool(s, p.Workers(), x.DType == tensor.Int8)
		if err != nil {
			return nil, err
		}
		return func() error { c.Run(p, y.Raw, x.Raw); return nil }, nil
	}
	var c *conv2d.Pooling
	if n.Op.Name == "MaxPool" {
		c, err = conv2d.NewMaxPool(s, p.Workers())
	} else {
		// With automatic padding the explicit one at the end makes up the window.
		end := [2]int{}
		pads, axes := n.Attrs.Ints("pads"), len(kernel)
		for i := range axes {
			a := 2 - axes + i
			if len(pads) == 2*axes {
				end[a] = int(pads[axes+i])
			}
			if auto := n.Attrs.Str("auto_pad", "NOTSET"); auto == "SAME_UPPER" || auto == "SAME_LOWER" {
				end[a] = max(0, (s.Out[a]-1)*s.Stride[a]+(s.Kernel[a]-1)*s.Dilation[a]+1-s.In[a]) - s.Pad[a]
			}
		}
		c, err = conv2d.NewMeanPool(s, p.Workers(), n.Attrs.Int("count_include_pad", 0) != 0, end)
	}
	if err != nil {
		return nil, err
	}
	return func() error { c.Run(p, y.F32, x.F32); return nil }, nil
}

func lowerConvTranspose(b *Bind, n *graph.Node) (Step, error) {
	y, x, w, bias := b.Out(0), b.In(0), b.In(1), b.In(2)
	if len(x.Shape) != len(w.Shape) || y.Len() == 0 || x.Len() == 0 {
		return nil, ErrFallback
	}
	if len(n.Attrs.Ints("output_shape")) > 0 || n.Attrs.Str("auto_pad", "NOTSET") != "NOTSET" {
		return nil, ErrFallback
	}
	s, err := windowOf(n, x.Shape, y.Shape, w.Shape[2:])
	if err != nil {
		return nil, err
	}
	s.Groups = int(n.Attrs.Int("group", 1))
	if s.Groups < 1 || w.Shape[0] != x.Shape[1] || x.Shape[1]%s.Groups != 0 || w.Shape[1]*s.Groups != y.Shape[1] || bias != nil && bias.Len() != y.Shape[1] {
		return nil, fmt.Errorf("x is %v, the weight %v and the result %v in %d groups", x.Shape, w.Shape, y.Shape, s.Groups)
	}
	s.Cin, s.Cout = s.Cin/s.Groups, s.Cout/s.Groups
	c, err := conv2d.NewTransposed(s, gemmWorkspace(b))
	if err != nil {
		return nil, err
	}
	p := b.Pool()
	return func() error {
		args := conv2d.Args{X: x.F32, W: w.F32, Y: y.F32}
		if bias != nil {
			args.Bias = bias.F32
		}
		c.Run(p, args)
		return nil
	}, nil
}

func ints(v []int64) []int {
	out := make([]int, len(v))
	for i, n := range v {
		out[i] = int(n)
	}
	return out
}
