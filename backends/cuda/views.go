package cuda

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// Views: values that are another's memory under other shapes and strides. Every kernel takes them, or a dense copy.

// view makes the outputs of a node that only moves elements share its input's memory. ok says that no
// step is needed.
func (b *binder) view(i int, n *graph.Node) (ok bool, err error) {
	if len(n.In) == 0 || n.In[0] == nil || len(n.Out) == 0 || len(n.Bodies) > 0 {
		return false, nil
	}
	row, err := b.e.ops.Of(n)
	if err != nil {
		return false, err
	}
	reshape := row.Traits&ops.View != 0
	if !reshape && n.Op.Domain != "" {
		return false, nil
	}
	var views func(src *Mem) []*Mem
	switch {
	case reshape && len(n.Out) == 1:
		views = func(src *Mem) []*Mem {
			shape, ok := b.typeOf(n.Out[0]).Static()
			if !ok || product(shape) != src.Len() {
				return nil
			}
			if m := src.reshaped(shape); m != nil {
				return []*Mem{m}
			}
			c, err2 := (&Bind{b, n, i, "copy"}).dense(src)
			if err2 != nil {
				err = err2
				return nil
			}
			return []*Mem{c.reshaped(shape)}
		}
	case n.Op.Name == "Transpose":
		views = func(src *Mem) []*Mem { return transposed(n, src) }
	case n.Op.Name == "Slice":
		views = func(src *Mem) []*Mem { return b.sliced(n, src) }
	case n.Op.Name == "Split":
		views = func(src *Mem) []*Mem { return b.split(n, src) }
	case n.Op.Name == "Gather":
		views = func(src *Mem) []*Mem { return b.gathered(n, src) }
	case n.Op.Name == "Expand":
		views = func(src *Mem) []*Mem {
			shape, ok := b.typeOf(n.Out[0]).Static()
			if !ok {
				return nil
			}
			return []*Mem{broadcastTo(src, shape)}
		}
	default:
		return false, nil
	}
	src, err2 := b.of(n.In[0])
	if err2 != nil {
		return false, err2
	}
	if src.DType != n.In[0].Type.DType && n.In[0].Type.DType != n.Out[0].Type.DType {
		return false, nil
	}
	mems := views(src)
	if err != nil || mems == nil {
		return false, err
	}
	for j, v := range n.Out {
		if v == nil {
			continue
		}
		m := mems[j]
		if m == nil {
			return false, nil
		}
		if shape, ok := b.typeOf(v).Static(); !ok || product(shape) != m.Len() || v.Type.DType != n.In[0].Type.DType {
			return false, nil
		}
	}
	for j, v := range n.Out {
		if v == nil || b.contents(v) != nil {
			continue
		}
		b.mem[v] = mems[j]
		mems[j].root.last = max(mems[j].root.last, b.alive[v])
	}
	return true, nil
}

func transposed(n *graph.Node, src *Mem) []*Mem {
	r := len(src.Shape)
	perm := n.Attrs.Ints("perm")
	if len(perm) != 0 && len(perm) != r {
		return nil
	}
	shape, strides := make([]int, r), make([]int, r)
	for a := range r {
		from := r - 1 - a
		if len(perm) > 0 {
			p, ok := axisOf(perm[a], r)
			if !ok {
				return nil
			}
			from = p
		}
		shape[a], strides[a] = src.Shape[from], src.Strides[from]
	}
	return []*Mem{src.view(shape, strides, 0)}
}

func axisOf(a int64, rank int) (int, bool) {
	if a < 0 {
		a += int64(rank)
	}
	return int(a), a >= 0 && a < int64(rank)
}

// broadcastTo repeats src to a shape it broadcasts to, or nil.
func broadcastTo(src *Mem, shape []int) *Mem {
	strides := make([]int, len(shape))
	d := len(shape) - len(src.Shape)
	if d < 0 {
		return nil
	}
	for a, n := range src.Shape {
		switch {
		case n == shape[d+a]:
			strides[d+a] = src.Strides[a]
		case n != 1:
			return nil
		}
	}
	return src.view(shape, strides, 0)
}

func (b *binder) split(n *graph.Node, src *Mem) []*Mem {
	axis, ok := axisOf(n.Attrs.Int("axis", 0), len(src.Shape))
	if !ok {
		return nil
	}
	mems, start := make([]*Mem, len(n.Out)), 0
	for j, v := range n.Out {
		if v == nil {
			return nil // its length is not written anywhere
		}
		shape, ok := b.typeOf(v).Static()
		if !ok || len(shape) != len(src.Shape) || start+shape[axis] > src.Shape[axis] {
			return nil
		}
		mems[j] = src.view(shape, src.Strides, start*src.Strides[axis])
		start += shape[axis]
	}
	return mems
}

// gathered handles a Gather of one known index.
func (b *binder) gathered(n *graph.Node, src *Mem) []*Mem {
	axis, ok := axisOf(n.Attrs.Int("axis", 0), len(src.Shape))
	if !ok || n.Input(1) == nil {
		return nil
	}
	idx := b.contents(n.In[1])
	if idx == nil || idx.Len() != 1 || !idx.DType.IsInt() {
		return nil
	}
	at, ok := axisOf(idx.IntAt(0), src.Shape[axis])
	shape, static := b.typeOf(n.Out[0]).Static()
	if !ok || !static {
		return nil
	}
	one := append([]int{}, src.Shape...)
	one[axis] = 1
	m := src.view(one, src.Strides, at*src.Strides[axis])
	if m = m.reshaped(shape); m == nil {
		return nil
	}
	return []*Mem{m}
}

func (b *binder) sliced(n *graph.Node, src *Mem) []*Mem {
	cuts, ok := b.sliceOf(n, src.Shape)
	if !ok {
		return nil
	}
	shape, strides, off := make([]int, len(cuts)), make([]int, len(cuts)), 0
	for a, c := range cuts {
		shape[a], strides[a] = c.length, c.step*src.Strides[a]
		if c.length > 0 {
			off += c.start * src.Strides[a]
		}
	}
	return []*Mem{src.view(shape, strides, off)}
}

// cut is what Slice takes of one axis: length elements from start, step apart.
type cut struct{ start, length, step int }

// sliceOf reads the arguments of a Slice node, when they are known.
func (b *binder) sliceOf(n *graph.Node, shape []int) ([]cut, bool) {
	list := func(i int, attr string) ([]int64, bool) {
		if n.Op.Since < 10 {
			return n.Attrs.Ints(attr), true
		}
		v := n.Input(i)
		if v == nil {
			return nil, true
		}
		t := b.contents(v)
		if t == nil {
			return nil, false
		}
		return t.AsInts(), true
	}
	starts, ok1 := list(1, "starts")
	ends, ok2 := list(2, "ends")
	axes, ok3 := list(3, "axes")
	steps, ok4 := list(4, "")
	if !ok1 || !ok2 || !ok3 || !ok4 || len(ends) != len(starts) {
		return nil, false
	}
	cuts := make([]cut, len(shape))
	for a, n := range shape {
		cuts[a] = cut{0, n, 1}
	}
	for i := range starts {
		a, ok := i, i < len(shape)
		if axes != nil {
			if i >= len(axes) {
				return nil, false
			}
			a, ok = axisOf(axes[i], len(shape))
		}
		step := int64(1)
		if steps != nil {
			if i >= len(steps) {
				return nil, false
			}
			step = steps[i]
		}
		if !ok || step == 0 {
			return nil, false
		}
		cuts[a] = cutAxis(starts[i], ends[i], step, int64(shape[a]))
	}
	return cuts, true
}

// cutAxis applies ONNX's clamping rules (those of Python slices).
func cutAxis(start, end, step, n int64) cut {
	norm := func(x, lo, hi int64) int64 {
		if x < 0 {
			x += n
		}
		return min(max(x, lo), hi)
	}
	step = min(max(step, -n-1), n+1) // the same elements, and no overflow below
	if step > 0 {
		s, e := norm(start, 0, n), norm(end, 0, n)
		if e <= s {
			return cut{0, 0, 1}
		}
		return cut{int(s), int((e - s + step - 1) / step), int(step)}
	}
	s, e := norm(start, 0, n-1), norm(end, -1, n-1)
	if n == 0 || e >= s {
		return cut{0, 0, 1}
	}
	return cut{int(s), int((s - e - step - 1) / -step), int(step)}
}
