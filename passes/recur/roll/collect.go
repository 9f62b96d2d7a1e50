package roll

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// Collector is a value that puts one element per step side by side: a Concat,
// a Concat of Concats, a buffer that slice after slice is written into.
type Collector struct {
	Value  *graph.Value
	Axis   int
	Elems  []*graph.Value // one per step, of length 1 on Axis, or of width
	width  int64          // 0, or the length along Axis of what has no axis for the steps
	inner  []*graph.Node  // the nodes that only put elements together
	unread bool           // nobody uses Value: see Finals
	// backward: the model computes the last element first.
	backward bool
	at       map[*graph.Value]int // places of the elements in the model
}

// Find lists the collectors of at least two elements, later ones first. One
// that is a piece of another is not listed, so all of them together cost time
// linear in the graph.
func Find(g *graph.Graph) []*Collector {
	var found []*Collector
	taken, index := map[*graph.Node]bool{}, make(map[*graph.Node]int, len(g.Nodes))
	for i, n := range g.Nodes {
		index[n] = i
	}
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n := g.Nodes[i]
		if taken[n] || !n.Op.Is("", "Concat") || n.Out[0].Unused() {
			continue
		}
		c := collect(n)
		if c == nil {
			c = sideBySide(n)
		}
		if c == nil {
			continue
		}
		c.at = make(map[*graph.Value]int, len(c.Elems))
		for _, v := range c.Elems {
			if c.at[v] = -1; v.Def != nil {
				c.at[v] = index[v.Def]
			}
		}
		c.backward = c.at[c.Elems[0]] > c.at[c.Elems[len(c.Elems)-1]]
		if c.width > 0 && !c.Chained() && !c.chainedSomehow() {
			continue // features of layers
		}
		for _, m := range c.inner {
			taken[m] = true
		}
		found = append(found, c)
	}
	return found
}

// span is elements lo to hi of a value on the collector's axis.
type span struct {
	v      *graph.Value
	lo, hi int64
}

// collect follows a Concat back to pieces of length 1.
func collect(n *graph.Node) *Collector {
	out := n.Out[0].Type
	axis := int(n.Attrs.Int("axis", 0))
	if axis < 0 {
		axis += out.Rank()
	}
	if axis < 0 || axis >= out.Rank() {
		return nil
	}
	length, ok := out.Shape[axis].Const()
	if !ok || length < 2 {
		return nil
	}
	c := &Collector{Value: n.Out[0], Axis: axis}
	todo := []span{{n.Out[0], 0, length}}
	for steps := int64(0); len(todo) > 0; steps++ {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if s.lo >= s.hi {
			continue
		}
		if size, ok := s.v.Type.Shape[axis].Const(); !ok {
			return nil
		} else if size == 1 {
			c.Elems = append(c.Elems, s.v)
			continue
		}
		m := s.v.Def
		if m == nil || steps > 8*length {
			return nil
		}
		switch {
		case m.Op.Is("", "Concat") && normal(int(m.Attrs.Int("axis", 0)), s.v.Type.Rank()) == axis:
			c.inner = append(c.inner, m)
			at := int64(0)
			pieces := make([]span, 0, len(m.In))
			for _, p := range m.In {
				if p.Type.Rank() != out.Rank() {
					return nil
				}
				k, ok := p.Type.Shape[axis].Const()
				if !ok {
					return nil
				}
				if lo, hi := max(s.lo, at), min(s.hi, at+k); lo < hi {
					pieces = append(pieces, span{p, lo - at, hi - at})
				}
				at += k
			}
			for i := len(pieces) - 1; i >= 0; i-- { // a stack: the first piece comes out next
				todo = append(todo, pieces[i])
			}
		case m.Op.Is("", "Slice"):
			a, lo, _, ok := slice(m)
			if !ok || a != axis {
				return nil
			}
			c.inner = append(c.inner, m)
			todo = append(todo, span{m.In[0], s.lo + lo, s.hi + lo})
		default:
			return nil
		}
	}
	if int64(len(c.Elems)) != length {
		return nil
	}
	return c
}

// sideBySide collects states that are put together along an axis of theirs, of
// features or of the batch.
func sideBySide(n *graph.Node) *Collector {
	last := n.In[len(n.In)-1]
	axis := normal(int(n.Attrs.Int("axis", 0)), last.Type.Rank())
	if !last.Type.Ranked() || !last.Type.DType.IsFloat() || axis < 0 || axis >= last.Type.Rank() {
		return nil
	}
	width, ok := last.Type.Shape[axis].Const()
	if !ok || width < 2 {
		return nil
	}
	c := &Collector{Value: n.Out[0], Axis: axis, width: width}
	todo := []*graph.Value{n.Out[0]}
	for len(todo) > 0 {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if v.Type.Equal(last.Type) {
			c.Elems = append(c.Elems, v)
			continue
		}
		m := v.Def
		if m == nil || !m.Op.Is("", "Concat") || !v.Type.Ranked() || normal(int(m.Attrs.Int("axis", 0)), v.Type.Rank()) != axis {
			return nil
		}
		c.inner = append(c.inner, m)
		for i := len(m.In) - 1; i >= 0; i-- {
			todo = append(todo, m.In[i])
		}
	}
	return c
}

// base lists what the collecting nodes are given besides the elements, such as
// the buffer that all elements overwrite.
func (c *Collector) base() []*graph.Value {
	seen := map[*graph.Value]bool{}
	for _, v := range c.Elems {
		seen[v] = true
	}
	var out []*graph.Value
	stack := []*graph.Value{c.Value}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v == nil || seen[v] {
			continue
		}
		seen[v] = true
		switch {
		case v.Def != nil && v.Def.Op.Is("", "Concat"):
			stack = append(stack, v.Def.In...)
		case v.Def != nil && v.Def.Op.Is("", "Slice"):
			stack = append(stack, v.Def.In[0])
		case v.Const == nil:
			out = append(out, v)
		}
	}
	return out
}

func normal(axis, rank int) int {
	if axis < 0 {
		axis += rank
	}
	return axis
}

// slice reads a Slice of one axis of static length with step 1.
func slice(n *graph.Node) (axis int, lo, hi int64, ok bool) {
	in := n.In[0].Type
	one := func(i int, def int64) (int64, bool) {
		v := n.Input(i)
		if v == nil {
			return def, true
		}
		k, ok := ops.KnownOf(v)
		if !ok || len(k) != 1 {
			return 0, false
		}
		return k[0].Const()
	}
	if n.Op.Since < 10 || len(n.In) < 3 || !in.Ranked() {
		return 0, 0, 0, false
	}
	lo, ok1 := one(1, 0)
	hi, ok2 := one(2, math.MaxInt64)
	a, ok3 := one(3, 0)
	step, ok4 := one(4, 1)
	axis = normal(int(a), in.Rank())
	if !ok1 || !ok2 || !ok3 || !ok4 || step != 1 || axis < 0 || axis >= in.Rank() {
		return 0, 0, 0, false
	}
	length, ok := in.Shape[axis].Const()
	if !ok {
		return 0, 0, 0, false
	}
	clamp := func(i int64) int64 {
		if i < 0 {
			i += length
		}
		return max(0, min(i, length))
	}
	lo, hi = clamp(lo), clamp(hi)
	return axis, lo, hi, lo < hi
}

// read is a value that is one element of a sequence.
type read struct {
	src  *graph.Value
	axis int
	at   int64
	keep bool // the axis stays, with length 1
}

// readOf recognises Gather, Slice and Split of single elements.
func readOf(v *graph.Value) (read, bool) {
	n := v.Def
	if n == nil || n.Op.Domain != "" || len(n.In) == 0 || !n.In[0].Type.Ranked() {
		return read{}, false
	}
	in := n.In[0].Type
	switch n.Op.Name {
	case "Gather":
		idx := n.In[1].Const
		if idx == nil || idx.Len() != 1 || idx.Rank() > 1 {
			return read{}, false
		}
		r := read{src: n.In[0], axis: normal(int(n.Attrs.Int("axis", 0)), in.Rank()), at: idx.IntAt(0), keep: idx.Rank() == 1}
		return r.within()
	case "Slice":
		axis, lo, hi, ok := slice(n)
		if !ok || hi != lo+1 {
			return read{}, false
		}
		return read{n.In[0], axis, lo, true}.within()
	case "Split":
		axis := normal(int(n.Attrs.Int("axis", 0)), in.Rank())
		at := int64(0)
		for _, o := range n.Out {
			if o == nil || !o.Type.Ranked() {
				return read{}, false
			}
			k, ok := o.Type.Shape[axis].Const()
			if !ok {
				return read{}, false
			}
			if o == v {
				return read{n.In[0], axis, at, true}, k == 1
			}
			at += k
		}
	}
	return read{}, false
}

// within makes the index count from the start.
func (r read) within() (read, bool) {
	if r.axis < 0 || r.axis >= r.src.Type.Rank() {
		return r, false
	}
	n, ok := r.src.Type.Shape[r.axis].Const()
	if r.at < 0 {
		r.at += n
	}
	return r, ok && r.at >= 0 && r.at < n
}
