// Package expand writes composite operators out: nodes of other vendors'
// domains and of old operator versions become ONNX's own newest operators, so
// that every later pass and every backend sees one vocabulary.
package expand

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
)

// Pass expands composite operators. No certificate is needed: the
// decomposition is the definition.
var Pass = &passes.Pass{
	Name: "expand",
	Doc:  "composite operators (com.microsoft, functions of mamba_ssm, versions before opset 7) become the standard operators that define them",
	Run: func(c *passes.Context, g *graph.Graph) error {
		kept := map[*graph.Node]bool{}
		for {
			var found []*graph.Node
			var err error
			g.Walk(func(n *graph.Node) {
				row, e := c.Table.Of(n)
				if e != nil {
					err = e
				} else if row.Traits&ops.Composite != 0 && !kept[n] {
					found = append(found, n)
				}
			})
			if err != nil || len(found) == 0 {
				return err
			}
			for _, n := range found {
				row, _ := c.Table.Of(n)
				done := passes.Remark{Rule: n.Op.String(), From: n.From, Done: true}
				for _, v := range n.Out {
					if v != nil && done.At == "" {
						done.At = v.Name
					}
				}
				wrote, err := ops.Expand(c.Table, row, n)
				switch {
				case err != nil:
					return err
				case wrote:
					c.Remark(done)
				default:
					kept[n] = true
				}
			}
			// Composites may be made of composites, and lengths that only running
			// tells have new names.
			if err := passes.Tidy(g); err != nil {
				return err
			}
			if err := ops.InferGraph(c.Table, g); err != nil {
				return err
			}
		}
	},
}
