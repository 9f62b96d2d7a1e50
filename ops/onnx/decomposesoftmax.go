package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// decomposeSoftmaxAttention writes Attention as two products and a softmax.
func decomposeSoftmaxAttention(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	if n.Attrs.Int("left_window_size", -1) >= 0 || n.Attrs.Int("right_window_size", -1) >= 0 || n.Input(6) != nil || n.Output(3) != nil && !n.Output(3).Unused() {
		return nil, fmt.Errorf("%s: windows, lengths by batch row and the scores as an output have no simpler form here", n)
	}
	q, k, v := n.In[0], n.In[1], n.In[2]
	packed := q.Type.Rank() == 3
	var hq, hkv, d, dv int64
	if packed {
		hq, hkv = n.Attrs.Int("q_num_heads", 1), n.Attrs.Int("kv_num_heads", 1)
		apart := func(x *graph.Value, h int64) *graph.Value {
			return b.Op("Transpose", graph.Attrs{"perm": []int64{0, 2, 1, 3}}, b.Op("Reshape", nil, x, b.Ints(0, 0, h, -1)))
		}
		q, k, v = apart(q, hq), apart(k, hkv), apart(v, hkv)
		if b.Err != nil {
			return nil, b.Err
		}
	}
	for _, x := range []struct {
		v    *graph.Value
		axis int
		to   *int64
	}{{q, 1, &hq}, {k, 1, &hkv}, {q, 3, &d}, {v, 3, &dv}} {
		var ok bool
		if *x.to, ok = x.v.Type.Shape[x.axis].Const(); !ok {
			return nil, fmt.Errorf("%s: heads of %s must be numbers, of numbers", n, x.v.Type)
		}
	}
	past := b.Ints(0)
	if p := n.Input(4); p != nil {
		past = b.Op("Shape", graph.Attrs{"start": int64(2), "end": int64(3)}, p)
		k = b.Op("Concat", graph.Attrs{"axis": int64(2)}, p, k)
		v = b.Op("Concat", graph.Attrs{"axis": int64(2)}, n.In[5], v)
	}
	keys, values := k, v
	if hkv == 0 || hq%hkv != 0 {
		return nil, fmt.Errorf("%s: %d query heads for %d key/value heads", n, hq, hkv)
	}
	if g := hq / hkv; g > 1 {
		repeat := func(x *graph.Value, width int64) *graph.Value {
			x = b.Op("Expand", nil, b.Op("Unsqueeze", nil, x, b.Ints(2)), b.Ints(1, 1, g, 1, 1))
			return b.Op("Reshape", nil, x, b.Ints(0, hq, -1, width))
		}
		k, v = repeat(k, d), repeat(v, dv)
	}
	scale := 1 / math.Sqrt(float64(d))
	if n.Attrs.Has("scale") {
		scale = float64(n.Attrs.Float("scale", 0))
	}
	s := times(b, b.Op("MatMul", nil, q, b.Op("Transpose", graph.Attrs{"perm": []int64{0, 1, 3, 2}}, k)), scale)
	if c := float64(n.Attrs.Float("softcap", 0)); c > 0 {
		s = times(b, b.Op("Tanh", nil, times(b, s, 1/c)), c)
	}
	hide := func(sees *graph.Value) { s = b.Op("Where", nil, sees, s, like(b, s, math.Inf(-1))) }
	length := func(x *graph.Value) *graph.Value {
		return b.Op("Shape", graph.Attrs{"start": int64(2), "end": int64(3)}, x)
	}
	steps := func(n *graph.Value) *graph.Value { // 0 ... n-1
		return b.Op("Range", nil, b.Const(tensor.Scalar(int64(0))), b.Op("Squeeze", nil, n), b.Const(tensor.Scalar(int64(1))))
	}
	mask := n.Input(3)
	if mask != nil && mask.Type.Rank() > 0 {
		if t := mask.Type.Shape[mask.Type.Rank()-1]; !t.Is(1) && b.Err == nil && t != keys.Type.Shape[2] && t.IsConst() && keys.Type.Shape[2].IsConst() {
			return nil, fmt.Errorf("%s: a mask %s that ends before the keys has no simpler form here", n, mask.Type)
		}
	}
	switch {
	case mask == nil:
	case mask.Type.DType == tensor.Bool:
		hide(mask)
	default:
		s = b.Op("Add", nil, s, mask)
	}
	if n.Attrs.Int("is_causal", 0) != 0 {
		place := b.Op("Unsqueeze", nil, b.Op("Add", nil, steps(length(q)), past), b.Ints(1))
		hide(b.Op("LessOrEqual", nil, steps(length(keys)), place))
	}
	p := b.Op("Softmax", graph.Attrs{"axis": int64(-1)}, s)
	if mask != nil && mask.Type.DType == tensor.Bool { // a query that sees nothing gives zeros
		p = b.Op("Where", nil, b.Op("IsNaN", nil, p), like(b, p, 0), p)
	}
	y := b.Op("MatMul", nil, p, v)
	if packed {
		y = b.Op("Reshape", nil, b.Op("Transpose", graph.Attrs{"perm": []int64{0, 2, 1, 3}}, y), b.Ints(0, 0, hq*dv))
	}
	return []*graph.Value{y, keys, values, nil}[:len(n.Out)], b.Err
}
