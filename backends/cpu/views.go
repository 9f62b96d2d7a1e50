package cpu

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// Views: a value that is another's memory under a different shape (Reshape,
// Squeeze, ...), or a part of it (Split, Slice, one index of Gather). A part
// has its rows apart; it becomes a view only if everyone who reads it accepts
// that, or if there is just one row.

// view makes the output of a reshaping node share its input's memory.
func (b *binder) view(n *graph.Node) bool {
	row, err := b.e.ops.Of(n)
	if err != nil || len(n.In) == 0 || n.In[0] == nil || len(n.Out) == 0 || n.Out[0] == nil {
		return false
	}
	if row.Traits&ops.View == 0 && !b.keepsOrder(n) {
		return false
	}
	for _, v := range n.Out[1:] {
		if v != nil {
			return false
		}
	}
	src := b.of(n.In[0])
	shape, ok := b.typeOf(n.Out[0]).Static()
	if !ok || src == nil || src.DType != n.Out[0].Type.DType || product(shape) != src.Len() {
		return false
	}
	m := &Mem{DType: src.DType, Shape: shape, Rows: src.Rows, Cols: src.Cols, Stride: src.Stride, off: src.off}
	if src.known != nil {
		if len(src.Raw) != src.span() {
			return false
		}
		*m = *constMem(src.known.Reshaped(shape...))
	} else {
		src.root.add(m)
		src.root.last = max(src.root.last, b.alive[n.Out[0]])
	}
	b.mem[n.Out[0]] = m
	return true
}

// keepsOrder reports that n is a Transpose which only moves axes of length 1,
// as in decoding, where the sequence is one token.
func (b *binder) keepsOrder(n *graph.Node) bool {
	if !n.Op.Is("", "Transpose") {
		return false
	}
	src := b.of(n.In[0])
	if src == nil || !src.Dense() {
		return false
	}
	perm, last := n.Attrs.Ints("perm"), -1
	for i := range src.Shape {
		p, ok := len(src.Shape)-1-i, true
		if i < len(perm) {
			p, ok = axisOf(perm[i], len(src.Shape))
		}
		if !ok {
			return false
		}
		if src.Shape[p] == 1 {
			continue
		}
		if p < last {
			return false
		}
		last = p
	}
	return true
}

// part says that an output is input 0 from start to start+length along axis.
type part struct{ axis, start, length int }

// partViews makes outputs of Split, Slice and Gather views where it can. The
// node still needs a step when some output is not one.
func (b *binder) partViews(i int, n *graph.Node) {
	if n.Op.Domain != "" || len(n.In) == 0 || n.In[0] == nil {
		return
	}
	src := b.of(n.In[0])
	if src == nil || src.known != nil {
		return
	}
	var parts []part
	switch n.Op.Name {
	case "Split":
		parts = b.splitParts(n)
	case "Slice":
		parts = b.slicePart(n, src.Shape)
	case "Gather":
		parts = b.gatherPart(n, src.Shape)
	}
	all := parts != nil
	for j, v := range n.Out {
		if v == nil {
			continue
		}
		if j >= len(parts) || !b.partView(src, parts[j], v) {
			all = false
		}
	}
	if all {
		b.views[n] = true
	}
}

func (b *binder) partView(src *Mem, p part, v *graph.Value) bool {
	shape, ok := b.typeOf(v).Static()
	if !ok {
		return false
	}
	rows, inner := product(src.Shape[:p.axis]), product(src.Shape[p.axis+1:])
	width := src.Shape[p.axis] * inner
	stride := width
	if !src.Dense() {
		if src.Rows != rows || src.Cols != width {
			return false
		}
		stride = src.Stride
	}
	m := &Mem{DType: src.DType, Shape: shape, Rows: rows, Cols: p.length * inner, Stride: stride, off: src.off + p.start*inner*src.DType.Size()}
	if m.Len() != product(shape) || m.Len() == 0 {
		return false
	}
	if m.Dense() {
		m.Rows, m.Cols, m.Stride = 1, m.Len(), m.Len()
	} else if !b.stridable(v, rows) {
		return false
	}
	src.root.add(m)
	src.root.last = max(src.root.last, b.alive[v])
	b.mem[v] = m
	return true
}

// stridable reports whether all readers of v accept it as rows apart.
func (b *binder) stridable(v *graph.Value, rows int) bool {
	if v.IsOutput() {
		return false
	}
	for _, u := range v.Uses {
		n := u.Node
		if _, runs := b.at[n]; !runs {
			if n.Graph != b.e.plan.Graph {
				return false // captured by a body
			}
			continue
		}
		if b.dynamic(n) {
			return false
		}
		row, err := b.e.ops.Of(n)
		if err != nil {
			return false
		}
		if row.Traits&ops.View != 0 && u.Index == 0 && len(n.Out) == 1 && n.Out[0] != nil {
			shape, ok := b.typeOf(n.Out[0]).Static()
			if !ok || leading(shape, rows) < 0 || !b.stridable(n.Out[0], rows) {
				return false
			}
			continue
		}
		k := b.e.kernels[n]
		if k == nil || k.Rows == nil {
			return false
		}
		lead := k.Rows(n, u.Index)
		shape, ok := b.typeOf(v).Static()
		if !ok || lead < 0 || lead > len(shape) || product(shape[:lead]) != rows {
			return false
		}
	}
	return true
}

// leading finds how many leading axes make up rows, or -1.
func leading(shape []int, rows int) int {
	n := 1
	for a := 0; ; a++ {
		if n == rows {
			return a
		}
		if a == len(shape) || n > rows || n == 0 {
			return -1
		}
		n *= shape[a]
	}
}

func axisOf(a int64, rank int) (int, bool) {
	if a < 0 {
		a += int64(rank)
	}
	return int(a), a >= 0 && a < int64(rank)
}

func (b *binder) splitParts(n *graph.Node) []part {
	axis, ok := axisOf(n.Attrs.Int("axis", 0), len(b.of(n.In[0]).Shape))
	if !ok {
		return nil
	}
	parts, start := make([]part, len(n.Out)), 0
	for j, v := range n.Out {
		if v == nil {
			return nil // its length is not written anywhere
		}
		shape, ok := b.typeOf(v).Static()
		if !ok || axis >= len(shape) {
			return nil
		}
		parts[j] = part{axis, start, shape[axis]}
		start += shape[axis]
	}
	return parts
}

// slicePart handles a Slice that cuts one axis with step 1.
func (b *binder) slicePart(n *graph.Node, shape []int) []part {
	cuts, ok := b.sliceOf(n, shape)
	if !ok {
		return nil
	}
	p := part{axis: -1}
	for a, c := range cuts {
		switch {
		case c.step == 1 && c.length == shape[a]:
		case c.step != 1 && c.length > 1 || p.axis >= 0:
			return nil
		default:
			p = part{a, c.start, c.length}
		}
	}
	if p.axis < 0 { // nothing is cut
		if len(shape) == 0 {
			return nil
		}
		p = part{0, 0, shape[0]}
	}
	return []part{p}
}

// gatherPart handles a Gather of one known index.
func (b *binder) gatherPart(n *graph.Node, shape []int) []part {
	axis, ok := axisOf(n.Attrs.Int("axis", 0), len(shape))
	if !ok || n.Input(1) == nil {
		return nil
	}
	idx := b.contents(n.In[1])
	if idx == nil || idx.Len() != 1 || !idx.DType.IsInt() {
		return nil
	}
	at, ok := axisOf(idx.IntAt(0), shape[axis])
	if !ok {
		return nil
	}
	return []part{{axis, at, 1}}
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
