package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/conv2d"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Convolutions of bytes (package conv2d).

func acceptQLinearConv(n *graph.Node, _ backends.Target) error {
	x, w, y := n.In[0].Type, n.In[3].Type, n.Out[0].Type
	if r := x.Rank(); r != 3 && r != 4 || w.Rank() != r {
		return fmt.Errorf("x is %s and the weight %s: neither one nor two spatial axes", x, w)
	}
	if !isByte(x.DType) || x.DType != y.DType || w.DType != tensor.Int8 {
		return fmt.Errorf("x is %s, the weight %s and the result %s", x, w, y)
	}
	for _, p := range n.Attrs.Ints("pads") {
		if p < 0 {
			return fmt.Errorf("padding is negative: %v", n.Attrs.Ints("pads"))
		}
	}
	if n.In[3].Const == nil {
		return fmt.Errorf("the weight is not constant")
	}
	if z := n.In[5].Const; z == nil || !allZero(z) {
		return fmt.Errorf("the weight's zero point is not 0")
	}
	return nil
}

func allZero(t *tensor.Tensor) bool {
	for i := range t.Len() {
		if t.IntAt(i) != 0 {
			return false
		}
	}
	return true
}

// isByteDepthwise reports that a QLinearConv has one input channel per group.
func isByteDepthwise(n *graph.Node) bool {
	w := n.In[3].Type
	return w.Shape[1].Is(1) && n.Attrs.Int("group", 1) > 1
}

func packByteFilters(n *graph.Node, _ backends.Target) []Packing {
	w := n.In[3].Const
	if w == nil || w.Len() == 0 || isByteDepthwise(n) {
		return nil
	}
	rows, k := w.Shape[0], w.Len()/w.Shape[0]
	return []Packing{{
		In: 3, Layout: layoutByteFilters, DType: tensor.Uint8, Shape: []int{rows * conv2d.QuantRowStride(k)},
		Pack: func(src *tensor.Tensor) (*tensor.Tensor, error) {
			dst := tensor.New(tensor.Uint8, rows*conv2d.QuantRowStride(k))
			conv2d.QuantPack(dst.Data, src.Data, rows, k)
			return dst, nil
		},
		Unpack: func(packed *tensor.Tensor, shape []int) (*tensor.Tensor, error) {
			dst := tensor.New(tensor.Int8, shape...)
			conv2d.QuantUnpack(dst.Data, packed.Data, rows, k)
			return dst, nil
		},
	}}
}

func lowerQLinearConv(b *Bind, n *graph.Node) (Step, error) {
	x, sx, zx, w, sw := b.In(0), b.In(1), b.In(2), b.In(3), b.In(4)
	y, sy, zy, bias := b.Out(0), b.In(6), b.In(7), b.In(8)
	if y.Len() == 0 || sx.Len() != 1 || sy.Len() != 1 || zx.Len() != 1 || zy.Len() != 1 {
		return nil, ErrFallback
	}
	s, err := windowOf(n, x.Shape, y.Shape, w.Shape[2:])
	if err != nil {
		return nil, err
	}
	s.Groups = int(n.Attrs.Int("group", 1))
	if s.Groups < 1 || w.Shape[1]*s.Groups != x.Shape[1] || w.Shape[0] != y.Shape[1] || w.Shape[0]%s.Groups != 0 ||
		bias != nil && bias.Len() != w.Shape[0] || sw.Len() != 1 && sw.Len() != w.Shape[0] {
		return nil, fmt.Errorf("x is %v, the weight %v and the result %v in %d groups", x.Shape, w.Shape, y.Shape, s.Groups)
	}
	s.Cin, s.Cout = s.Cin/s.Groups, s.Cout/s.Groups
	p, maps, k := b.Pool(), w.Shape[0], s.Cin*s.Kernel[0]*s.Kernel[1]
	args := conv2d.QuantArgs{Add: make([]int32, maps), Scale: make([]float32, maps), Signed: x.DType == tensor.Int8}
	totals := make([]int32, maps)
	// set reads what may only be known when the step runs.
	set := func() {
		args.X, args.Y, args.Zero = x.Raw, y.Raw, zx.Raw[0]
		args.Out = outputOf(y.DType, zeroAt(zy, 0))
		for m := range maps {
			args.Scale[m] = sx.F32[0] * sw.F32[m%sw.Len()] / sy.F32[0]
			if args.Add[m] = 0; bias != nil {
				args.Add[m] = View[int32](bias)[m]
			}
		}
	}
	if packed := b.Packed(3); packed != nil {
		ld := conv2d.QuantRowStride(k)
		for m := range totals {
			for _, v := range packed.Data[m*ld:][:k] {
				totals[m] += int32(int8(v))
			}
		}
		c, err := conv2d.NewQuantised(s, p.Workers(), args.Signed)
		if err != nil {
			return nil, err
		}
		args.W = packed.Data
		return func() error {
			set()
			zero := zeroAt(zx, 0)
			if args.Signed {
				zero += 128
			}
			for m, t := range totals {
				args.Add[m] -= zero * t
			}
			c.Run(p, args)
			return nil
		}, nil
	}
	if k > conv2d.MaxExact {
		return nil, ErrFallback
	}
	d, err := conv2d.NewQuantDepthwise(s, p.Workers())
	if err != nil {
		return nil, err
	}
	return func() error {
		set()
		args.W = w.Raw
		d.Run(p, args)
		return nil
	}, nil
}
