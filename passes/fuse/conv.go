package fuse

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Conv recognises the causal convolution of a Mamba block.
var Conv = &passes.Pass{
	Name:  "fuse-conv",
	Doc:   "depthwise causal Conv, SiLU and the state that is carried become ssm.CausalConv, channels last",
	After: []passes.Order{{Pass: "canon", Why: "it reads one spelling of slices and SiLU"}},
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if n.Op.Is("", "Conv") {
				(&conv{c: c, g: g, n: n}).rewrite()
			}
		}
		return nil
	},
}

const ruleConv = "ssm.CausalConv"

type conv struct {
	c *passes.Context
	g *graph.Graph
	n *graph.Node
}

// depthwise: one group per channel, one axis, stride and dilation 1.
func (v *conv) depthwise() (channels, k graph.Dim, ok bool) {
	w := v.n.In[1].Type
	if w.Rank() != 3 || !w.Shape[1].Is(1) || !w.Shape[0].Is(v.n.Attrs.Int("group", 1)) || v.n.Attrs.Str("auto_pad", "NOTSET") != "NOTSET" {
		return graph.Dim{}, graph.Dim{}, false
	}
	for _, name := range []string{"strides", "dilations"} {
		for _, s := range v.n.Attrs.Ints(name) {
			if s != 1 {
				return graph.Dim{}, graph.Dim{}, false
			}
		}
	}
	return w.Shape[0], w.Shape[2], true
}

func (v *conv) rewrite() {
	C, K, ok := v.depthwise()
	if !ok {
		return
	}
	y := v.n.Out[0]
	x := v.n.In[0] // [B,C,L]
	if x.Type.Rank() != 3 {
		return
	}
	b := v.c.Builder(v.g, v.n.From)
	var state *graph.Value
	if cat := op(x, "Concat"); cat != nil && len(cat.In) == 2 && (cat.Attrs.Int("axis", 0) == 2 || cat.Attrs.Int("axis", 0) == -1) {
		state, x = cat.In[0], cat.In[1]
	}
	// The output that has the length of x, behind a Slice or the Conv itself.
	out := y
	if !sameLength(out, x) {
		for _, u := range y.Uses {
			if u.Node.Op.Is("", "Slice") && sameLength(u.Node.Out[0], x) && len(y.Uses) == 1 {
				out = u.Node.Out[0]
			}
		}
	}
	if !sameLength(out, x) {
		v.c.Miss(ruleConv, y, 1, 3, "the output %s has not the length of the input %s, and no Slice cuts it to that", y.Type, x.Type)
		return
	}
	xt := layout.Transpose(b, x, 0, 2, 1)
	w := layout.Reshape(b, v.n.In[1], []graph.Dim{C, K})
	cl := &certify.Claim{In: []certify.Input{{Value: x}, {Value: v.n.In[1]}}}
	var bias *graph.Value
	if bias = v.n.Input(2); bias != nil {
		cl.In = append(cl.In, certify.Input{Value: bias})
	}
	if state != nil {
		cl.In = append(cl.In, certify.Input{Value: state})
	}
	l := x.Type.Shape[2]
	cl.Sizes = certify.Bindings(l, 2, 9)
	sh := certify.NewShrinker(l)
	sh.To(C, 3)
	cl.Shrink = sh.Map

	attrs := graph.Attrs{"activation": "none"}
	end := activation(out)
	if end != out {
		attrs["activation"] = "silu"
	}
	nOut := 1
	old := []*graph.Value{end}
	if next := v.nextState(state, x, K); next != nil {
		w, _ := next.Type.Shape[2].Const()
		attrs["state_width"] = w
		nOut, old = 2, append(old, next)
	}
	m := b.Node("ssm", "CausalConv", attrs, nOut, xt, w, bias, state)
	if b.Err != nil {
		v.c.Miss(ruleConv, y, 2, 3, "%v", b.Err)
		return
	}
	cl.Old = old
	ny := m.Out[0]
	if end.Type.Shape[1] == C {
		ny = layout.Transpose(b, ny, 0, 2, 1)
	}
	if b.Err != nil {
		v.c.Miss(ruleConv, y, 2, 3, "%v", b.Err)
		return
	}
	cl.New = append([]*graph.Value{ny}, m.Out[1:]...)
	if err := certify.Rewrite(v.c, ruleConv, cl); err != nil {
		v.c.Miss(ruleConv, y, 2, 3, "%v", err)
	}
}

func sameLength(y, x *graph.Value) bool {
	return y.Type.Rank() == 3 && y.Type.Shape[2] == x.Type.Shape[2]
}

// activation follows out through a transpose to a SiLU that only it feeds, in either order.
func activation(out *graph.Value) *graph.Value {
	v := out
	if len(v.Uses) == 1 && v.Uses[0].Node.Op.Is("", "Transpose") && !v.IsOutput() {
		v = v.Uses[0].Node.Out[0]
	}
	if len(v.Uses) == 1 && v.Uses[0].Node.Op.Is("", "Swish") && !v.IsOutput() {
		return v.Uses[0].Node.Out[0]
	}
	return out
}

// nextState finds the columns that are kept for the next call: the last W of
// what the convolution saw, W >= K-1.
func (v *conv) nextState(state, x *graph.Value, k graph.Dim) *graph.Value {
	want := k
	from := x
	if state != nil {
		want, from = state.Type.Shape[2], v.n.In[0]
	}
	for _, u := range from.Uses {
		if n := u.Node; u.Index == 0 && (n.Op.Is("", "Slice") || n.Op.Is("", "Pad")) {
			if t := n.Out[0].Type; t.Rank() == 3 && t.Shape[2] == want && want.IsConst() {
				return n.Out[0]
			}
		}
	}
	return nil
}
