package fuse

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

const ruleConvNamed = "ssm.CausalConv (CausalConvWithState)"

// namedConv takes the convolution that the model calls by name: the same, with
// channels before time.
func namedConv(c *passes.Context, g *graph.Graph, n *graph.Node) {
	x, w := n.In[0], n.In[1]
	if x.Type.Rank() != 3 || w.Type.Rank() != 3 {
		return
	}
	b := c.Builder(g, n.From)
	C, K := w.Type.Shape[0], w.Type.Shape[2]
	attrs := graph.Attrs{"activation": "none"}
	if n.Attrs.Str("activation", "none") != "none" {
		attrs["activation"] = "silu" // swish is another name for it
	}
	m := b.Node("ssm", "CausalConv", attrs, 2, layout.Transpose(b, x, 0, 2, 1), layout.Reshape(b, w, []graph.Dim{C, K}), n.Input(2), n.Input(3))
	if b.Err != nil {
		c.Miss(ruleConvNamed, n.Out[0], 1, 2, "%v", b.Err)
		return
	}
	cl := &certify.Claim{Old: []*graph.Value{n.Out[0]}, New: []*graph.Value{layout.Transpose(b, m.Out[0], 0, 2, 1)}}
	for _, v := range n.In {
		if v != nil {
			cl.In = append(cl.In, certify.Input{Value: v})
		}
	}
	if s := n.Output(1); s != nil && !s.Unused() {
		cl.Old, cl.New = append(cl.Old, s), append(cl.New, m.Out[1])
	}
	cl.Along(x.Type.Shape[2], 2, 9)
	sh := certify.NewShrinker(K, x.Type.Shape[2])
	sh.To(C, 3)
	cl.Shrink = sh.Map
	if err := certify.Rewrite(c, ruleConvNamed, cl); err != nil {
		c.Miss(ruleConvNamed, n.Out[0], 1, 2, "%v", err)
	}
}
