package fuse

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
)

// Gelu recognises both forms of the Gaussian error linear unit.
var Gelu = &passes.Pass{
	Name:  "fuse-gelu",
	Doc:   "x*0.5*(1+erf(x/sqrt 2)) and its approximation by tanh become Gelu",
	After: []passes.Order{{Pass: "canon", Why: "it reads one spelling of products"}},
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if n.Op.Is("", "Erf") || n.Op.Is("", "Tanh") {
				gelu(c, g, n)
			}
		}
		return nil
	},
}

const ruleGelu = "Gelu"

// gelu follows Erf or Tanh to the sum with 1 and the products with x and 1/2, in
// any order.
func gelu(c *passes.Context, g *graph.Graph, n *graph.Node) {
	u := only(n.Out[0])
	if u == nil || !u.Op.Is("", "Add") {
		return
	}
	if k, ok := scalar(other(u, n.Out[0])); !ok || k != 1 || !u.Out[0].Type.Equal(n.Out[0].Type) {
		return
	}
	y, factor := u.Out[0], 1.0
	var x *graph.Value
	for x == nil || math.Abs(factor-0.5) > 1e-6 {
		if u = only(y); u == nil {
			return
		}
		if z, k, ok := times(u); ok && z == y {
			factor *= k
		} else if !u.Op.Is("", "Mul") || x != nil {
			return
		} else if x = other(u, y); !x.Type.Equal(y.Type) {
			return
		}
		y = u.Out[0]
		if x != nil && x.Def != nil && math.Abs(factor-0.5) > 1e-6 {
			if z, k, ok := times(x.Def); ok && math.Abs(factor*k-0.5) < 1e-6 {
				x, factor = z, factor*k
			}
		}
	}
	approximate := "none"
	if n.Op.Name == "Tanh" {
		approximate = "tanh"
	}
	b := c.Builder(g, y.Def.From)
	// Exporters write sqrt(1/2) and sqrt(2/pi) to seven digits.
	cl := &certify.Claim{In: []certify.Input{{Value: x}}, Old: []*graph.Value{y}, Tol: 1e-6}
	sh := certify.NewShrinker()
	for _, d := range x.Type.Shape {
		sh.To(d, 5)
	}
	cl.Shrink = sh.Map
	finish(c, b, ruleGelu, cl, b.Op("Gelu", graph.Attrs{"approximate": approximate}, x))
}

// other is the operand of a binary node beside v.
func other(n *graph.Node, v *graph.Value) *graph.Value {
	if n.In[0] == v {
		return n.In[1]
	}
	return n.In[0]
}
