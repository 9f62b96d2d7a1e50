package onnx

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// unaryRows are the arithmetic functions of one element.
func unaryRows() []*ops.Op {
	var rows []*ops.Op
	for _, u := range []unary{
		{name: "Abs", doc: "|x|", since: []int{6, 13}, types: numberTypes, f: plain(math.Abs),
			i: func(x int64) int64 { return max(x, -x) }, u: func(x uint64) uint64 { return x },
			known: func(d graph.Dim) (graph.Dim, bool) {
				if d.AtLeast(graph.D(0)) {
					return d, true
				}
				n, ok := d.Const()
				return graph.D(-n), ok
			},
			cases: []ops.Case{vecCase([]float32{-1, 0, 2.5}, []float32{1, 0, 2.5})}},
		{name: "Neg", doc: "-x", since: []int{6, 13}, types: floatTypes | signedTypes,
			f: plain(func(x float64) float64 { return -x }), i: func(x int64) int64 { return -x },
			known: func(d graph.Dim) (graph.Dim, bool) { return d.Neg(), true },
			cases: []ops.Case{vecCase([]float32{-1, 0.5, 2}, []float32{1, -0.5, -2})}},
		{name: "Sign", doc: "-1, 0 or 1", since: []int{9, 13}, types: numberTypes, f: plain(sign),
			i: func(x int64) int64 { return min(max(x, -1), 1) }, u: func(x uint64) uint64 { return min(x, 1) },
			cases: []ops.Case{vecCase([]float32{-3, 0, 9}, []float32{-1, 0, 1})}},
		{name: "Floor", doc: "largest integer not above x", since: []int{6, 13}, types: floatTypes, f: plain(math.Floor),
			cases: []ops.Case{vecCase([]float32{-1.5, 1.2, 2}, []float32{-2, 1, 2})}},
		{name: "Ceil", doc: "smallest integer not below x", since: []int{6, 13}, types: floatTypes, f: plain(math.Ceil),
			cases: []ops.Case{vecCase([]float32{-1.5, 1.2, 2}, []float32{-1, 2, 2})}},
		{name: "Round", doc: "nearest integer, halves to even", since: []int{11, 22}, types: floatTypes, f: plain(math.RoundToEven),
			cases: []ops.Case{vecCase([]float32{-1.5, 0.5, 2.5, 2.7}, []float32{-2, 0, 2, 3})}},
		{name: "Reciprocal", doc: "1/x", since: []int{6, 13}, types: floatTypes, f: plain(func(x float64) float64 { return 1 / x }),
			cases: []ops.Case{vecCase([]float32{-4, 0.5}, []float32{-0.25, 2})}},
		{name: "Sqrt", doc: "square root; NaN for negative x", since: []int{6, 13}, types: floatTypes, f: plain(math.Sqrt),
			cases: []ops.Case{vecCase([]float32{4, 0.25}, []float32{2, 0.5})}},
		{name: "Exp", doc: "e^x", since: []int{6, 13}, types: floatTypes, f: plain(math.Exp),
			cases: []ops.Case{vecCase([]float32{0, 1, -1}, []float32{1, math.E, 1 / math.E})}},
		{name: "Log", doc: "natural logarithm", since: []int{6, 13}, types: floatTypes, f: plain(math.Log),
			cases: []ops.Case{vecCase([]float32{1, math.E}, []float32{0, 1})}},
		{name: "Erf", doc: "error function", since: []int{9, 13}, types: floatTypes, f: plain(math.Erf),
			cases: []ops.Case{vecCase([]float32{0, 0.5, -2}, []float32{0, 0.5204998778, -0.995322265})}},
		{name: "Sin", doc: "sine of x radians", since: []int{7, 22}, types: floatTypes, f: plain(math.Sin), cases: trigCases()},
		{name: "Cos", doc: "cosine of x radians", since: []int{7, 22}, types: floatTypes, f: plain(math.Cos), cases: trigCases()},
		{name: "Tan", doc: "tangent of x radians", since: []int{7, 22}, types: floatTypes, f: plain(math.Tan), cases: trigCases()},
		{name: "Asin", doc: "arc sine in radians", since: []int{7, 22}, types: floatTypes, f: plain(math.Asin), cases: trigCases()},
		{name: "Acos", doc: "arc cosine in radians", since: []int{7, 22}, types: floatTypes, f: plain(math.Acos), cases: trigCases()},
		{name: "Atan", doc: "arc tangent in radians", since: []int{7, 22}, types: floatTypes, f: plain(math.Atan), cases: trigCases()},
		{name: "Sinh", doc: "hyperbolic sine", since: []int{9, 22}, types: floatTypes, f: plain(math.Sinh), cases: trigCases()},
		{name: "Cosh", doc: "hyperbolic cosine", since: []int{9, 22}, types: floatTypes, f: plain(math.Cosh), cases: trigCases()},
		{name: "Tanh", doc: "hyperbolic tangent", since: []int{6, 13}, types: floatTypes, f: plain(math.Tanh), cases: trigCases()},
		{name: "Asinh", doc: "inverse hyperbolic sine", since: []int{9, 22}, types: floatTypes, f: plain(math.Asinh), cases: trigCases()},
		{name: "Acosh", doc: "inverse hyperbolic cosine", since: []int{9, 22}, types: floatTypes, f: plain(math.Acosh),
			cases: []ops.Case{vecCase([]float32{1, 2}, []float32{0, 1.316957897})}},
		{name: "Atanh", doc: "inverse hyperbolic tangent", since: []int{9, 22}, types: floatTypes, f: plain(math.Atanh), cases: trigCases()},
		{name: "BitwiseNot", doc: "every bit inverted", since: []int{18}, types: intTypes, i: func(x int64) int64 { return ^x },
			cases: []ops.Case{{Name: "int32", In: one(tensor.From([]int32{0, -1, 5}, 3)), Want: one(tensor.From([]int32{-1, 0, -6}, 3))}}},
	} {
		rows = append(rows, u.rows()...)
	}
	return rows
}

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x // zeros and NaN
}

// vecCase applies an operator to a float vector.
func vecCase(in, want []float32) ops.Case {
	return ops.Case{Name: "vector", In: one(tensor.From(in, len(in))), Want: one(tensor.From(want, len(want)))}
}

// trigCases are inputs inside the domain of all the circular and hyperbolic
// functions; backends are compared with Eval on them.
func trigCases() []ops.Case {
	v := make([]float32, 37)
	for i := range v {
		v[i] = float32(i-18) / 20
	}
	return []ops.Case{{Name: "range", In: one(tensor.From(v, 37))}}
}

// bitShift is here for its unsigned overflow rule: shifting by the width or more gives 0.
func bitShiftRows() []*ops.Op {
	b := binary{
		name: "BitShift", doc: "x << y or x >> y (attribute direction)", since: []int{11, 28}, types: intTypes,
		attrs: []ops.Attr{attr("direction", nil)},
		i: func(a graph.Attrs) func(x, y int64) int64 {
			if a.Str("direction", "") == "LEFT" {
				return func(x, y int64) int64 { return x << uint64(y) }
			}
			return func(x, y int64) int64 { return x >> uint64(y) }
		},
		u: func(a graph.Attrs) func(x, y uint64) uint64 {
			if a.Str("direction", "") == "LEFT" {
				return func(x, y uint64) uint64 { return x << y }
			}
			return func(x, y uint64) uint64 { return x >> y }
		},
		cases: []ops.Case{{Name: "left", Attrs: graph.Attrs{"direction": "LEFT"},
			In:   []*tensor.Tensor{tensor.From([]uint8{1, 255, 3}, 3), tensor.From([]uint8{3, 1, 8}, 3)},
			Want: one(tensor.From([]uint8{8, 254, 0}, 3))}},
	}
	rows := b.rows()
	for _, r := range rows {
		infer := r.Infer
		r.Infer = func(c *ops.Infer) error {
			if d := c.Node.Attrs.Str("direction", ""); d != "LEFT" && d != "RIGHT" {
				return c.Errorf("attribute direction is %q, want LEFT or RIGHT", d)
			}
			return infer(c)
		}
	}
	return rows
}
