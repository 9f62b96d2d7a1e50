package recur

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// The chunked and the quadratic form: decays appear as exp of segment sums of
// the log decay a[B,L,H] (Mamba-2 paper, section 6 and listing 1). Every such
// exp leads back, through cumulative sums, masks, differences and layout, to the
// same a. What a influences, up to the point where everything flows through one
// value again, is the region; its other operands are x, B, C and perhaps a state.

const ruleChunked = "ssm.SSD (chunked form)"

func chunked(c *passes.Context, g *graph.Graph) error {
	st := static{}
	segments(c, g, st, func(*graph.Value) bool { return true })
	notExp(c, g, st)
	if err := passes.Tidy(g); err != nil {
		return err
	}
	if st = spread(g); len(st) > 0 {
		segments(c, g, st, static{}.is) // what data enters was tried
	}
	return nil
}

// spread takes for data what is none: constant decays repeated for every token,
// whose segment sums stay in the model because only it knows how many tokens
// there are. The masked door reads decays off masks of numbers.
func spread(g *graph.Graph) static {
	fixed, st := static{}, static{}
	for _, n := range g.Nodes {
		if v := firstOut(n); n.Op.Is("", "Expand") && isFloat(v) && v.Const == nil && v.Type.Rank() == 3 && fixed.is(v) &&
			!v.Type.Shape[1].IsConst() && v.Type.Shape[2].IsConst() {
			st[v] = false
		}
	}
	return st
}

// segments tries every value among of that segment sums lead back to.
func segments(c *passes.Context, g *graph.Graph, st static, of func(*graph.Value) bool) {
	index := make(map[*graph.Node]int, len(g.Nodes))
	var order []*graph.Value
	anchors := map[*graph.Value]map[*graph.Node]bool{}
	for i, n := range g.Nodes {
		index[n] = i
		if !n.Op.Is("", "Exp") || !isFloat(n.Out[0]) {
			continue
		}
		root, summed := decayRoot(n.In[0], st)
		if root == nil || !of(root) {
			continue
		}
		if anchors[root] == nil {
			anchors[root] = map[*graph.Node]bool{}
			order = append(order, root)
		}
		anchors[root][n] = anchors[root][n] || summed
	}
	for _, root := range order {
		summed := false
		for _, s := range anchors[root] {
			summed = summed || s
		}
		if !summed {
			continue // a plain exp of something: not this form
		}
		start := 0
		if root.Def != nil {
			start = index[root.Def] + 1
		}
		r := &chunkRegion{scanRoles: scanRoles{c: c, g: g, st: st, rule: ruleChunked}, root: root, anchors: anchors[root]}
		r.find(g.Nodes[start:])
	}
}

// decayRoot follows the operand of an exp back to the log decay it sums.
// summed tells whether a cumulative sum or a mask lay on the way.
func decayRoot(v *graph.Value, st static) (root *graph.Value, summed bool) {
	for steps := 0; v.Def != nil && steps < 200; steps++ {
		n := v.Def
		if n.Op.Domain != "" {
			break
		}
		next := (*graph.Value)(nil)
		switch n.Op.Name {
		case "Slice":
			next = n.In[0]
		case "Split": // into chunks, each of which is summed
			if usedBy(v, "CumSum") {
				next = n.In[0]
			}
		case "Neg": // of a sum; below it, a sign of the log decay itself
			if _, below := decayRoot(n.In[0], st); below {
				next = n.In[0]
			}
		case "Gather":
			if n.In[1].Const != nil {
				next = n.In[0]
			}
		case "Clip", "Min": // of sums kept at 0 or below
			next = dataOperand(n.In, st)
		case "CumSum", "ReduceSum":
			next, summed = n.In[0], true
		case "Sub":
			a, sa := decayRoot(n.In[0], st)
			b, sb := decayRoot(n.In[1], st)
			if a != b || !(sa || sb) {
				return v, summed
			}
			return a, true
		case "Where":
			if st.is(n.In[0]) {
				next = dataOperand(n.In[1:], st)
				summed = summed || next != nil
			}
		case "Concat", "Mul", "Add", "MatMul", "Einsum":
			if next = dataOperand(n.In, st); next != nil && n.Op.Name != "Concat" {
				if !isMask(otherOperand(n.In, next)) {
					next = nil
				} else {
					summed = true
				}
			}
		default:
			if layout.Is(n) && (st.is(v) || !st.is(n.In[0])) { // else numbers that count as data from here on
				next = n.In[0]
			}
		}
		if next == nil {
			break
		}
		v = next
	}
	return v, summed
}

// usedBy: an operator of that name uses v.
func usedBy(v *graph.Value, op string) bool {
	for _, u := range v.Uses {
		if u.Node.Op.Is("", op) {
			return true
		}
	}
	return false
}

// dataOperand is the only operand that is not static, or nil.
func dataOperand(in []*graph.Value, st static) *graph.Value {
	var data *graph.Value
	for _, v := range in {
		if v == nil || st.is(v) {
			continue
		}
		if data != nil && data != v {
			return nil
		}
		data = v
	}
	return data
}

func otherOperand(in []*graph.Value, data *graph.Value) *graph.Value {
	for _, v := range in {
		if v != data {
			return v
		}
	}
	return nil
}

// isMask: a constant of zeros and ones or of zeros and -inf, of rank 2 or more;
// a parameter such as A is neither.
func isMask(v *graph.Value) bool {
	if v == nil {
		return false
	}
	if v.Const == nil {
		return true // computed from shapes alone
	}
	if v.Const.Rank() < 2 {
		return false
	}
	for i := range v.Const.Len() {
		if x := v.Const.At(i); x != 0 && x != 1 && x > -1e4 {
			return false
		}
	}
	return true
}
