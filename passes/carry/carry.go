// Package carry gives scans and convolutions that start from zero a state to
// start from: a graph input, with the state after them as an output. A session
// keeps such pairs, so that a model exported for whole prompts takes a prompt in
// pieces, or a prompt and then token by token.
package carry

import (
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
)

// Pass is not in the standard pipeline: it changes the signature.
var Pass = &passes.Pass{
	Name: "carry",
	Doc:  "scans and convolutions that start from zero get their state as graph input and output",
	After: []passes.Order{
		{Pass: "recur", Why: "it makes the scans"},
		{Pass: "fuse-conv", Why: "it makes the convolutions"},
	},
	Run: func(c *passes.Context, g *graph.Graph) error {
		count := map[string]int{}
		for _, n := range g.Nodes {
			at := ops.StateInput(n)
			if at < 0 || n.Input(at) != nil {
				continue
			}
			kind := strings.ToLower(n.Op.Name)
			if err := carry(c.Table, g, n, at, fmt.Sprintf("%s_%d", kind, count[kind])); err != nil {
				return err
			}
			count[kind]++
			c.Done("carried state", n.Out[0], n.In[at].Name)
		}
		return nil
	},
}

// carry adds the pair to scan n, whose input at is the state.
func carry(t *ops.Table, g *graph.Graph, n *graph.Node, at int, name string) error {
	for len(n.Out) < 2 {
		n.Out = append(n.Out, nil)
	}
	if n.Out[1] == nil {
		n.Out[1] = &graph.Value{Name: g.UniqueName("present_" + name), Def: n}
		if err := ops.InferNode(t, n); err != nil {
			return err
		}
	}
	out := n.Out[1]
	if !out.IsOutput() {
		g.AddOutput(out)
	}
	past := "past_" + name
	if rest, ok := strings.CutPrefix(out.Name, "present"); ok {
		past = "past" + rest
	}
	for len(n.In) <= at {
		n.In = append(n.In, nil)
	}
	n.SetIn(at, g.AddInput(past, out.Type))
	return ops.InferNode(t, n)
}
