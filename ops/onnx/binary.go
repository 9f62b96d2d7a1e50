package onnx

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// binaryRows are arithmetic on two (or, for the variadic ones, any number of)
// broadcast tensors. Integer results wrap; integer division by zero is an error.
func binaryRows() []*ops.Op {
	var rows []*ops.Op
	for _, b := range []binary{
		{name: "Add", doc: "A + B", since: []int{7, 13, 14}, types: numberTypes, commutes: true,
			f:     plain2(func(x, y float64) float64 { return x + y }),
			i:     ints2(func(x, y int64) int64 { return x + y }),
			known: func(_ graph.Attrs, x, y graph.Dim) (graph.Dim, bool) { return x.Add(y), true },
			cases: []ops.Case{pairCase([]float32{1, 2, 3}, []float32{10, 20, 30}, []float32{11, 22, 33}), broadcastCase()}},
		{name: "Sub", doc: "A - B", since: []int{7, 13, 14}, types: numberTypes,
			f:     plain2(func(x, y float64) float64 { return x - y }),
			i:     ints2(func(x, y int64) int64 { return x - y }),
			known: func(_ graph.Attrs, x, y graph.Dim) (graph.Dim, bool) { return x.Sub(y), true },
			cases: []ops.Case{pairCase([]float32{1, 2, 3}, []float32{3, 2, 1}, []float32{-2, 0, 2}), broadcastCase()}},
		{name: "Mul", doc: "A * B", since: []int{7, 13, 14}, types: numberTypes, commutes: true,
			f:     plain2(func(x, y float64) float64 { return x * y }),
			i:     ints2(func(x, y int64) int64 { return x * y }),
			known: func(_ graph.Attrs, x, y graph.Dim) (graph.Dim, bool) { return x.Mul(y), true },
			cases: []ops.Case{pairCase([]float32{1, 2, 3}, []float32{3, 2, -1}, []float32{3, 4, -3}), broadcastCase()}},
		{name: "Div", doc: "A / B; integers truncate toward zero", since: []int{7, 13, 14}, types: numberTypes,
			f:     plain2(func(x, y float64) float64 { return x / y }),
			i:     ints2(func(x, y int64) int64 { return x / y }),
			u:     uints2(func(x, y uint64) uint64 { return x / y }),
			known: knownDiv,
			cases: []ops.Case{pairCase([]float32{1, 2, 3}, []float32{2, 4, -1}, []float32{0.5, 0.5, -3}), broadcastCase(),
				{Name: "int truncates", In: []*tensor.Tensor{tensor.Ints(-7, 7), tensor.Ints(2, 2)}, Want: one(tensor.Ints(-3, 3))}}},
		{name: "Mod", doc: "remainder with the sign of B; with fmod=1 the sign of A, as C's fmod", since: []int{10, 13, 28},
			types: numberTypes, attrs: []ops.Attr{attr("fmod", int64(0))},
			f: floatMod, i: intMod, u: uints2(func(x, y uint64) uint64 { return x % y }), known: knownMod,
			cases: []ops.Case{{Name: "mixed signs", In: []*tensor.Tensor{tensor.Ints(-4, 7, 5), tensor.Ints(3, -3, 8)}, Want: one(tensor.Ints(2, -2, 5))}}},
		{name: "Min", doc: "smallest of the inputs; NaN if any is NaN", since: []int{6, 8, 12, 13}, types: numberTypes, commutes: true, variadic: true,
			f:     plain2(math.Min),
			i:     ints2(func(x, y int64) int64 { return min(x, y) }),
			u:     uints2(func(x, y uint64) uint64 { return min(x, y) }),
			known: func(_ graph.Attrs, x, y graph.Dim) (graph.Dim, bool) { return x.Min(y), true },
			cases: []ops.Case{pairCase([]float32{1, 5, 3}, []float32{3, 2, 4}, []float32{1, 2, 3}), broadcastCase()}},
		{name: "Max", doc: "largest of the inputs; NaN if any is NaN", since: []int{6, 8, 12, 13}, types: numberTypes, commutes: true, variadic: true,
			f:     plain2(math.Max),
			i:     ints2(func(x, y int64) int64 { return max(x, y) }),
			u:     uints2(func(x, y uint64) uint64 { return max(x, y) }),
			known: func(_ graph.Attrs, x, y graph.Dim) (graph.Dim, bool) { return x.Max(y), true },
			cases: []ops.Case{pairCase([]float32{1, 5, 3}, []float32{3, 2, 4}, []float32{3, 5, 4}), broadcastCase()}},
		{name: "Sum", doc: "sum of the inputs", since: []int{6, 8, 13}, types: floatTypes, commutes: true, variadic: true,
			f:     plain2(func(x, y float64) float64 { return x + y }),
			cases: []ops.Case{pairCase([]float32{1, 5, 3}, []float32{3, 2, 4}, []float32{4, 7, 7}), broadcastCase()}},
		{name: "Mean", doc: "mean of the inputs", since: []int{6, 8, 13}, types: floatTypes, commutes: true, variadic: true,
			f:      plain2(func(x, y float64) float64 { return x + y }),
			finish: func(v float64, n int) float64 { return v / float64(n) },
			cases:  []ops.Case{pairCase([]float32{1, 5, 3}, []float32{3, 2, 4}, []float32{2, 3.5, 3.5}), broadcastCase()}},
		{name: "BitwiseAnd", doc: "A & B", since: []int{18}, types: intTypes, commutes: true,
			i: ints2(func(x, y int64) int64 { return x & y }), cases: []ops.Case{bitsCase([]int32{4, 0, 1})}},
		{name: "BitwiseOr", doc: "A | B", since: []int{18}, types: intTypes, commutes: true,
			i: ints2(func(x, y int64) int64 { return x | y }), cases: []ops.Case{bitsCase([]int32{7, 15, -1})}},
		{name: "BitwiseXor", doc: "A ^ B", since: []int{18}, types: intTypes, commutes: true,
			i: ints2(func(x, y int64) int64 { return x ^ y }), cases: []ops.Case{bitsCase([]int32{3, 15, -2})}},
	} {
		rows = append(rows, b.rows()...)
	}
	return append(rows, powRows()...)
}

// knownDiv: truncation equals floor when both sides have the same sign.
func knownDiv(_ graph.Attrs, x, y graph.Dim) (graph.Dim, bool) {
	cx, okx := x.Const()
	cy, oky := y.Const()
	switch {
	case oky && cy == 0:
		return graph.Dim{}, false
	case okx && oky:
		return graph.D(cx / cy), true
	case x.AtLeast(graph.D(0)) && y.AtLeast(graph.D(1)):
		return x.FloorDiv(y), true
	}
	return x.DivExact(y) // no remainder, no rounding
}

func knownMod(a graph.Attrs, x, y graph.Dim) (graph.Dim, bool) {
	cx, okx := x.Const()
	cy, oky := y.Const()
	switch {
	case oky && cy == 0:
		return graph.Dim{}, false
	case okx && oky:
		return graph.D(intMod(a)(cx, cy)), true
	case a.Int("fmod", 0) == 0, x.AtLeast(graph.D(0)) && y.AtLeast(graph.D(1)):
		return x.Mod(y), true
	}
	return graph.Dim{}, false
}

func intMod(a graph.Attrs) func(x, y int64) int64 {
	if a.Int("fmod", 0) != 0 {
		return func(x, y int64) int64 { return x % y }
	}
	return func(x, y int64) int64 {
		r := x % y
		if r != 0 && (r < 0) != (y < 0) {
			r += y
		}
		return r
	}
}

// floatMod: fmod=0 on floats is allowed from opset 28 on; the sign then follows B, that of a zero too.
func floatMod(a graph.Attrs) func(x, y float64) float64 {
	if a.Int("fmod", 0) != 0 {
		return math.Mod
	}
	return func(x, y float64) float64 {
		r := math.Mod(x, y)
		switch {
		case r == 0:
			r = math.Copysign(0, y)
		case (r < 0) != (y < 0):
			r += y
		}
		return r
	}
}

// powRows: the exponent may have another type; the result has the base's.
func powRows() []*ops.Op {
	anyPair := func(c *ops.Infer) error {
		if err := want(c, 0, numberTypes); err != nil {
			return err
		}
		if err := want(c, 1, numberTypes); err != nil {
			return err
		}
		shape, err := broadcastTypes(c.Type(0), c.Type(1))
		if err != nil {
			return err
		}
		c.Out(0, graph.Type{DType: c.Type(0).DType, Shape: shape})
		return nil
	}
	return versions("Pow", []int{7, 12, 13, 15}, ops.Op{
		Doc: "X to the power Y, elementwise with broadcasting; the result has X's type",
		In:  params("X", "Y"), Out: params("Z"), Attrs: noAttrs, Traits: ops.Elementwise,
		Infer: anyPair, Eval: evalPow,
		Cases: []ops.Case{pairCase([]float32{1, 2, 3}, []float32{4, 0.5, -1}, []float32{1, math.Sqrt2, 1.0 / 3}),
			{Name: "int exponent", In: []*tensor.Tensor{tensor.From([]float32{2, -3}, 2), tensor.Ints(3)}, Want: one(tensor.From([]float32{8, -27}, 2))}},
	})
}

func evalPow(c *ops.Call) ([]*tensor.Tensor, error) {
	x, y := c.In[0], c.In[1]
	shape, err := broadcastSizes(x.Shape, y.Shape)
	if err != nil {
		return nil, err
	}
	out := tensor.New(x.DType, shape...)
	st := [][]int{strides(shape), broadcastStrides(x.Shape, shape), broadcastStrides(y.Shape, shape)}
	exact := !x.DType.IsFloat() && !y.DType.IsFloat()
	walk(shape, st, func(off, step []int, n int) {
		for j := range n {
			o, p, q := off[0]+j*step[0], off[1]+j*step[1], off[2]+j*step[2]
			if exact && y.IntAt(q) >= 0 {
				out.SetIntAt(o, intPow(x.IntAt(p), uint64(y.IntAt(q))))
			} else {
				out.SetAt(o, math.Pow(x.At(p), y.At(q)))
			}
		}
	})
	return one(out), nil
}

// intPow wraps on overflow.
func intPow(x int64, n uint64) int64 {
	r := int64(1)
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			r *= x
		}
		x *= x
	}
	return r
}

func pairCase(a, b, want []float32) ops.Case {
	return ops.Case{Name: "pair", In: []*tensor.Tensor{tensor.From(a, len(a)), tensor.From(b, len(b))}, Want: one(tensor.From(want, len(want)))}
}

// broadcastCase is [2,1,3] with [4,1]; backends are compared with Eval on it.
func broadcastCase() ops.Case {
	return ops.Case{Name: "broadcast", In: []*tensor.Tensor{
		tensor.From([]float32{1, -2, 3, 0.5, 5, -6}, 2, 1, 3), tensor.From([]float32{0.25, 2, -3, 4}, 4, 1)}}
}

func bitsCase(want []int32) ops.Case {
	return ops.Case{Name: "int32", In: []*tensor.Tensor{tensor.From([]int32{5, 10, -1}, 3), tensor.From([]int32{6, 5, 1}, 3)}, Want: one(tensor.From(want, 3))}
}
