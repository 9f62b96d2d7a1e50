package fuse

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

const ruleConvStep = "ssm.CausalConv (decode step)"

// convStep recognises the convolution of one token in a decode step, where the
// state [B,C,K] is rolled by one column, the token becomes the last, and
//
//	y = act(sum_k state'[:,:,k] * weight[:,k] + bias)
//
// is written as Mul and ReduceSum (Hugging Face transformers 4).
type convStep struct {
	c          *passes.Context
	g          *graph.Graph
	next       *graph.Value // state', [B,C,K]
	past       *graph.Value // [B,C,W] before the roll
	x          *graph.Value // the new column, [B,C,1]
	weight     *graph.Value // [C,K]
	bias       *graph.Value
	y          *graph.Value // [B,C] or [B,C,1]
	activation string
}

// matchConvStep starts from the sum over the columns.
func matchConvStep(c *passes.Context, g *graph.Graph, n *graph.Node) *convStep {
	if !n.Op.Is("", "ReduceSum") || !overLast(n) {
		return nil
	}
	mul := op(n.In[0], "Mul")
	if mul == nil {
		return nil
	}
	for _, p := range pair(mul) {
		next, w := unwidened(p[0]), p[1]
		cat := op(next, "Concat")
		if cat == nil || len(cat.In) != 2 || w.Const == nil || next.Type.Rank() != 3 || !slices.Equal(next.Type.Shape, mul.Out[0].Type.Shape) {
			continue
		}
		if a := cat.Attrs.Int("axis", 0); a != 2 && a != -1 {
			continue
		}
		roll := op(cat.In[0], "Slice")
		if roll == nil {
			roll = op(cat.In[0], "Split")
		}
		C, K := next.Type.Shape[1], next.Type.Shape[2]
		if roll == nil || roll.In[0].Type.Rank() != 3 || cat.In[1].Type.Rank() != 3 || !cat.In[1].Type.Shape[2].Is(1) || layout.Numel(w) != C.Mul(K) {
			continue
		}
		s := &convStep{c: c, g: g, next: next, past: roll.In[0], x: unrounded(cat.In[1]), weight: w, y: n.Out[0], activation: "none"}
		s.epilogue(C)
		return s
	}
	return nil
}

// epilogue takes in a bias per channel and a SiLU.
func (s *convStep) epilogue(channels graph.Dim) {
	if u := only(s.y); u != nil && u.Op.Is("", "Add") {
		for _, p := range pair(u) {
			if p[0] == s.y && p[1].Const != nil && layout.Numel(p[1]) == channels && u.Out[0].Type.Equal(s.y.Type) {
				s.bias, s.y = p[1], u.Out[0]
				break
			}
		}
	}
	if u := only(s.y); u != nil && u.Op.Is("", "Swish") && u.Attrs.Float("alpha", 1) == 1 {
		s.activation, s.y = "silu", u.Out[0]
	}
}

func (s *convStep) rewrite() {
	C, K := s.next.Type.Shape[1], s.next.Type.Shape[2]
	b := s.c.Builder(s.g, s.y.Def.From)
	cl := &certify.Claim{In: []certify.Input{{Value: s.x}, {Value: s.past}, {Value: s.weight}}, Old: []*graph.Value{s.y}}
	bias := s.bias
	if bias != nil {
		cl.In = append(cl.In, certify.Input{Value: bias})
		bias = layout.Reshape(b, bias, []graph.Dim{C})
	}
	sh := certify.NewShrinker(K, s.past.Type.Shape[2])
	sh.To(C, 3)
	sh.To(C.Mul(K), 3*sh.Of(K))
	cl.Shrink = sh.Map
	attrs, nOut := graph.Attrs{"activation": s.activation}, 1
	if len(s.next.Uses) > 1 || s.next.IsOutput() {
		attrs["state_width"], _ = K.Const()
		nOut, cl.Old = 2, append(cl.Old, s.next)
	}
	wide := s.y.Type.DType
	m := b.Node("ssm", "CausalConv", attrs, nOut, layout.Transpose(b, widened(b, s.x, wide), 0, 2, 1),
		layout.Reshape(b, s.weight, []graph.Dim{C, K}), bias, widened(b, s.past, wide))
	if b.Err == nil {
		cl.New = []*graph.Value{layout.Reshape(b, m.Out[0], s.y.Type.Shape)}
		for _, next := range m.Out[1:] {
			cl.New = append(cl.New, widened(b, next, s.next.Type.DType))
		}
	}
	err := b.Err
	if err == nil {
		err = certify.Rewrite(s.c, ruleConvStep, cl)
	}
	if err != nil {
		s.c.Miss(ruleConvStep, s.y, 2, 3, "%v", err)
	}
}
