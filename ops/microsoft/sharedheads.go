package microsoft

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
)

// sharedHeads gives LinearAttention its meaning where it has fewer query and key
// heads than value heads: value head h reads head h div (Hkv/Hq). ONNX's operator
// does not allow that, so such a node is not written out; the passes know it as
// SSD's groups.
func sharedHeads(r *ops.Op) {
	var std *ops.Op
	for _, o := range onnx.LinearAttentionRows() {
		if o.ID.Name == r.ID.Name {
			std = o
		}
	}
	parts, eval := r.Infer, r.Eval
	shared := func(n *graph.Node) bool {
		return n.Attrs.Int("q_num_heads", 0) > 0 && n.Attrs.Int("kv_num_heads", 0) > n.Attrs.Int("q_num_heads", 0) && n.Attrs.Int("state_window", 0) == 0
	}
	r.Infer = func(c *ops.Infer) error {
		if !shared(c.Node) {
			return parts(c)
		}
		return inferShared(c)
	}
	r.Eval = func(c *ops.Call) ([]*tensor.Tensor, error) {
		if !shared(c.Node) {
			return eval(c)
		}
		return evalShared(c, std)
	}
	heads := graph.Attrs{"q_num_heads": int64(1), "kv_num_heads": int64(2), "update_rule": "gated", "scale": float32(1)}
	r.Cases = append(append(r.Cases, std.Cases...), ops.Case{
		Name: "heads that share queries and keys", Attrs: heads, NOut: 2,
		// Both heads: S = k v, o = q S.
		In: []*tensor.Tensor{tensor.From([]float32{1, 2}, 1, 1, 2), tensor.From([]float32{3, 4}, 1, 1, 2), tensor.From([]float32{5, 6}, 1, 1, 2),
			nil, tensor.From([]float32{-1, -2}, 1, 1, 2)},
		Want: []*tensor.Tensor{tensor.From([]float32{55, 66}, 1, 1, 2), tensor.From([]float32{15, 20, 18, 24}, 1, 2, 2, 1)},
	})
}

func inferShared(c *ops.Infer) error {
	hq, hkv := c.Node.Attrs.Int("q_num_heads", 0), c.Node.Attrs.Int("kv_num_heads", 0)
	if hkv%hq != 0 {
		return c.Errorf("kv_num_heads = %d is not a multiple of q_num_heads = %d", hkv, hq)
	}
	q, v := c.Type(0), c.Type(2)
	state := graph.Type{DType: q.DType}
	if c.Has(3) {
		state = c.Type(3)
	}
	if !q.Ranked() || !v.Ranked() {
		c.Out(0, graph.Type{DType: q.DType})
		c.Out(1, state)
		return nil
	}
	if q.Rank() != 3 || v.Rank() != 3 {
		return c.Errorf("query is %s and value %s; want [B,T,Hq*dk] and [B,T,Hkv*dv]", q, v)
	}
	c.Out(0, graph.T(q.DType, q.Shape[0], q.Shape[1], v.Shape[2]))
	c.Out(1, graph.T(state.DType, q.Shape[0], graph.D(hkv), q.Shape[2].FloorDiv(graph.D(hq)), v.Shape[2].FloorDiv(graph.D(hkv))))
	return nil
}

func evalShared(c *ops.Call, std *ops.Op) ([]*tensor.Tensor, error) {
	hq, hkv := int(c.Node.Attrs.Int("q_num_heads", 0)), int(c.Node.Attrs.Int("kv_num_heads", 0))
	wide := *c
	n := *c.Node
	n.Attrs = n.Attrs.Clone()
	n.Attrs["q_num_heads"] = int64(hkv)
	wide.Node, wide.In = &n, append([]*tensor.Tensor{}, c.In...)
	for i := range 2 {
		var err error
		if wide.In[i], err = repeatHeads(c.In[i], c.In[0].Shape[2]/hq, hkv); err != nil {
			return nil, err
		}
	}
	return std.Eval(&wide)
}

// repeatHeads turns [B,T,G*d] into [B,T,heads*d], each head a copy of its group's.
func repeatHeads(t *tensor.Tensor, d, heads int) (*tensor.Tensor, error) {
	if t.Rank() != 3 || d == 0 || t.Shape[2]%d != 0 || heads%(t.Shape[2]/d) != 0 {
		return nil, fmt.Errorf("%s does not hold heads of %d that divide %d", t.TypeString(), d, heads)
	}
	groups := t.Shape[2] / d
	out := tensor.New(t.DType, t.Shape[0], t.Shape[1], heads*d)
	size := t.DType.Size()
	for row := range t.Shape[0] * t.Shape[1] {
		for h := range heads {
			g := h / (heads / groups)
			copy(out.Data[(row*heads+h)*d*size:][:d*size], t.Data[(row*groups+g)*d*size:])
		}
	}
	return out, nil
}
