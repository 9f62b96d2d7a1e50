package ssm

import (
	"fmt"
	"math"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// GatedRMSNorm is the normalisation after the scan (state-spaces/mamba
// layernorm_gated.rms_norm_ref), over groups of group_size channels of the last axis:
//
//	norm_before_gate=0:  v = x*silu(z);  y = v * rsqrt(mean(v^2) + epsilon) * weight
//	norm_before_gate=1:  y = x * rsqrt(mean(x^2) + epsilon) * weight * silu(z)
var GatedRMSNorm = &ops.Op{
	ID:  id("GatedRMSNorm"),
	Doc: "RMS normalisation with a SiLU gate, before or after, over the last axis or groups of it.",
	In: []ops.Param{
		{Name: "x", Doc: "[...,D]"}, {Name: "z", Doc: "[...,D]"}, {Name: "weight", Doc: "[D]"},
	},
	Out: []ops.Param{{Name: "y", Doc: "[...,D]"}},
	Attrs: []ops.Attr{
		{Name: "epsilon", Doc: "added to the mean square", Default: float32(1e-5)},
		{Name: "norm_before_gate", Doc: "1: gate after the normalisation", Default: int64(0)},
		{Name: "group_size", Doc: "channels per group; 0: all", Default: int64(0)},
	},
	Cases:     gatedNormCases,
	Decompose: decomposeGatedNorm,
	Infer: func(c *ops.Infer) error {
		x, z, w := c.Type(0), c.Type(1), c.Type(2)
		if x.Ranked() && z.Ranked() && x.Rank() != z.Rank() {
			return c.Errorf("x is %s and z is %s; want the same shape", x, z)
		}
		if w.Ranked() && w.Rank() != 1 {
			return c.Errorf("weight is %s; want [D]", w)
		}
		c.Out(0, x)
		return nil
	},
	Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
		x, z, w := f64(c, 0), f64(c, 1), f64(c, 2)
		D := len(w)
		if len(x) != len(z) || D == 0 || len(x)%D != 0 {
			return nil, fmt.Errorf("shapes %v, %v and %v do not fit", c.In[0].Shape, c.In[1].Shape, c.In[2].Shape)
		}
		gs := int(c.Node.Attrs.Int("group_size", 0))
		if gs == 0 {
			gs = D
		}
		if gs < 0 || D%gs != 0 {
			return nil, fmt.Errorf("group_size %d does not divide %d channels", gs, D)
		}
		eps, after := float64(c.Node.Attrs.Float("epsilon", 1e-5)), c.Node.Attrs.Int("norm_before_gate", 0) != 0
		y := make([]float64, len(x))
		for o := 0; o < len(x); o += gs {
			sum := 0.0
			for i := o; i < o+gs; i++ {
				y[i] = x[i]
				if !after {
					y[i] *= silu(z[i])
				}
				sum += y[i] * y[i]
			}
			r := 1 / math.Sqrt(sum/float64(gs)+eps)
			for i := o; i < o+gs; i++ {
				y[i] *= r * w[i%D]
				if after {
					y[i] *= silu(z[i])
				}
			}
		}
		return []*tensor.Tensor{store(c.In[0].DType, y, c.In[0].Shape...)}, nil
	},
}

// activations are what Linear may apply.
var activations = map[string]func(float64) float64{
	"none": func(x float64) float64 { return x },
	"relu": func(x float64) float64 { return math.Max(x, 0) },
	"silu": silu,
	"gelu": func(x float64) float64 { return x * 0.5 * math.Erfc(-x/math.Sqrt2) },
	"gelu_tanh": func(x float64) float64 {
		return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	},
	"sigmoid":  func(x float64) float64 { return 1 / (1 + math.Exp(-x)) },
	"softplus": softplus,
}

// Linear is a projection with its epilogue: act(x W + bias) + residual.
var Linear = &ops.Op{
	ID:  id("Linear"),
	Doc: "Matrix product with bias, activation and residual: act(x W + bias) + residual.",
	In: []ops.Param{
		{Name: "x", Doc: "[...,K]"}, {Name: "W", Doc: "[K,N]"}, {Name: "bias", Doc: "[N]", Optional: true},
		{Name: "residual", Doc: "[...,N]", Optional: true},
	},
	Out:       []ops.Param{{Name: "y", Doc: "[...,N]"}},
	Attrs:     []ops.Attr{{Name: "activation", Doc: `"none", "relu", "silu", "gelu", "gelu_tanh", "sigmoid", "softplus"`, Default: "none"}},
	Cases:     linearCases,
	Decompose: decomposeLinear,
	Infer: func(c *ops.Infer) error {
		x, w := c.Type(0), c.Type(1)
		if act := c.Node.Attrs.Str("activation", "none"); activations[act] == nil {
			return c.Errorf("unknown activation %q", act)
		}
		if !x.Ranked() {
			c.Out(0, x)
			return nil
		}
		if x.Rank() == 0 || w.Rank() != 2 {
			return c.Errorf("x is %s and W is %s; want [...,K] and [K,N]", x, w)
		}
		k, kc := x.Shape[x.Rank()-1].Const()
		if k2, ok := w.Shape[0].Const(); ok && kc && k != k2 {
			return c.Errorf("x is %s and W is %s: K differs", x, w)
		}
		shape := append(append([]graph.Dim{}, x.Shape[:x.Rank()-1]...), w.Shape[1])
		c.Out(0, graph.Type{DType: x.DType, Shape: shape})
		return nil
	},
	Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
		K, N := c.In[1].Shape[0], c.In[1].Shape[1]
		x, w, bias, res := f64(c, 0), f64(c, 1), f64(c, 2), f64(c, 3)
		shape := append([]int{}, c.In[0].Shape...)
		if len(shape) == 0 || shape[len(shape)-1] != K {
			return nil, fmt.Errorf("x has shape %v, W %v: K differs", shape, c.In[1].Shape)
		}
		shape[len(shape)-1] = N
		out := tensor.New(c.In[0].DType, shape...)
		act := activations[c.Node.Attrs.Str("activation", "none")]
		row := make([]float64, N)
		for m := range out.Len() / max(N, 1) {
			clear(row)
			copy(row, bias)
			for k := range K {
				xv := x[m*K+k]
				for j, wv := range w[k*N:][:N] {
					row[j] += xv * wv
				}
			}
			for j, v := range row {
				v = act(v)
				if res != nil {
					v += res[m*N+j]
				}
				out.SetAt(m*N+j, v)
			}
		}
		return []*tensor.Tensor{out}, nil
	},
}

// Dims computes a shape vector from the shapes of its inputs. Attribute dims
// holds expressions (graph.Dim) in which x0.2 stands for axis 2 of input 0.
// Passes use it to give Reshape and Expand symbolic targets.
var Dims = &ops.Op{
	ID:     id("Dims"),
	Doc:    "Shape arithmetic: an int64 vector of dimension expressions over the input shapes.",
	In:     []ops.Param{{Name: "x", Doc: "any tensors", Variadic: true, Optional: true}},
	Out:    []ops.Param{{Name: "dims", Doc: "[len(dims)] int64"}},
	Attrs:  []ops.Attr{{Name: "dims", Doc: "one expression per element"}},
	Traits: ops.ShapeOnly,
	Cases: []ops.Case{{Name: "product", Attrs: graph.Attrs{"dims": []string{"x0.0*x0.1", "7"}}, In: []*tensor.Tensor{tensor.New(tensor.Float32, 2, 3)},
		Want: []*tensor.Tensor{tensor.Ints(6, 7)}}},
	Decompose: decomposeDims,
	Infer: func(c *ops.Infer) error {
		exprs := c.Node.Attrs.Strings("dims")
		with := map[string]graph.Dim{}
		for i := range c.Node.In {
			for a, d := range c.Type(i).Shape {
				with[fmt.Sprintf("x%d.%d", i, a)] = d
			}
		}
		known := make([]graph.Dim, len(exprs))
		for i, s := range exprs {
			d, err := graph.ParseDim(s)
			if err != nil {
				return err
			}
			for _, sym := range d.Symbols() {
				if _, ok := with[sym]; !ok {
					return c.Errorf("dims[%d] = %q: no input axis %q", i, s, sym)
				}
			}
			known[i] = d.Subst(with)
		}
		c.OutKnown(0, graph.T(tensor.Int64, graph.D(int64(len(exprs)))), known)
		return nil
	},
	Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
		bind := graph.Bindings{}
		for i, t := range c.In {
			for a, n := range t.Shape {
				bind[fmt.Sprintf("x%d.%d", i, a)] = int64(n)
			}
		}
		var out []int64
		for _, s := range c.Node.Attrs.Strings("dims") {
			d, err := graph.ParseDim(s)
			if err != nil {
				return nil, err
			}
			v, err := d.Eval(bind)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return []*tensor.Tensor{tensor.Ints(out...)}, nil
	},
}

// ShapeOf builds a Dims node whose contents are dims, reading the symbols from
// the shapes of the given values. It fails when no axis of theirs determines
// a symbol.
func ShapeOf(b *graph.Builder, dims []graph.Dim, from ...*graph.Value) *graph.Value {
	with := map[string]graph.Dim{}
	var in []*graph.Value
	for _, d := range dims {
		for _, sym := range d.Symbols() {
			if _, ok := with[sym]; ok {
				continue
			}
			v, axis, scale, offset := findAxis(sym, from)
			if v == nil {
				if b.Err == nil {
					b.Err = fmt.Errorf("dimension %s cannot be computed from %s", sym, names(from))
				}
				return nil
			}
			i := 0
			for i < len(in) && in[i] != v {
				i++
			}
			if i == len(in) {
				in = append(in, v)
			}
			with[sym] = graph.Sym(fmt.Sprintf("x%d.%d", i, axis)).Sub(offset).FloorDiv(scale)
		}
	}
	static := make([]int64, len(dims))
	exprs := make([]string, len(dims))
	for i, d := range dims {
		static[i], _ = d.Const()
		exprs[i] = d.Subst(with).String()
	}
	if len(in) == 0 {
		return b.Ints(static...)
	}
	return b.SSM("Dims", graph.Attrs{"dims": exprs}, in...)
}

// findAxis finds an axis of length scale*sym + offset.
func findAxis(sym string, from []*graph.Value) (v *graph.Value, axis int, scale, offset graph.Dim) {
	for _, v := range from {
		for a, d := range v.Type.Shape {
			if s, ok := d.AsSym(); ok && s == sym {
				return v, a, graph.D(1), graph.D(0)
			}
		}
	}
	for _, v := range from {
		for a, d := range v.Type.Shape {
			if s, k, off, ok := d.Affine(); ok && s == sym {
				return v, a, graph.D(k), graph.D(off)
			}
		}
	}
	return nil, 0, graph.Dim{}, graph.Dim{}
}

func names(vs []*graph.Value) string {
	var s []string
	for _, v := range vs {
		s = append(s, fmt.Sprintf("%q %s", v.Name, v.Type))
	}
	return strings.Join(s, ", ")
}
