package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// decomposition writes a node with simpler operators.
type decomposition func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error)

// decompositions are for backends that lack a kernel. A key is an operator, or
// an operator and version where versions differ in meaning.
var decompositions = map[string]decomposition{
	"Sigmoid": pointwise(func(b *graph.Builder, _ graph.Attrs, x *graph.Value) *graph.Value {
		return b.Op("Reciprocal", nil, b.Op("Add", nil, b.Op("Exp", nil, b.Op("Neg", nil, x)), like(b, x, 1)))
	}),
	"Softplus": pointwise(softplusOf),
	"Softsign": pointwise(func(b *graph.Builder, _ graph.Attrs, x *graph.Value) *graph.Value {
		return b.Op("Div", nil, x, b.Op("Add", nil, b.Op("Abs", nil, x), like(b, x, 1)))
	}),
	"Mish": pointwise(func(b *graph.Builder, a graph.Attrs, x *graph.Value) *graph.Value {
		return b.Op("Mul", nil, x, b.Op("Tanh", nil, softplusOf(b, a, x)))
	}),
	"Swish": pointwise(swishOf),
	"HardSigmoid": pointwise(func(b *graph.Builder, a graph.Attrs, x *graph.Value) *graph.Value {
		return hardSigmoidOf(b, x, float64(a.Float("alpha", 0.2)), float64(a.Float("beta", 0.5)))
	}),
	"HardSwish": pointwise(func(b *graph.Builder, _ graph.Attrs, x *graph.Value) *graph.Value {
		return b.Op("Mul", nil, x, hardSigmoidOf(b, x, 1.0/6, 0.5))
	}),
	"Gelu": pointwise(geluOf),
	"LeakyRelu": pointwise(func(b *graph.Builder, a graph.Attrs, x *graph.Value) *graph.Value {
		return below(b, x, x, times(b, x, float64(a.Float("alpha", 0.01))))
	}),
	"ThresholdedRelu": pointwise(func(b *graph.Builder, a graph.Attrs, x *graph.Value) *graph.Value {
		return b.Op("Where", nil, b.Op("Greater", nil, x, like(b, x, float64(a.Float("alpha", 1)))), x, like(b, x, 0))
	}),
	"Elu": pointwise(func(b *graph.Builder, a graph.Attrs, x *graph.Value) *graph.Value {
		return below(b, x, x, times(b, expMinusOne(b, x), float64(a.Float("alpha", 1))))
	}),
	"Celu": pointwise(func(b *graph.Builder, a graph.Attrs, x *graph.Value) *graph.Value {
		alpha := float64(a.Float("alpha", 1))
		return below(b, x, x, times(b, expMinusOne(b, times(b, x, 1/alpha)), alpha))
	}),
	"Selu": pointwise(func(b *graph.Builder, a graph.Attrs, x *graph.Value) *graph.Value {
		gamma, alpha := float64(a.Float("gamma", seluGamma)), float64(a.Float("alpha", seluAlpha))
		return below(b, x, times(b, x, gamma), times(b, expMinusOne(b, x), gamma*alpha))
	}),
	"PRelu": func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
		return single(below(b, n.In[0], n.In[0], b.Op("Mul", nil, n.In[0], n.In[1])))
	},
	"SwiGLU": func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
		return single(b.Op("Mul", nil, swishOf(b, n.Attrs, n.In[0]), n.In[1]))
	},
	"Sum": func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) { return single(addAll(b, n.In)) },
	"Mean": func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
		return single(b.Op("Div", nil, addAll(b, n.In), like(b, n.In[0], float64(len(n.In)))))
	},
	"Clip-11": decomposeClip, "Clip-12": decomposeClip, "Clip-13": decomposeClip,
	"Gemm":               decomposeGemm,
	"LogSoftmax-13":      decomposeLogSoftmax,
	"ReduceL1":           decomposeReduce("ReduceSum", "Abs", ""),
	"ReduceL2":           decomposeReduce("ReduceSumSquare", "", "Sqrt"),
	"ReduceLogSum":       decomposeReduce("ReduceSum", "", "Log"),
	"LayerNormalization": decomposeLayerNorm,
	"RMSNormalization":   decomposeRMSNorm,
	"Attention":          decomposeSoftmaxAttention,
	"RotaryEmbedding":    decomposeRotary,
	"LinearAttention":    decomposeLinearAttention, "CausalConvWithState": decomposeCausalConv,
}

// addDecompositions fills in the rows' Decompose.
func addDecompositions(rows []*ops.Op) {
	for _, r := range rows {
		if r.Decompose != nil {
			continue // a composite, which has its own
		}
		if d := decompositions[r.ID.String()]; d != nil {
			r.Decompose = d
		} else if d := decompositions[r.ID.Name]; d != nil {
			r.Decompose = d
		}
	}
}

func single(v *graph.Value) ([]*graph.Value, error) { return []*graph.Value{v}, nil }

func pointwise(f func(b *graph.Builder, a graph.Attrs, x *graph.Value) *graph.Value) decomposition {
	return func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) { return single(f(b, n.Attrs, n.In[0])) }
}

// like is the scalar v in x's element type.
func like(b *graph.Builder, x *graph.Value, v float64) *graph.Value {
	if b.Err != nil || x == nil {
		return nil
	}
	return b.Const(fromFloats(x.Type.DType, []float64{v}))
}

func times(b *graph.Builder, x *graph.Value, v float64) *graph.Value {
	return b.Op("Mul", nil, x, like(b, x, v))
}

// below is neg where x < 0, and pos elsewhere.
func below(b *graph.Builder, x, pos, neg *graph.Value) *graph.Value {
	return b.Op("Where", nil, b.Op("Less", nil, x, like(b, x, 0)), neg, pos)
}

func expMinusOne(b *graph.Builder, x *graph.Value) *graph.Value {
	return b.Op("Sub", nil, b.Op("Exp", nil, x), like(b, x, 1))
}

// softplusOf is max(x,0) + log(1 + exp(-|x|)), which does not overflow.
func softplusOf(b *graph.Builder, _ graph.Attrs, x *graph.Value) *graph.Value {
	tail := b.Op("Log", nil, b.Op("Add", nil, b.Op("Exp", nil, b.Op("Neg", nil, b.Op("Abs", nil, x))), like(b, x, 1)))
	return b.Op("Add", nil, b.Op("Relu", nil, x), tail)
}

func swishOf(b *graph.Builder, a graph.Attrs, x *graph.Value) *graph.Value {
	arg := x
	if alpha := float64(a.Float("alpha", 1)); alpha != 1 {
		arg = times(b, x, alpha)
	}
	return b.Op("Mul", nil, x, b.Op("Sigmoid", nil, arg))
}

func hardSigmoidOf(b *graph.Builder, x *graph.Value, alpha, beta float64) *graph.Value {
	line := b.Op("Add", nil, times(b, x, alpha), like(b, x, beta))
	return b.Op("Clip", nil, line, like(b, x, 0), like(b, x, 1))
}

func geluOf(b *graph.Builder, a graph.Attrs, x *graph.Value) *graph.Value {
	var phi *graph.Value // 2*Phi(x) - 1
	if a.Str("approximate", "none") == "tanh" {
		cube := b.Op("Mul", nil, b.Op("Mul", nil, x, x), x)
		phi = b.Op("Tanh", nil, times(b, b.Op("Add", nil, x, times(b, cube, 0.044715)), math.Sqrt(2/math.Pi)))
	} else {
		phi = b.Op("Erf", nil, times(b, x, 1/math.Sqrt2))
	}
	return b.Op("Mul", nil, times(b, x, 0.5), b.Op("Add", nil, phi, like(b, x, 1)))
}

func addAll(b *graph.Builder, in []*graph.Value) *graph.Value {
	if len(in) == 1 {
		return b.Op("Identity", nil, in[0])
	}
	s := in[0]
	for _, v := range in[1:] {
		s = b.Op("Add", nil, s, v)
	}
	return s
}

func decomposeClip(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	lo, hi := n.Input(1), n.Input(2)
	v := n.In[0]
	if lo != nil {
		v = b.Op("Max", nil, v, lo)
	}
	if hi != nil {
		v = b.Op("Min", nil, v, hi)
	}
	if lo == nil && hi == nil {
		v = b.Op("Identity", nil, v)
	}
	return single(v)
}

func decomposeGemm(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	operand := func(i int, flag string) *graph.Value {
		if n.Attrs.Int(flag, 0) != 0 {
			return b.Op("Transpose", graph.Attrs{"perm": []int64{1, 0}}, n.In[i])
		}
		return n.In[i]
	}
	y := b.Op("MatMul", nil, operand(0, "transA"), operand(1, "transB"))
	if alpha := float64(n.Attrs.Float("alpha", 1)); alpha != 1 {
		y = times(b, y, alpha)
	}
	if c := n.Input(2); c != nil {
		if beta := float64(n.Attrs.Float("beta", 1)); beta != 1 {
			c = times(b, c, beta)
		}
		y = b.Op("Add", nil, y, c)
	}
	return single(y)
}

// decomposeLogSoftmax: x - max - log(sum(exp(x - max))) never takes the log of
// an underflowed zero.
func decomposeLogSoftmax(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	if !n.In[0].Type.Ranked() || n.In[0].Type.Rank() == 0 {
		return nil, fmt.Errorf("%s: input %s, want a known rank of 1 or more", n, n.In[0].Type)
	}
	axes, keep := b.Ints(n.Attrs.Int("axis", -1)), graph.Attrs{"keepdims": int64(1)}
	x := b.Op("Sub", nil, n.In[0], b.Op("ReduceMax", keep, n.In[0], axes))
	return single(b.Op("Sub", nil, x, b.Op("Log", nil, b.Op("ReduceSum", keep, b.Op("Exp", nil, x), axes))))
}

// decomposeReduce applies before to the elements, reduces, and applies after.
func decomposeReduce(reduce, before, after string) decomposition {
	return func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
		v := n.In[0]
		attrs := graph.Attrs{"keepdims": n.Attrs.Int("keepdims", 1)}
		if !floatTypes.Has(v.Type.DType) {
			return nil, fmt.Errorf("%s: %s rounds differently in steps on integers", n, v.Type)
		}
		axes := n.Input(1)
		if list := n.Attrs.Ints("axes"); list != nil {
			axes = b.Ints(list...)
		}
		if n.Attrs.Int("noop_with_empty_axes", 0) != 0 {
			return nil, fmt.Errorf("%s: with noop_with_empty_axes the operator is the identity", n)
		}
		if before != "" {
			v = b.Op(before, nil, v)
		}
		if v = b.Op(reduce, attrs, v, axes); after != "" {
			v = b.Op(after, nil, v)
		}
		return single(v)
	}
}

// trailingAxes lists the normalised axes of input 0 as a constant.
func trailingAxes(b *graph.Builder, n *graph.Node) (*graph.Value, error) {
	t := n.In[0].Type
	first, ok := axisOf(n.Attrs.Int("axis", -1), t.Rank(), t.Rank())
	if !t.Ranked() || !ok {
		return nil, fmt.Errorf("%s: input %s, want a known rank with axis %d", n, t, n.Attrs.Int("axis", -1))
	}
	var axes []int64
	for a := first; a < t.Rank(); a++ {
		axes = append(axes, int64(a))
	}
	return b.Ints(axes...), nil
}

// inverseRoot is 1/sqrt(mean(x^2) + epsilon) over axes.
func inverseRoot(b *graph.Builder, n *graph.Node, x, axes *graph.Value) *graph.Value {
	v := b.Op("ReduceMean", graph.Attrs{"keepdims": int64(1)}, b.Op("Mul", nil, x, x), axes)
	v = b.Op("Add", nil, v, like(b, x, float64(n.Attrs.Float("epsilon", 1e-5))))
	return b.Op("Reciprocal", nil, b.Op("Sqrt", nil, v))
}

func decomposeLayerNorm(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	axes, err := trailingAxes(b, n)
	if err != nil {
		return nil, err
	}
	x := n.In[0]
	mean := b.Op("ReduceMean", graph.Attrs{"keepdims": int64(1)}, x, axes)
	d := b.Op("Sub", nil, x, mean)
	inv := inverseRoot(b, n, d, axes)
	y := b.Op("Mul", nil, b.Op("Mul", nil, d, inv), n.In[1])
	if bias := n.Input(2); bias != nil {
		y = b.Op("Add", nil, y, bias)
	}
	out := []*graph.Value{y}
	for i, v := range []*graph.Value{mean, inv} {
		if n.Output(i+1) != nil {
			v = b.Op("Cast", graph.Attrs{"to": n.Attrs.Int("stash_type", 1)}, v)
		}
		out = append(out, v)
	}
	return out[:len(n.Out)], nil
}

func decomposeRMSNorm(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	axes, err := trailingAxes(b, n)
	if err != nil {
		return nil, err
	}
	x, scale := n.In[0], n.In[1]
	y := b.Op("Mul", nil, x, inverseRoot(b, n, x, axes))
	if x.Type.DType != scale.Type.DType {
		y = b.Op("Cast", graph.Attrs{"to": int64(scale.Type.DType)}, y)
	}
	return single(b.Op("Mul", nil, y, scale))
}
