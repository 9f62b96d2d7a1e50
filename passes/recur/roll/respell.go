package roll

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// Steps may spell one product in several ways: a hand that writes x B^T now as a
// MatMul and now as an Einsum, an optimiser that rewrites the first step alone. A
// lane whose steps differ in that is spelled again: every value as the product of
// its factors, broadcast to the axes of the result and summed over the rest.

// term is a product of factors, summed over an axis. Axes have labels; an axis
// of length 1 has none (-1).
type term struct {
	factors []factor
	out     []int
	sum     []int // labels summed over
	labels  int
	nodes   []*graph.Node
}

type factor struct {
	v    *graph.Value
	axes []int
}

// respell gives every value of the lane in one spelling, nil when there is none.
// nodes are those that the values were computed with.
func (r *roller) respell(l *lane) (vals []*graph.Value, nodes []*graph.Node) {
	if l.zero || r.again[l.vals[r.ref]] {
		return nil, nil
	}
	terms := make([]*term, len(l.vals))
	for t, v := range l.vals { // nothing is written unless all are products
		if v == nil {
			continue
		}
		if !isProductOp(v.Def) {
			return nil, nil
		}
		p := &term{}
		for _, d := range v.Type.Shape {
			p.out = append(p.out, p.label(d))
		}
		if !p.walk(v, p.out, true) {
			return nil, nil
		}
		terms[t] = p
	}
	vals = make([]*graph.Value, len(l.vals))
	for t, v := range l.vals {
		if v == nil {
			continue
		}
		w := r.spelled[v]
		if w == nil {
			if w = r.write(terms[t]); w == nil {
				return nil, nil
			}
			r.spelled[v], r.again[w] = w, true
		}
		vals[t], nodes = w, append(nodes, terms[t].nodes...)
	}
	return vals, nodes
}

func isProductOp(n *graph.Node) bool {
	if n == nil || n.Op.Domain != "" {
		return false
	}
	switch n.Op.Name {
	case "Mul", "MatMul", "Einsum", "ReduceSum", "Squeeze", "Unsqueeze":
		return true
	}
	return false
}

// label names an axis of the given length.
func (p *term) label(d graph.Dim) int {
	if d.Is(1) {
		return -1
	}
	p.labels++
	return p.labels - 1
}

// aligned restricts labels to the axes of u, aligned at the end, that are not repeated.
func aligned(u *graph.Value, labels []int) []int {
	out := slices.Clone(labels[len(labels)-u.Type.Rank():])
	for i, d := range u.Type.Shape {
		if d.Is(1) {
			out[i] = -1
		}
	}
	return out
}

// walk takes v, whose axes have labels, apart.
func (p *term) walk(v *graph.Value, labels []int, root bool) bool {
	n := v.Def
	if !isProductOp(n) || !root && (len(v.Uses) != 1 || v.IsOutput()) || isRead(v) {
		p.factors = append(p.factors, factor{v, labels})
		return !root
	}
	p.nodes = append(p.nodes, n)
	in := n.In[0]
	switch n.Op.Name {
	case "Mul":
		return p.walk(in, aligned(in, labels), false) && p.walk(n.In[1], aligned(n.In[1], labels), false)
	case "Squeeze", "Unsqueeze":
		shape, other := in.Type.Shape, v.Type.Shape
		inner := make([]int, 0, len(shape)) // axes of length 1 have no label: the others come in order
		var named []int
		for i := range other {
			if labels[i] >= 0 {
				named = append(named, labels[i])
			} else if !other[i].Is(1) {
				return false
			}
		}
		for _, d := range shape {
			if d.Is(1) {
				inner = append(inner, -1)
				continue
			}
			if len(named) == 0 {
				return false
			}
			inner, named = append(inner, named[0]), named[1:]
		}
		return len(named) == 0 && p.walk(in, inner, false)
	case "ReduceSum":
		axes, ok := reduced(n)
		if !ok {
			return false
		}
		keep := n.Attrs.Int("keepdims", 1) != 0
		inner, at := make([]int, in.Type.Rank()), 0
		for i, d := range in.Type.Shape {
			if slices.Contains(axes, i) {
				if inner[i] = p.label(d); inner[i] >= 0 {
					p.sum = append(p.sum, inner[i])
				}
				if keep {
					at++
				}
				continue
			}
			inner[i] = labels[at]
			at++
		}
		return p.walk(in, inner, false)
	case "MatMul":
		a, b := in, n.In[1]
		ra, rb := a.Type.Rank(), b.Type.Rank()
		if ra < 2 || rb < 2 {
			return false
		}
		k := p.label(a.Type.Shape[ra-1])
		if k >= 0 {
			p.sum = append(p.sum, k)
		}
		lead, m, c := labels[:len(labels)-2], labels[len(labels)-2], labels[len(labels)-1]
		return p.walk(a, aligned(a, append(slices.Clone(lead), m, k)), false) && p.walk(b, aligned(b, append(slices.Clone(lead), k, c)), false)
	}
	return p.einsum(n, labels)
}

func (p *term) einsum(n *graph.Node, labels []int) bool {
	left, out, ok := strings.Cut(strings.ReplaceAll(n.Attrs.Str("equation", ""), " ", ""), "->")
	terms := strings.Split(left, ",")
	if !ok || strings.Contains(left, ".") || len(terms) != len(n.In) || len(out) != len(labels) {
		return false
	}
	of := map[byte]int{}
	for i := range out {
		if _, twice := of[out[i]]; twice {
			return false
		}
		of[out[i]] = labels[i]
	}
	for i, t := range terms {
		if len(t) != n.In[i].Type.Rank() {
			return false
		}
		for j := range t {
			d := n.In[i].Type.Shape[j]
			if l, seen := of[t[j]]; strings.Count(t, t[j:j+1]) > 1 || seen && (l < 0) != d.Is(1) {
				return false
			} else if !seen {
				of[t[j]] = p.label(d)
				if l = of[t[j]]; l >= 0 {
					p.sum = append(p.sum, l)
				}
			}
		}
	}
	for i, t := range terms {
		axes := make([]int, len(t))
		for j := range t {
			axes[j] = of[t[j]]
		}
		if !p.walk(n.In[i], axes, false) {
			return false
		}
	}
	return true
}

// reduced lists the axes of a ReduceSum.
func reduced(n *graph.Node) ([]int, bool) {
	axes := n.Attrs.Ints("axes")
	if v := n.Input(1); v != nil {
		known, ok := ops.KnownOf(v)
		if !ok {
			return nil, false
		}
		for _, d := range known {
			k, ok := d.Const()
			if !ok {
				return nil, false
			}
			axes = append(axes, k)
		}
	}
	out := make([]int, len(axes))
	for i, a := range axes {
		out[i] = normal(int(a), n.In[0].Type.Rank())
	}
	return out, len(out) > 0
}

// isRead: v is an element of a sequence, or that without its axis of length 1.
func isRead(v *graph.Value) bool {
	if _, ok := readOf(v); ok {
		return true
	}
	if v.Def != nil && v.Def.Op.Is("", "Squeeze") {
		_, ok := readOf(v.Def.In[0])
		return ok
	}
	return false
}

// write spells the term: every factor with the axes of the result, then those
// summed over, multiplied in one order.
func (r *roller) write(p *term) *graph.Value {
	var order []int
	for _, l := range p.out {
		if l >= 0 {
			order = append(order, l)
		}
	}
	if len(p.sum) > 1 {
		return nil
	}
	order = append(order, p.sum...)
	key := func(f factor) string {
		var at []int
		for _, l := range f.axes {
			if l >= 0 {
				at = append(at, slices.Index(order, l))
			}
		}
		return fmt.Sprintf("%02d %v %d", len(at), at, r.loose.of(f.v, depth))
	}
	slices.SortStableFunc(p.factors, func(a, b factor) int { return cmp.Compare(key(a), key(b)) })
	var product *graph.Value
	for _, f := range p.factors {
		var perm, ones, missing []int64
		var named []int
		for i, l := range f.axes {
			if l < 0 {
				ones = append(ones, int64(i))
			} else {
				named = append(named, l)
			}
		}
		for i, l := range order {
			if j := slices.Index(named, l); j >= 0 {
				perm = append(perm, int64(j))
			} else {
				missing = append(missing, int64(i))
			}
		}
		if len(perm) != len(named) {
			return nil // a label twice
		}
		v := f.v
		if len(ones) > 0 {
			v = r.b.Op("Squeeze", nil, v, r.b.Ints(ones...))
		}
		if !slices.IsSorted(perm) && r.b.Err == nil {
			v = r.b.Op("Transpose", graph.Attrs{"perm": perm}, v)
		}
		if len(missing) > 0 && r.b.Err == nil {
			v = r.b.Op("Unsqueeze", nil, v, r.b.Ints(missing...))
		}
		if product != nil && r.b.Err == nil {
			v = r.b.Op("Mul", nil, product, v)
		}
		if r.b.Err != nil {
			return nil
		}
		product = v
	}
	if len(p.sum) > 0 {
		product = r.b.Op("ReduceSum", graph.Attrs{"keepdims": int64(0)}, product, r.b.Ints(int64(len(order)-1)))
	}
	var ones []int64
	for i, l := range p.out {
		if l < 0 {
			ones = append(ones, int64(i))
		}
	}
	if len(ones) > 0 && r.b.Err == nil {
		product = r.b.Op("Unsqueeze", nil, product, r.b.Ints(ones...))
	}
	if r.b.Err != nil {
		return nil
	}
	return product
}
