package roll

import "github.com/ssdc-go/ssdc/graph"

// Chained reports whether the elements build on one another: each is computed
// from something that the one before was computed from, too, and that is not
// just read from a sequence. Such a collection looks like a recurrence even
// when its steps could not be folded.
func (c *Collector) Chained() bool {
	if _, ok := readOf(c.Elems[0]); ok && len(c.Elems) == 2 {
		return false // a number and its successor: a tree of partial sums has many
	}
	return chained(c.Elems) || chained(reversed(c.Elems))
}

func reversed(vs []*graph.Value) []*graph.Value {
	out := make([]*graph.Value, len(vs))
	for i, v := range vs {
		out[len(vs)-1-i] = v
	}
	return out
}

// chained walks each node once: what an element adds to the nodes that were
// reached before has to meet what the one before added, but for one in four.
func chained(elems []*graph.Value) bool {
	step := map[*graph.Node]int{} // the element that reached the node first
	apart := 0
	for t, e := range elems {
		meets := t == 0
		stack := []*graph.Value{e}
		for len(stack) > 0 {
			v := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if v == nil || v.Def == nil || v.Known != nil || !v.Type.DType.IsFloat() {
				continue
			}
			if _, ok := readOf(v); ok { // the first state may be what was read
				if s, seen := step[v.Def]; !seen {
					step[v.Def] = t
				} else if t == 1 && s == 0 {
					meets = true
				}
				continue
			}
			if s, seen := step[v.Def]; seen {
				meets = meets || s == t-1 && computes(v.Def)
				continue
			}
			step[v.Def] = t
			stack = append(stack, v.Def.In...)
		}
		if !meets {
			if apart++; 4*apart > len(elems) {
				return false
			}
		}
	}
	return true
}

// computes: the node does more than move elements.
func computes(n *graph.Node) bool {
	switch n.Op.Name {
	case "Identity", "Cast", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Tile", "Pad", "Slice", "Split", "Gather", "Concat":
		return n.Op.Domain != ""
	}
	return true
}
