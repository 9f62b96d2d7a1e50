package canon

import (
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// What is cut out of a concatenation is read where it was made.

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

// forwardSplit does the same for each output of a Split.
func forwardSplit(r *rewriter, n *graph.Node) *graph.Value {
	in := n.In[0].Type
	if !in.Ranked() {
		return nil
	}
	axis := int(n.Attrs.Int("axis", 0))
	if axis < 0 {
		axis += in.Rank()
	}
	var first *graph.Value
	lo := int64(0)
	for i, out := range n.Out {
		if out == nil || !out.Type.Ranked() {
			return first
		}
		size, ok := out.Type.Shape[axis].Const()
		if !ok {
			return first
		}
		if v, from, to := source(n.In[0], axis, lo, lo+size); v != n.In[0] && !out.Unused() && size > 0 {
			b := r.builder(n)
			if !v.Type.Shape[axis].Is(to - from) {
				v = slice(b, v, axis, from, to)
			}
			switch {
			case b.Err != nil:
			case i == 0:
				first = v
			case !out.IsOutput():
				r.replace(out, v)
			}
		}
		lo += size
	}
	return first
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

// squeezeEntry drops the axis of a stack of one layer that was just written to.
func squeezeEntry(r *rewriter, n *graph.Node) *graph.Value {
	in, out := n.In[0].Type, n.Out[0].Type
	cat := n.In[0].Def
	if cat == nil || !cat.Op.Is("", "Concat") || !in.Ranked() || !out.Ranked() || out.Rank() != in.Rank()-1 {
		return nil
	}
	axis := 0
	for axis < out.Rank() && in.Shape[axis] == out.Shape[axis] {
		axis++
	}
	for axis > 0 && in.Shape[axis-1].Is(1) {
		axis-- // of several axes of length 1, the first: all leave the same
	}
	if axis == concatAxis(cat) || !in.Shape[axis].Is(1) {
		return nil
	}
	b := r.builder(n)
	return done(b, r.entry(b, n.In[0], axis, false, 8))
}

// squeezed reshapes the axis away.
func (r *rewriter) squeezed(b *graph.Builder, v *graph.Value, axis int) *graph.Value {
	shape := slices.Delete(slices.Clone(v.Type.Shape), axis, axis+1)
	return b.Op("Reshape", nil, v, r.dims(b, shape, v))
}
