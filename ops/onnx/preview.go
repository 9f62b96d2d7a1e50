package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// previewRows are operators of the domain ai.onnx.preview.
func previewRows() []*ops.Op {
	x := tensor.From([]float32{1, 0, -1, 2, 0.5, 1, -2, 1}, 1, 2, 2, 2)
	return inDomain("ai.onnx.preview", versions("FlexAttention", []int{1}, ops.Op{
		Doc: "prob_mod(softmax(score_mod(scale*Q*K^T)))*V per head, both modifiers being graphs on [B,Hq,L,S]; " +
			"Q [B,Hq,L,d], K [B,Hkv,S,d], V [B,Hkv,S,dv]; query heads share key/value heads in order",
		In: params("Q", "K", "V"), Out: params("Y"),
		Attrs: []ops.Attr{attrOpt("prob_mod"), attrOpt("scale"), attrOpt("score_mod"), attrOpt("softmax_precision")},
		Infer: inferFlexAttention, Eval: evalFlexAttention,
		Cases: []ops.Case{{Name: "grouped queries", In: []*tensor.Tensor{x, x.Reshaped(1, 1, 4, 2), x.Reshaped(1, 1, 4, 2)}}},
	}))
}

// inDomain moves rows to another domain.
func inDomain(domain string, rows []*ops.Op) []*ops.Op {
	for _, r := range rows {
		r.ID.Domain = domain
	}
	return rows
}

// softmaxType is the precision of scores and probabilities.
func softmaxType(n *graph.Node, in tensor.DType) tensor.DType {
	if p := n.Attrs.Int("softmax_precision", 0); p > 0 && p < 32 {
		return tensor.DType(p)
	}
	if in == tensor.Float64 {
		return in
	}
	return tensor.Float32
}

func inferFlexAttention(c *ops.Infer) error {
	if err := same(c, floatTypes, 0, 1, 2); err != nil {
		return err
	}
	for i := range 3 {
		if err := rankIs(c, i, 4); err != nil {
			return err
		}
	}
	q, k, v := c.Type(0), c.Type(1), c.Type(2)
	scores := unranked(softmaxType(c.Node, q.DType))
	if !floatTypes.Has(scores.DType) {
		return c.Errorf("attribute softmax_precision is %d (%s), want one of %v", c.Node.Attrs.Int("softmax_precision", 0), scores.DType, floatTypes)
	}
	out := unranked(q.DType)
	if q.Ranked() && k.Ranked() && v.Ranked() {
		if hq, ok := q.Shape[1].Const(); ok {
			if hkv, ok := k.Shape[1].Const(); ok && (hkv == 0 || hq%hkv != 0) {
				return c.Errorf("%d query heads, want a multiple of %d key/value heads", hq, hkv)
			}
		}
		if err := fitsType(k, graph.T(q.DType, q.Shape[0], k.Shape[1], k.Shape[2], q.Shape[3])); err != nil {
			return c.Errorf("K is %v", err)
		}
		if err := fitsType(v, graph.T(q.DType, k.Shape[0], k.Shape[1], k.Shape[2], v.Shape[3])); err != nil {
			return c.Errorf("V is %v", err)
		}
		scores.Shape = []graph.Dim{q.Shape[0], q.Shape[1], q.Shape[2], k.Shape[2]}
		out.Shape = []graph.Dim{q.Shape[0], q.Shape[1], q.Shape[2], v.Shape[3]}
	}
	for i, b := range c.Node.Bodies {
		if len(b.Inputs) != 1 || len(b.Outputs) != 1 {
			return c.Errorf("%s has %d inputs and %d outputs, want 1 and 1", b.Attr, len(b.Inputs), len(b.Outputs))
		}
		b.Inputs[0].Type, b.Inputs[0].Known = scores, nil
		if err := c.Body(i); err != nil {
			return err
		}
		if t := b.Outputs[0].Type; t.DType != scores.DType || scores.Ranked() && t.Ranked() && fitsType(t, scores) != nil {
			return c.Errorf("%s returns %s, want %s", b.Attr, t, scores)
		}
	}
	c.Out(0, out)
	return nil
}

func evalFlexAttention(c *ops.Call) ([]*tensor.Tensor, error) {
	q, k, v := c.In[0], c.In[1], c.In[2]
	if q.Shape[0] != k.Shape[0] || k.Shape[1] == 0 || q.Shape[1]%k.Shape[1] != 0 || q.Shape[3] != k.Shape[3] ||
		v.Shape[0] != k.Shape[0] || v.Shape[1] != k.Shape[1] || v.Shape[2] != k.Shape[2] {
		return nil, fmt.Errorf("inputs Q %s, K %s and V %s do not fit each other", q.TypeString(), k.TypeString(), v.TypeString())
	}
	heads, lq, lk, d, dv := q.Shape[0]*q.Shape[1], q.Shape[2], k.Shape[2], q.Shape[3], v.Shape[3]
	group := q.Shape[1] / k.Shape[1]
	scale := float64(c.Node.Attrs.Float("scale", float32(1/math.Sqrt(float64(d)))))
	qv, kv, vv := floatsOf(q), floatsOf(k), floatsOf(v)
	// kvHead is the key/value head of a query head, counted over the batch.
	kvHead := func(h int) int { return h/q.Shape[1]*k.Shape[1] + h%q.Shape[1]/group }
	s := make([]float64, heads*lq*lk)
	for h := range heads {
		keys := transposed(lk, d, kv[kvHead(h)*lk*d:(kvHead(h)+1)*lk*d])
		gemm(lq, lk, d, qv[h*lq*d:(h+1)*lq*d], keys, s[h*lq*lk:(h+1)*lq*lk])
	}
	for i := range s {
		s[i] *= scale
	}
	t, err := modify(c, "score_mod", fromFloats(softmaxType(c.Node, q.DType), s, q.Shape[0], q.Shape[1], lq, lk))
	if err != nil {
		return nil, err
	}
	s = append([]float64{}, floatsOf(t)...)
	for i := 0; lk > 0 && i < len(s); i += lk {
		softmax(s[i : i+lk])
	}
	if t, err = modify(c, "prob_mod", fromFloats(t.DType, s, t.Shape...)); err != nil {
		return nil, err
	}
	s = floatsOf(t)
	y := make([]float64, heads*lq*dv)
	for h := range heads {
		gemm(lq, dv, lk, s[h*lq*lk:(h+1)*lq*lk], vv[kvHead(h)*lk*dv:(kvHead(h)+1)*lk*dv], y[h*lq*dv:(h+1)*lq*dv])
	}
	return one(fromFloats(q.DType, y, q.Shape[0], q.Shape[1], lq, dv)), nil
}

// modify applies one of the graphs to scores or probabilities.
func modify(c *ops.Call, attr string, x *tensor.Tensor) (*tensor.Tensor, error) {
	for i, b := range c.Node.Bodies {
		if b.Attr != attr {
			continue
		}
		out, err := c.Body(i, x)
		if err != nil {
			return nil, err
		}
		if out[0].DType != x.DType || product(out[0].Shape) != x.Len() {
			return nil, fmt.Errorf("%s returns %s, want %s", attr, out[0].TypeString(), x.TypeString())
		}
		return out[0], nil
	}
	return x, nil
}
