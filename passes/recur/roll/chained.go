package roll

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Chained reports whether the elements build on one another: each is computed
// from something that the one before was computed from, too, and that is not
// just read from a sequence. Such a collection looks like a recurrence even
// when its steps could not be folded.
func (c *Collector) Chained() bool {
	if c.width > 0 { // features of layers, most of the time
		return decayed(c.Elems) || decayed(reversed(c.Elems))
	}
	if _, ok := readOf(c.Elems[0]); ok && len(c.Elems) == 2 {
		return false // a number and its successor: a tree of partial sums has many
	}
	return chained(c.Elems, nil) || chained(reversed(c.Elems), nil)
}

// Disordered says which of steps that build on one another are not collected one
// after the other: one that comes twice, or two that are exchanged.
func (c *Collector) Disordered() error {
	place := map[*graph.Value]int{}
	var last *graph.Value
	up, down := -1, -1 // where the order of the model is broken, read forward and backward
	var twice error
	for i, v := range c.Elems {
		if j, ok := place[v]; ok {
			if twice == nil {
				twice = fmt.Errorf("the steps are not collected one after the other: %q is collected as step %d and again as step %d", v.Name, j, i)
			}
			continue
		}
		place[v] = i
		if last != nil {
			switch before := c.at[last]; {
			case up < 0 && before > c.at[v]:
				up = i
			case down < 0 && before < c.at[v]:
				down = i
			}
		}
		last = v
	}
	if twice == nil && (up < 0 || down < 0) {
		return nil
	}
	if !c.chainedSomehow() {
		return nil
	}
	if twice != nil {
		return twice
	}
	i, where := up, "before"
	if c.backward {
		i, where = down, "after"
	}
	return fmt.Errorf("the steps are not collected one after the other: %q, collected as step %d, is computed %s %q, collected as step %d", c.Elems[i].Name, i, where, c.Elems[i-1].Name, place[c.Elems[i-1]])
}

// chainedSomehow: of three elements or more those that differ build on one
// another, in the order of the model.
func (c *Collector) chainedSomehow() bool {
	within := arithmetic
	if c.width == 0 {
		within = nil
	}
	sorted := slices.Clone(c.Elems)
	slices.SortStableFunc(sorted, func(a, b *graph.Value) int { return cmp.Compare(c.at[a], c.at[b]) })
	sorted = slices.Compact(sorted)
	return len(sorted) > 1 && len(c.Elems) > 2 && chained(sorted, within)
}

// arithmetic: the node is one of those that states are decayed, added to and
// read with, and not a layer.
func arithmetic(n *graph.Node) bool {
	if n.Op.Domain != "" || len(n.In) == 0 {
		return false
	}
	switch n.Op.Name {
	case "MatMul", "Einsum":
		for _, v := range n.In {
			if v.Const != nil {
				return false
			}
		}
		return true
	case "Add", "Sub", "Mul", "Div", "Neg", "Sum", "Where", "ReduceSum":
		return true
	}
	return !computes(n)
}

// decayed: half of the elements or more are sums with a multiple of the one before.
func decayed(elems []*graph.Value) bool {
	var multiple func(v, of *graph.Value, depth int) bool
	multiple = func(v, of *graph.Value, depth int) bool {
		n := v.Def
		if n == nil || depth == 0 || !arithmetic(n) {
			return false
		}
		for _, u := range n.In {
			if u != nil && (n.Op.Name == "Mul" && layout.Deepest(u) == layout.Deepest(of) || multiple(u, of, depth-1)) {
				return true
			}
		}
		return false
	}
	k := 0
	for t := 1; t < len(elems); t++ {
		if multiple(elems[t], elems[t-1], 3) {
			k++
		}
	}
	return 2*k >= len(elems)-1
}

func reversed(vs []*graph.Value) []*graph.Value {
	out := make([]*graph.Value, len(vs))
	for i, v := range vs {
		out[len(vs)-1-i] = v
	}
	return out
}

// chained walks each node once: what an element adds to the nodes that were
// reached before has to meet what the one before added, but for one in four. Only
// nodes within, when it is given, are entered, and not many.
func chained(elems []*graph.Value, within func(*graph.Node) bool) bool {
	step := map[*graph.Node]int{} // the element that reached the node first
	fuel := math.MaxInt
	if within != nil {
		fuel = 256 * len(elems)
	}
	apart := 0
	for t, e := range elems {
		meets := t == 0
		stack := []*graph.Value{e}
		for len(stack) > 0 {
			v := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if v == nil || v.Def == nil || v.Known != nil || !v.Type.DType.IsFloat() || within != nil && !within(v.Def) {
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
			if fuel--; fuel < 0 {
				return false
			}
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
