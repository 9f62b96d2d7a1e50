package roll

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
)

// Finals lists the states of traces that give their last state alone, those of
// the first step first: nothing puts them side by side. They are looked for
// behind the outputs of the model.
func Finals(g *graph.Graph) [][]*graph.Value {
	var found [][]*graph.Value
	seen := map[*graph.Value]bool{}
	for _, o := range g.Outputs {
		if v := behindTail(o); !seen[v] {
			seen[v] = true
			if states := chain(v); states != nil {
				found = append(found, states)
			}
		}
	}
	return found
}

// Collect makes a collector of values that nothing collects: a Concat that
// nobody uses, built with b.
func Collect(b *graph.Builder, states []*graph.Value) *Collector {
	c := &Collector{Axis: 1, unread: true}
	for _, s := range states {
		c.Elems = append(c.Elems, b.Op("Unsqueeze", nil, s, b.Ints(1)))
	}
	if c.Value = b.Op("Concat", graph.Attrs{"axis": int64(1)}, c.Elems...); b.Err != nil {
		return nil
	}
	c.inner = []*graph.Node{c.Value.Def}
	return c
}

// behindTail is what v only moves.
func behindTail(v *graph.Value) *graph.Value {
	for v.Def != nil && v.Def.Op.Domain == "" && len(v.Def.Out) == 1 && len(v.Def.In) > 0 && !computes(v.Def) && v.Def.Op.Name != "Concat" {
		v = v.Def.In[0]
	}
	return v
}

const (
	searched = 48 // values behind a state among which the one before is looked for
	shortest = 3  // steps that make a trace
)

// back is a way from a value to one that it is computed from: the operators on
// it and which of their inputs it takes.
type back struct {
	v    *graph.Value
	ops  []*graph.Node
	args []int
}

// chain gives the states of a trace that ends at v, the first one first: the
// longest series of equal values of which each is reached from the next on the
// same way. At least one product or quotient scales the state on that way, or
// several ways lead there: sums alone are the layers of a network.
func chain(v *graph.Value) []*graph.Value {
	if v.Def == nil || !v.Type.DType.IsFloat() || !v.Type.Ranked() || v.Type.Rank() < 2 {
		return nil
	}
	var best []*graph.Value
	seen := map[*graph.Value]bool{v: true}
	queue := []back{{v: v}}
	for i := 0; i < len(queue) && i < searched; i++ {
		at := queue[i]
		d := at.v.Def
		if d == nil || d.Graph != v.Def.Graph || len(d.Bodies) > 0 {
			continue
		}
		for j, u := range d.In {
			if u == nil || seen[u] || !u.Type.DType.IsFloat() {
				continue
			}
			seen[u] = true
			way := back{u, append(slices.Clone(at.ops), d), append(slices.Clone(at.args), j)}
			if u.Def != nil && u.Def.Op == v.Def.Op && u.Type.Equal(v.Type) && scales(way) {
				if states := follow(v, way); len(states) >= shortest && len(states) > len(best) {
					best = states
				}
			}
			queue = append(queue, way)
		}
	}
	slices.Reverse(best)
	return best
}

// scales: the state does not only go through sums.
func scales(w back) bool {
	for _, n := range w.ops {
		if n.Op.Is("", "Mul") || n.Op.Is("", "Div") || n.Op.Is("", "Sub") || n.Op.Is("", "Einsum") {
			return true
		}
	}
	// h + z*(c - h): the state goes on by itself, and is read by what is added.
	return slices.ContainsFunc(w.v.Uses, func(u graph.Use) bool { return u.Node.Op.Is("", "Sub") || u.Node.Op.Is("", "Mul") })
}

// follow takes a way again and again.
func follow(v *graph.Value, w back) []*graph.Value {
	states := []*graph.Value{v}
	for {
		at := v
		for i, n := range w.ops {
			if at.Def == nil || at.Def.Op != n.Op || len(at.Def.In) <= w.args[i] || at.Def.In[w.args[i]] == nil {
				return states
			}
			at = at.Def.In[w.args[i]]
		}
		if at.Def == nil || at.Def.Op != states[0].Def.Op || !at.Type.Equal(states[0].Type) {
			return states
		}
		v = at
		states = append(states, v)
	}
}
