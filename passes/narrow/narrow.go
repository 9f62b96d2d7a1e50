// Package narrow computes only the positions that are asked for. A model that
// ends in the logits of its last token exports as a projection of all tokens and
// a Gather or Slice of the result; moved before the operators that treat every
// position alike, the selection leaves them one position to compute.
package narrow

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
)

// Pass moves selections of positions towards the inputs.
var Pass = &passes.Pass{
	Name: "narrow",
	Doc:  "a Gather of one position or a Slice moves before projections, norms and element-wise operators",
	After: []passes.Order{
		{Pass: "fuse-linear", Why: "the selection passes a fused operator in one step"},
		{Pass: "fuse-norm", Why: "the selection passes a fused operator in one step"},
	},
	Run: func(c *passes.Context, g *graph.Graph) error {
		todo := append([]*graph.Node{}, g.Nodes...)
		for len(todo) > 0 {
			n := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if axis, ok := selects(n); ok {
				todo = append(todo, move(c, g, n, axis)...)
			}
		}
		return nil
	},
}

const rule = "selection first"

// selects reports nodes that keep some positions of one axis, other than the last.
func selects(n *graph.Node) (axis int, ok bool) {
	if len(n.In) < 2 || n.In[0] == nil || !n.In[0].Type.Ranked() {
		return 0, false
	}
	rank := n.In[0].Type.Rank()
	switch {
	case n.Op.Is("", "Gather"):
		i := n.In[1].Const
		if i == nil || i.Len() != 1 || i.Rank() > 1 {
			return 0, false
		}
		axis = int(n.Attrs.Int("axis", 0))
	case n.Op.Is("", "Slice"):
		if len(n.In) < 4 || n.In[3] == nil || n.In[3].Const == nil || n.In[3].Const.Len() != 1 {
			return 0, false
		}
		axis = int(n.In[3].Const.IntAt(0))
	default:
		return 0, false
	}
	if axis < 0 {
		axis += rank
	}
	return axis, axis >= 0 && axis < rank-1
}

// along lists the inputs of n that have positions on the axis, when n computes
// every position from the same position of those and from nothing else.
func along(t *ops.Table, n *graph.Node, axis int) []int {
	var candidates []int
	switch {
	case n.Op.Is("ssm", "Linear"):
		candidates = []int{0, 3}
	case n.Op.Is("ssm", "GatedRMSNorm"):
		candidates = []int{0, 1}
	case n.Op.Is("", "RMSNormalization"):
		if a := n.Attrs.Int("axis", -1); a != -1 && int(a) != n.Out[0].Type.Rank()-1 {
			return nil
		}
		candidates = []int{0}
	default:
		row := t.Lookup(n.Op)
		if row == nil || row.Traits&ops.Elementwise == 0 || len(n.Out) != 1 {
			return nil
		}
		for i, v := range n.In {
			if v != nil && v.Const != nil && v.Type.Rank() < n.Out[0].Type.Rank()-axis {
				continue // lies along later axes alone
			}
			candidates = append(candidates, i)
		}
	}
	var out []int
	for _, i := range candidates {
		v := n.Input(i)
		if v == nil {
			continue
		}
		y := n.Out[0].Type
		if v.Type.Rank() != y.Rank() || v.Type.Shape[axis] != y.Shape[axis] {
			return nil
		}
		out = append(out, i)
	}
	return out
}

// move puts selection s before the operator whose result it selects from, and
// returns the selections that take its place.
func move(c *passes.Context, g *graph.Graph, s *graph.Node, axis int) []*graph.Node {
	v := s.In[0]
	n := v.Def
	if n == nil || len(v.Uses) != 1 || v.IsOutput() || len(n.Bodies) > 0 {
		return nil
	}
	inputs := along(c.Table, n, axis)
	if len(inputs) == 0 {
		return nil
	}
	b := c.Builder(g, s.From)
	in := append([]*graph.Value{}, n.In...)
	done := map[*graph.Value]*graph.Value{}
	var moved []*graph.Node
	for _, i := range inputs {
		x := n.In[i]
		if done[x] == nil {
			m := b.Like(s, append([]*graph.Value{x}, s.In[1:]...)...)
			if b.Err != nil {
				return nil
			}
			done[x], moved = m.Out[0], append(moved, m)
		}
		in[i] = done[x]
	}
	b.From = n.From
	m := b.Like(n, in...)
	if b.Err != nil {
		return nil
	}
	cl := &certify.Claim{Old: []*graph.Value{s.Out[0]}, New: []*graph.Value{m.Out[0]}}
	for i, x := range n.In {
		if x != nil && done[x] != nil || x != nil && x.Const != nil {
			cl.In = append(cl.In, certify.Input{Value: n.In[i]})
		}
	}
	sh := certify.NewShrinker()
	last := v.Type.Shape[v.Type.Rank()-1]
	sh.To(last, 5)
	if n.Op.Is("ssm", "Linear") {
		sh.To(n.In[1].Type.Shape[0], 3)
	}
	cl.Shrink = sh.Map
	if err := certify.Rewrite(c, rule, cl); err != nil {
		c.Miss(rule, s.Out[0], 1, 2, "%v", err)
		return nil
	}
	g.Sweep() // what was computed for all positions no longer counts as a use
	return moved
}
