package ssm

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Decompositions into ONNX's operators, for whoever has no kernel of ours: the
// exporter of ONNX files above all. They compute in float32 where the node
// holds a half format, as the kernels do. The forms are those that ONNX
// Runtime runs fastest; see passes/legalize for what was measured.

// write gives short names to what decompositions write.
type write struct{ *graph.Builder }

func (b write) add(x, y *graph.Value) *graph.Value { return b.Op("Add", nil, x, y) }
func (b write) mul(x, y *graph.Value) *graph.Value { return b.Op("Mul", nil, x, y) }
func (b write) dot(x, y *graph.Value) *graph.Value { return b.Op("MatMul", nil, x, y) }
func (b write) exp(x *graph.Value) *graph.Value    { return b.Op("Exp", nil, x) }
func (b write) silu(x *graph.Value) *graph.Value   { return b.mul(x, b.Op("Sigmoid", nil, x)) }

func (b write) transpose(x *graph.Value, perm ...int64) *graph.Value {
	return b.Op("Transpose", graph.Attrs{"perm": perm}, x)
}

// reshape takes ONNX's notation: 0 keeps an axis, -1 takes what is left.
func (b write) reshape(x *graph.Value, dims ...int64) *graph.Value {
	if b.Err == nil && x.Const != nil {
		if shape, ok := constShape(x.Const, dims); ok {
			return b.Const(x.Const.Reshaped(shape...))
		}
	}
	return b.Op("Reshape", nil, x, b.Ints(dims...))
}

func constShape(t *tensor.Tensor, dims []int64) ([]int, bool) {
	shape, n, rest := make([]int, len(dims)), 1, -1
	for i, d := range dims {
		switch {
		case d == 0 && i < t.Rank():
			d = int64(t.Shape[i])
		case d == -1:
			rest = i
			continue
		}
		shape[i] = int(d)
		n *= shape[i]
	}
	if rest >= 0 {
		if n == 0 || t.Len()%n != 0 {
			return nil, false
		}
		shape[rest] = t.Len() / n
	}
	return shape, true
}

func (b write) unsqueeze(x *graph.Value, axes ...int64) *graph.Value {
	return b.Op("Unsqueeze", nil, x, b.Ints(axes...))
}

func (b write) slice(x *graph.Value, axis, start, end int64) *graph.Value {
	return b.Op("Slice", nil, x, b.Ints(start), b.Ints(end), b.Ints(axis))
}

func (b write) concat(axis int64, x ...*graph.Value) *graph.Value {
	return b.Op("Concat", graph.Attrs{"axis": axis}, x...)
}

// pad appends before and after zeros on one axis; after is an int64 vector of one.
func (b write) pad(x *graph.Value, axis int64, before int64, after *graph.Value) *graph.Value {
	return b.Op("Pad", nil, x, b.concat(0, b.Ints(before), after), b.scalar(x, 0), b.Ints(axis))
}

// axis is the length of an axis of x as an int64 vector of one.
func (b write) axis(x *graph.Value, a int64) *graph.Value {
	if b.Err == nil {
		if n, ok := x.Type.Shape[a].Const(); ok {
			return b.Ints(n)
		}
	}
	return b.Op("Shape", graph.Attrs{"start": a, "end": a + 1}, x)
}

// scalar is v in x's element type.
func (b write) scalar(x *graph.Value, v float64) *graph.Value {
	if b.Err != nil || x == nil {
		return nil
	}
	return b.Const(store(x.Type.DType, []float64{v}))
}

// matrix is a constant in x's element type, made by f(row, column).
func (b write) matrix(x *graph.Value, rows, columns int, f func(i, j int) float64) *graph.Value {
	if b.Err != nil {
		return nil
	}
	v := make([]float64, rows*columns)
	for i := range v {
		v[i] = f(i/columns, i%columns)
	}
	return b.Const(store(x.Type.DType, v, rows, columns))
}

// cast converts x, unless it has that type already.
func (b write) cast(x *graph.Value, d tensor.DType) *graph.Value {
	if b.Err != nil || x == nil || x.Type.DType == d {
		return x
	}
	if x.Const != nil {
		return b.Const(store(d, x.Const.AsFloats(), x.Const.Shape...))
	}
	return b.Op("Cast", graph.Attrs{"to": int64(d)}, x)
}

// working is the type to compute in.
func working(d tensor.DType) tensor.DType {
	if d == tensor.Float64 {
		return d
	}
	return tensor.Float32
}

// fixed reads axes that a decomposition must know as numbers.
func fixed(n *graph.Node, v *graph.Value, rank int, axes map[int]*int64) error {
	if v.Type.Rank() != rank {
		return fmt.Errorf("%s: %q is %s; expected %d axes", n, v.Name, v.Type, rank)
	}
	for a, to := range axes {
		k, ok := v.Type.Shape[a].Const()
		if !ok {
			return fmt.Errorf("%s: axis %d of %q %s must be a number to write the node in other operators; bind it", n, a, v.Name, v.Type)
		}
		*to = k
	}
	return nil
}

func decomposeLinear(g *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	b := write{g}
	y := b.dot(n.In[0], n.In[1])
	if bias := n.Input(2); bias != nil {
		y = b.add(y, bias)
	}
	switch act := n.Attrs.Str("activation", "none"); act {
	case "none":
	case "relu":
		y = b.Op("Relu", nil, y)
	case "silu":
		y = b.silu(y)
	case "gelu", "gelu_tanh":
		a := graph.Attrs{"approximate": "none"}
		if act == "gelu_tanh" {
			a["approximate"] = "tanh"
		}
		y = b.Op("Gelu", a, y)
	case "sigmoid":
		y = b.Op("Sigmoid", nil, y)
	case "softplus":
		y = b.Op("Softplus", nil, y)
	default:
		return nil, fmt.Errorf("%s: unknown activation %q", n, act)
	}
	if res := n.Input(3); res != nil {
		y = b.add(y, res)
	}
	return []*graph.Value{y}, nil
}

func decomposeGatedNorm(g *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	b := write{g}
	d := n.In[0].Type.DType
	f := working(d)
	x, z, w := b.cast(n.In[0], f), b.cast(n.In[1], f), b.cast(n.In[2], f)
	var width int64
	if err := fixed(n, n.In[2], 1, map[int]*int64{0: &width}); err != nil {
		return nil, err
	}
	rank := n.In[0].Type.Rank()
	if rank == 0 {
		return nil, fmt.Errorf("%s: x is %s; expected a known rank", n, n.In[0].Type)
	}
	after := n.Attrs.Int("norm_before_gate", 0) != 0
	gate := b.silu(z)
	if !after {
		x = b.mul(x, gate)
	}
	a := graph.Attrs{"axis": int64(-1), "epsilon": n.Attrs.Float("epsilon", 1e-5)}
	if gs := n.Attrs.Int("group_size", 0); gs == 0 || gs == width {
		x = b.Op("RMSNormalization", a, x, w)
	} else {
		keep := make([]int64, rank-1) // zeros
		x = b.reshape(x, append(append([]int64{}, keep...), width/gs, gs)...)
		ones := tensor.New(f, int(gs))
		for i := range ones.Len() {
			ones.SetAt(i, 1)
		}
		x = b.Op("RMSNormalization", a, x, b.Const(ones))
		x = b.mul(b.reshape(x, append(keep, width)...), w)
	}
	if after {
		x = b.mul(x, gate)
	}
	return []*graph.Value{b.cast(x, d)}, nil
}

// decomposeConv puts time last, as Conv wants it, and back.
func decomposeConv(g *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	b := write{g}
	var channels, k int64
	if err := fixed(n, n.In[1], 2, map[int]*int64{0: &channels, 1: &k}); err != nil {
		return nil, err
	}
	x := b.transpose(n.In[0], 0, 2, 1)
	state, err := ConvState(g, n, x)
	if err != nil {
		return nil, err
	}
	in, pads := x, []int64{k - 1, 0}
	if past := n.Input(3); past != nil && k > 1 {
		in, pads = b.concat(2, b.lastColumns(b.cast(past, x.Type.DType), k-1), x), []int64{0, 0}
	}
	w := b.reshape(n.In[1], channels, 1, k)
	args := []*graph.Value{in, w}
	if bias := n.Input(2); bias != nil {
		args = append(args, bias)
	}
	y := b.Op("Conv", graph.Attrs{"group": channels, "kernel_shape": []int64{k}, "pads": pads}, args...)
	if n.Attrs.Str("activation", "none") == "silu" {
		y = b.silu(y)
	}
	return []*graph.Value{b.transpose(y, 0, 2, 1), state}, nil
}

// lastColumns cuts a state [B,C,W] to its last k columns.
func (b write) lastColumns(s *graph.Value, k int64) *graph.Value {
	if b.Err != nil || s.Type.Shape[2].Is(k) {
		return s
	}
	if k == 0 {
		return b.slice(s, 2, 0, 0)
	}
	return b.slice(s, 2, -k, 1<<62)
}

// LastColumns cuts a convolution's state [B,C,W] to its last k columns.
func LastColumns(g *graph.Builder, s *graph.Value, k int64, d tensor.DType) *graph.Value {
	b := write{g}
	return b.lastColumns(b.cast(s, d), k)
}

// ConvState is the state that a CausalConv node gives back, from its input with
// time last [B,C,L]; nil when nobody asks for it.
func ConvState(g *graph.Builder, n *graph.Node, x *graph.Value) (*graph.Value, error) {
	b := write{g}
	out := n.Output(1)
	if out == nil {
		return nil, nil
	}
	var width, has int64
	if err := fixed(n, out, 3, map[int]*int64{2: &width}); err != nil {
		return nil, err
	}
	past := n.Input(3)
	if past != nil {
		if err := fixed(n, past, 3, map[int]*int64{2: &has}); err != nil {
			return nil, err
		}
		x = b.concat(2, b.cast(past, x.Type.DType), x)
	}
	if has < width {
		x = b.pad(x, 2, width-has, b.Ints(0))
	}
	return b.cast(b.lastColumns(x, width), out.Type.DType), nil
}
