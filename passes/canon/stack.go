package canon

import (
	"maps"
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
// when the index tuples have one element, or those of a grid of tuples
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
	k := len(grid) - 1 // components of a tuple: the leading axes
	if cat == nil || !cat.Op.Is("", "Concat") || len(cat.In) != k || k > data.Rank() || concatAxis(cat) != k {
		return nil
	}
	at := map[int]int64{}
	for axis, c := range cat.In {
		if !c.Type.Ranked() || c.Type.Rank() != len(grid) || !c.Type.Shape[k].Is(1) {
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
	rank := len(indices.Shape) - 1 // components of a tuple: the leading axes
	if rank < 1 || rank > data.Rank() || indices.Shape[rank] != rank || indices.Len() == 0 || indices.Len() > maxConstScan {
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
