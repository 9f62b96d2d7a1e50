package graph_test

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
)

// A graph reads from text and prints as text; lengths may be symbols, and
// expressions in symbols.
func ExampleParseString() {
	g, err := graph.ParseString(`graph twice (float[B,L] x) => (float[B,2*L] y) {
		["/cat"] float[B,2*L] y = Concat-13 <axis: int = 1> (x, x)
	}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	n := g.Nodes[0]
	fmt.Println(n.Op, n.Attrs.Int("axis", 0), n.From)
	length, err := g.Outputs[0].Type.Shape[1].Eval(graph.Bindings{"L": 21})
	fmt.Println(g.Outputs[0].Type, length, err)
	// Output:
	// Concat-13 1 /cat
	// float[B,2*L] 42 <nil>
}
