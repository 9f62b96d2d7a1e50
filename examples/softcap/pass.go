package softcap

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
)

// Pass finds Mul(Tanh(Div(x, c)), c) with a constant c, in either order of the
// product, and puts Op in its place.
var Pass = &passes.Pass{
	Name:  "softcap",
	Doc:   "c*tanh(x/c) becomes example.Softcap",
	After: []passes.Order{{Pass: "canon", Why: "constants must be folded"}},
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if x, limit := match(n); x != nil {
				rewrite(c, g, n, x, limit)
			}
		}
		return nil
	},
}

const rule = "example.Softcap"

// match returns x and the bound when n is the product at the end.
func match(n *graph.Node) (x *graph.Value, limit float64) {
	if !n.Op.Is("", "Mul") {
		return nil, 0
	}
	for i := range 2 {
		tanh, c := n.In[i].Def, n.In[1-i].Const
		if tanh == nil || !tanh.Op.Is("", "Tanh") || c == nil || c.Len() != 1 || !(c.At(0) > 0) {
			continue
		}
		div := tanh.In[0].Def
		if div == nil || !div.Op.Is("", "Div") {
			continue
		}
		if d := div.In[1].Const; d != nil && d.Len() == 1 && d.At(0) == c.At(0) {
			return div.In[0], c.At(0)
		}
	}
	return nil, 0
}

// rewrite replaces n, if both sides compute the same in float64.
func rewrite(c *passes.Context, g *graph.Graph, n *graph.Node, x *graph.Value, limit float64) {
	old := n.Out[0]
	b := c.Builder(g, n.From)
	m := b.Node(Op.ID.Domain, Op.ID.Name, graph.Attrs{"cap": float32(limit)}, 1, x)
	if b.Err != nil {
		c.Miss(rule, old, 3, 4, "%v", b.Err)
		return
	}
	err := certify.Rewrite(c, rule, &certify.Claim{
		In:    []certify.Input{{Value: x}},
		Old:   []*graph.Value{old},
		New:   []*graph.Value{m.Out[0]},
		Sizes: sizes(x.Type),
	})
	if err != nil {
		c.Miss(rule, old, 3, 4, "%v", err)
	}
}

// sizes binds the symbols of a type twice, to small odd lengths.
func sizes(t graph.Type) []graph.Bindings {
	var out []graph.Bindings
	for _, n := range []int64{1, 5} {
		b := graph.Bindings{}
		for _, d := range t.Shape {
			for _, s := range d.Symbols() {
				b[s] = n
			}
		}
		out = append(out, b)
	}
	return out
}
