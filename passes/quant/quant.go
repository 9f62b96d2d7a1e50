// Package quant turns what stands between DequantizeLinear and QuantizeLinear
// into operators on bytes, the form in which quantised models are meant to run.
//
// No certificate is needed: QLinearConv, QLinearMatMul, QGemm and QLinearAdd are defined
// as dequantising, computing and quantising, and what only moves elements moves
// bytes as well when their scale stays the same.
package quant

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
)

// Pass fuses quantised operators.
var Pass = &passes.Pass{
	Name: "quant",
	Doc:  "operators between DequantizeLinear and QuantizeLinear compute on bytes",
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if n.Op.Domain != "" || len(n.In) == 0 || n.Out[0] == nil {
				continue
			}
			if n.Op.Name == "Gather" {
				gather(c, g, n)
			}
			if rule := rules[n.Op.Name]; rule != nil {
				fuse(c, g, n, rule)
			}
		}
		return nil
	},
}

// A rule builds the operator on bytes from its dequantised inputs and the
// quantised output, or says why not.
type rule func(b *graph.Builder, n *graph.Node, in []*real, out *real) (*graph.Value, string)

var rules = map[string]rule{
	"Conv": conv, "MatMul": matmul, "Gemm": gemm, "Add": add,
	"Reshape": move, "Transpose": move, "MaxPool": move, "Flatten": move, "Squeeze": move, "Unsqueeze": move, "Slice": move, "Gather": move, "Expand": move,
}

// real is a number that is kept as bytes: (bytes - zero) * scale.
type real struct {
	bytes, scale, zero *graph.Value
	axis               int64
}

// dequantised reads a DequantizeLinear of bytes or int32, not in blocks.
func dequantised(v *graph.Value) *real {
	if v == nil || v.Def == nil || !v.Def.Op.Is("", "DequantizeLinear") || v.Type.DType != tensor.Float32 {
		return nil
	}
	n := v.Def
	if n.Attrs.Int("block_size", 0) != 0 || !n.In[0].Type.Ranked() {
		return nil
	}
	return &real{n.In[0], n.In[1], n.Input(2), n.Attrs.Int("axis", 1)}
}

// quantised reads the QuantizeLinear that is the only reader of v.
func quantised(v *graph.Value) (*real, *graph.Value) {
	if len(v.Uses) != 1 || v.IsOutput() || !v.Uses[0].Node.Op.Is("", "QuantizeLinear") || v.Uses[0].Index != 0 {
		return nil, nil
	}
	n := v.Uses[0].Node
	if n.Attrs.Int("block_size", 0) != 0 || n.Input(2) == nil || !isByte(n.Out[0].Type.DType) {
		return nil, nil
	}
	return &real{n.Out[0], n.In[1], n.In[2], n.Attrs.Int("axis", 1)}, n.Out[0]
}

func isByte(d tensor.DType) bool { return d == tensor.Uint8 || d == tensor.Int8 }

// single reports one scale and one zero point for the whole tensor.
func (r *real) single() bool {
	one := func(v *graph.Value) bool {
		return v.Type.Rank() == 0 || v.Type.Rank() == 1 && v.Type.Shape[0].Is(1)
	}
	return isByte(r.bytes.Type.DType) && r.zero != nil && one(r.scale) && one(r.zero)
}

func fuse(c *passes.Context, g *graph.Graph, n *graph.Node, f rule) {
	out, old := quantised(n.Out[0])
	if out == nil {
		return
	}
	in := make([]*real, len(n.In))
	for i, v := range n.In {
		in[i] = dequantised(v)
	}
	if in[0] == nil || !in[0].single() || !out.single() {
		return
	}
	b := c.Builder(g, n.From)
	y, why := f(b, n, in, out)
	if b.Err != nil {
		why = b.Err.Error()
	} else if why == "" && !y.Type.Equal(old.Type) {
		why = "a length of the result is known only once it runs" // such a length bears the name of its value
	}
	name := "bytes (" + n.Op.Name + ")"
	if why != "" {
		c.Miss(name, n.Out[0], 1, 2, "%s", why)
		return
	}
	if old.IsOutput() {
		old.Name, y.Name = y.Name, old.Name
	}
	old.ReplaceWith(y)
	c.Done(name, y, "")
}

// conv: QLinearConv. The weight may have a scale per output channel; the bias
// counts in units of the product of both scales.
func conv(b *graph.Builder, n *graph.Node, in []*real, out *real) (*graph.Value, string) {
	x, w := in[0], in[1]
	if w == nil || !isByte(w.bytes.Type.DType) || w.zero == nil || w.scale.Type.Rank() > 1 || w.scale.Type.Rank() == 1 && !w.scale.Type.Shape[0].Is(1) && w.axis != 0 {
		return nil, "the weight is not bytes with one scale, or one per output channel"
	}
	if w.bytes.Const == nil || w.bytes.Type.DType != tensor.Int8 || !isZero(w.zero) {
		return nil, "the weight is not constant, signed and symmetric"
	}
	if x.bytes.Type.DType != out.bytes.Type.DType {
		return nil, "x and y are of different types"
	}
	args := []*graph.Value{x.bytes, x.scale, x.zero, w.bytes, w.scale, w.zero, out.scale, out.zero}
	if n.Input(2) != nil {
		bias := in[2]
		if bias == nil || bias.bytes.Type.DType != tensor.Int32 || !isProduct(bias.scale, x.scale, w.scale) || bias.zero != nil && !isZero(bias.zero) {
			return nil, "the bias is not int32 in units of both scales"
		}
		args = append(args, bias.bytes)
	}
	return result(b.Node("", "QLinearConv", n.Attrs.Clone(), 1, args...)), ""
}

// isProduct reports s = a*b to the rounding of float32.
func isProduct(s, a, b *graph.Value) bool {
	if s.Const == nil || a.Const == nil || b.Const == nil || s.Const.Len() != 1 && s.Const.Len() != b.Const.Len() {
		return false
	}
	for i := range s.Const.Len() {
		want := a.Const.At(0) * b.Const.At(i%b.Const.Len())
		if !(math.Abs(s.Const.At(i)-want) <= 1e-6*math.Abs(want)) {
			return false
		}
	}
	return true
}

func isZero(v *graph.Value) bool {
	if v.Const == nil {
		return false
	}
	for i := range v.Const.Len() {
		if v.Const.IntAt(i) != 0 {
			return false
		}
	}
	return true
}

// matmul: QLinearMatMul, with one scale for the right operand or one per column.
func matmul(b *graph.Builder, n *graph.Node, in []*real, out *real) (*graph.Value, string) {
	x, w := in[0], in[1]
	if w == nil || !isByte(w.bytes.Type.DType) || w.zero == nil {
		return nil, "the right operand is not bytes"
	}
	if r := w.bytes.Type.Rank(); !w.single() && (r != 2 || w.axis != 1 && w.axis != -1) {
		return nil, "the right operand has scales other than per column"
	}
	return result(b.Node("", "QLinearMatMul", nil, 1, x.bytes, x.scale, x.zero, w.bytes, w.scale, w.zero, out.scale, out.zero)), ""
}

// gemm: QGemm, whose weight may have a scale per output column and whose bias
// counts in units of the product of both scales.
func gemm(b *graph.Builder, n *graph.Node, in []*real, out *real) (*graph.Value, string) {
	x, w := in[0], in[1]
	trans := n.Attrs.Int("transB", 0)
	if n.Attrs.Int("transA", 0) != 0 || n.Attrs.Float("alpha", 1) != 1 || n.Attrs.Float("beta", 1) != 1 {
		return nil, "the left operand is transposed, or alpha or beta is not 1"
	}
	if w == nil || !isByte(w.bytes.Type.DType) || w.zero == nil || !w.single() && (w.scale.Type.Rank() != 1 || w.axis != 1-trans && w.axis != -1-trans) {
		return nil, "the weight is not bytes with one scale, or one per output column"
	}
	args := []*graph.Value{x.bytes, x.scale, x.zero, w.bytes, w.scale, w.zero, nil, out.scale, out.zero}
	if n.Input(2) != nil {
		bias := in[2]
		if bias == nil || bias.bytes.Type.DType != tensor.Int32 || bias.bytes.Type.Rank() != 1 || !isProduct(bias.scale, x.scale, w.scale) || bias.zero != nil && !isZero(bias.zero) {
			return nil, "the bias is not a vector of int32 in units of both scales"
		}
		args[6] = bias.bytes
	}
	return result(b.Node("com.microsoft", "QGemm", graph.Attrs{"transB": trans}, 1, args...)), ""
}

// add: QLinearAdd of operands of one shape.
func add(b *graph.Builder, n *graph.Node, in []*real, out *real) (*graph.Value, string) {
	x, y := in[0], in[1]
	if y == nil || !y.single() || x.bytes.Type.DType != y.bytes.Type.DType || x.bytes.Type.DType != out.bytes.Type.DType {
		return nil, "the second operand is not bytes of the same type"
	}
	if !n.In[0].Type.Equal(n.In[1].Type) {
		return nil, "the operands are broadcast"
	}
	return result(b.Node("com.microsoft", "QLinearAdd", nil, 1, x.bytes, x.scale, x.zero, y.bytes, y.scale, y.zero, out.scale, out.zero)), ""
}

// move: the same operator on bytes, when their meaning stays.
func move(b *graph.Builder, n *graph.Node, in []*real, out *real) (*graph.Value, string) {
	if !sameConst(in[0].scale, out.scale) || !sameConst(in[0].zero, out.zero) || len(n.Out) > 1 && n.Out[1] != nil {
		return nil, "the scale changes"
	}
	return result(b.Like(n, append([]*graph.Value{in[0].bytes}, n.In[1:]...)...)), ""
}

func sameConst(a, b *graph.Value) bool {
	return a == b || a.Const != nil && b.Const != nil && a.Const.DType == b.Const.DType && string(a.Const.Data) == string(b.Const.Data)
}

func result(n *graph.Node) *graph.Value {
	if n == nil {
		return nil
	}
	return n.Out[0]
}

// gather selects rows of a constant table before they become numbers, not after.
func gather(c *passes.Context, g *graph.Graph, n *graph.Node) {
	t := dequantised(n.In[0])
	if t == nil || t.bytes.Const == nil || !t.single() {
		return
	}
	b := c.Builder(g, n.From)
	rows := b.Like(n, t.bytes, n.In[1])
	if b.Err != nil {
		return
	}
	like := b.Like(n.In[0].Def, rows.Out[0], t.scale, t.zero)
	if b.Err != nil {
		return
	}
	y := like.Out[0]
	if n.Out[0].IsOutput() {
		n.Out[0].Name, y.Name = y.Name, n.Out[0].Name
	}
	n.Out[0].ReplaceWith(y)
	c.Done("gather before dequantising", y, "")
}
