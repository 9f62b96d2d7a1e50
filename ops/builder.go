package ops

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
)

// NewBuilder makes a Builder that appends to g and takes operators from t.
func NewBuilder(t *Table, g *graph.Graph) *graph.Builder {
	return &graph.Builder{
		Graph: g,
		Resolve: func(domain, name string) (graph.OpID, error) {
			if r := t.Resolve(domain, name, 0); r != nil {
				return r.ID, nil
			}
			return graph.OpID{}, fmt.Errorf("no operator %s.%s in the table", domain, name)
		},
		Infer: func(n *graph.Node) error { return InferNode(t, n) },
	}
}
