package fuse

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
)

// Projection recognises products with a constant matrix and their epilogues.
var Projection = &passes.Pass{
	Name:  "fuse-linear",
	Doc:   "MatMul or Gemm with a constant matrix, bias, activation and residual become ssm.Linear",
	After: []passes.Order{{Pass: "fuse-norm", Why: "the gate's SiLU belongs to the normalisation, not to the projection before it"}},
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if n.Op.Is("", "MatMul") {
				linear(c, g, n)
			}
		}
		return nil
	},
}

const ruleLinear = "ssm.Linear"

// epilogues maps ONNX activations to the attribute of ssm.Linear.
var epilogues = map[string]string{"Swish": "silu", "Relu": "relu", "Sigmoid": "sigmoid", "Softplus": "softplus"}

func linear(c *passes.Context, g *graph.Graph, n *graph.Node) {
	x, w := n.In[0], n.In[1]
	if w.Const == nil || w.Type.Rank() != 2 || x.Type.Rank() < 2 || w.Type.DType != tensor.Float32 || x.Const != nil {
		return
	}
	K, N := w.Type.Shape[0], w.Type.Shape[1]
	cl := &certify.Claim{In: []certify.Input{{Value: x}, {Value: w}}}
	y := n.Out[0]
	var bias, residual *graph.Value
	attrs := graph.Attrs{"activation": "none"}
	if u := only(y); u != nil && u.Op.Is("", "Add") {
		for _, p := range pair(u) {
			if p[0] == y && p[1].Const != nil && p[1].Type.Rank() == 1 && p[1].Type.Shape[0] == N {
				bias, y = p[1], u.Out[0]
				cl.In = append(cl.In, certify.Input{Value: bias})
				break
			}
		}
	}
	if u := only(y); u != nil && u.Op.Domain == "" && epilogues[u.Op.Name] != "" && (u.Op.Name != "Swish" || u.Attrs.Float("alpha", 1) == 1) {
		attrs["activation"], y = epilogues[u.Op.Name], u.Out[0]
	}
	if u := only(y); u != nil && u.Op.Is("", "Add") {
		for _, p := range pair(u) {
			if p[0] == y && p[1] != y && p[1].Const == nil && p[1].Type.Equal(y.Type) && u.Out[0].Type.Equal(y.Type) {
				residual, y = p[1], u.Out[0]
				cl.In = append(cl.In, certify.Input{Value: residual})
				break
			}
		}
	}
	b := c.Builder(g, n.From)
	cl.Old = []*graph.Value{y}
	sh := certify.NewShrinker()
	sh.To(K, 3)
	sh.To(N, 5)
	cl.Shrink = sh.Map
	finish(c, b, ruleLinear, cl, b.SSM("Linear", attrs, x, w, bias, residual))
}

// only is the one consumer of v.
func only(v *graph.Value) *graph.Node {
	if len(v.Uses) == 1 && !v.IsOutput() {
		return v.Uses[0].Node
	}
	return nil
}
