package recur

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
)

// maxEpsilon is the largest number that may be meant to keep a divisor off zero.
const maxEpsilon = 1e-6

// epsilon deals with a divisor that is kept off zero (the cumulative-sum trick,
// x/(decay + 1e-12)): no scan has it, and where decays underflow the scan is the
// more exact of the two. It goes only when the user takes that for equal.
func (r *scanRegion) epsilon(n *graph.Node) error {
	if !n.Op.Is("", "Add") || len(n.Out[0].Uses) != 1 {
		return nil
	}
	div := n.Out[0].Uses[0]
	if !div.Node.Op.Is("", "Div") || div.Index != 1 {
		return nil
	}
	for i, v := range n.In {
		x := n.In[1-i]
		if v.Const == nil || !v.Const.DType.IsFloat() || v.Const.Len() != 1 || !x.Type.Equal(n.Out[0].Type) {
			continue
		}
		if e := v.Const.At(0); e > 0 && e <= maxEpsilon {
			if !r.c.Inexact {
				return fmt.Errorf("%s divides by the decay plus %g, so where decays underflow it gives other numbers than the scan, less exact ones; --inexact lets the scan stand for it", div.Node, e)
			}
			r.c.Remark(passes.Remark{Rule: ruleScan, At: n.Out[0].Name, From: n.From, Done: true, Why: fmt.Sprintf("%g added to a divisor is left out, as --inexact allows", e)})
			div.Node.SetIn(1, x)
			return nil
		}
	}
	return nil
}
