package recur

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// stateExit finds the final state [B,H,P,N] among values that leave the region
// toward outputs of the model, and the value it leaves from. a is B, L, H.
func stateExit(a []graph.Dim, exits []*graph.Value, y *graph.Value) (state, from *graph.Value) {
	if state, from = stateLeaving(a, exits, y, false); state == nil && a[1].IsConst() { // P may be as long as L
		state, from = stateLeaving(a, exits, y, true)
	}
	return state, from
}

func stateLeaving(a []graph.Dim, exits []*graph.Value, y *graph.Value, square bool) (state, from *graph.Value) {
	ofY := layout.Chain(y)
	isState := func(v *graph.Value) bool {
		s := v.Type.Shape
		return !slices.Contains(ofY, v) && len(s) == 4 && s[0] == a[0] && s[1] == a[2] && (square || s[2] != a[1])
	}
	for _, v := range exits {
		seen := map[*graph.Value]bool{}
		stack := []*graph.Value{v}
		for len(stack) > 0 {
			u := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if seen[u] {
				continue
			}
			seen[u] = true
			if isState(u) && (u.IsOutput() || u != v || len(u.Uses) > 0) {
				return u, v
			}
			for _, w := range u.Uses {
				if isTailOp(w.Node) {
					stack = append(stack, w.Node.Out[0])
				}
			}
		}
	}
	return nil, nil
}

// leaves reports whether v goes toward an output of the model other than by y.
func (t *tailFinder) leaves(v, y *graph.Value) bool {
	if v == y {
		return false
	}
	if v.IsOutput() {
		return true
	}
	for _, u := range v.Uses {
		if t.is(u.Node) && t.leaves(u.Node.Out[0], y) {
			return true
		}
	}
	return false
}

// tailFinder tells nodes through which a value only leaves the model: chains of
// layout operators that end in outputs.
type tailFinder struct{ memo map[*graph.Node]bool }

func isTailOp(n *graph.Node) bool {
	if n.Op.Domain != "" || len(n.Out) != 1 {
		return false
	}
	switch n.Op.Name {
	case "Gather", "Slice", "Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Expand":
		return true
	}
	return false
}

func (t *tailFinder) is(n *graph.Node) bool {
	if r, ok := t.memo[n]; ok {
		return r
	}
	t.memo[n] = false
	if !isTailOp(n) {
		return false
	}
	v := n.Out[0]
	if len(v.Uses) == 0 && !v.IsOutput() {
		return false
	}
	for _, u := range v.Uses {
		if !t.is(u.Node) {
			return false
		}
	}
	t.memo[n] = true
	return true
}
