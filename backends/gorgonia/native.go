package gorgonia

import (
	"slices"

	gg "gorgonia.org/gorgonia"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// native is an operator of ONNX that Gorgonia has with the same meaning.
type native struct {
	since, until int // versions of the ONNX operator; until 0: any
	arity        int // inputs that the expression graph supplies
	// accepts says whether these static types are within what Gorgonia does as
	// ONNX does; a node that is not runs as a Kernel.
	accepts func(n *graph.Node, in []graph.Type) bool
	build   func(n *graph.Node, in []*gg.Node) (*gg.Node, error)
}

// natives lists Gorgonia's own operators, by ONNX's name. Some are missing on
// purpose: the results of Reshape and Slice share memory with their inputs, and
// the operators after them compute in place; Div gives +Inf for 0/0 and -1/0.
var natives = map[string]native{
	"Add": binary(gg.Add), "Sub": binary(gg.Sub), "Mul": binary(gg.HadamardProd),
	"Abs": unary(gg.Abs), "Neg": unary(gg.Neg), "Exp": unary(gg.Exp), "Log": unary(gg.Log), "Sqrt": unary(gg.Sqrt),
	"Reciprocal": unary(gg.Inverse), "Tanh": unary(gg.Tanh), "Sigmoid": unary(gg.Sigmoid), "Softplus": unary(gg.Softplus),
	"MatMul": {since: 1, arity: 2, accepts: matrices, build: func(_ *graph.Node, in []*gg.Node) (*gg.Node, error) {
		return gg.Mul(in[0], in[1])
	}},
	"Transpose": {since: 1, arity: 1, accepts: permutes, build: func(n *graph.Node, in []*gg.Node) (*gg.Node, error) {
		return gg.Transpose(in[0], permutation(n, in[0].Dims())...)
	}},
	"ReduceSum": {since: 1, arity: 1, accepts: sums, build: func(n *graph.Node, in []*gg.Node) (*gg.Node, error) {
		return gg.Sum(in[0], axes(n, in[0].Dims())...)
	}},
}

// nativeOf finds the row for a node at static input types, or nil.
func nativeOf(n *graph.Node, in []graph.Type) *native {
	r, ok := natives[n.Op.Name]
	if !ok || n.Op.Domain != "" || n.Op.Since < r.since || r.until != 0 && n.Op.Since > r.until || len(in) < r.arity || len(n.Out) != 1 {
		return nil
	}
	for _, t := range in[:r.arity] {
		if t.DType != tensor.Float32 && t.DType != tensor.Float64 || t.Rank() == 0 {
			return nil
		}
	}
	if !r.accepts(n, in) {
		return nil
	}
	return &r
}

// binary operators broadcast in ONNX; Gorgonia's want equal shapes.
func binary(f func(a, b *gg.Node) (*gg.Node, error)) native {
	return native{
		since: 7, arity: 2,
		accepts: func(_ *graph.Node, in []graph.Type) bool { return in[0].Equal(in[1]) },
		build:   func(_ *graph.Node, in []*gg.Node) (*gg.Node, error) { return f(in[0], in[1]) },
	}
}

func unary(f func(*gg.Node) (*gg.Node, error)) native {
	return native{
		since: 1, arity: 1,
		accepts: func(*graph.Node, []graph.Type) bool { return true },
		build:   func(_ *graph.Node, in []*gg.Node) (*gg.Node, error) { return f(in[0]) },
	}
}

// matrices of more than one row and column: Gorgonia takes others for vectors.
func matrices(_ *graph.Node, in []graph.Type) bool {
	for _, t := range in[:2] {
		s, _ := t.Static()
		if len(s) != 2 || slices.Min(s) < 2 {
			return false
		}
	}
	return in[0].DType == in[1].DType
}

func permutation(n *graph.Node, rank int) []int {
	out := make([]int, rank)
	perm := n.Attrs.Ints("perm")
	for i := range out {
		out[i] = rank - 1 - i
		if perm != nil {
			out[i] = int(perm[i])
		}
	}
	return out
}

// permutes excludes tensors that Gorgonia takes for vectors, whose order it
// does not change.
func permutes(_ *graph.Node, in []graph.Type) bool {
	s, _ := in[0].Static()
	return len(s) >= 2 && slices.Min(s) >= 2
}

// axes are those of a reduction, from the attribute or, since version 13, from
// the second input; nil when they are not known.
func axes(n *graph.Node, rank int) []int {
	list := n.Attrs.Ints("axes")
	if v := n.Input(1); v != nil {
		if v.Const == nil {
			return nil
		}
		list = v.Const.AsInts()
	}
	var out []int
	for _, a := range list {
		if a < 0 {
			a += int64(rank)
		}
		out = append(out, int(a))
	}
	if len(out) == 0 && n.Attrs.Int("noop_with_empty_axes", 0) == 0 {
		for a := range rank {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return out
}

// sums: known axes, each once. The result's shape is put right afterwards.
func sums(n *graph.Node, in []graph.Type) bool {
	a := axes(n, in[0].Rank())
	return len(a) > 0 && len(slices.Compact(slices.Clone(a))) == len(a)
}
