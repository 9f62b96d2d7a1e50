package recur

import (
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// A view says which axes of a scan's state (0 batch, 1 time, then the state's
// own) each axis of a value holds: none for an axis of length 1, several in
// order for a merged one.
type view struct {
	v    *graph.Value
	axes [][]int
}

// space is the coordinate system of views: the lengths of the axes.
type space []graph.Dim

// all is the view of a value that has every axis.
func (s space) all(v *graph.Value) view {
	w := view{v: v}
	for i, d := range v.Type.Shape {
		if d.Is(1) {
			w.axes = append(w.axes, nil)
		} else {
			w.axes = append(w.axes, []int{i})
		}
	}
	return w
}

// long reports whether w varies along axis a.
func (w view) long(a int) bool {
	for _, g := range w.axes {
		if slices.Contains(g, a) {
			return true
		}
	}
	return false
}

// within reports whether w varies along no axis but those listed.
func (w view) within(axes ...int) bool {
	for _, g := range w.axes {
		for _, a := range g {
			if !slices.Contains(axes, a) {
				return false
			}
		}
	}
	return true
}

// reshaped carries axes over a Reshape between two shapes; nil when it cuts
// through an axis.
func (s space) reshaped(axes [][]int, from, to []graph.Dim) [][]int {
	groups, ok := lift.Match(from, to)
	if !ok {
		return nil
	}
	out := make([][]int, len(to))
	for _, g := range groups {
		var have []int
		for i := g.I; i < g.J; i++ {
			have = append(have, axes[i]...)
		}
		for k := g.K; k < g.L; k++ {
			p := graph.D(1)
			for p != to[k] && len(have) > 0 {
				p = p.Mul(s[have[0]])
				out[k], have = append(out[k], have[0]), have[1:]
			}
			if p != to[k] {
				return nil
			}
		}
		if len(have) > 0 {
			return nil
		}
	}
	return out
}

// forward carries axes from input 0 of a layout node to its output, nil when it cannot.
func (s space) forward(n *graph.Node, axes [][]int) [][]int {
	switch n.Op.Name {
	case "Identity":
		return axes
	case "Transpose":
		out := make([][]int, len(axes))
		for i, p := range n.Attrs.Ints("perm") {
			out[i] = axes[p]
		}
		if n.Attrs.Ints("perm") == nil {
			return nil
		}
		return out
	case "Reshape", "Squeeze", "Unsqueeze", "Flatten":
		return s.reshaped(axes, n.In[0].Type.Shape, n.Out[0].Type.Shape)
	}
	return nil
}

// backward carries axes from the output of a layout node to its input.
func (s space) backward(n *graph.Node, axes [][]int) [][]int {
	switch n.Op.Name {
	case "Identity":
		return axes
	case "Transpose":
		perm := n.Attrs.Ints("perm")
		if perm == nil {
			return nil
		}
		out := make([][]int, len(axes))
		for i, p := range perm {
			out[p] = axes[i]
		}
		return out
	case "Expand":
		return aligned(n.In[0].Type.Shape, axes)
	case "Reshape", "Squeeze", "Unsqueeze", "Flatten":
		from, to := n.Out[0].Type.Shape, n.In[0].Type.Shape
		return s.reshaped(axes, from, to)
	}
	return nil
}

// aligned gives an operand of a broadcast, of shape dims, the axes of the
// result; nil when it is longer than the result.
func aligned(dims []graph.Dim, axes [][]int) [][]int {
	off := len(axes) - len(dims)
	if off < 0 {
		return nil
	}
	out := make([][]int, len(dims))
	for i, d := range dims {
		if !d.Is(1) {
			out[i] = axes[off+i]
		}
	}
	return out
}

// factors writes w as a product, looking through layouts. Leaves keep their
// own axes; an axis that a leaf has and w has not ends the search there.
func (s space) factors(b *graph.Builder, w view) []view {
	n := w.v.Def
	if n == nil || n.Op.Domain != "" {
		return []view{w}
	}
	operands := func(axes ...[][]int) []view {
		var out []view
		for i, a := range axes {
			if a == nil && n.In[i].Type.Rank() > 0 {
				return []view{w}
			}
			out = append(out, s.factors(b, view{n.In[i], a})...)
		}
		return out
	}
	switch n.Op.Name {
	case "Mul":
		return operands(aligned(n.In[0].Type.Shape, w.axes), aligned(n.In[1].Type.Shape, w.axes))
	case "MatMul":
		if x, y, ok := outer(n, w.axes); ok {
			return operands(x, y)
		}
	case "Einsum":
		if axes, ok := outerEinsum(n, w.axes); ok {
			return operands(axes...)
		}
	case "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Expand":
		if a := s.backward(n, w.axes); a != nil || n.In[0].Type.Rank() == 0 {
			return operands(a)
		}
	case "Where": // x where a mask holds, else 0
		if !isZeroConst(n.In[2]) || b == nil {
			break
		}
		mask := aligned(n.In[0].Type.Shape, w.axes)
		if x := aligned(n.In[1].Type.Shape, w.axes); x != nil && mask != nil {
			m := b.Op("Cast", graph.Attrs{"to": int64(w.v.Type.DType)}, n.In[0])
			if b.Err != nil {
				return []view{w}
			}
			return append(s.factors(b, view{n.In[1], x}), view{m, mask})
		}
	}
	return []view{w}
}

func isZeroConst(v *graph.Value) bool { return lift.Zero(v) }

// outer recognises a MatMul of [..., P, 1] and [..., 1, N].
func outer(n *graph.Node, axes [][]int) (x, y [][]int, ok bool) {
	a, c := n.In[0].Type.Shape, n.In[1].Type.Shape
	if len(a) < 2 || len(c) < 2 || !a[len(a)-1].Is(1) || !c[len(c)-2].Is(1) {
		return nil, nil, false
	}
	r := len(axes)
	rows := append(slices.Clone(axes[:r-2]), axes[r-2], nil)
	cols := append(slices.Clone(axes[:r-2]), nil, axes[r-1])
	return aligned(a, rows), aligned(c, cols), true
}

// outerEinsum recognises an Einsum that sums over nothing.
func outerEinsum(n *graph.Node, axes [][]int) ([][][]int, bool) {
	terms, out, ok := lift.Equation(n)
	if !ok || len(out) != len(axes) {
		return nil, false
	}
	all := make([][][]int, len(terms))
	for i, t := range terms {
		all[i] = make([][]int, len(t))
		for k, c := range t {
			j := strings.IndexRune(out, c)
			if j < 0 || strings.Count(t, string(c)) > 1 {
				return nil, false
			}
			if !n.In[i].Type.Shape[k].Is(1) {
				all[i][k] = axes[j]
			}
		}
	}
	return all, true
}

// project brings a view into the given order of axes, with length 1 where it
// does not vary.
func (s space) project(b *graph.Builder, w view, order ...int) *graph.Value {
	if b.Err != nil {
		return nil
	}
	v := w.v
	var flat [][]int
	split := false
	var dims []graph.Dim
	for i, g := range w.axes {
		if len(g) <= 1 {
			flat, dims = append(flat, g), append(dims, v.Type.Shape[i])
			continue
		}
		split = true
		for _, a := range g {
			flat, dims = append(flat, []int{a}), append(dims, s[a])
		}
	}
	if split {
		v = layout.Reshape(b, v, dims)
	}
	var perm []int64
	var shape []graph.Dim
	for _, a := range order {
		d := graph.D(1)
		for i, g := range flat {
			if len(g) == 1 && g[0] == a {
				perm, d = append(perm, int64(i)), dims[i]
			}
		}
		shape = append(shape, d)
	}
	for i, g := range flat {
		if len(g) == 0 {
			perm = append(perm, int64(i))
		}
	}
	if len(perm) != len(flat) || b.Err != nil {
		return nil // varies along an axis that is not asked for
	}
	if !inOrder(perm, flat) {
		v = layout.Transpose(b, v, perm...)
	}
	return layout.Reshape(b, v, shape)
}

// inOrder: moving axes of length 1 needs no Transpose.
func inOrder(perm []int64, flat [][]int) bool {
	last := int64(-1)
	for _, p := range perm {
		if len(flat[p]) == 0 {
			continue
		}
		if p < last {
			return false
		}
		last = p
	}
	return true
}

// place brings a value in the given order of axes (-1: of length 1) to the
// layout of a view and its shape.
func (s space) place(b *graph.Builder, v *graph.Value, order []int, axes [][]int, shape []graph.Dim) *graph.Value {
	if b.Err != nil {
		return nil
	}
	var perm []int64
	flat := make([][]int, len(order))
	for i, a := range order {
		if a >= 0 && !v.Type.Shape[i].Is(1) {
			flat[i] = []int{a}
		}
	}
	for _, g := range axes {
		for _, a := range g {
			i := slices.IndexFunc(flat, func(f []int) bool { return len(f) == 1 && f[0] == a })
			if i < 0 {
				return nil
			}
			perm = append(perm, int64(i))
		}
	}
	for i, f := range flat {
		if len(f) == 0 {
			perm = append(perm, int64(i))
		}
	}
	if len(perm) != len(order) {
		return nil
	}
	if !inOrder(perm, flat) {
		v = layout.Transpose(b, v, perm...)
	}
	return layout.Reshape(b, v, shape)
}
