// Package half computes 16-bit floats in float32. Processors without arithmetic
// for them have to widen every operand anyway; doing it in the graph lets all
// passes and kernels for float32 work, and a chain of arithmetic widens once
// and rounds once.
//
// Inputs, outputs and states of the model keep their type, and so does what moves
// their elements alone, which is half as much to move. Results are those of the
// same operators with less rounding: what was computed here stays float32 until
// it leaves the model, and a float32 value that the model narrows for arithmetic
// or widens after it is not rounded either. So results are those of the graph in
// exact arithmetic to about 1e-6, where runtimes that round each value to 16 bits
// are off by some 1e-4.
package half

import (
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
)

// Pass widens arithmetic on float16 and bfloat16. No certificate is needed: an
// operator means the same in every float type.
var Pass = &passes.Pass{
	Name: "half",
	Doc:  "arithmetic on float16 and bfloat16 is done in float32, and its results are moved so; other elements keep their type",
	Run: func(c *passes.Context, g *graph.Graph) error {
		w := &widener{c: c, wide: map[*graph.Value]*graph.Value{}}
		w.graph(g)
		if w.count > 0 {
			c.Remark(passes.Remark{Rule: "float32", At: g.Name, Why: fmt.Sprintf("%d nodes computed with 16-bit floats", w.count), Done: true})
		}
		return nil
	},
}

// arithmetic names the operators that compute with their float operands.
// Others move elements, or carry their type in an attribute.
const arithmetic = ` Abs Acos Acosh Add Asin Asinh Atan Atanh Attention AveragePool BatchNormalization Ceil Celu Clip Conv
ConvTranspose Cos Cosh CumSum Div Einsum Elu Equal Erf Exp Floor GRU Gelu Gemm GlobalAveragePool GlobalMaxPool Greater
GreaterOrEqual GroupNormalization HardSigmoid HardSwish InstanceNormalization LRN LSTM LayerNormalization LeakyRelu Less
LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool Mean Min Mish Mod Mul Neg PRelu Pow RMSNormalization RNN
Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
Relu Resize RotaryEmbedding Round Selu Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Sub Sum Swish Tan Tanh
ThresholdedRelu Upsample `

// movement names operators that give elements as they are.
const movement = ` Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity Pad Reshape ScatterElements ScatterND Slice
SpaceToDepth Split Squeeze TensorScatter Tile Transpose Trilu Unsqueeze Where `

var computes, moves = set(arithmetic), set(movement)

func set(names string) map[string]bool {
	m := map[string]bool{}
	for _, name := range strings.Fields(names) {
		m[name] = true
	}
	return m
}

type widener struct {
	c     *passes.Context
	wide  map[*graph.Value]*graph.Value // the float32 form of a 16-bit value
	count int
}

func isHalf(v *graph.Value) bool {
	return v != nil && (v.Type.DType == tensor.Float16 || v.Type.DType == tensor.BFloat16)
}

func (w *widener) graph(g *graph.Graph) {
	for _, n := range append([]*graph.Node{}, g.Nodes...) {
		for _, b := range n.Bodies {
			w.graph(b.Graph)
		}
		switch {
		case n.Op.Domain == "" && computes[n.Op.Name], w.follows(n):
			w.node(g, n)
		case n.Op.Is("", "Cast") && isHalf(n.In[0]) && n.Out[0].Type.DType == n.In[0].Type.DType && !n.Out[0].IsOutput():
			n.Out[0].ReplaceWith(n.In[0]) // no-ops go later, but what was computed must not hide behind one
		case n.Op.Is("", "Cast") && n.Out[0].Type.DType == tensor.Float32 && w.wide[n.In[0]] != nil && !n.Out[0].IsOutput():
			n.Out[0].ReplaceWith(w.wide[n.In[0]])
		case n.Op.Is("", "Cast") && n.Out[0].Type.DType == tensor.Float32 && w.wide[n.In[0]] != nil:
			n.SetIn(0, w.wide[n.In[0]]) // an output keeps a node of its own
		}
	}
}

// follows reports that n moves elements all of which are at hand in float32, and
// inside the model.
func (w *widener) follows(n *graph.Node) bool {
	if n.Op.Domain != "" || !moves[n.Op.Name] {
		return false
	}
	// Weights that are moved, once and for all when constants are folded, belong
	// to the arithmetic after it; so does a table that serves as a matrix, too.
	computed := constants(n) || n.Op.Name == "Gather" && isHalf(n.In[0]) && n.In[0].Const != nil && len(n.In[0].Uses) > 1
	for _, v := range n.In {
		if !isHalf(v) || v.Const != nil {
			continue
		}
		if w.wide[v] == nil && !narrowed(v) {
			return false
		}
		computed = computed || w.wide[v] != nil || computedWith(n, 8)
	}
	for _, v := range n.Out {
		if v != nil && v.IsOutput() {
			return false
		}
	}
	return computed
}

// computedWith: arithmetic reads what n moves, after at most depth more moves.
func computedWith(n *graph.Node, depth int) bool {
	for _, v := range n.Out {
		for _, u := range v.Uses {
			m := u.Node
			switch {
			case m.Op.Domain != "":
			case computes[m.Op.Name], m.Op.Name == "Cast" && m.Out[0].Type.DType == tensor.Float32:
				return true
			case moves[m.Op.Name] && depth > 0 && computedWith(m, depth-1):
				return true
			}
		}
	}
	return false
}

// constants: n moves a 16-bit constant, and nothing else is unknown.
func constants(n *graph.Node) bool {
	for _, v := range n.In {
		if v != nil && v.Const == nil {
			return false
		}
	}
	return len(n.In) > 0 && isHalf(n.In[0])
}

// narrowed: v is a float32 value that was made narrow.
func narrowed(v *graph.Value) bool {
	return v.Def != nil && v.Def.Op.Is("", "Cast") && v.Def.In[0].Type.DType == tensor.Float32
}

// node puts the same operator on float32 in the place of n.
func (w *widener) node(g *graph.Graph, n *graph.Node) {
	touched := false
	for _, v := range n.In {
		touched = touched || isHalf(v)
	}
	if !touched {
		return
	}
	b := w.c.Builder(g, n.From)
	in := make([]*graph.Value, len(n.In))
	for i, v := range n.In {
		if in[i] = v; isHalf(v) {
			in[i] = w.widen(b, v)
		}
	}
	m := b.Like(n, in...)
	if b.Err != nil {
		return
	}
	for i, v := range n.Out {
		if v == nil || v.Unused() {
			continue
		}
		x := m.Out[i]
		if isHalf(v) {
			x = b.Op("Cast", graph.Attrs{"to": int64(v.Type.DType)}, m.Out[i])
			w.wide[x] = m.Out[i]
		}
		if v.IsOutput() { // outputs of the model keep their names
			v.Name, x.Name = x.Name, v.Name
		}
		v.ReplaceWith(x)
	}
	w.count++
}

// widen gives a 16-bit value as float32: what it was rounded from, where it was
// computed here.
func (w *widener) widen(b *graph.Builder, v *graph.Value) *graph.Value {
	if x := w.wide[v]; x != nil && (x.Def == nil || x.Def.Graph == b.Graph) {
		return x
	}
	var x *graph.Value
	switch {
	case v.Const != nil:
		x = b.Graph.AddConst(v.Name, Float32(v.Const))
	case narrowed(v) && v.Def.Graph == b.Graph:
		x = v.Def.In[0] // float32 that was only made narrow for this arithmetic
	default:
		x = b.Op("Cast", graph.Attrs{"to": int64(tensor.Float32)}, v)
	}
	w.wide[v] = x
	return x
}

// Float32 converts a tensor of 16-bit floats.
func Float32(t *tensor.Tensor) *tensor.Tensor {
	out := tensor.New(tensor.Float32, t.Shape...)
	src, dst := tensor.Of[uint16](t), tensor.Of[float32](out)
	f := tensor.F16ToF32
	if t.DType == tensor.BFloat16 {
		f = tensor.BF16ToF32
	}
	for i, h := range src {
		dst[i] = f(h)
	}
	return out
}
