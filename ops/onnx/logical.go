package onnx

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// logicalRows are comparisons, boolean algebra and float classification; all give bool.
func logicalRows() []*ops.Op {
	compare := func(name, doc string, since []int, types dtypes, f func(x, y float64) bool, i func(x, y int64) bool, u func(x, y uint64) bool,
		known func(x, y graph.Dim) (bool, bool), cases ...ops.Case) binary {
		b := binary{name: name, doc: doc, since: since, types: types, toBool: true,
			f: plain2(func(x, y float64) float64 { return b2f(f(x, y)) }),
			i: ints2(func(x, y int64) int64 { return b2i(i(x, y)) }),
			known: func(_ graph.Attrs, x, y graph.Dim) (graph.Dim, bool) {
				r, ok := known(x, y)
				return graph.D(b2i(r)), ok
			}, cases: cases}
		if u != nil {
			b.u = uints2(func(x, y uint64) uint64 { return uint64(b2i(u(x, y))) })
		}
		return b
	}
	a, b := tensor.From([]float32{1, 2, 3}, 3), tensor.From([]float32{2}, 1)
	check := func(want ...bool) ops.Case {
		return ops.Case{Name: "vector with one element", In: []*tensor.Tensor{a, b}, Want: one(tensor.From(want, 3))}
	}
	less := func(x, y graph.Dim) (bool, bool) {
		return y.AtLeast(x.Add(graph.D(1))), y.AtLeast(x.Add(graph.D(1))) || x.AtLeast(y)
	}
	lessEq := func(x, y graph.Dim) (bool, bool) { return y.AtLeast(x), y.AtLeast(x) || x.AtLeast(y.Add(graph.D(1))) }

	equal := compare("Equal", "A == B", []int{7, 11, 13, 19}, numberTypes|boolType|stringType,
		func(x, y float64) bool { return x == y }, func(x, y int64) bool { return x == y }, nil,
		func(x, y graph.Dim) (bool, bool) {
			apart := x.AtLeast(y.Add(graph.D(1))) || y.AtLeast(x.Add(graph.D(1)))
			return x == y, x == y || apart
		}, check(false, true, false))
	equal.commutes = true
	all := []binary{equal,
		compare("Less", "A < B", []int{7, 9, 13}, numberTypes, func(x, y float64) bool { return x < y },
			func(x, y int64) bool { return x < y }, func(x, y uint64) bool { return x < y }, less, check(true, false, false)),
		compare("LessOrEqual", "A <= B", []int{12, 16}, numberTypes, func(x, y float64) bool { return x <= y },
			func(x, y int64) bool { return x <= y }, func(x, y uint64) bool { return x <= y }, lessEq, check(true, true, false)),
		compare("Greater", "A > B", []int{7, 9, 13}, numberTypes, func(x, y float64) bool { return x > y },
			func(x, y int64) bool { return x > y }, func(x, y uint64) bool { return x > y },
			func(x, y graph.Dim) (bool, bool) { return less(y, x) }, check(false, false, true)),
		compare("GreaterOrEqual", "A >= B", []int{12, 16}, numberTypes, func(x, y float64) bool { return x >= y },
			func(x, y int64) bool { return x >= y }, func(x, y uint64) bool { return x >= y },
			func(x, y graph.Dim) (bool, bool) { return lessEq(y, x) }, check(false, true, true)),
	}
	truth := func(want ...bool) ops.Case {
		return ops.Case{Name: "truth table", In: []*tensor.Tensor{tensor.From([]bool{false, true}, 2, 1), tensor.From([]bool{false, true}, 2)}, Want: one(tensor.From(want, 2, 2))}
	}
	for _, l := range []struct {
		name, doc string
		f         func(x, y int64) int64
		c         ops.Case
	}{
		{"And", "A and B", func(x, y int64) int64 { return x & y }, truth(false, false, false, true)},
		{"Or", "A or B", func(x, y int64) int64 { return x | y }, truth(false, true, true, true)},
		{"Xor", "A exclusive-or B", func(x, y int64) int64 { return x ^ y }, truth(false, true, true, false)},
	} {
		all = append(all, binary{name: l.name, doc: l.doc, since: []int{7}, types: boolType, commutes: true, i: ints2(l.f),
			known: func(_ graph.Attrs, x, y graph.Dim) (graph.Dim, bool) {
				cx, okx := x.Const()
				cy, oky := y.Const()
				if !okx || !oky {
					return graph.Dim{}, false
				}
				return graph.D(l.f(cx, cy)), true
			}, cases: []ops.Case{l.c}})
	}
	rows := unary{name: "Not", doc: "not X", since: []int{1}, types: boolType, i: func(x int64) int64 { return 1 - x },
		known: func(d graph.Dim) (graph.Dim, bool) { return graph.D(1).Sub(d), true },
		cases: []ops.Case{{Name: "both", In: one(tensor.From([]bool{true, false}, 2)), Want: one(tensor.From([]bool{false, true}, 2))}}}.rows()
	for _, x := range all {
		rows = append(rows, x.rows()...)
	}
	for _, r := range rows {
		if r.ID.Name == "Equal" {
			r.Eval = equalStrings(r.Eval)
		}
	}
	nan := float32(math.NaN())
	inf := float32(math.Inf(1))
	rows = append(rows, classify("IsNaN", "whether x is NaN", []int{9, 13, 20}, nil, func(graph.Attrs) func(float64) bool { return math.IsNaN },
		ops.Case{Name: "vector", In: one(tensor.From([]float32{1, nan, inf}, 3)), Want: one(tensor.From([]bool{false, true, false}, 3))})...)
	return append(rows, classify("IsInf", "whether x is infinite; attributes choose the signs", []int{10, 20},
		[]ops.Attr{attr("detect_negative", int64(1)), attr("detect_positive", int64(1))},
		func(a graph.Attrs) func(float64) bool {
			neg, pos := a.Int("detect_negative", 1) != 0, a.Int("detect_positive", 1) != 0
			return func(x float64) bool { return pos && math.IsInf(x, 1) || neg && math.IsInf(x, -1) }
		},
		ops.Case{Name: "vector", In: one(tensor.From([]float32{-inf, nan, inf}, 3)), Want: one(tensor.From([]bool{true, false, true}, 3))})...)
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func b2f(b bool) float64 { return float64(b2i(b)) }

// classify makes the rows of a predicate on floats.
func classify(name, doc string, since []int, attrs []ops.Attr, f func(graph.Attrs) func(float64) bool, cases ...ops.Case) []*ops.Op {
	if attrs == nil {
		attrs = noAttrs
	}
	return versions(name, since, ops.Op{Doc: doc, In: params("X"), Out: params("Y"), Attrs: attrs, Traits: ops.Elementwise, Cases: cases,
		Infer: func(c *ops.Infer) error {
			if err := want(c, 0, floatTypes|float8Types); err != nil {
				return err
			}
			c.Out(0, withDType(c.Type(0), tensor.Bool))
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x, p := c.In[0], f(c.Node.Attrs)
			out := tensor.New(tensor.Bool, x.Shape...)
			for i, o := 0, tensor.Of[bool](out); i < len(o); i++ {
				o[i] = p(x.At(i))
			}
			return one(out), nil
		}})
}

// equalStrings adds string comparison (Equal-19).
func equalStrings(numbers func(*ops.Call) ([]*tensor.Tensor, error)) func(*ops.Call) ([]*tensor.Tensor, error) {
	return func(c *ops.Call) ([]*tensor.Tensor, error) {
		x, y := c.In[0], c.In[1]
		if x.DType != tensor.String {
			return numbers(c)
		}
		shape, err := broadcastSizes(x.Shape, y.Shape)
		if err != nil {
			return nil, err
		}
		out := tensor.New(tensor.Bool, shape...)
		o := tensor.Of[bool](out)
		p, q := offsets(shape, broadcastStrides(x.Shape, shape)), offsets(shape, broadcastStrides(y.Shape, shape))
		for i := range o {
			o[i] = x.Strings[p[i]] == y.Strings[q[i]]
		}
		return one(out), nil
	}
}
