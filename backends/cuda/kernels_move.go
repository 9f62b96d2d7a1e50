package cuda

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Moving memory. Most of it is views (views.go); what is left are joins, rows by index, and repetition.

const maxCopyRank = 8

func moveKernels() []*Kernel {
	return []*Kernel{
		{Op: onnxOp("Concat", 4), Name: "copy", Accepts: movable, Lower: lowerConcat},
		{Op: onnxOp("Gather", 1), Name: "rows", Accepts: func(n *graph.Node, t backends.Target) error {
			if d := n.In[1].Type.DType; d != tensor.Int64 && d != tensor.Int32 || !n.In[0].Type.Ranked() {
				return fmt.Errorf("indices are %s of %s", n.In[1].Type, n.In[0].Type)
			}
			return movable(n, t)
		}, Lower: lowerGather},
		{Op: onnxOp("Transpose", 1), Name: "view", Accepts: movable, Lower: lowerViewCopy},
		{Op: onnxOp("Slice", 1), Name: "view", Accepts: movable, Lower: lowerViewCopy},
		{Op: onnxOp("Split", 2), Name: "view", Accepts: movable, Lower: lowerViewCopy},
		{Op: onnxOp("Expand", 8), Name: "view", Accepts: movable, Lower: lowerViewCopy},
		{Op: onnxOp("Reshape", 5), Name: "view", Accepts: movable, Lower: lowerViewCopy},
		{Op: onnxOp("Squeeze", 1), Name: "view", Accepts: movable, Lower: lowerViewCopy},
		{Op: onnxOp("Unsqueeze", 1), Name: "view", Accepts: movable, Lower: lowerViewCopy},
		{Op: onnxOp("Identity", 1), Name: "view", Accepts: movable, Lower: lowerViewCopy},
		{Op: onnxOp("Flatten", 1), Name: "view", Accepts: movable, Lower: lowerViewCopy},
		{Op: onnxOp("Pad", 11), Name: "copy", Accepts: func(n *graph.Node, t backends.Target) error {
			if n.Attrs.Str("mode", "constant") != "constant" || n.Input(3) != nil || !isReal(n.In[0].Type.DType) {
				return fmt.Errorf("mode %q of %s", n.Attrs.Str("mode", "constant"), n.In[0].Type)
			}
			if v := n.Input(2); v != nil && (v.Const == nil || v.Const.Len() != 1 || v.Const.At(0) != 0) {
				return fmt.Errorf("the value to pad with is not 0")
			}
			return movable(n, t)
		}, Lower: lowerPad},
	}
}

// lowerViewCopy is reached when arguments of a view are not known before the model runs.
func lowerViewCopy(*Bind, *graph.Node) error { return ErrFallback }

// copyLaunch copies between views of one shape, with a conversion between floating-point types where they differ.
func copyLaunch(d *device, dst, src *Mem) (*launch, error) {
	dims, strides := merged(dst.Shape, []*Mem{dst, src})
	if len(dims) > maxCopyRank {
		return nil, ErrFallback
	}
	to, from := strides[0], strides[1]
	size, name := dst.DType.Size(), ""
	count := dst.Len()
	if dst.DType != src.DType {
		if !isReal(dst.DType) || !isReal(src.DType) {
			return nil, fmt.Errorf("cannot copy %v as %v", src.DType, dst.DType)
		}
		if l, err := transposeLaunch(d, dst, src, dims, to, from); l != nil || err != nil {
			return l, err
		}
		name = "copy_convert"
	} else {
		if isReal(dst.DType) {
			if l, err := transposeLaunch(d, dst, src, dims, to, from); l != nil || err != nil {
				return l, err
			}
		}
		// Runs of several elements go as one.
		last := len(dims) - 1
		for to[last] == 1 && from[last] == 1 && size < 16 && dims[last]%2 == 0 && dst.aligned(2*size) && src.aligned(2*size) {
			even := true
			for a := range last {
				even = even && to[a]%2 == 0 && from[a]%2 == 0
			}
			if !even {
				break
			}
			size, count = 2*size, count/2
			dims[last] /= 2
			for a := range last {
				to[a], from[a] = to[a]/2, from[a]/2
			}
		}
		name = fmt.Sprint("copy_", size)
	}
	f, err := d.function("move", name, 0)
	if err != nil {
		return nil, err
	}
	p := (&params{}).i64(count, len(dims), size).i64(pad(dims, maxCopyRank)...).i64(pad(from, maxCopyRank)...).i64(pad(to, maxCopyRank)...).tensor(src).tensor(dst)
	return &launch{f, ceilDiv(count, 256), 256, 0, p}, nil
}

// transposeLaunch serves copies that exchange two axes of batches of matrices; nil when this is none.
func transposeLaunch(d *device, dst, src *Mem, dims, to, from []int) (*launch, error) {
	n := len(dims)
	if n < 2 || n > 3 || from[n-1] == 1 || from[n-2] != 1 || to[n-1] != 1 || to[n-2] != dims[n-1] || dims[n-1] < 8 || dims[n-2] < 8 {
		return nil, nil
	}
	// dst[c, r] = src[r, c] with r along dst's last axis.
	rows, cols, batch, sb, db := dims[n-1], dims[n-2], 1, 0, 0
	if n == 3 {
		batch, sb, db = dims[0], from[0], to[0]
	}
	blocks := ceilDiv(rows, 32) * ceilDiv(cols, 32) * batch
	if from[n-1] < 0 || sb < 0 || blocks > 1<<31-1 {
		return nil, nil
	}
	f, err := d.function("move", "transpose_tiles", 32*33*4)
	if err != nil {
		return nil, err
	}
	p := (&params{}).tensor(src).tensor(dst).i64(rows, cols, from[n-1], sb, db, batch)
	return &launch{f, blocks, 256, 32 * 33 * 4, p}, nil
}

func lowerConcat(b *Bind, n *graph.Node) error {
	out := b.Out(0)
	axis, ok := axisOf(n.Attrs.Int("axis", 0), len(out.Shape))
	if !ok {
		return ErrFallback
	}
	start := 0
	for i := range n.In {
		m, err := b.In(i)
		if err != nil {
			return err
		}
		if m == nil || len(m.Shape) != len(out.Shape) {
			return ErrFallback
		}
		if err := b.copy(out.view(m.Shape, out.Strides, start*out.Strides[axis]), m); err != nil {
			return err
		}
		start += m.Shape[axis]
	}
	return nil
}

func lowerGather(b *Bind, n *graph.Node) error {
	data, err := b.Dense(0)
	if err != nil {
		return err
	}
	index, err := b.Dense(1)
	if err != nil {
		return err
	}
	return b.gatherFrom(data, index)
}

func (b *Bind) gatherFrom(data, index *Mem) error {
	out := b.Out(0)
	if data.DType != out.DType { // the rows alone are converted
		raw := b.Scratch(data.DType, out.Shape...)
		if err := b.gather(data, index, raw); err != nil {
			return err
		}
		return b.copy(out, raw)
	}
	return b.gather(data, index, out)
}

func (b *Bind) gather(data, index, out *Mem) error {
	n := b.n
	axis, ok := axisOf(n.Attrs.Int("axis", 0), len(data.Shape))
	if !ok || data.Len() == 0 {
		return ErrFallback
	}
	inner := product(data.Shape[axis+1:]) * data.DType.Size()
	unit := 16
	for inner%unit != 0 || !data.aligned(unit) || !out.aligned(unit) {
		unit /= 2
	}
	outer, count := product(data.Shape[:axis]), index.Len()
	p := (&params{}).ptr(data).ptr(out).tensor(index).ptr(b.b.badIndex()).i64(outer, data.Shape[axis], count, inner, unit)
	return b.Launch("move", "gather_rows", ceilDiv(outer*count*(inner/unit), 256), 256, 0, p)
}

// badIndex is where kernels note an index out of range.
func (b *binder) badIndex() *Mem {
	if b.p.bad == nil {
		b.p.bad = b.arenaMem(tensor.Int32, []int{1}, -1)
		b.p.bad.root.last = forever
	}
	return b.p.bad
}

func lowerPad(b *Bind, n *graph.Node) error {
	src, err := b.In(0)
	if err != nil {
		return err
	}
	out := b.Out(0)
	pads, ok := b.Ints(1)
	r := len(src.Shape)
	if !ok || len(pads) != 2*r {
		return ErrFallback
	}
	// Negative amounts cut.
	off, from := 0, 0
	shape := append([]int{}, src.Shape...)
	for a := range r {
		lo, hi := int(pads[a]), int(pads[r+a])
		if lo < 0 {
			from += -lo * src.Strides[a]
			shape[a] += lo
		} else {
			off += lo * out.Strides[a]
		}
		if hi < 0 {
			shape[a] += hi
		}
		if shape[a] < 0 {
			return ErrFallback
		}
	}
	bytes := out.Bytes()
	b.Do("fill", nil, func(s *session) error { return s.stream.Set(out.addr(), 0, bytes) })
	return b.copy(out.view(shape, out.Strides, off), src.view(shape, src.Strides, from))
}
