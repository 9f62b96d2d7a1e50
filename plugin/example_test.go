package plugin_test

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
	"github.com/ssdc-go/ssdc/std"
)

// Join puts a plugin beside the standard one. The module examples/softcap is a
// whole one, with a main of ten lines.
func ExampleJoin() {
	mine := plugin.Plugin{
		Name: "mine",
		Ops: []*ops.Op{{
			ID:    graph.OpID{Domain: "example", Name: "Same", Since: 1},
			Infer: func(c *ops.Infer) error { c.Out(0, c.Type(0)); return nil },
		}},
		Passes: []*passes.Pass{{
			Name:  "look",
			After: []passes.Order{{Pass: "recur", Why: "it counts scans"}},
			Run:   func(*passes.Context, *graph.Graph) error { return nil },
		}},
	}
	set, err := plugin.Join(std.Plugin, mine)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, p := range set.Pipeline {
		if p.Name == "look" {
			fmt.Println("look runs after", set.Pipeline[i-1].Name)
		}
	}
	fmt.Println("example.Same is of", set.Registry.Table.Source(mine.Ops[0].ID))
	_, err = plugin.Join(std.Plugin, mine, mine)
	fmt.Println(err)
	// Output:
	// look runs after recur
	// example.Same is of plugin mine
	// two plugins are named "mine"
}
