package canon

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// reshapeCut: a Reshape from [A,M,S] to [A,L,T], L <= M, where the rest of the
// graph runs only if M = L. A model that was traced at a length that needed no
// padding forgets to cut the padding off. Cutting first is the same wherever
// the graph runs at all, and says which axis is meant.
func reshapeCut(r *rewriter, n *graph.Node) *graph.Value {
	in, out := n.In[0].Type, n.Out[0].Type
	if !in.Ranked() || !out.Ranked() {
		return nil
	}
	rank, a := min(in.Rank(), out.Rank()), 0
	for a < rank && in.Shape[a] == out.Shape[a] {
		a++
	}
	if a == rank || in.Shape[a].IsConst() || !in.Shape[a].AtLeast(out.Shape[a]) {
		return nil
	}
	tail := product(in.Shape[a+1:])
	if product(out.Shape[a+1:]) != tail && !forced(n, a, tail) {
		return nil
	}
	b := r.builder(n)
	cut := b.Op("Slice", nil, n.In[0], b.Ints(0), r.dims(b, out.Shape[a:a+1], n.In[0]), b.Ints(int64(a)))
	if b.Err != nil || cut.Type.Shape[a] != out.Shape[a] {
		return nil
	}
	m := b.Like(n, cut, n.In[1])
	if b.Err != nil {
		return nil
	}
	return m.Out[0]
}

func product(ds []graph.Dim) graph.Dim {
	p := graph.D(1)
	for _, d := range ds {
		p = p.Mul(d)
	}
	return p
}

// forced: the Reshape leaves its last length open (-1), and a consumer pairs
// it elementwise with a value whose last length is tail.
func forced(n *graph.Node, a int, tail graph.Dim) bool {
	out := n.Out[0].Type
	target, ok := ops.KnownOf(n.In[1])
	if !ok || a != out.Rank()-2 || !target[len(target)-1].Is(-1) || tail.Is(1) {
		return false
	}
	want := append(slices.Clone(out.Shape[:a+1]), tail)
	for _, u := range n.Out[0].Uses {
		switch u.Node.Op.Name {
		case "Add", "Mul", "Sub":
			if u.Node.Op.Domain == "" && u.Node.In[1-u.Index].Type.Equal(graph.Type{DType: out.DType, Shape: want}) {
				return true
			}
		}
	}
	return false
}
