package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Operators that only move elements, of any dtype of 1, 2, 4 or 8 bytes. All of
// them are copies of a block between two strided arrays.

func movable(n *graph.Node, _ backends.Target) error {
	for _, v := range n.Out {
		if v != nil && (v.Type.DType.Size() == 0 || v.Type.DType.Size() > 8) {
			return fmt.Errorf("output is %s", v.Type)
		}
	}
	if v := n.Input(0); v == nil || !v.Type.Ranked() {
		return fmt.Errorf("the rank is not known")
	}
	return nil
}

func moveKernels() []*Kernel {
	row := func(name string, since int, rows func(*graph.Node, int) int, lower func(b *Bind, n *graph.Node) (Step, error)) *Kernel {
		return &Kernel{Op: onnxOp(name, since), Name: "copy", Accepts: movable, Rows: rows, Lower: lower}
	}
	concat := row("Concat", 4, lastAxisRows, lowerConcat)
	concat.Blocks = blocksOfConcat
	ks := []*Kernel{
		row("Transpose", 1, anyRows(0), lowerTranspose),
		row("Slice", 1, nil, lowerSlice),
		row("Split", 1, nil, lowerSplit),
		concat,
		row("Expand", 8, anyRows(0), lowerExpand),
		row("Pad", 2, anyRows(0), lowerPad),
		row("ConstantOfShape", 9, nil, func(b *Bind, n *graph.Node) (Step, error) {
			dst := b.Out(0)
			value := make([]byte, dst.DType.Size()) // zero of any type
			if v := n.Attrs.Tensor("value"); v != nil {
				if len(v.Data) != len(value) {
					return nil, ErrFallback
				}
				copy(value, v.Data)
			}
			return func() error { fillBytes(dst.Raw, value); return nil }, nil
		}),
	}
	for _, v := range []struct {
		name  string
		since int
	}{{"Reshape", 5}, {"Flatten", 1}, {"Squeeze", 1}, {"Unsqueeze", 1}, {"Identity", 1}} {
		// Usually these are views; a step is left when the input is not in memory.
		ks = append(ks, row(v.name, v.since, nil, func(b *Bind, n *graph.Node) (Step, error) {
			dst, src := b.Out(0), b.In(0)
			if src == nil || src.Len() != dst.Len() {
				return nil, ErrFallback
			}
			return func() error { copyDense(dst.Raw, src); return nil }, nil
		}))
	}
	return ks
}

// block is where a copy takes its elements from, or puts them.
type block struct {
	m      *Mem
	at     int // first element
	stride []int
}

func denseStrides(shape []int) []int {
	s := make([]int, len(shape))
	n := 1
	for a := len(shape) - 1; a >= 0; a-- {
		s[a] = n
		n *= shape[a]
	}
	return s
}

// copyBlock copies an array of the given shape.
func (b *Bind) copyBlock(shape []int, dst, src block) (Step, error) {
	switch dst.m.DType.Size() {
	case 1:
		return copyElems[uint8](b, shape, dst, src)
	case 2:
		return copyElems[uint16](b, shape, dst, src)
	case 4:
		return copyElems[uint32](b, shape, dst, src)
	}
	return copyElems[uint64](b, shape, dst, src)
}

func copyElems[T tensor.Element](b *Bind, shape []int, dst, src block) (Step, error) {
	w, err := newWalk(shape, [][]int{dst.stride, src.stride})
	if err != nil {
		return nil, err
	}
	if last := len(w.shape) - 1; last >= 0 && w.step[0] == 1 && w.stride[1][last] == 1 && w.step[1] > 1 && dst.m.DType.Size() == 4 {
		return transposeBlocks(b, w, dst, src), nil
	}
	d, s := w.step[0], w.step[1]
	return w.each(b, lightGrain, func(_ int, off [3]int, n int) {
		o, v := View[T](dst.m)[dst.at+off[0]:], View[T](src.m)
		at := src.at + off[1]
		switch {
		case d == 1 && s == 1:
			copy(o[:n], v[at:at+n])
		case d == 1 && s == 0:
			fill(o[:n], v[at])
		default: // s may be negative
			for i := range n {
				o[i*d] = v[at+i*s]
			}
		}
	}), nil
}

func fill[T any](o []T, v T) {
	for i := range o {
		o[i] = v
	}
}

// transposeBlocks handles a copy whose last two axes change places, with 4-byte
// elements: the last outer axis is contiguous in the source, the inner one in
// the destination.
func transposeBlocks(b *Bind, w walk, dst, src block) Step {
	last := len(w.shape) - 1
	cols, rows, lds, ldd := w.shape[last], w.inner, w.step[1], w.stride[0][last]
	outer := w
	outer.shape = w.shape[:last]
	outer.outer = w.outer / max(cols, 1)
	outer.stride = [][]int{w.stride[0][:last], w.stride[1][:last]}
	const strip = 64 // columns at a time, as vec.Transpose2D works in blocks of that
	strips := (cols + strip - 1) / strip
	return b.Split(outer.outer*strips, max(1, lightGrain/(strip*max(rows, 1))), func(lo, hi int) {
		var c cursor
		for i := lo; i < hi; i++ {
			outer.seek(&c, i/strips)
			j := i % strips * strip
			vec.Transpose2D(elems32(dst.m)[dst.at+c.off[0]+j*ldd:], ldd, elems32(src.m)[src.at+c.off[1]+j:], lds, rows, min(strip, cols-j))
		}
	})
}

// elems32 views 4-byte elements as floats; the bits are only moved.
func elems32(m *Mem) []float32 { return View[float32](m) }

// sequence runs steps one after another.
func sequence(steps []Step) Step {
	if len(steps) == 1 {
		return steps[0]
	}
	return func() error {
		for _, s := range steps {
			if err := s(); err != nil {
				return err
			}
		}
		return nil
	}
}

func lowerTranspose(b *Bind, n *graph.Node) (Step, error) {
	dst, src := b.Out(0), b.In(0)
	rank := len(src.Shape)
	perm := n.Attrs.Ints("perm")
	own := src.strides()
	stride := make([]int, rank)
	for i := range rank {
		p, ok := rank-1-i, true
		if perm != nil {
			if len(perm) != rank {
				return nil, fmt.Errorf("perm %v for %d axes", perm, rank)
			}
			p, ok = axisOf(perm[i], rank)
		}
		if !ok || src.Shape[p] != dst.Shape[i] {
			return nil, fmt.Errorf("perm %v does not turn %v into %v", perm, src.Shape, dst.Shape)
		}
		stride[i] = own[p]
	}
	return b.copyBlock(dst.Shape, block{dst, 0, denseStrides(dst.Shape)}, block{src, 0, stride})
}

func lowerSlice(b *Bind, n *graph.Node) (Step, error) {
	dst, src := b.Out(0), b.In(0)
	cuts, ok := b.b.sliceOf(n, src.Shape)
	if !ok {
		return nil, ErrFallback
	}
	own, at := src.strides(), 0
	for a, c := range cuts {
		if c.length != dst.Shape[a] {
			return nil, fmt.Errorf("slice of %v has %d elements on axis %d, expected %v", src.Shape, c.length, a, dst.Shape)
		}
		at += c.start * own[a]
		own[a] *= c.step
	}
	return b.copyBlock(dst.Shape, block{dst, 0, denseStrides(dst.Shape)}, block{src, at, own})
}

func lowerSplit(b *Bind, n *graph.Node) (Step, error) {
	src := b.In(0)
	parts := b.b.splitParts(n)
	if parts == nil {
		return nil, ErrFallback
	}
	var steps []Step
	for i := range n.Out {
		if b.Skip(i) {
			continue
		}
		dst, p := b.Out(i), parts[i]
		own := src.strides()
		if p.start+p.length > src.Shape[p.axis] {
			return nil, fmt.Errorf("parts of %v exceed axis %d", src.Shape, p.axis)
		}
		s, err := b.copyBlock(dst.Shape, block{dst, 0, denseStrides(dst.Shape)}, block{src, p.start * own[p.axis], own})
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	return sequence(steps), nil
}

// blocksOfConcat: a block of channels is copied as it is.
func blocksOfConcat(b *Bind, n *graph.Node) (Blocking, bool) {
	axis, ok := axisOf(n.Attrs.Int("axis", 0), n.Out[0].Type.Rank())
	if !ok || axis != 1 {
		return Blocking{}, false
	}
	bl := Blocking{}
	for i := range n.In {
		bl.Tied = append(bl.Tied, i)
	}
	return bl, true
}

func lowerConcat(b *Bind, n *graph.Node) (Step, error) {
	dst := b.Out(0)
	axis, ok := axisOf(n.Attrs.Int("axis", 0), len(dst.Shape))
	if !ok {
		return nil, fmt.Errorf("axis %d of %v", n.Attrs.Int("axis", 0), dst.Shape)
	}
	var steps []Step
	at := 0
	to := denseStrides(dst.Shape)
	for i := range n.In {
		src := b.In(i)
		for a, l := range src.Shape {
			if len(src.Shape) != len(dst.Shape) || a != axis && l != dst.Shape[a] {
				return nil, fmt.Errorf("input %d is %v, expected %v except on axis %d", i, src.Shape, dst.Shape, axis)
			}
		}
		if at+src.Shape[axis] > dst.Shape[axis] {
			return nil, fmt.Errorf("inputs exceed the output %v on axis %d", dst.Shape, axis)
		}
		s, err := b.copyBlock(src.Shape, block{dst, at * to[axis], to}, block{src, 0, src.strides()})
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
		at += src.Shape[axis]
	}
	return sequence(steps), nil
}

func lowerExpand(b *Bind, n *graph.Node) (Step, error) {
	dst, src := b.Out(0), b.In(0)
	own := src.strides()
	stride := make([]int, len(dst.Shape))
	lead := len(dst.Shape) - len(src.Shape)
	for a, l := range src.Shape {
		switch {
		case l == dst.Shape[lead+a]:
			stride[lead+a] = own[a]
		case l != 1:
			return nil, fmt.Errorf("cannot expand %v to %v", src.Shape, dst.Shape)
		}
	}
	return b.copyBlock(dst.Shape, block{dst, 0, denseStrides(dst.Shape)}, block{src, 0, stride})
}

func lowerPad(b *Bind, n *graph.Node) (Step, error) {
	dst, src := b.Out(0), b.In(0)
	if n.Attrs.Str("mode", "constant") != "constant" {
		return nil, ErrFallback
	}
	pads, ok := n.Attrs.Ints("pads"), n.Attrs.Has("pads")
	if !ok {
		if pads, ok = b.Ints(1); !ok {
			return nil, ErrFallback
		}
	}
	rank := len(src.Shape)
	axes := make([]int, len(pads)/2)
	for i := range axes {
		axes[i] = i
	}
	if b.In(3) != nil {
		list, ok := b.Ints(3)
		if !ok || len(list) != len(axes) {
			return nil, ErrFallback
		}
		for i, a := range list {
			if axes[i], ok = axisOf(a, rank); !ok {
				return nil, fmt.Errorf("axis %d of %v", a, src.Shape)
			}
		}
	}
	value := make([]byte, dst.DType.Size())
	switch c := b.Const(2); {
	case b.In(2) != nil && c == nil:
		return nil, ErrFallback
	case c != nil && (len(c.Data) != len(value)):
		return nil, ErrFallback
	case c != nil:
		copy(value, c.Data)
	case n.Attrs.Has("value"):
		t := tensor.New(dst.DType, 1)
		t.SetAt(0, float64(n.Attrs.Float("value", 0)))
		copy(value, t.Data)
	}
	from, to := src.strides(), denseStrides(dst.Shape)
	shape := append([]int{}, src.Shape...)
	var srcAt, dstAt int
	for i, a := range axes {
		before, after := int(pads[i]), int(pads[i+len(axes)])
		shape[a] += min(before, 0) + min(after, 0)
		if shape[a] < 0 || shape[a]+max(before, 0)+max(after, 0) != dst.Shape[a] {
			return nil, ErrFallback
		}
		srcAt += max(-before, 0) * from[a]
		dstAt += max(before, 0) * to[a]
	}
	copyIn, err := b.copyBlock(shape, block{dst, dstAt, to}, block{src, srcAt, from})
	if err != nil {
		return nil, err
	}
	return sequence([]Step{func() error { fillBytes(dst.Raw, value); return nil }, copyIn}), nil
}

// fillBytes repeats pattern over dst, doubling what is there.
func fillBytes(dst, pattern []byte) {
	n := copy(dst, pattern)
	for n < len(dst) {
		n += copy(dst[n:], dst[:n])
	}
}
