package ssdc

import (
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// lastLogits replaces the logits of all positions by those of the last one.
// Passes then move the selection as far up as it goes (passes/narrow).
func lastLogits(t *ops.Table, g *graph.Graph) error {
	at, err := logits(g)
	if err != nil {
		return err
	}
	all := g.Outputs[at]
	b := ops.NewBuilder(t, g)
	last := b.Op("Gather", graph.Attrs{"axis": int64(1)}, all, b.Ints(-1))
	if b.Err != nil {
		return b.Err
	}
	name := all.Name
	all.Name, last.Name = name+"_all", name
	g.SetOutput(at, last)
	return ops.Verify(t, g)
}

// logits finds the output [batch, position, vocabulary].
func logits(g *graph.Graph) (int, error) {
	found := -1
	var names []string
	for i, v := range g.Outputs {
		fits := v.Type.DType.IsFloat() && v.Type.Rank() == 3 && v.Def != nil
		if v.Name == "logits" && fits {
			return i, nil
		}
		if fits && !strings.HasPrefix(v.Name, "present") {
			found, names = i, append(names, v.Name)
		}
	}
	switch len(names) {
	case 0:
		return 0, fmt.Errorf("logits last: no output is a float tensor [batch, position, vocabulary]")
	case 1:
		return found, nil
	}
	return 0, fmt.Errorf("logits last: no output is called \"logits\", and several have the shape of them: %s", strings.Join(names, ", "))
}
