package onnx

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// activationRows are the pointwise nonlinearities.
func activationRows() []*ops.Op {
	seed := []float32{-4, -1.5, -0.5, 0, 0.25, 1, 3}
	cases := []ops.Case{{Name: "vector", In: one(tensor.From(seed, len(seed)))}}
	half := func(a graph.Attrs) float64 { return float64(a.Float("alpha", 1)) }
	var rows []*ops.Op
	for _, u := range []unary{
		{name: "Relu", doc: "max(x, 0)", since: []int{6, 13, 14}, types: floatTypes | signedTypes,
			f: plain(func(x float64) float64 { return math.Max(x, 0) }), i: func(x int64) int64 { return max(x, 0) },
			cases: []ops.Case{vecCase([]float32{-1, 0, 2}, []float32{0, 0, 2})}},
		{name: "Sigmoid", doc: "1/(1+exp(-x))", since: []int{6, 13}, types: floatTypes, f: plain(sigmoid),
			cases: []ops.Case{vecCase([]float32{0, 1, -1}, []float32{0.5, 0.7310585786, 0.2689414214})}},
		{name: "Softplus", doc: "log(1+exp(x))", since: []int{1, 22}, types: floatTypes, f: plain(softplus),
			cases: []ops.Case{vecCase([]float32{0, 1, -1, 100}, []float32{math.Ln2, 1.3132616875, 0.3132616875, 100})}},
		{name: "Softsign", doc: "x/(1+|x|)", since: []int{1, 22}, types: floatTypes,
			f:     plain(func(x float64) float64 { return x / (1 + math.Abs(x)) }),
			cases: []ops.Case{vecCase([]float32{-1, 0, 3}, []float32{-0.5, 0, 0.75})}},
		{name: "HardSwish", doc: "x*max(0, min(1, x/6+1/2))", since: []int{14, 22}, types: floatTypes,
			f: plain(func(x float64) float64 { return x * clamp(x/6+0.5, 0, 1) }), cases: cases},
		{name: "Mish", doc: "x*tanh(softplus(x))", since: []int{18, 22}, types: floatTypes,
			f: plain(func(x float64) float64 { return x * math.Tanh(softplus(x)) }), cases: cases},
		{name: "Gelu", doc: "x*Phi(x); approximate=tanh uses tanh(sqrt(2/pi)*(x+0.044715x^3))", since: []int{20}, types: floatTypes,
			attrs: []ops.Attr{attr("approximate", "none")}, f: gelu, cases: append([]ops.Case{
				{Name: "tanh", Attrs: graph.Attrs{"approximate": "tanh"}, In: cases[0].In}}, cases...)},
		{name: "Swish", doc: "x*sigmoid(alpha*x); SiLU for alpha=1", since: []int{24}, types: floatTypes, attrs: []ops.Attr{attr("alpha", float32(1))},
			f: func(a graph.Attrs) func(float64) float64 {
				alpha := half(a)
				return func(x float64) float64 { return x * sigmoid(alpha*x) }
			}, cases: []ops.Case{vecCase([]float32{0, 1, -1}, []float32{0, 0.7310585786, -0.2689414214})}},
		{name: "LeakyRelu", doc: "x for x>=0, alpha*x below", since: []int{6, 16}, types: floatTypes, attrs: []ops.Attr{attr("alpha", float32(0.01))},
			f: func(a graph.Attrs) func(float64) float64 {
				alpha := float64(a.Float("alpha", 0.01))
				return func(x float64) float64 {
					if x < 0 {
						return alpha * x
					}
					return x
				}
			}, cases: []ops.Case{vecCase([]float32{-2, 0, 2}, []float32{-0.02, 0, 2})}},
		{name: "Elu", doc: "x for x>=0, alpha*(exp(x)-1) below", since: []int{6, 22}, types: floatTypes, attrs: []ops.Attr{attr("alpha", float32(1))},
			f: func(a graph.Attrs) func(float64) float64 { return elu(1, half(a), 1) }, cases: cases},
		{name: "Selu", doc: "gamma*elu(x)", since: []int{6, 22}, types: floatTypes,
			attrs: []ops.Attr{attr("alpha", seluAlpha), attr("gamma", seluGamma)},
			f: func(a graph.Attrs) func(float64) float64 {
				return elu(float64(a.Float("gamma", seluGamma)), float64(a.Float("alpha", seluAlpha)), 1)
			}, cases: cases},
		{name: "Celu", doc: "x for x>=0, alpha*(exp(x/alpha)-1) below", since: []int{12, 28}, types: floatTypes, attrs: []ops.Attr{attr("alpha", float32(1))},
			f: func(a graph.Attrs) func(float64) float64 { return elu(1, half(a), 1/half(a)) }, cases: cases},
		{name: "HardSigmoid", doc: "max(0, min(1, alpha*x+beta))", since: []int{6, 22}, types: floatTypes,
			attrs: []ops.Attr{attr("alpha", float32(0.2)), attr("beta", float32(0.5))},
			f: func(a graph.Attrs) func(float64) float64 {
				alpha, beta := float64(a.Float("alpha", 0.2)), float64(a.Float("beta", 0.5))
				return func(x float64) float64 { return clamp(alpha*x+beta, 0, 1) }
			}, cases: cases},
		{name: "ThresholdedRelu", doc: "x where x > alpha, else 0", since: []int{10, 22}, types: floatTypes, attrs: []ops.Attr{attr("alpha", float32(1))},
			f: func(a graph.Attrs) func(float64) float64 {
				alpha := half(a)
				return func(x float64) float64 {
					if x > alpha {
						return x
					}
					return 0
				}
			}, cases: cases},
		{name: "Shrink", doc: "x+bias below -lambd, x-bias above lambd, else 0", since: []int{9}, types: floatTypes,
			attrs: []ops.Attr{attr("bias", float32(0)), attr("lambd", float32(0.5))}, f: shrink, cases: cases},
	} {
		rows = append(rows, u.rows()...)
	}
	for _, r := range rows {
		switch r.ID.Name {
		case "Shrink":
			r.Infer, r.Eval = numericInfer, shrinkAny(r.Eval)
		case "Gelu":
			r.Infer = checkApproximate(r.Infer)
		}
	}
	pr := binary{name: "PRelu", doc: "x for x>=0, slope*x below; slope broadcasts to x", since: []int{7, 9, 16}, types: floatTypes | intTypes,
		f: plain2(func(x, s float64) float64 {
			if x < 0 {
				return s * x
			}
			return x
		}),
		i: ints2(func(x, s int64) int64 {
			if x < 0 {
				return s * x
			}
			return x
		}),
		u:     uints2(func(x, _ uint64) uint64 { return x }),
		cases: []ops.Case{pairCase([]float32{-2, 0, 2}, []float32{0.5, 0.5, 0.5}, []float32{-1, 0, 2})},
	}
	rows = append(rows, pr.rows()...)
	glu := binary{name: "SwiGLU", doc: "A*sigmoid(alpha*A)*B", since: []int{28}, types: floatTypes, attrs: []ops.Attr{attr("alpha", float32(1))},
		f: func(a graph.Attrs) func(x, y float64) float64 {
			alpha := half(a)
			return func(x, y float64) float64 { return x * sigmoid(alpha*x) * y }
		},
		cases: []ops.Case{pairCase([]float32{0, 1, -1}, []float32{1, 2, 3}, []float32{0, 2 * 0.7310585786, -3 * 0.2689414214})},
	}
	return append(rows, glu.rows()...)
}

const (
	seluAlpha float32 = 1.67326319217681884765625
	seluGamma float32 = 1.05070102214813232421875
)

// sigmoid and softplus never overflow.
func sigmoid(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + math.Exp(-x))
	}
	e := math.Exp(x)
	return e / (1 + e)
}

func softplus(x float64) float64 {
	return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x)))
}

func clamp(x, lo, hi float64) float64 { return math.Max(lo, math.Min(x, hi)) }

func elu(gamma, alpha, inner float64) func(float64) float64 {
	return func(x float64) float64 {
		if x < 0 {
			return gamma * alpha * math.Expm1(x*inner)
		}
		return gamma * x
	}
}

func gelu(a graph.Attrs) func(float64) float64 {
	if a.Str("approximate", "none") == "tanh" {
		k := math.Sqrt(2 / math.Pi)
		return func(x float64) float64 { return 0.5 * x * (1 + math.Tanh(k*(x+0.044715*x*x*x))) }
	}
	return func(x float64) float64 { return 0.5 * x * math.Erfc(-x/math.Sqrt2) }
}

func checkApproximate(next func(*ops.Infer) error) func(*ops.Infer) error {
	return func(c *ops.Infer) error {
		if s := c.Node.Attrs.Str("approximate", "none"); s != "none" && s != "tanh" {
			return c.Errorf("attribute approximate is %q, want none or tanh", s)
		}
		return next(c)
	}
}

func shrink(a graph.Attrs) func(float64) float64 {
	bias, lambd := float64(a.Float("bias", 0)), float64(a.Float("lambd", 0.5))
	return func(x float64) float64 {
		switch {
		case x < -lambd:
			return x + bias
		case x > lambd:
			return x - bias
		}
		return 0
	}
}

// shrinkAny lets Shrink, whose attributes are floats, work on integers.
func shrinkAny(floats func(*ops.Call) ([]*tensor.Tensor, error)) func(*ops.Call) ([]*tensor.Tensor, error) {
	return func(c *ops.Call) ([]*tensor.Tensor, error) {
		x := c.In[0]
		if x.DType.IsFloat() {
			return floats(c)
		}
		f := shrink(c.Node.Attrs)
		out := tensor.New(x.DType, x.Shape...)
		for i := range x.Len() {
			out.SetAt(i, f(x.At(i)))
		}
		return one(out), nil
	}
}

// numericInfer passes a numeric type through.
func numericInfer(c *ops.Infer) error {
	if err := want(c, 0, numberTypes); err != nil {
		return err
	}
	c.Out(0, c.Type(0))
	return nil
}
