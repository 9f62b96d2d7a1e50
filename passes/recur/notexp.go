package recur

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Scores that are scaled by sums of decays look like the quadratic or the chunked
// form, but for the exponential: what no door takes up has its reason told here.

func notExp(c *passes.Context, g *graph.Graph, st static) {
	for _, n := range g.Nodes {
		if !isOp(n, "Mul") || !isFloat(n.Out[0]) || !n.Out[0].Type.Ranked() || n.Out[0].Unused() {
			continue
		}
		for i, v := range n.In {
			s := unmasked(n.In[1-i], st)
			if s.Def == nil || !isProduct(s.Def, st) || !square(s.Type) {
				continue
			}
			v = unmasked(v, st)
			by := v.Def
			if by != nil && len(by.In) == 1 && isOp(by, "Sigmoid", "Softplus", "Tanh", "Sqrt", "Relu", "Abs", "Log", "Neg", "Reciprocal") {
				v = unmasked(by.In[0], st)
			} else {
				by = nil
			}
			root := differences(v, st)
			switch {
			case root == nil:
				continue
			case by == nil:
				c.Miss(ruleChunked, n.Out[0], 1, 5, "%s scales the scores by sums of %q between two tokens as they are; expected their exponential", n, root.Name)
			default:
				c.Miss(ruleChunked, n.Out[0], 1, 5, "%s makes decays between two tokens of sums of %q; expected the exponential", by, root.Name)
			}
			break
		}
	}
}

// unmasked is v below its layouts and masks that no data enters.
func unmasked(v *graph.Value, st static) *graph.Value {
	for range 8 {
		v = layout.Deepest(v)
		n := v.Def
		switch {
		case n == nil:
			return v
		case isOp(n, "Trilu", "Cast"):
			v = n.In[0]
		case isOp(n, "Mul", "Add") || isOp(n, "Where") && st.is(n.In[0]):
			data := dataOperand(n.In, st)
			if data == nil {
				return v
			}
			v = data
		default:
			return v
		}
	}
	return v
}

// differences is the log decay whose cumulative sums v subtracts from one another.
func differences(v *graph.Value, st static) *graph.Value {
	if v.Def == nil || !isOp(v.Def, "Sub") || !v.Type.Ranked() || !square(v.Type) {
		return nil
	}
	a, one := decayRoot(v.Def.In[0], st)
	b, two := decayRoot(v.Def.In[1], st)
	if a != b || !one || !two || st.is(a) {
		return nil
	}
	return a
}
