package fuse

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
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
			} else if n.Op.Is("", "CausalConvWithState") || n.Op.Is("com.microsoft", "CausalConvWithState") {
				namedConv(c, g, n)
			} else if s := matchConvStep(c, g, n); s != nil {
				s.rewrite()
			}
		}
		return nil
	},
}

const ruleConv = "ssm.CausalConv"

type conv struct {
	c    *passes.Context
	g    *graph.Graph
	n    *graph.Node
	seen *graph.Value // what n reads, before it was widened
}

// A state in 16 bits and the columns after it are put together as they are
// kept, and widened for the convolution alone (see passes/half). The operator
// computes on what was put together, each part widened for itself.

// unwidened looks through a Cast from a smaller float.
func unwidened(v *graph.Value) *graph.Value {
	if c := op(v, "Cast"); c != nil && c.In[0].Type.DType.IsFloat() && c.In[0].Type.DType.Bits() < v.Type.DType.Bits() {
		return c.In[0]
	}
	return v
}

// unrounded looks through a Cast to a smaller float.
func unrounded(v *graph.Value) *graph.Value {
	if c := op(v, "Cast"); c != nil && v.Type.DType.IsFloat() && c.In[0].Type.DType.IsFloat() && c.In[0].Type.DType.Bits() > v.Type.DType.Bits() {
		return c.In[0]
	}
	return v
}

// widened is v in another type.
func widened(b *graph.Builder, v *graph.Value, to tensor.DType) *graph.Value {
	if v == nil || v.Type.DType == to {
		return v
	}
	return b.Op("Cast", graph.Attrs{"to": int64(to)}, v)
}

// depthwise: one axis and a group per channel; others are no business of ours.
func (v *conv) depthwise() (channels, k graph.Dim, ok bool) {
	w := v.n.In[1].Type
	if w.Rank() != 3 || !w.Shape[1].Is(1) || !w.Shape[0].Is(v.n.Attrs.Int("group", 1)) || w.Shape[0].Is(1) {
		return graph.Dim{}, graph.Dim{}, false
	}
	return w.Shape[0], w.Shape[2], true
}

// causal says why the attributes rule a causal convolution out, or nothing.
func (v *conv) causal(k graph.Dim) string {
	for _, name := range []string{"strides", "dilations"} {
		for _, s := range v.n.Attrs.Ints(name) {
			if s != 1 {
				return fmt.Sprintf("%s of %d; a causal convolution has 1", name, s)
			}
		}
	}
	if a := v.n.Attrs.Str("auto_pad", "NOTSET"); a != "NOTSET" {
		return fmt.Sprintf("auto_pad %s pads both sides; write the padding out as [K-1, 0]", a)
	}
	if p := v.n.Attrs.Ints("pads"); len(p) == 2 && p[0] > 0 && !k.Is(p[0]+1) {
		return fmt.Sprintf("%d tokens of padding in front of a kernel of %s; a causal convolution has K-1", p[0], k)
	}
	return ""
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
	if why := v.causal(K); why != "" {
		v.c.Miss(ruleConv, y, 0, 3, "%s: %s", v.n, why)
		return
	}
	b := v.c.Builder(v.g, v.n.From)
	var state *graph.Value
	v.seen = unwidened(x)
	if cat := op(v.seen, "Concat"); cat != nil && len(cat.In) == 2 && (cat.Attrs.Int("axis", 0) == 2 || cat.Attrs.Int("axis", 0) == -1) {
		state, x = cat.In[0], unrounded(cat.In[1])
	}
	end, silu := ending(y, x.Type.Shape[2])
	if end == nil {
		v.c.Miss(ruleConv, y, 1, 3, "%s makes %s from %s, and no Slice after it keeps as many tokens as came in: the padding is not that of a causal convolution", v.n, y.Type, x.Type)
		return
	}
	wide := v.n.In[0].Type.DType
	xt := layout.Transpose(b, widened(b, x, wide), 0, 2, 1)
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
	cl.Along(l, 2, 9)
	sh := certify.NewShrinker(l)
	sh.To(C, 3)
	cl.Shrink = sh.Map

	attrs := graph.Attrs{"activation": "none"}
	if silu {
		attrs["activation"] = "silu"
	}
	nOut := 1
	old := []*graph.Value{end}
	if next := v.nextState(state, x, K); next != nil {
		w, _ := next.Type.Shape[2].Const()
		attrs["state_width"] = w
		nOut, old = 2, append(old, next)
	}
	m := b.Node("ssm", "CausalConv", attrs, nOut, xt, w, bias, widened(b, state, wide))
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
	cl.New = []*graph.Value{ny}
	for i, next := range m.Out[1:] {
		cl.New = append(cl.New, widened(b, next, old[i+1].Type.DType))
	}
	if err := certify.Rewrite(v.c, ruleConv, cl); err != nil {
		v.c.Miss(ruleConv, y, 2, 3, "%v", err)
	}
}

// ending follows y through slices of time, a transpose and a SiLU that only it
// feeds, in any order, to the last value that has the length of the input; a
// transpose at the very end is left to others.
func ending(y *graph.Value, length graph.Dim) (end *graph.Value, silu bool) {
	time, active := 2, false
	for v := y; ; {
		if v.Type.Rank() != 3 {
			return end, silu
		}
		if v.Type.Shape[time] == length && (end == nil || active != silu) {
			end, silu = v, active
		}
		n := only(v)
		switch {
		case n == nil:
			return end, silu
		case n.Op.Is("", "Slice"):
		case n.Op.Is("", "Swish") && !active:
			active = true
		case n.Op.Is("", "Transpose") && n.In[0].Type.Rank() == 3 && slices.Equal(n.Attrs.Ints("perm"), []int64{0, 2, 1}):
			time = 3 - time
		default:
			return end, silu
		}
		v = n.Out[0]
	}
}

// nextState finds the columns that are kept for the next call: the last W of
// what the convolution saw, W >= K-1.
func (v *conv) nextState(state, x *graph.Value, k graph.Dim) *graph.Value {
	want := k
	from := x
	if state != nil {
		want, from = state.Type.Shape[2], v.seen
	}
	kept := func(v *graph.Value) *graph.Value {
		for _, u := range v.Uses {
			if n := u.Node; u.Index == 0 && (n.Op.Is("", "Slice") || n.Op.Is("", "Pad")) {
				if t := n.Out[0].Type; t.Rank() == 3 && t.Shape[2] == want && want.IsConst() {
					return n.Out[0]
				}
			}
		}
		return nil
	}
	if s := kept(from); s != nil || from == x {
		return s
	}
	return kept(x) // a prompt as long as the state
}
