package onnx

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// reduction describes one of the Reduce operators. Floats are accumulated in
// float64; integers, where the operator is exact on them, in int64.
type reduction struct {
	name, doc string
	attrAxes  []int // versions whose axes are an attribute
	inputAxes []int // versions whose axes are an optional input
	types     dtypes
	f         func(v []float64) float64
	i         func(v []int64) int64   // nil: integers go through f
	u         func(v []uint64) uint64 // uint64, where i would be wrong
	known     func([]graph.Dim) (graph.Dim, bool)
	want      float32 // the result on [1,2,3,4]
}

// reduceRows are the Reduce operators.
func reduceRows() []*ops.Op {
	sum := func(v []float64) (s float64) {
		for _, x := range v {
			s += x
		}
		return s
	}
	sumInts := func(v []int64) (s int64) {
		for _, x := range v {
			s += x
		}
		return s
	}
	squares := func(v []float64) (s float64) {
		for _, x := range v {
			s += x * x
		}
		return s
	}
	num := floatTypes | intTypes
	attr11, in18 := []int{1, 11, 13}, []int{18}
	var rows []*ops.Op
	for _, r := range []reduction{
		{name: "ReduceSum", doc: "sum", attrAxes: []int{1, 11}, inputAxes: []int{13}, types: num, f: sum, i: sumInts, want: 10,
			known: foldDims(graph.D(0), graph.Dim.Add)},
		{name: "ReduceMean", doc: "mean; NaN of nothing", attrAxes: attr11, inputAxes: in18, types: num, want: 2.5,
			f: func(v []float64) float64 { return sum(v) / float64(len(v)) },
			i: func(v []int64) int64 { return sumInts(v) / int64(len(v)) }},
		{name: "ReduceMax", doc: "maximum; the lowest value of the type for an empty set", attrAxes: []int{1, 11, 12, 13}, inputAxes: []int{18, 20}, types: num | boolType, want: 4,
			f: foldFloats(math.Inf(-1), math.Max),
			known: func(v []graph.Dim) (graph.Dim, bool) {
				if len(v) == 0 {
					return graph.Dim{}, false
				}
				return foldDims(v[0], graph.Dim.Max)(v)
			}},
		{name: "ReduceMin", doc: "minimum; the highest value of the type for an empty set", attrAxes: []int{1, 11, 12, 13}, inputAxes: []int{18, 20}, types: num | boolType, want: 1,
			f: foldFloats(math.Inf(1), math.Min),
			known: func(v []graph.Dim) (graph.Dim, bool) {
				if len(v) == 0 {
					return graph.Dim{}, false
				}
				return foldDims(v[0], graph.Dim.Min)(v)
			}},
		{name: "ReduceProd", doc: "product", attrAxes: attr11, inputAxes: in18, types: num, want: 24,
			f: foldFloats(1, func(x, y float64) float64 { return x * y }),
			i: func(v []int64) int64 {
				p := int64(1)
				for _, x := range v {
					p *= x
				}
				return p
			}, known: foldDims(graph.D(1), graph.Dim.Mul)},
		{name: "ReduceL1", doc: "sum of absolute values", attrAxes: attr11, inputAxes: in18, types: num, want: 10,
			f: foldFloats(0, func(s, x float64) float64 { return s + math.Abs(x) }),
			i: func(v []int64) (s int64) {
				for _, x := range v {
					s += max(x, -x)
				}
				return s
			}, u: func(v []uint64) (s uint64) {
				for _, x := range v {
					s += x
				}
				return s
			}},
		{name: "ReduceL2", doc: "square root of the sum of squares", attrAxes: attr11, inputAxes: in18, types: num, want: 5.477226,
			f: func(v []float64) float64 { return math.Sqrt(squares(v)) }},
		{name: "ReduceSumSquare", doc: "sum of squares", attrAxes: attr11, inputAxes: in18, types: num, want: 30, f: squares,
			i: func(v []int64) (s int64) {
				for _, x := range v {
					s += x * x
				}
				return s
			}},
		{name: "ReduceLogSum", doc: "log of the sum", attrAxes: attr11, inputAxes: []int{18, 28}, types: num, want: 2.302585,
			f: func(v []float64) float64 { return math.Log(sum(v)) }},
		{name: "ReduceLogSumExp", doc: "log of the sum of exponentials, computed without overflow", attrAxes: attr11, inputAxes: []int{18, 28}, types: num, want: 4.4401898,
			f: logSumExp},
	} {
		rows = append(rows, r.rows()...)
	}
	return rows
}

func foldFloats(start float64, f func(acc, x float64) float64) func([]float64) float64 {
	return func(v []float64) float64 {
		acc := start
		for _, x := range v {
			acc = f(acc, x)
		}
		return acc
	}
}

func foldDims(start graph.Dim, f func(a, b graph.Dim) graph.Dim) func([]graph.Dim) (graph.Dim, bool) {
	return func(v []graph.Dim) (graph.Dim, bool) {
		acc := start
		for _, d := range v {
			acc = f(acc, d)
		}
		return acc, true
	}
}

func logSumExp(v []float64) float64 {
	m := math.Inf(-1)
	for _, x := range v {
		m = math.Max(m, x)
	}
	if math.IsInf(m, 0) || math.IsNaN(m) {
		return m
	}
	s := 0.0
	for _, x := range v {
		s += math.Exp(x - m)
	}
	return m + math.Log(s)
}

func (r reduction) rows() []*ops.Op {
	in := tensor.From([]float32{1, 2, 3, 4, 1, 2, 3, 4}, 2, 4)
	out := one(tensor.From([]float32{r.want, r.want}, 2))
	keep := attr("keepdims", int64(1))
	axesDoc := " over the given axes, all when none are given; reduced axes stay as 1 when keepdims"
	row := ops.Op{Doc: r.doc + axesDoc, In: params("data"), Out: params("reduced"), Attrs: []ops.Attr{attrOpt("axes"), keep},
		Infer: r.infer, Eval: r.eval,
		Cases: []ops.Case{{Name: "last axis", Attrs: graph.Attrs{"axes": []int64{-1}, "keepdims": int64(0)}, In: one(in), Want: out}, {Name: "all", In: one(in)}}}
	rows := versions(r.name, r.attrAxes, row)
	row.In, row.Attrs = params("data", "axes?"), []ops.Attr{keep, attr("noop_with_empty_axes", int64(0))}
	row.Cases = []ops.Case{{Name: "last axis", Attrs: graph.Attrs{"keepdims": int64(0)}, In: []*tensor.Tensor{in, tensor.Ints(-1)}, Want: out},
		{Name: "first axis kept", In: []*tensor.Tensor{in, tensor.Ints(0)}}, {Name: "all", In: one(in)}}
	return append(rows, versions(r.name, r.inputAxes, row)...)
}

// reduceAxes reads the axes: known is false when they come from an input that
// is computed; noop when the operator passes its input through.
func reduceAxes(c *ops.Infer) (axes []int64, known, noop bool) {
	axes, known = c.Node.Attrs.Ints("axes"), true
	if c.Has(1) {
		axes, known = c.Ints(1)
		if !known {
			if s, ok := c.Type(1).Static(); ok && len(s) == 1 && s[0] == 0 {
				known = true
			}
		}
	}
	return axes, known, known && len(axes) == 0 && c.Node.Attrs.Int("noop_with_empty_axes", 0) != 0
}

// reducedMask marks the axes that go away; no axes means all.
func reducedMask(axes []int64, rank int) ([]bool, bool) {
	mask := make([]bool, rank)
	for i := range mask {
		mask[i] = len(axes) == 0
	}
	for _, a := range axes {
		i, ok := axisOf(a, rank, rank)
		if !ok {
			return nil, false
		}
		mask[i] = true
	}
	return mask, true
}

func (r reduction) infer(c *ops.Infer) error {
	if err := want(c, 0, r.types); err != nil {
		return err
	}
	t := c.Type(0)
	keep := c.Node.Attrs.Int("keepdims", 1) != 0
	axes, known, noop := reduceAxes(c)
	switch {
	case noop:
		c.Out(0, t)
		return nil
	case !t.Ranked():
		if !keep && known && len(axes) == 0 {
			c.Out(0, graph.T(t.DType))
		} else {
			c.Out(0, unranked(t.DType))
		}
		return nil
	case !known && keep:
		out := graph.T(t.DType)
		for a := range t.Shape {
			out.Shape = append(out.Shape, c.Fresh(0, a))
		}
		c.Out(0, out)
		return nil
	case !known:
		n, ok := c.Type(1).Len()
		if k, isConst := n.Const(); ok && isConst && int(k) <= t.Rank() && k > 0 {
			out := graph.T(t.DType)
			for a := range t.Rank() - int(k) {
				out.Shape = append(out.Shape, c.Fresh(0, a))
			}
			c.Out(0, out)
			return nil
		}
		c.Out(0, unranked(t.DType))
		return nil
	}
	mask, ok := reducedMask(axes, t.Rank())
	if !ok {
		return c.Errorf("axes %v for data %s, want axes from %d to %d", axes, t, -t.Rank(), t.Rank()-1)
	}
	out := graph.T(t.DType)
	all := true
	for a, d := range t.Shape {
		switch {
		case !mask[a]:
			out.Shape = append(out.Shape, d)
			all = false
		case keep:
			out.Shape = append(out.Shape, graph.D(1))
		}
	}
	var dims []graph.Dim
	if in, ok := c.Known(0); ok && all && r.known != nil {
		if d, ok := r.known(in); ok {
			dims = []graph.Dim{d}
		}
	}
	c.OutKnown(0, out, dims)
	return nil
}

func (r reduction) eval(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	axes := c.Node.Attrs.Ints("axes")
	if a := c.Arg(1); a != nil {
		axes = a.AsInts()
	}
	if len(axes) == 0 && c.Node.Attrs.Int("noop_with_empty_axes", 0) != 0 {
		return one(x), nil
	}
	mask, ok := reducedMask(axes, x.Rank())
	if !ok {
		return nil, errAxes(axes, x)
	}
	g := groupAxes(x.Shape, mask, c.Node.Attrs.Int("keepdims", 1) != 0)
	out := tensor.New(x.DType, g.shape...)
	switch {
	case r.name == "ReduceMax" || r.name == "ReduceMin":
		r.extremum(x, out, g)
	case x.DType == tensor.Uint64 && r.u != nil:
		reduceGroups(g, tensor.Of[uint64](x), func(i int, v []uint64) { out.SetIntAt(i, int64(r.u(v))) })
	case !x.DType.IsFloat() && r.i != nil:
		reduceGroups(g, intsOf(x), func(i int, v []int64) { out.SetIntAt(i, r.i(v)) })
	default:
		reduceGroups(g, floatsOf(x), func(i int, v []float64) { out.SetAt(i, r.f(v)) })
	}
	return one(out), nil
}

// extremum handles the identity elements of each type.
func (r reduction) extremum(x, out *tensor.Tensor, g axisGroups) {
	isMax := r.name == "ReduceMax"
	switch {
	case x.DType.IsFloat():
		reduceGroups(g, floatsOf(x), func(i int, v []float64) { out.SetAt(i, r.f(v)) })
	case x.DType == tensor.Uint64:
		reduceGroups(g, tensor.Of[uint64](x), func(i int, v []uint64) { out.SetIntAt(i, int64(extreme(v, isMax, 0, math.MaxUint64))) })
	default:
		lo, hi := intRange(x.DType)
		reduceGroups(g, intsOf(x), func(i int, v []int64) { out.SetIntAt(i, extreme(v, isMax, lo, hi)) })
	}
}

func extreme[T int64 | uint64](v []T, isMax bool, lo, hi T) T {
	m := hi
	if isMax {
		m = lo
	}
	for _, x := range v {
		if isMax {
			m = max(m, x)
		} else {
			m = min(m, x)
		}
	}
	return m
}

// intRange is the range of an integer or bool type; Uint64 does not fit.
func intRange(d tensor.DType) (lo, hi int64) {
	switch b := d.Bits(); {
	case d == tensor.Bool:
		return 0, 1
	case d.IsUnsigned():
		return 0, 1<<b - 1
	default:
		return -1 << (b - 1), 1<<(b-1) - 1
	}
}
