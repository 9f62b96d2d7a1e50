// Package microsoft defines the contrib operators of ONNX Runtime (domain
// com.microsoft) that state-space models are exported with: read from the
// schemas that ONNX Runtime 1.32 registers. Attributes that only its CUDA
// kernels take are refused with a sentence unless they are at their default.
package microsoft

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
)

// Domain is the operator domain of this package.
const Domain = "com.microsoft"

// Rows lists the operators of this package.
func Rows() []*ops.Op {
	standard := map[string]*ops.Op{}
	for _, r := range onnx.LinearAttentionRows() {
		standard[r.ID.Name] = r
	}
	return []*ops.Op{linearAttention(standard["LinearAttention"]), causalConv(standard["CausalConvWithState"]), gatedRMSNorm}
}

// Register adds the operators to t.
func Register(t *ops.Table) error { return t.Add("ops/microsoft", Rows()...) }

func id(name string) graph.OpID { return graph.OpID{Domain: Domain, Name: name, Since: 1} }

// onlyDefaults refuses what this package does not compute.
func onlyDefaults(n *graph.Node, want map[string]int64) error {
	for name, def := range want {
		if v := n.Attrs.Int(name, def); v != def {
			return fmt.Errorf("attribute %s is %d; ssdc computes %d alone", name, v, def)
		}
	}
	return nil
}

func intAttrs(m map[string]int64) []ops.Attr {
	var out []ops.Attr
	for _, k := range []string{"state_window", "ndim", "dilation", "channels_last", "state_channels_last", "state_length", "state_update_capacity", "input_channel_offset", "input_channels"} {
		if v, ok := m[k]; ok {
			out = append(out, ops.Attr{Name: k, Default: v})
		}
	}
	return out
}

var attentionDefaults = map[string]int64{"state_window": 0}

// linearAttention is the standard operator, and further allows fewer query and
// key heads than value heads: value head h then reads head h div (Hkv/Hq).
func linearAttention(std *ops.Op) *ops.Op {
	r := *std
	r.ID = id("LinearAttention")
	r.Doc = "ONNX's LinearAttention, which here may have fewer query and key heads than value heads (SSD's groups)."
	r.Attrs = append(append([]ops.Attr{}, std.Attrs...), intAttrs(attentionDefaults)...)
	r.Decompose = nil
	r.Infer = func(c *ops.Infer) error {
		if err := onlyDefaults(c.Node, attentionDefaults); err != nil {
			return c.Errorf("%v", err)
		}
		hq, hkv := c.Node.Attrs.Int("q_num_heads", 0), c.Node.Attrs.Int("kv_num_heads", 0)
		if hq < 1 || hkv <= hq {
			return std.Infer(c)
		}
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
	r.Eval = func(c *ops.Call) ([]*tensor.Tensor, error) {
		hq, hkv := int(c.Node.Attrs.Int("q_num_heads", 0)), int(c.Node.Attrs.Int("kv_num_heads", 0))
		if hq < 1 || hkv <= hq {
			return std.Eval(c)
		}
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
	heads := graph.Attrs{"q_num_heads": int64(1), "kv_num_heads": int64(2), "update_rule": "gated", "scale": float32(1)}
	r.Cases = append(append([]ops.Case{}, std.Cases...), ops.Case{
		Name: "heads that share queries and keys", Attrs: heads, NOut: 2,
		// Both heads: S = k v, o = q S.
		In: []*tensor.Tensor{tensor.From([]float32{1, 2}, 1, 1, 2), tensor.From([]float32{3, 4}, 1, 1, 2), tensor.From([]float32{5, 6}, 1, 1, 2),
			nil, tensor.From([]float32{-1, -2}, 1, 1, 2)},
		Want: []*tensor.Tensor{tensor.From([]float32{55, 66}, 1, 1, 2), tensor.From([]float32{15, 20, 18, 24}, 1, 2, 2, 1)},
	})
	return &r
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

var convDefaults = map[string]int64{
	"ndim": 1, "dilation": 1, "channels_last": 0, "state_window": 0, "state_channels_last": -1,
	"state_length": 0, "state_update_capacity": 0, "input_channel_offset": 0, "input_channels": 0,
}

func causalConv(std *ops.Op) *ops.Op {
	r := *std
	r.ID = id("CausalConvWithState")
	r.Doc = "ONNX's CausalConvWithState; one axis of time, channels first."
	r.Attrs = append(append([]ops.Attr{}, std.Attrs...), intAttrs(convDefaults)...)
	r.Decompose = nil
	r.Infer = func(c *ops.Infer) error {
		if err := onlyDefaults(c.Node, convDefaults); err != nil {
			return c.Errorf("%v", err)
		}
		return std.Infer(c)
	}
	return &r
}
