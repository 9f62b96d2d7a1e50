package fuse

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Projection recognises products with a constant matrix and their epilogues.
var Projection = &passes.Pass{
	Name: "fuse-linear",
	Doc:  "MatMul or Gemm with a constant matrix, bias, activation and residual become ssm.Linear",
	After: []passes.Order{
		{Pass: "fuse-norm", Why: "the gate's SiLU belongs to the normalisation, not to the projection before it"},
		{Pass: "fuse-gelu", Why: "Gelu is an epilogue"},
	},
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if n.Op.Is("", "MatMul") || n.Op.Is("", "Gemm") && plainGemm(n) {
				linear(c, g, n)
			}
		}
		return nil
	},
}

const ruleLinear = "ssm.Linear"

// epilogue is the attribute of ssm.Linear for an activation, "" when there is none.
func epilogue(u *graph.Node) string {
	if u == nil || u.Op.Domain != "" {
		return ""
	}
	switch u.Op.Name {
	case "Swish":
		if u.Attrs.Float("alpha", 1) != 1 {
			return ""
		}
		return "silu"
	case "Relu":
		return "relu"
	case "Sigmoid":
		return "sigmoid"
	case "Softplus":
		return "softplus"
	case "Gelu":
		if u.Attrs.Str("approximate", "none") == "tanh" {
			return "gelu_tanh"
		}
		return "gelu"
	}
	return ""
}

// plainGemm: x*w + c with nothing transposed or scaled, c a row or absent.
func plainGemm(n *graph.Node) bool {
	c := n.Input(2)
	return n.Attrs.Int("transA", 0) == 0 && n.Attrs.Int("transB", 0) == 0 && n.Attrs.Float("alpha", 1) == 1 &&
		(c == nil || n.Attrs.Float("beta", 1) == 1 && c.Const != nil && c.Type.Rank() == 1 && c.Type.Shape[0] == n.In[1].Type.Shape[1])
}

func linear(c *passes.Context, g *graph.Graph, n *graph.Node) {
	x, w := n.In[0], n.In[1]
	if w.Const == nil || w.Type.Rank() != 2 || x.Type.Rank() < 2 || w.Type.DType != tensor.Float32 || x.Const != nil {
		return
	}
	K, N := w.Type.Shape[0], w.Type.Shape[1]
	y, bias := n.Out[0], n.Input(2)
	cl := &certify.Claim{In: []certify.Input{{Value: w}}}
	if bias != nil {
		cl.In = append(cl.In, certify.Input{Value: bias})
	}
	b := c.Builder(g, n.From)
	if u := only(y); u != nil && u.Op.Is("", "Add") && bias == nil {
		for _, p := range pair(u) {
			if p[0] == y && p[1].Const != nil && p[1].Type.Rank() == 1 && p[1].Type.Shape[0] == N {
				bias, y = p[1], u.Out[0]
				cl.In = append(cl.In, certify.Input{Value: bias})
				break
			}
		}
	}
	x, y = unflatten(b, cl, x, y)
	attrs := graph.Attrs{"activation": "none"}
	if u := only(y); epilogue(u) != "" {
		attrs["activation"], y = epilogue(u), u.Out[0]
	}
	var residual *graph.Value
	if u := only(y); u != nil && u.Op.Is("", "Add") {
		for _, p := range pair(u) {
			if p[0] == y && p[1] != y && p[1].Const == nil && p[1].Type.Equal(y.Type) && u.Out[0].Type.Equal(y.Type) {
				residual, y = p[1], u.Out[0]
				cl.In = append(cl.In, certify.Input{Value: residual})
				break
			}
		}
	}
	cl.Old = []*graph.Value{y}
	sh := certify.NewShrinker()
	sh.To(K, 3)
	sh.To(N, 5)
	cl.Shrink = sh.Map
	finish(c, b, ruleLinear, cl, b.SSM("Linear", attrs, x, w, bias, residual))
}

// unflatten moves a Reshape that parts the rows of the product y, as exporters
// write around Gemm, before the product: to x, where it often undoes another.
func unflatten(b *graph.Builder, cl *certify.Claim, x, y *graph.Value) (*graph.Value, *graph.Value) {
	re := op(onlyResult(y), "Reshape")
	if re == nil || y.Type.Rank() < 2 {
		cl.In = append(cl.In, certify.Input{Value: x})
		return x, y
	}
	to := re.Out[0].Type
	r, n := to.Rank(), y.Type.Rank()
	if r < 2 || to.Shape[r-1] != y.Type.Shape[n-1] || re.In[0] != y {
		cl.In = append(cl.In, certify.Input{Value: x})
		return x, y
	}
	want := graph.Type{DType: x.Type.DType, Shape: append(append([]graph.Dim{}, to.Shape[:r-1]...), x.Type.Shape[x.Type.Rank()-1])}
	if flat := op(x, "Reshape"); flat != nil && flat.In[0].Type.Equal(want) {
		cl.In = append(cl.In, certify.Input{Value: flat.In[0]})
		return flat.In[0], re.Out[0]
	}
	cl.In = append(cl.In, certify.Input{Value: x})
	return layout.Reshape(b, x, want.Shape), re.Out[0]
}

// onlyResult is the first output of the one consumer of v.
func onlyResult(v *graph.Value) *graph.Value {
	if u := only(v); u != nil {
		return u.Output(0)
	}
	return nil
}

// only is the one consumer of v.
func only(v *graph.Value) *graph.Node {
	if len(v.Uses) == 1 && !v.IsOutput() {
		return v.Uses[0].Node
	}
	return nil
}
