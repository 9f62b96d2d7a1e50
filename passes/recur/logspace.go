package recur

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Scans in log space (Heinsen, arXiv 2311.06281; minGRU): with A_t the sum of
// log decays up to t,
//
//	h_t = exp(A_t + log sum_{s<=t} exp(v_s - A_s))
//
// perhaps with the maximum of v - A taken out of the sum for safety.

// sums is the door for what is no more than a cumulative sum at heart.
func sums(c *passes.Context, g *graph.Graph) error {
	st := static{}
	for _, n := range append([]*graph.Node{}, g.Nodes...) {
		if len(n.Out) == 0 || n.Out[0] == nil || n.Out[0].Unused() || !isFloat(n.Out[0]) {
			continue
		}
		rule, err := "ssm.LinearScan (log space)", error(nil)
		switch {
		case n.Op.Is("", "CumSum"):
			rule, err = "ssm.SSD (cumulative sum)", keyValueSum(c, g, n, st)
		case n.Op.Is("", "Log"):
			err = logSpace(c, g, n)
		}
		if err != nil {
			c.Miss(rule, n.Out[0], 1, 3, "%v", err)
		}
	}
	return nil
}

func logSpace(c *passes.Context, g *graph.Graph, n *graph.Node) error {
	sum := defOf(n.In[0], "CumSum")
	if sum == nil {
		return nil
	}
	exp := sum.In[0].Def
	if exp == nil || len(exp.In) == 0 || n.Out[0].Type.Rank() < 3 {
		return nil
	}
	// v - A, below a maximum
	lifted := exp.In[0]
	if d := defOf(lifted, "Sub"); d != nil && defOf(layout.Deepest(d.In[1]), "ReduceMax") != nil {
		lifted = d.In[0]
	}
	v, total := minus(lifted)
	switch d := lifted.Def; {
	case total != nil && !exp.Op.Is("", "Exp"):
		return fmt.Errorf("%s stands before a sum over time whose logarithm is taken; expected the exponential of values less the sums %q of their log decays", exp, total.Name)
	case total == nil && exp.Op.Is("", "Exp") && d != nil && isOp(d, "Add", "Sub", "Mul", "Div", "Max", "Min") && (defOf(d.In[0], "CumSum") != nil || defOf(d.In[1], "CumSum") != nil):
		return fmt.Errorf("%s joins values and the sums of their log decays; expected the values less the sums", d)
	case total == nil:
		return nil
	}
	log := total.Def.In[0]
	h := n.Out[0]
	for h.Type.Equal(n.Out[0].Type) && len(h.Uses) == 1 && h.Uses[0].Node.Op.Is("", "Add") {
		h = h.Uses[0].Node.Out[0]
	}
	if len(h.Uses) != 1 || !h.Uses[0].Node.Op.Is("", "Exp") {
		return fmt.Errorf("%q is log sum exp of decayed values, but the exp of it, the state, is not what is used", h.Name)
	}
	h = h.Uses[0].Node.Out[0]
	b := c.Builder(g, n.From)
	m := b.Node("ssm", "LinearScan", nil, 2, b.Op("Exp", nil, log), b.Op("Exp", nil, v))
	if b.Err != nil {
		return b.Err
	}
	cl := &certify.Claim{In: []certify.Input{{Value: log, Kind: certify.LogDecay}, {Value: v}}, Old: []*graph.Value{h}, New: m.Out[:1]}
	L := log.Type.Shape[1]
	cl.Along(L, 1, 7)
	cl.Shrink = shrinking(cl, L)
	return certify.Rewrite(c, "ssm.LinearScan (log space)", cl)
}

func defOf(v *graph.Value, name string) *graph.Node {
	if v != nil && v.Def != nil && v.Def.Op.Is("", name) {
		return v.Def
	}
	return nil
}

// minus matches v - A and v + -A with a cumulative sum A.
func minus(x *graph.Value) (v, total *graph.Value) {
	if d := defOf(x, "Sub"); d != nil && defOf(d.In[1], "CumSum") != nil {
		return d.In[0], d.In[1]
	}
	if d := defOf(x, "Add"); d != nil {
		for i, u := range d.In {
			if n := defOf(u, "Neg"); n != nil && defOf(n.In[0], "CumSum") != nil {
				return d.In[1-i], n.In[0]
			}
		}
	}
	return nil, nil
}

// keyValueSum is linear attention without a normaliser: the cumulative sum of
// k v^T, a scan whose decay is 1. It is only worth being one if what contracts
// it lets the states go.
func keyValueSum(c *passes.Context, g *graph.Graph, n *graph.Node, st static) error {
	u, out := n.In[0], n.Out[0]
	axis, ok := axisOf(n)
	if !ok || axis != 1 || u.Type.Rank() < 4 || st.is(u) {
		return nil
	}
	b := c.Builder(g, n.From)
	m := b.Node("ssm", "LinearScan", nil, 2, ones(b, u), u)
	if b.Err != nil {
		return b.Err
	}
	uses := append([]graph.Use{}, out.Uses...)
	if out.IsOutput() {
		return nil
	}
	out.ReplaceWith(m.Out[0])
	f, err := specialise(b, m, nil, true)
	for _, u := range uses {
		u.Node.SetIn(u.Index, out)
	}
	if err != nil || b.Err != nil {
		return nil // a cumulative sum of something else
	}
	if n.Attrs.Int("exclusive", 0) != 0 || n.Attrs.Int("reverse", 0) != 0 {
		return fmt.Errorf("%s sums from the end or leaves the token itself out; a scan's state holds all tokens up to its own", n)
	}
	cl := &certify.Claim{Old: f.old, New: f.new}
	seen := map[*graph.Value]bool{}
	for _, v := range frontier(append(append([]*graph.Value{u}, f.old...), f.new...)) {
		if v != out {
			seen[v] = true
			cl.In = append(cl.In, certify.Input{Value: v})
		}
	}
	L := u.Type.Shape[1]
	cl.Along(L, 1, 7)
	cl.Shrink = shrinking(cl, L)
	return certify.Rewrite(c, f.op+" (cumulative sum)", cl)
}

// ones is a decay of 1 for every element of u, as one number.
func ones(b *graph.Builder, u *graph.Value) *graph.Value {
	shape := make([]int, u.Type.Rank())
	for i := range shape {
		shape[i] = 1
	}
	t := tensor.New(u.Type.DType, shape...)
	t.SetAt(0, 1)
	return b.Const(t)
}

// frontier is where products, exps and contractions begin: the inputs of a
// claim about values that are made of these alone.
func frontier(vs []*graph.Value) []*graph.Value {
	st := static{}
	var out []*graph.Value
	seen := map[*graph.Value]bool{}
	for stack := vs; len(stack) > 0; {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v == nil || seen[v] || st.is(v) {
			continue
		}
		seen[v] = true
		if n := v.Def; n != nil && (n.Op.Domain == "ssm" || n.Op.Domain == "" && (layout.Is(n) || isLinearOp(n.Op.Name))) {
			stack = append(stack, n.In...)
			continue
		}
		out = append(out, v)
	}
	return out
}

func isLinearOp(name string) bool {
	switch name {
	case "Mul", "MatMul", "Einsum", "ReduceSum", "Exp", "Neg", "Log", "Cast", "Add", "LinearAttention":
		return true
	}
	return false
}
