package cpu

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/conv2d"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Convolutions over one or two spatial axes (package conv2d).

const (
	// layoutFilters is a convolution's weight as a matrix with padded rows.
	layoutFilters = "filters.f32"
	// layoutBlocks is that in panels of 32 output channels, a row per tap, for images
	// in blocks of 16 channels.
	layoutBlocks = "blocks16.f32"
)

func conv2dKernels() []*Kernel {
	plain := func(n *graph.Node, t backends.Target) error { return acceptConv(n, t, 3) }
	fused := func(n *graph.Node, t backends.Target) error {
		if _, err := activationOf(n.Attrs.Str("activation", ""), n.Attrs.Floats("activation_params")); err != nil {
			return err
		}
		return acceptConv(n, t, 4)
	}
	contrib := graph.OpID{Domain: "com.microsoft", Name: "FusedConv", Since: 1}
	blocks := func(f func(*graph.Node, backends.Target) error) func(*graph.Node, backends.Target) error {
		return func(n *graph.Node, t backends.Target) error {
			if err := f(n, t); err != nil {
				return err
			}
			return acceptBlocks(n)
		}
	}
	// The residual is read last: its memory is not the result's.
	return []*Kernel{
		{Op: onnxOp("Conv", 1), Name: "blocks", Accepts: blocks(plain), Pack: packBlocks, Blocks: blocksOfConv, Lower: lowerConvBlocks},
		{Op: onnxOp("Conv", 1), Name: "filters", Accepts: plain, Pack: packFilters, Blocks: blocksOfDepthwise, Lower: lowerConv},
		{Op: contrib, Name: "blocks", Accepts: blocks(fused), Pack: packBlocks, Blocks: blocksOfConv, Lower: lowerConvBlocks},
		{Op: contrib, Name: "filters", Accepts: fused, Pack: packFilters, Blocks: blocksOfDepthwise, Lower: lowerConv},
	}
}

// acceptBlocks: images with enough channels, and a constant weight.
func acceptBlocks(n *graph.Node) error {
	w := n.In[1].Const
	if w == nil || len(w.Shape) != 4 || w.Len() == 0 {
		return fmt.Errorf("the weight is not a constant with two spatial axes")
	}
	if n.Attrs.Int("group", 1) != 1 {
		return fmt.Errorf("%d groups", n.Attrs.Int("group", 1))
	}
	if w.Shape[0]%conv2d.Block != 0 && w.Shape[0] < 2*conv2d.PanelWidth {
		return fmt.Errorf("%d output channels", w.Shape[0])
	}
	return nil
}

func blocksOfConv(b *Bind, n *graph.Node) (Blocking, bool) {
	bl := Blocking{Out: true, In: []int{0}}
	if n.Input(3) != nil {
		bl.Tied = []int{3}
	}
	return bl, true
}

// blocksOfDepthwise: the input, the result and the residual of a depthwise convolution
// are all in blocks, or none.
func blocksOfDepthwise(b *Bind, n *graph.Node) (Blocking, bool) {
	w := n.In[1].Const
	if w == nil || len(w.Shape) != 4 || w.Shape[1] != 1 || int64(w.Shape[0]) != n.Attrs.Int("group", 1) || w.Len() == 0 {
		return Blocking{}, false
	}
	bl := Blocking{Tied: []int{0}}
	if n.Input(3) != nil {
		bl.Tied = append(bl.Tied, 3)
	}
	return bl, true
}

func packBlocks(n *graph.Node, _ backends.Target) []Packing {
	w := n.In[1].Const
	rows, channels, positions := w.Shape[0], w.Shape[1], w.Shape[2]*w.Shape[3]
	size := conv2d.PackedBlocksSize(rows, channels*positions)
	return []Packing{{
		In: 1, Layout: layoutBlocks, DType: tensor.Float32, Shape: []int{size},
		Pack: func(src *tensor.Tensor) (*tensor.Tensor, error) {
			dst := tensor.New(tensor.Float32, size)
			conv2d.PackBlocks(tensor.Of[float32](dst), tensor.Of[float32](src), rows, channels, positions)
			return dst, nil
		},
		Unpack: func(packed *tensor.Tensor, shape []int) (*tensor.Tensor, error) {
			dst := tensor.New(tensor.Float32, shape...)
			conv2d.UnpackBlocks(tensor.Of[float32](dst), tensor.Of[float32](packed), rows, channels, positions)
			return dst, nil
		},
	}}
}

// isDepthwise reports that every group has a single input channel.
func isDepthwise(n *graph.Node) bool {
	w := n.In[1].Type
	return w.Ranked() && w.Shape[1].Is(1) && n.Attrs.Int("group", 1) > 1
}

func acceptConv(n *graph.Node, t backends.Target, inputs int) error {
	x, w := n.In[0].Type, n.In[1].Type
	if r := x.Rank(); r != 3 && r != 4 || w.Rank() != r {
		return fmt.Errorf("x is %s and the weight %s: neither one nor two spatial axes", x, w)
	}
	if len(n.In) > inputs {
		return fmt.Errorf("%d inputs", len(n.In))
	}
	for _, p := range n.Attrs.Ints("pads") {
		if p < 0 {
			return fmt.Errorf("padding is negative: %v", n.Attrs.Ints("pads"))
		}
	}
	return floats()(n, t)
}

func packFilters(n *graph.Node, _ backends.Target) []Packing {
	w := n.In[1].Const
	if w == nil || isDepthwise(n) || w.Len() == 0 {
		return nil
	}
	rows, k := w.Shape[0], w.Len()/w.Shape[0]
	return []Packing{{
		In: 1, Layout: layoutFilters, DType: tensor.Float32, Shape: []int{conv2d.PackedSize(rows, k)},
		Pack: func(src *tensor.Tensor) (*tensor.Tensor, error) {
			dst := tensor.New(tensor.Float32, conv2d.PackedSize(rows, k))
			conv2d.Pack(tensor.Of[float32](dst), tensor.Of[float32](src), rows, k)
			return dst, nil
		},
		Unpack: func(packed *tensor.Tensor, shape []int) (*tensor.Tensor, error) {
			dst := tensor.New(tensor.Float32, shape...)
			conv2d.Unpack(tensor.Of[float32](dst), tensor.Of[float32](packed), rows, k)
			return dst, nil
		},
	}}
}

// windowOf reads the geometry of a convolution or pooling of x to y; an image
// with one spatial axis has height 1.
func windowOf(n *graph.Node, x, y, kernel []int) (s conv2d.Shape, err error) {
	axes := len(x) - 2
	first := 2 - axes
	pair := func(name string) [2]int {
		p := [2]int{1, 1}
		for i, v := range n.Attrs.Ints(name) {
			if i < axes {
				p[first+i] = int(v)
			}
		}
		return p
	}
	s = conv2d.Shape{Batch: x[0], Groups: 1, Cin: x[1], Cout: y[1], In: [2]int{1, 1}, Out: [2]int{1, 1}, Kernel: [2]int{1, 1},
		Stride: pair("strides"), Dilation: pair("dilations")}
	pads := n.Attrs.Ints("pads")
	auto := n.Attrs.Str("auto_pad", "NOTSET")
	for i := range axes {
		a := first + i
		s.In[a], s.Out[a], s.Kernel[a] = x[2+i], y[2+i], kernel[i]
		switch auto {
		case "SAME_UPPER", "SAME_LOWER":
			total := max(0, (s.Out[a]-1)*s.Stride[a]+(s.Kernel[a]-1)*s.Dilation[a]+1-s.In[a])
			s.Pad[a] = total / 2
			if auto == "SAME_LOWER" {
				s.Pad[a] = total - total/2
			}
		case "VALID":
		default:
			if len(pads) == 2*axes {
				s.Pad[a] = int(pads[i])
			}
		}
	}
	return s, s.Check()
}

// convolution is a convolution bound to shapes.
type convolution struct {
	conv2d.Shape
	args conv2d.Args
	set  func() // fills in the operands, all but the weight
}

func convOf(b *Bind, n *graph.Node) (*convolution, error) {
	y, x, w, bias, residual := b.Out(0), b.In(0), b.In(1), b.In(2), b.In(3)
	if len(x.Shape) != len(w.Shape) || y.Len() == 0 {
		return nil, ErrFallback
	}
	s, err := windowOf(n, x.Shape, y.Shape, w.Shape[2:])
	if err != nil {
		return nil, err
	}
	s.Groups = int(n.Attrs.Int("group", 1))
	if s.Groups < 1 || w.Shape[1]*s.Groups != x.Shape[1] || w.Shape[0] != y.Shape[1] || w.Shape[0]%s.Groups != 0 || s.Cin == 0 ||
		bias != nil && bias.Len() != w.Shape[0] || residual != nil && residual.Len() != y.Len() {
		return nil, fmt.Errorf("x is %v, the weight %v and the result %v in %d groups", x.Shape, w.Shape, y.Shape, s.Groups)
	}
	s.Cin, s.Cout = s.Cin/s.Groups, s.Cout/s.Groups
	name, params := n.Attrs.Str("activation", ""), n.Attrs.Floats("activation_params")
	act, err := activationOf(name, params)
	if err != nil {
		return nil, err
	}
	c := &convolution{Shape: s, args: conv2d.Args{Act: act}}
	args := &c.args
	switch name {
	case "Relu":
		args.Act, args.Clamp, args.Hi = nil, true, float32(math.Inf(1))
	case "Clip":
		args.Act, args.Clamp, args.Lo, args.Hi = nil, true, paramOf(params, 0, -maxFloat32), paramOf(params, 1, maxFloat32)
	}
	c.set = func() {
		args.X, args.Y = x.F32, y.F32
		if bias != nil {
			args.Bias = bias.F32
		}
		if residual != nil {
			args.Residual = residual.F32
		}
	}
	return c, nil
}

func convWorkspace(b *Bind) *conv2d.Workspace {
	return b.SessionWorkspace("conv2d", func(workers int) any { return conv2d.NewWorkspace(workers) }).(*conv2d.Workspace)
}

func lowerConvBlocks(b *Bind, n *graph.Node) (Step, error) {
	v, err := convOf(b, n)
	if err != nil {
		return nil, err
	}
	p := b.Pool()
	c, err := conv2d.NewBlocks(v.Shape, b.In(0).Blocks, b.Out(0).Blocks, p.Workers(), convWorkspace(b))
	if err != nil {
		return nil, err
	}
	v.args.W = tensor.Of[float32](b.Packed(1))
	return func() error { v.set(); c.Run(p, v.args); return nil }, nil
}

func lowerConv(b *Bind, n *graph.Node) (Step, error) {
	v, err := convOf(b, n)
	if err != nil {
		return nil, err
	}
	w, s, p := b.In(1), v.Shape, b.Pool()
	if s.Cin == 1 && s.Groups > 1 {
		if b.In(0).Blocks {
			d, err := conv2d.NewBlockDepthwise(s, w.F32, p.Workers())
			if err != nil {
				return nil, err
			}
			return func() error { v.set(); d.Run(p, v.args); return nil }, nil
		}
		d, err := conv2d.NewDepthwise(s, p.Workers())
		if err != nil {
			return nil, err
		}
		return func() error {
			v.set()
			v.args.W = w.F32
			d.Run(p, v.args)
			return nil
		}, nil
	}
	c, err := conv2d.New(s, p.Workers(), convWorkspace(b))
	if err != nil {
		return nil, err
	}
	if packed := b.Packed(1); packed != nil {
		v.args.W = tensor.Of[float32](packed)
		return func() error { v.set(); c.Run(p, v.args); return nil }, nil
	}
	rows := s.Groups * s.Cout
	filters := b.Scratch(tensor.Float32, conv2d.PackedSize(rows, s.K()))
	return func() error {
		v.set()
		v.args.W = filters.F32
		conv2d.Pack(v.args.W, w.F32, rows, s.K())
		c.Run(p, v.args)
		return nil
	}, nil
}

func paramOf(params []float32, i int, def float32) float32 {
	if i < len(params) {
		return params[i]
	}
	return def
}

// activationOf is the function of that name, in place, with the parameters of
// FusedConv; nil for none.
func activationOf(name string, params []float32) (func(x []float32), error) {
	param := func(i int, def float32) float32 { return paramOf(params, i, def) }
	inPlace := func(f func(dst, src []float32)) func([]float32) { return func(x []float32) { f(x, x) } }
	switch name {
	case "":
		return nil, nil
	case "Relu":
		return inPlace(vec.ReLU), nil
	case "Sigmoid":
		return inPlace(vec.Sigmoid), nil
	case "Tanh":
		return inPlace(vec.Tanh), nil
	case "Swish":
		return inPlace(vec.SiLU), nil
	case "Clip":
		lo, hi := param(0, -maxFloat32), param(1, maxFloat32)
		return func(x []float32) { vec.Clamp(x, x, lo, hi) }, nil
	case "LeakyRelu":
		a := param(0, 0.01)
		return func(x []float32) { leakyReLU(x, x, a) }, nil
	case "HardSigmoid":
		a, c := param(0, 0.2), param(1, 0.5)
		return func(x []float32) { hardSigmoid(x, x, a, c) }, nil
	case "HardSwish":
		return func(x []float32) { hardSwish(x, x) }, nil
	}
	return nil, fmt.Errorf("activation %q", name)
}
