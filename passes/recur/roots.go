package recur

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// deepen moves the inputs of a claim to where its replacement begins. A loop
// may read exp(A*dt) where the fused operator takes dt: the check then has to
// begin at dt, and compute what the loop reads. made are the nodes of the
// replacement.
func deepen(cl *certify.Claim, scans []*graph.Node, length graph.Dim, made []*graph.Node) {
	fresh := map[*graph.Node]bool{}
	for _, n := range made {
		fresh[n] = true
	}
	fixed, roots := static{}, map[*graph.Value]bool{}
	var in []certify.Input
	add := func(v *graph.Value) {
		if _, known := ops.KnownOf(v); !known && !roots[v] && !fixed.is(v) && v.Type.Ranked() && !v.Type.DType.IsContainer() {
			roots[v] = true
			in = append(in, certify.Input{Value: v})
		}
	}
	for _, i := range cl.In {
		if i.Value.Const != nil { // a parameter stays one
			roots[i.Value] = true
			in = append(in, i)
		}
	}
	seen := map[*graph.Value]bool{}
	var begin func(v *graph.Value)
	begin = func(v *graph.Value) {
		if v == nil || seen[v] {
			return
		}
		seen[v] = true
		if v.Def == nil || !fresh[v.Def] {
			add(layout.Deepest(v))
			return
		}
		for _, u := range v.Def.In {
			begin(u)
		}
	}
	for _, v := range cl.New {
		begin(v)
	}
	in = slices.DeleteFunc(in, func(i certify.Input) bool { // a gate whose logarithm is taken too: both are of one
		n := i.Value.Def
		made := n != nil && isOp(n, "Exp", "Sigmoid") && roots[layout.Deepest(n.In[0])]
		if made {
			delete(roots, i.Value)
		}
		return made
	})
	fuel := 0
	var follows func(v *graph.Value) bool
	follows = func(v *graph.Value) bool {
		if _, known := ops.KnownOf(v); known || roots[v] || fixed.is(v) {
			return true
		}
		if fuel--; fuel < 0 || v.Def == nil || len(v.Def.Bodies) > 0 {
			return false
		}
		for _, u := range v.Def.In {
			if u != nil && !follows(u) {
				return false
			}
		}
		return true
	}
	for _, i := range cl.In {
		if i.Value.Const != nil {
			continue
		}
		if fuel = 64; !follows(i.Value) {
			add(i.Value)
		}
	}
	cl.In = in
	setKinds(cl, scans, roots)
	cl.Shrink = shrinking(cl, length)
}
