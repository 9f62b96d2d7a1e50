package recur

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// The door of ssm.LinearScan itself: written by hand, or left by another door
// that knows scans but not what stands around them.

const ruleLinear = " (LinearScan)"

func linear(c *passes.Context, g *graph.Graph) error {
	for _, n := range append([]*graph.Node{}, g.Nodes...) {
		if !n.Op.Is("ssm", "LinearScan") || !n.In[1].Type.Ranked() || !n.In[0].Type.Ranked() {
			continue
		}
		way := specialisation{params: true, groups: true, fuse: true}
		for {
			used, err := fuseLinear(c, g, n, way)
			if err == nil {
				break
			}
			_, mismatch := err.(*certify.Mismatch)
			if again := mismatch || certify.CannotEvaluate(err); again && used.params {
				way.params = false
				continue
			} else if again && used.groups {
				way.groups = false
				continue
			}
			if n.In[1].Type.Rank() > 4 { // a matrix per head, which wants to be fused
				c.Miss("ssm.SSD"+ruleLinear, n.Out[0], 1, 3, "%v", err)
			}
			break
		}
	}
	return nil
}

func fuseLinear(c *passes.Context, g *graph.Graph, n *graph.Node, way specialisation) (used specialisation, err error) {
	before := len(g.Nodes)
	b := c.Builder(g, n.From)
	f, err := specialise(b, n, nil, way.groups)
	if err != nil {
		return used, err
	}
	cl := &certify.Claim{Old: f.old, New: f.new}
	fixed, seen := static{}, map[*graph.Value]bool{}
	for _, v := range append(stepRoots(n, way.params), f.factors...) {
		if v = layout.Deepest(v); !seen[v] && (!fixed.is(v) || way.params && isParam(v)) {
			seen[v] = true
			cl.In = append(cl.In, certify.Input{Value: v})
			used.params = used.params || v.Const != nil
		}
	}
	used.groups = f.groups
	L := n.In[1].Type.Shape[1]
	cl.Along(L, 1, 6)
	deepen(cl, []*graph.Node{n}, L, g.Nodes[before:])
	return used, certify.Rewrite(c, f.op+ruleLinear, cl)
}
