package legalize

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// LinearAttention computes S = exp(decay)*S + key value^T, output = query^T S:
// SSD with query C, key B, value dt*x and the state transposed. What SSD fuses
// around that (softplus and limits of dt, D, z) stands beside it. Its default
// scale is 1/sqrt(N), and its default rule another: both are written out.

// linearAttention is the standard operator; it shares keys among queries and
// not, as SSD, queries and keys among values, so B and C are repeated per head.
func linearAttention(l *legalizer, n *graph.Node) ([]*graph.Value, error) {
	return attention(l, n, "", func(b *graph.Builder, s *ssm.ScanOperands) (q, k *graph.Value, heads int64) {
		return ssm.RepeatGroups(b, s.C, 2, s.H/s.G), ssm.RepeatGroups(b, s.B, 2, s.H/s.G), s.H
	})
}

// contribAttention is ONNX Runtime's, which takes as many queries and keys as
// there are groups.
func contribAttention(l *legalizer, n *graph.Node) ([]*graph.Value, error) {
	return attention(l, n, Contrib, func(_ *graph.Builder, s *ssm.ScanOperands) (q, k *graph.Value, heads int64) {
		return s.C, s.B, s.G
	})
}

func attention(l *legalizer, n *graph.Node, domain string, operands func(*graph.Builder, *ssm.ScanOperands) (q, k *graph.Value, heads int64)) ([]*graph.Value, error) {
	if n.In[0].Type.DType == tensor.Float64 {
		return nil, nil // the operator has no float64: decompose
	}
	b := l.builder(n)
	s, err := ssm.Operands(b, n)
	if err != nil {
		return nil, err
	}
	reshape := func(v *graph.Value, dims ...int64) *graph.Value { return b.Op("Reshape", nil, v, b.Ints(dims...)) }
	q, k, heads := operands(b, s)
	var past *graph.Value
	if s.H0 != nil {
		past = b.Op("Transpose", graph.Attrs{"perm": []int64{0, 1, 3, 2}}, s.H0)
	}
	a := graph.Attrs{"q_num_heads": heads, "kv_num_heads": s.H, "scale": float32(1), "update_rule": "gated"}
	if q := n.Attrs.Int("chunk_size", 0); q > 0 {
		a["chunk_size"] = q
	}
	m := b.Node(domain, "LinearAttention", a, 2, reshape(q, 0, 0, heads*s.N), reshape(k, 0, 0, heads*s.N), reshape(s.X, 0, 0, s.H*s.P), past, s.Decay)
	if m == nil {
		return nil, b.Err
	}
	out := []*graph.Value{s.Finish(b, reshape(m.Out[0], 0, 0, s.H, s.P)), nil}
	if n.Output(1) != nil {
		out[1] = b.Op("Transpose", graph.Attrs{"perm": []int64{0, 1, 3, 2}}, m.Out[1])
		if d := n.Out[1].Type.DType; b.Err == nil && d != out[1].Type.DType {
			out[1] = b.Op("Cast", graph.Attrs{"to": int64(d)}, out[1])
		}
	}
	return out[:len(n.Out)], b.Err
}

// asContrib hands a standard operator to ONNX Runtime under the name by which it
// has a kernel.
func asContrib(l *legalizer, n *graph.Node) ([]*graph.Value, error) {
	if n.In[0].Type.DType == tensor.Float64 {
		return nil, nil
	}
	b := l.builder(n)
	m := b.Node(Contrib, n.Op.Name, n.Attrs.Clone(), 2, n.In...)
	if m == nil {
		return nil, b.Err
	}
	return m.Out[:len(n.Out)], nil
}

// convWithState: the operator's state is K-1 columns wide; another width is cut
// from, or made of, the input and the state that came in.
func convWithState(l *legalizer, n *graph.Node) ([]*graph.Value, error) { return conv(l, n, "") }

// contribConv takes the contrib operator for one token with a state, where ONNX
// Runtime needs a third of the time of Concat and Conv. Over a sequence its Conv
// is twice as fast as the contrib operator.
func contribConv(l *legalizer, n *graph.Node) ([]*graph.Value, error) {
	if n.Input(3) == nil || !n.In[0].Type.Shape[1].Is(1) {
		return nil, nil
	}
	return conv(l, n, Contrib)
}

func conv(l *legalizer, n *graph.Node, domain string) ([]*graph.Value, error) {
	d := n.In[0].Type.DType
	channels, ok := n.In[1].Type.Shape[0].Const()
	k, ok2 := n.In[1].Type.Shape[1].Const()
	if d == tensor.Float64 && domain != "" || !ok || !ok2 {
		return nil, nil
	}
	b := l.builder(n)
	x := b.Op("Transpose", graph.Attrs{"perm": []int64{0, 2, 1}}, n.In[0])
	var past *graph.Value
	if s := n.Input(3); s != nil {
		past = ssm.LastColumns(b, s, k-1, d)
	}
	w := n.In[1]
	if w.Const != nil {
		w = b.Const(w.Const.Reshaped(int(channels), 1, int(k)))
	} else {
		w = b.Op("Reshape", nil, w, b.Ints(channels, 1, k))
	}
	m := b.Node(domain, "CausalConvWithState", graph.Attrs{"activation": n.Attrs.Str("activation", "none")}, 2, x, w, n.Input(2), past)
	if m == nil {
		return nil, b.Err
	}
	out := []*graph.Value{b.Op("Transpose", graph.Attrs{"perm": []int64{0, 2, 1}}, m.Out[0]), nil}
	if state := n.Output(1); state != nil {
		if state.Type.Shape[2].Is(k-1) && state.Type.DType == d {
			out[1] = m.Out[1]
		} else {
			var err error
			if out[1], err = ssm.ConvState(b, n, x); err != nil {
				return nil, err
			}
		}
	}
	return out[:len(n.Out)], b.Err
}

// contribGatedNorm: the contrib operator gates after the norm, and its weight
// is one group wide.
func contribGatedNorm(l *legalizer, n *graph.Node) ([]*graph.Value, error) {
	x, w := n.In[0], n.In[2]
	gs := n.Attrs.Int("group_size", 0)
	if n.Attrs.Int("norm_before_gate", 0) == 0 || gs != 0 && !w.Type.Shape[0].Is(gs) || x.Type.DType == tensor.Float64 {
		return nil, nil
	}
	b := l.builder(n)
	m := b.Node(Contrib, "GatedRMSNorm", graph.Attrs{"epsilon": n.Attrs.Float("epsilon", 1e-5)}, 1, x, w, n.In[1])
	if m == nil {
		return nil, b.Err
	}
	return m.Out, nil
}
