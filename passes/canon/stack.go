package canon

import (
	"maps"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Caches are often one tensor [layers,...]: a layer reads its entry by Gather
// and writes it back by ScatterND or ScatterElements. A write of a whole slice
// becomes a Concat of what stays and what is new, and a read is forwarded to
// the piece it falls into, so that every layer sees a plain state. All of this
// only moves elements.

// scatterConcat spells a write of whole slices at fixed indices as a Concat.
func scatterConcat(r *rewriter, n *graph.Node) *graph.Value {
	data, indices, updates := n.In[0], n.In[1], n.In[2]
	if n.Attrs.Str("reduction", "none") != "none" || !data.Type.Ranked() || !updates.Type.Ranked() || !indices.Type.Ranked() {
		return nil
	}
	var at map[int]int64
	if n.Op.Name == "ScatterND" {
		at = scatterNDAt(data.Type, indices, updates.Type)
	} else {
		at = scatterElementsAt(int(n.Attrs.Int("axis", 0)), data.Type, indices, updates.Type)
	}
	if len(at) == 0 {
		return nil
	}
	b := r.builder(n)
	return done(b, write(b, data, at, updates))
}

// write puts u, which is data's shape with length 1 on the axes of at, at the
// indices of at.
func write(b *graph.Builder, data *graph.Value, at map[int]int64, u *graph.Value) *graph.Value {
	if len(at) == 0 || b.Err != nil {
		return u
	}
	axis := slices.Min(slices.Collect(maps.Keys(at)))
	k, rest := at[axis], maps.Clone(at)
	delete(rest, axis)
	if len(rest) > 0 {
		u = write(b, slice(b, data, axis, k, k+1), rest, u)
	}
	length, _ := data.Type.Shape[axis].Const()
	var parts []*graph.Value
	if k > 0 {
		parts = append(parts, slice(b, data, axis, 0, k))
	}
	parts = append(parts, u)
	if k+1 < length {
		parts = append(parts, slice(b, data, axis, k+1, length))
	}
	return b.Op("Concat", graph.Attrs{"axis": int64(axis)}, parts...)
}

func slice(b *graph.Builder, v *graph.Value, axis int, lo, hi int64) *graph.Value {
	return b.Op("Slice", nil, v, b.Ints(lo), b.Ints(hi), b.Ints(int64(axis)))
}

// index makes i non-negative for an axis of static length.
func index(i int64, d graph.Dim) (int64, bool) {
	n, ok := d.Const()
	if i < 0 {
		i += n
	}
	return i, ok && i >= 0 && i < n
}

// scatterElementsAt: all indices are one number, and the updates cover every
// other axis.
func scatterElementsAt(axis int, data graph.Type, indices *graph.Value, u graph.Type) map[int]int64 {
	if axis < 0 {
		axis += data.Rank()
	}
	if axis < 0 || axis >= data.Rank() || !coversBut(data, u, map[int]int64{axis: 0}) {
		return nil
	}
	for indices.Def != nil && indices.Def.Op.Is("", "Expand") {
		indices = indices.Def.In[0]
	}
	x, ok := uniform(indices)
	if !ok {
		return nil
	}
	i, ok := index(int64(x), data.Shape[axis])
	if !ok {
		return nil
	}
	return map[int]int64{axis: i}
}

// coversBut: u has data's lengths, and 1 on the axes of at.
func coversBut(data, u graph.Type, at map[int]int64) bool {
	if u.Rank() != data.Rank() {
		return false
	}
	for a, d := range u.Shape {
		if _, fixed := at[a]; fixed && !d.Is(1) || !fixed && d != data.Shape[a] {
			return false
		}
	}
	return true
}

// scatterNDAt reads the axes that a ScatterND writes at one index: the first,
// when the index tuples have one element, or those of a full grid of tuples
// whose other components count 0, 1, 2... along their own axis.
func scatterNDAt(data graph.Type, indices *graph.Value, u graph.Type) map[int]int64 {
	grid := indices.Type.Shape
	if len(grid) == 0 || data.Rank() == 0 {
		return nil
	}
	if grid[len(grid)-1].Is(1) { // one tuple (k): the slice k of axis 0
		x, ok := uniform(indices)
		if !ok || indices.Const.Len() != 1 || len(grid) != 2 {
			return nil
		}
		i, ok := index(int64(x), data.Shape[0])
		if at := (map[int]int64{0: i}); ok && coversBut(data, u, at) {
			return at
		}
		return nil
	}
	if indices.Const != nil {
		return constantGrid(data, indices.Const, u)
	}
	cat := indices.Def
	if cat == nil || !cat.Op.Is("", "Concat") || len(cat.In) != data.Rank() || len(grid) != data.Rank()+1 || concatAxis(cat) != data.Rank() {
		return nil
	}
	at := map[int]int64{}
	for axis, c := range cat.In {
		if !c.Type.Ranked() || c.Type.Rank() != len(grid) || !c.Type.Shape[data.Rank()].Is(1) {
			return nil
		}
		if counts(c, axis, data.Shape[axis]) {
			continue
		}
		i, ok := constantComponent(c)
		if ok {
			i, ok = index(i, data.Shape[axis])
		}
		if !ok {
			return nil
		}
		at[axis] = i
	}
	if !coversBut(data, u, at) {
		return nil
	}
	return at
}

// constantGrid reads a grid of index tuples that was folded to a constant.
func constantGrid(data graph.Type, indices *tensor.Tensor, u graph.Type) map[int]int64 {
	rank := data.Rank()
	if len(indices.Shape) != rank+1 || indices.Shape[rank] != rank || indices.Len() == 0 || indices.Len() > maxConstScan {
		return nil
	}
	at := map[int]int64{}
	for axis := range rank {
		inner := 1
		for _, n := range indices.Shape[axis+1 : rank] {
			inner *= n
		}
		counts, same := data.Shape[axis].Is(int64(indices.Shape[axis])), true
		for i := range indices.Len() / rank {
			k := indices.IntAt(i*rank + axis)
			counts = counts && k == int64(i/inner%indices.Shape[axis])
			same = same && k == indices.IntAt(axis)
		}
		if counts {
			continue
		}
		k, ok := index(indices.IntAt(axis), data.Shape[axis])
		if !same || !ok {
			return nil
		}
		at[axis] = k
	}
	if !coversBut(data, u, at) {
		return nil
	}
	return at
}

func concatAxis(n *graph.Node) int {
	a := int(n.Attrs.Int("axis", 0))
	if a < 0 {
		a += n.Out[0].Type.Rank()
	}
	return a
}

// constantComponent: every element of v is the same number.
func constantComponent(v *graph.Value) (int64, bool) {
	for v.Def != nil && (v.Def.Op.Is("", "Expand") || v.Def.Op.Is("", "Unsqueeze")) {
		v = v.Def.In[0]
	}
	x, ok := uniform(v)
	return int64(x), ok
}

// counts: v[..., i, ..., 0] = i along axis, of length n, whatever the other axes.
func counts(v *graph.Value, axis int, n graph.Dim) bool {
	if v.Type.Shape[axis] != n {
		return false
	}
	for v.Def != nil {
		d := v.Def
		switch {
		case d.Op.Is("", "Unsqueeze"): // only the axis of tuples, at the end
			if ax, ok := ops.KnownOf(d.Input(1)); !ok || len(ax) != 1 || !ax[0].Is(-1) && !ax[0].Is(int64(v.Type.Rank()-1)) {
				return false
			}
		case d.Op.Is("", "Expand"): // axes count from the end
			axis -= v.Type.Rank() - d.In[0].Type.Rank()
		case d.Op.Is("", "Reshape") && d.In[0].Def != nil && d.In[0].Def.Op.Is("", "Range"):
			return alone(v.Type, axis, n) && fromZero(d.In[0].Def)
		default:
			return d.Op.Is("", "Range") && axis == 0 && fromZero(d)
		}
		v = d.In[0]
		if !v.Type.Ranked() || axis < 0 || axis >= v.Type.Rank() {
			return false
		}
	}
	if v.Const == nil || !v.Const.DType.IsInt() || !alone(v.Type, axis, n) {
		return false
	}
	for i := range v.Const.Len() {
		if v.Const.IntAt(i) != int64(i) {
			return false
		}
	}
	return true
}

// alone: the axis has length n and is the only one longer than 1.
func alone(t graph.Type, axis int, n graph.Dim) bool {
	for a, d := range t.Shape {
		if a == axis && d != n || a != axis && !d.Is(1) {
			return false
		}
	}
	return true
}

func fromZero(n *graph.Node) bool {
	start, ok := uniform(n.In[0])
	step, ok2 := uniform(n.In[2])
	return ok && ok2 && start == 0 && step == 1
}

// source follows elements lo to hi of an axis back through slices and
// concatenations along it, for as long as they come out of one value.
func source(v *graph.Value, axis int, lo, hi int64) (*graph.Value, int64, int64) {
	for v.Def != nil {
		n := v.Def
		switch {
		case !allRanked(n.In):
			return v, lo, hi
		case n.Op.Is("", "Concat") && concatAxis(n) == axis:
			off := int64(0)
			var piece *graph.Value
			for _, p := range n.In {
				size, ok := p.Type.Shape[axis].Const()
				if !ok {
					break // what follows stands at an unknown place
				}
				if lo >= off && hi <= off+size {
					piece = p
					break
				}
				off += size
			}
			if piece == nil {
				return v, lo, hi
			}
			v, lo, hi = piece, lo-off, hi-off
		case n.Op.Is("", "Slice"):
			a, from, _, ok := sliceRange(n)
			if !ok || a != axis {
				return v, lo, hi
			}
			v, lo, hi = n.In[0], lo+from, hi+from
		default:
			return v, lo, hi
		}
	}
	return v, lo, hi
}

func allRanked(vs []*graph.Value) bool {
	for _, v := range vs {
		if v != nil && !v.Type.Ranked() {
			return false
		}
	}
	return true
}

// sliceRange reads a Slice of one axis of static length, with step 1.
func sliceRange(n *graph.Node) (axis int, lo, hi int64, ok bool) {
	in := n.In[0].Type
	if len(n.In) < 4 || !in.Ranked() {
		return 0, 0, 0, false
	}
	one := func(i int) (int64, bool) {
		k, ok := ops.KnownOf(n.Input(i))
		if !ok || len(k) != 1 {
			return 0, false
		}
		return k[0].Const()
	}
	lo, ok1 := one(1)
	hi, ok2 := one(2)
	a, ok3 := one(3)
	if step, ok := one(4); n.Input(4) != nil && (!ok || step != 1) {
		return 0, 0, 0, false
	}
	if a < 0 {
		a += int64(in.Rank())
	}
	if !ok1 || !ok2 || !ok3 || a < 0 || a >= int64(in.Rank()) {
		return 0, 0, 0, false
	}
	length, static := in.Shape[a].Const()
	if !static && (lo < 0 || hi < 0 || hi == math.MaxInt64 || n.Out[0].Type.Shape[a] != graph.D(hi-lo)) {
		return 0, 0, 0, false // clamped at a length that is not known
	}
	if static {
		clamp := func(i int64) int64 {
			if i < 0 {
				i += length
			}
			return max(0, min(i, length))
		}
		lo, hi = clamp(lo), clamp(hi)
	}
	return int(a), lo, hi, lo < hi
}

// forwardSlice reads what a Slice keeps where it was made.
func forwardSlice(r *rewriter, n *graph.Node) *graph.Value {
	axis, lo, hi, ok := sliceRange(n)
	if !ok {
		return nil
	}
	v, from, to := source(n.In[0], axis, lo, hi)
	if v == n.In[0] {
		return nil
	}
	if v.Type.Shape[axis].Is(to - from) {
		return v
	}
	b := r.builder(n)
	return done(b, slice(b, v, axis, from, to))
}

// forwardGather does the same for a Gather of one index.
func forwardGather(r *rewriter, n *graph.Node) *graph.Value {
	idx, t := n.In[1].Const, n.In[0].Type
	if idx == nil || idx.Len() != 1 || idx.Rank() > 1 || !t.Ranked() || !n.Out[0].Type.Ranked() {
		return nil
	}
	axis := int(n.Attrs.Int("axis", 0))
	if axis < 0 {
		axis += t.Rank()
	}
	if axis < 0 || axis >= t.Rank() {
		return nil
	}
	i, ok := index(idx.IntAt(0), t.Shape[axis])
	if !ok {
		return nil
	}
	b := r.builder(n)
	if t.Shape[axis].Is(1) { // a stack of one layer
		return done(b, r.entry(b, n.In[0], axis, n.Out[0].Type.Rank() == t.Rank(), 8))
	}
	v, from, _ := source(n.In[0], axis, i, i+1)
	if v == n.In[0] {
		return nil
	}
	if v.Type.Shape[axis].Is(1) {
		return done(b, r.entry(b, v, axis, n.Out[0].Type.Rank() == t.Rank(), 8))
	}
	if _, ok := index(from, v.Type.Shape[axis]); !ok {
		return nil // of unknown length: the index would be checked at another place
	}
	at := idx.Clone()
	at.SetIntAt(0, from)
	return done(b, b.Op("Gather", n.Attrs.Clone(), v, b.Const(at)))
}

// entry drops an axis of length 1, unless keep, before slices and
// concatenations along other axes: what a cache entry was updated by then
// meets what reads it.
func (r *rewriter) entry(b *graph.Builder, v *graph.Value, axis int, keep bool, depth int) *graph.Value {
	if keep || b.Err != nil {
		return v
	}
	below := func(a int) int64 {
		if a > axis {
			a--
		}
		return int64(a)
	}
	if n := v.Def; n != nil && depth > 0 {
		if n.Op.Is("", "Concat") && concatAxis(n) != axis {
			parts := make([]*graph.Value, len(n.In))
			for i, p := range n.In {
				parts[i] = r.entry(b, p, axis, false, depth-1)
			}
			return b.Op("Concat", graph.Attrs{"axis": below(concatAxis(n))}, parts...)
		}
		if n.Op.Is("", "Slice") {
			a, lo, hi, ok := sliceRange(n)
			if !ok || a == axis {
				return r.squeezed(b, v, axis)
			}
			in := r.entry(b, n.In[0], axis, false, depth-1)
			if b.Err != nil {
				return nil
			}
			return slice(b, in, int(below(a)), lo, hi)
		}
	}
	return r.squeezed(b, v, axis)
}

// squeezed reshapes the axis away.
func (r *rewriter) squeezed(b *graph.Builder, v *graph.Value, axis int) *graph.Value {
	shape := slices.Delete(slices.Clone(v.Type.Shape), axis, axis+1)
	return b.Op("Reshape", nil, v, r.dims(b, shape, v))
}
