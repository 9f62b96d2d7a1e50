package recur

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// notAffine names the first node of a loop body that keeps the new state from
// being decay*state + update with both independent of the state: the reason
// behind a certificate that failed. It is empty when there is no such node.
func notAffine(state, next *graph.Value) string {
	depends := map[*graph.Value]bool{state: true}
	body := next.Def
	if body == nil {
		return ""
	}
	nodes := body.Graph.Nodes
	for _, n := range nodes {
		for _, v := range n.In {
			if v != nil && depends[v] {
				for _, o := range n.Out {
					if o != nil {
						depends[o] = true
					}
				}
			}
		}
	}
	needed := map[*graph.Value]bool{next: true}
	why := ""
	for i := len(nodes) - 1; i >= 0; i-- {
		n := nodes[i]
		if len(n.Out) == 0 || n.Out[0] == nil || !needed[n.Out[0]] || !depends[n.Out[0]] {
			continue
		}
		k := 0
		for _, v := range n.In {
			if v != nil {
				needed[v] = true
				if depends[v] {
					k++
				}
			}
		}
		switch {
		case n.Op.Is("", "Mul") && k == 2:
			why = fmt.Sprintf("%s multiplies the state by what depends on the state", n)
		case n.Op.Is("", "ReduceSum") || n.Op.Is("", "MatMul") || n.Op.Is("", "Einsum"):
			why = fmt.Sprintf("%s contracts the state on the way to the next state, as the delta rule does", n)
		case n.Op.Is("", "Mul"), n.Op.Is("", "Add"), n.Op.Is("", "Sub"), n.Op.Is("", "Cast"), n.Op.Is("", "Where"), n.Op.Domain == "" && layout.Is(n):
		default:
			why = fmt.Sprintf("%s applies a function that is not linear to the state", n)
		}
	}
	return why
}
