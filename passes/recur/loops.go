package recur

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
)

// The door of Loop and Scan: every one of the graph is a rolled recurrence.

func loops(c *passes.Context, g *graph.Graph) error {
	for _, n := range append([]*graph.Node{}, g.Nodes...) {
		if !n.Op.Is("", "Loop") && !n.Op.Is("", "Scan") {
			continue
		}
		r := &rolled{node: n, rule: "Loop or Scan"}
		if err := r.rewrite(c, g); err != nil {
			c.Miss(r.op+" ("+r.rule+")", firstOut(n), 1, 3, "%s: %v", n, err)
		}
	}
	return nil
}

func firstOut(n *graph.Node) *graph.Value {
	for _, v := range n.Out {
		if v != nil {
			return v
		}
	}
	return &graph.Value{Name: n.From}
}
