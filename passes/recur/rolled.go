package recur

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
)

// rolled is a recurrence in the form that all doors over time share: an ONNX
// Scan or Loop in the graph. The door of Loop and Scan hands over a node of
// the model; a door that rolls something else up (an unrolled trace) builds a
// Scan over it and says which values of the model its outputs stand for.
//
// Such a Scan is built with the context's Builder anywhere in g: its body may
// capture outer values, and nothing needs to use its outputs. When it is
// recovered, the scan replaces the values it stands for, certified against
// them; when not, nothing has changed, and the Scan is swept as dead code.
type rolled struct {
	node *graph.Node
	// old are the values that the outputs of node stand for, nil where there is
	// none; when old itself is nil, they are the outputs.
	old []*graph.Value
	// rule names the form in remarks: "Loop or Scan", "unrolled trace".
	rule string
}

// rewrite replaces r, or says in an error why it stays. The caller makes the remark.
func (r *rolled) rewrite(c *passes.Context, g *graph.Graph) error {
	return (&loop{c: c, g: g, n: r.node}).rewrite()
}
