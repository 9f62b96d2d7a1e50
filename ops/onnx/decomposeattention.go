package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// decomposeLinearAttention is the loop over tokens that defines the operator,
// as a Scan on float32.
func decomposeLinearAttention(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	hq, hkv, err := heads(n.Attrs)
	if err != nil {
		return nil, err
	}
	gated, delta, err := updateRule(n.Attrs)
	if err != nil {
		return nil, err
	}
	qt, vt := n.In[0].Type, n.In[2].Type
	if qt.Rank() != 3 || vt.Rank() != 3 {
		return nil, fmt.Errorf("%s: query %s and value %s, want three axes", n, qt, vt)
	}
	dk, ok := qt.Shape[2].FloorDiv(graph.D(hq)).Const()
	dv, ok2 := vt.Shape[2].FloorDiv(graph.D(hkv)).Const()
	if !ok || !ok2 {
		return nil, fmt.Errorf("%s: the size of its heads must be a number", n)
	}
	d, f := qt.DType, tensor.Float32
	if d == tensor.Float64 {
		f = d
	}
	cast := func(v *graph.Value, to tensor.DType) *graph.Value {
		if v == nil || v.Type.DType == to {
			return v
		}
		return b.Op("Cast", graph.Attrs{"to": int64(to)}, v)
	}
	reshape := func(b *graph.Builder, v *graph.Value, dims ...int64) *graph.Value {
		return b.Op("Reshape", nil, v, b.Ints(dims...))
	}
	scale := float64(n.Attrs.Float("scale", 0))
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(dk))
	}
	q, k, v := cast(n.In[0], f), cast(n.In[1], f), cast(n.In[2], f)
	if scale != 1 {
		q = times(b, q, scale)
	}
	xs := []*graph.Value{reshape(b, q, 0, 0, hkv, hq/hkv, dk), reshape(b, k, 0, 0, hkv, dk, 1), reshape(b, v, 0, 0, hkv, 1, dv)}
	if gated {
		width := int64(1)
		if w, ok := n.In[4].Type.Shape[2].Const(); ok && w != hkv {
			width = dk
		}
		xs = append(xs, b.Op("Exp", nil, reshape(b, cast(n.In[4], f), 0, 0, hkv, width, 1)))
	}
	if delta {
		rates, _ := n.In[5].Type.Shape[2].Const()
		xs = append(xs, reshape(b, cast(n.In[5], f), 0, 0, rates, 1, 1))
	}
	state := cast(n.Input(3), f)
	if state == nil {
		batch := b.Op("Shape", graph.Attrs{"start": int64(0), "end": int64(1)}, q)
		shape := b.Op("Concat", graph.Attrs{"axis": int64(0)}, batch, b.Ints(hkv, dk, dv))
		state = b.Op("Expand", nil, b.Const(tensor.New(f, 1, 1, 1, 1)), shape)
	}
	if b.Err != nil {
		return nil, b.Err
	}
	id, err := b.Resolve("", "Scan")
	if err != nil {
		return nil, err
	}
	axes := make([]int64, len(xs))
	for i := range axes {
		axes[i] = 1
	}
	m := b.Graph.Add(id, graph.Attrs{"num_scan_inputs": int64(len(xs)), "scan_input_axes": axes, "scan_output_axes": []int64{1}}, append([]*graph.Value{state}, xs...), 2, "attention")
	m.From = b.From
	body := m.AddBody("body", "attention_body")
	s := body.AddInput("attention_state", state.Type)
	in := make([]*graph.Value, len(xs))
	for i, x := range xs {
		in[i] = body.AddInput("attention_token", graph.T(f, append([]graph.Dim{x.Type.Shape[0]}, x.Type.Shape[2:]...)...))
	}
	c := &graph.Builder{Graph: body, From: b.From, Resolve: b.Resolve, Infer: b.Infer}
	if gated {
		s = c.Op("Mul", nil, s, in[3])
	}
	write := in[2] // [B,H,1,dv]
	if delta {     // beta*(v - k^T S)
		kt := c.Op("Transpose", graph.Attrs{"perm": []int64{0, 1, 3, 2}}, in[1])
		write = c.Op("Mul", nil, c.Op("Sub", nil, write, c.Op("MatMul", nil, kt, s)), in[len(in)-1])
	}
	next := c.Op("Add", nil, s, c.Op("Mul", nil, in[1], write))
	y := c.Op("MatMul", nil, in[0], next)
	if c.Err != nil {
		return nil, c.Err
	}
	body.AddOutput(next)
	body.AddOutput(y)
	if err := b.Infer(m); err != nil {
		return nil, err
	}
	out := []*graph.Value{cast(reshape(b, m.Out[1], 0, 0, hq*dv), d), m.Out[0]}
	if len(n.Out) > 1 && n.Out[1] != nil {
		out[1] = cast(out[1], n.Out[1].Type.DType)
	}
	return out[:len(n.Out)], b.Err
}

// decomposeCausalConv is Concat or padding, Conv and SiLU.
func decomposeCausalConv(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	x, w := n.In[0], n.In[1]
	channels, ok := w.Type.Shape[0].Const()
	k, ok2 := w.Type.Shape[2].Const()
	if !ok || !ok2 {
		return nil, fmt.Errorf("%s: weight %s, want numbers", n, w.Type)
	}
	all := x
	if past := n.Input(3); past != nil {
		all = b.Op("Concat", graph.Attrs{"axis": int64(2)}, past, x)
	} else if k > 1 {
		all = b.Op("Pad", nil, x, b.Ints(k-1, 0), like(b, x, 0), b.Ints(2))
	}
	in := []*graph.Value{all, w}
	if bias := n.Input(2); bias != nil {
		in = append(in, bias)
	}
	y := b.Op("Conv", graph.Attrs{"group": channels, "kernel_shape": []int64{k}}, in...)
	if n.Attrs.Str("activation", "none") != "none" {
		y = b.Op("Mul", nil, y, b.Op("Sigmoid", nil, y))
	}
	out := []*graph.Value{y, nil}
	if n.Output(1) != nil {
		start := b.Ints(-(k - 1))
		if k == 1 { // no columns, which no negative start says
			start = b.Ints(math.MaxInt64)
		}
		out[1] = b.Op("Slice", nil, all, start, b.Ints(math.MaxInt64), b.Ints(2))
	}
	return out[:len(n.Out)], b.Err
}
