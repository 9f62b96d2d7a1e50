package cpu

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/igemm"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Numbers to bytes and back, with one scale for all or one per slice of an axis.

func isByte(d tensor.DType) bool { return d == tensor.Uint8 || d == tensor.Int8 }

// outputOf is the rounding to a byte type.
func outputOf(d tensor.DType, zero int32) igemm.Output {
	if d == tensor.Int8 {
		return igemm.Int8(zero)
	}
	return igemm.Uint8(zero)
}

// zeroAt reads element i of a zero point; an omitted one is 0.
func zeroAt(m *Mem, i int) int32 {
	if m == nil {
		return 0
	}
	if m.DType == tensor.Int8 {
		return int32(int8(m.Raw[i]))
	}
	return int32(m.Raw[i])
}

func quantKernels() []*Kernel {
	accept := func(x, y int) func(*graph.Node, backends.Target) error {
		return func(n *graph.Node, _ backends.Target) error {
			in, out, scale := n.In[0].Type, n.Out[0].Type, n.In[1].Type
			f, q := in, out
			if x > 0 {
				f, q = out, in
			}
			switch {
			case f.DType != tensor.Float32 || !isByte(q.DType) || !in.Ranked():
				return fmt.Errorf("from %s to %s", in, out)
			case scale.DType != tensor.Float32 || !scale.Ranked() || scale.Rank() > 1:
				return fmt.Errorf("the scale is %s", scale)
			case n.Attrs.Int("block_size", 0) != 0:
				return fmt.Errorf("scales per block")
			}
			return nil
		}
	}
	return []*Kernel{
		{Op: graph.OpID{Domain: "com.microsoft", Name: "QLinearAdd", Since: 1}, Name: "bytes", Accepts: acceptQLinearAdd, Lower: lowerQLinearAdd, Over: map[int][]int{0: {0, 3}}},
		{Op: onnxOp("QuantizeLinear", 10), Name: "bytes", Accepts: accept(0, 1), Tile: tileBytes(func(b *Bind) func(lo, hi int) {
			y, x, scale, zero := b.Out(0), b.In(0), b.In(1), b.In(2)
			return func(lo, hi int) {
				o := outputOf(y.DType, zeroAt(zero, 0))
				o.Quantize(y.Raw[lo:hi], x.F32[lo:hi], scale.F32[0])
			}
		}), Lower: func(b *Bind, n *graph.Node) (Step, error) {
			y, x, scale, zero := b.Out(0), b.In(0), b.In(1), b.In(2)
			return scaled(b, n, x, scale, zero, func(i, lo, hi int) {
				o := outputOf(y.DType, zeroAt(zero, i))
				o.Quantize(y.Raw[lo:hi], x.F32[lo:hi], scale.F32[i])
			})
		}},
		{Op: onnxOp("DequantizeLinear", 10), Name: "bytes", Accepts: accept(1, 0), Tile: tileBytes(func(b *Bind) func(lo, hi int) {
			y, x, scale, zero := b.Out(0), b.In(0), b.In(1), b.In(2)
			return func(lo, hi int) {
				igemm.Dequantize(y.F32[lo:hi], x.Raw[lo:hi], x.DType == tensor.Int8, zeroAt(zero, 0), scale.F32[0])
			}
		}), Lower: func(b *Bind, n *graph.Node) (Step, error) {
			y, x, scale, zero := b.Out(0), b.In(0), b.In(1), b.In(2)
			return scaled(b, n, x, scale, zero, func(i, lo, hi int) {
				igemm.Dequantize(y.F32[lo:hi], x.Raw[lo:hi], x.DType == tensor.Int8, zeroAt(zero, i), scale.F32[i])
			})
		}},
		{Op: onnxOp("DynamicQuantizeLinear", 11), Name: "bytes", Accepts: func(n *graph.Node, t backends.Target) error {
			for i, v := range n.Out {
				if v == nil {
					return fmt.Errorf("output %d is omitted", i)
				}
			}
			if v := n.In[0].Type; v.DType != tensor.Float32 || !v.Ranked() {
				return fmt.Errorf("input is %s", v)
			}
			return nil
		}, Lower: lowerDynamicQuantize},
	}
}

// tileBytes is a Tile for conversions with one scale.
func tileBytes(f func(b *Bind) func(lo, hi int)) func(b *Bind, n *graph.Node) func(lo, hi int) {
	return func(b *Bind, n *graph.Node) func(lo, hi int) {
		if b.In(1).Len() != 1 || b.In(2) != nil && b.In(2).Len() != 1 || !b.In(0).Dense() {
			return nil
		}
		return f(b)
	}
}

// scaled calls f for ranges of x that share the scale with index i.
func scaled(b *Bind, n *graph.Node, x, scale, zero *Mem, f func(i, lo, hi int)) (Step, error) {
	if zero != nil && zero.Len() != scale.Len() {
		return nil, ErrFallback
	}
	if scale.Len() == 1 {
		return b.Split(x.Len(), heavyGrain, func(lo, hi int) { f(0, lo, hi) }), nil
	}
	axis, ok := axisOf(n.Attrs.Int("axis", 1), len(x.Shape))
	if !ok || x.Shape[axis] != scale.Len() {
		return nil, ErrFallback
	}
	inner := product(x.Shape[axis+1:])
	if inner == 0 {
		return func() error { return nil }, nil
	}
	return b.Split(x.Len()/inner, max(1, heavyGrain/inner), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			f(i%scale.Len(), i*inner, (i+1)*inner)
		}
	}), nil
}

// acceptQLinearAdd takes operands of one shape: passes/quant makes no others.
func acceptQLinearAdd(n *graph.Node, _ backends.Target) error {
	a, b := n.In[0].Type, n.In[3].Type
	if !isByte(a.DType) || !a.Ranked() || !a.Equal(b) || n.Out[0].Type.DType != a.DType || n.Input(2) == nil || n.Input(5) == nil || n.Input(7) == nil {
		return fmt.Errorf("operands are %s and %s", a, b)
	}
	return nil
}

func lowerQLinearAdd(b *Bind, n *graph.Node) (Step, error) {
	y, x, sx, zx, w, sw, zw, sy, zy := b.Out(0), b.In(0), b.In(1), b.In(2), b.In(3), b.In(4), b.In(5), b.In(6), b.In(7)
	for _, m := range []*Mem{sx, zx, sw, zw, sy, zy} {
		if m.Len() != 1 {
			return nil, ErrFallback
		}
	}
	if x.Len() != y.Len() || w.Len() != y.Len() {
		return nil, ErrFallback
	}
	return b.Split(y.Len(), lightGrain, func(lo, hi int) {
		o := outputOf(y.DType, zeroAt(zy, 0))
		rx, rw := sx.F32[0]/sy.F32[0], sw.F32[0]/sy.F32[0]
		rest := float32(zeroAt(zy, 0)) - (rx*float32(zeroAt(zx, 0)) + rw*float32(zeroAt(zw, 0)))
		o.Add(y.Raw[lo:hi], x.Raw[lo:hi], w.Raw[lo:hi], x.DType == tensor.Int8, rx, rw, rest)
	}), nil
}

func lowerDynamicQuantize(b *Bind, n *graph.Node) (Step, error) {
	y, scale, zero, x := b.Out(0), b.Out(1), b.Out(2), b.In(0)
	if x.Len() == 0 {
		return nil, ErrFallback
	}
	var o igemm.Output
	body := b.Split(x.Len(), heavyGrain, func(lo, hi int) { o.Quantize(y.Raw[lo:hi], x.F32[lo:hi], scale.F32[0]) })
	return func() error {
		least, most := min(vec.MinOf(x.F32), 0), max(vec.MaxOf(x.F32), 0)
		s := (most - least) / 255
		if most == least {
			s = float32(1) / 255
		}
		z := int32(math.RoundToEven(float64(min(max(-least/s, 0), 255))))
		scale.F32[0], zero.Raw[0] = s, uint8(z)
		o = igemm.Uint8(z)
		return body()
	}, nil
}
