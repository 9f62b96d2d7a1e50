package passes_test

import (
	"context"
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/passes"
)

// A pass is a value. This one takes Identity nodes away and says so; after it
// the graph is sorted, swept of dead nodes and verified.
func ExamplePipeline_Run() {
	bypass := &passes.Pass{
		Name: "bypass",
		Doc:  "remove Identity",
		Run: func(c *passes.Context, g *graph.Graph) error {
			for _, n := range g.Nodes {
				if n.Op.Is("", "Identity") && !n.Out[0].IsOutput() {
					n.Out[0].ReplaceWith(n.In[0])
					c.Done("Identity", n.In[0], "bypassed")
				}
			}
			return nil
		},
	}
	t := &ops.Table{}
	if err := onnx.Register(t); err != nil {
		fmt.Println(err)
		return
	}
	g, err := graph.ParseString(`graph g (float[2] x) => (float[2] y) {
		float[2] same = Identity-16 (x)
		float[2] y = Neg-13 (same)
	}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	c := passes.NewContext(context.Background(), t)
	if err := (passes.Pipeline{bypass}).Run(c, g); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(g.Nodes), "node:", g.Nodes[0].Op)
	fmt.Println(c.Remarks[0])
	// Output:
	// 1 node: Neg-13
	// [bypass] Identity at "x": done: bypassed
}
