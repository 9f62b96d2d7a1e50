package recur

import (
	"fmt"
	"sort"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// chunkRegion is one candidate.
type chunkRegion struct {
	c       *passes.Context
	g       *graph.Graph
	st      static
	root    *graph.Value
	anchors map[*graph.Node]bool
	in      map[*graph.Value]bool // influenced by root
	q       graph.Dim             // chunk length, 1 when not seen
	tails   *tailFinder
}

// maxCuts bounds how many ends of the region are tried.
const maxCuts = 6

func (r *chunkRegion) find(nodes []*graph.Node) {
	if r.root.Type.Rank() != 3 {
		if r.root.Type.Rank() < 3 { // of more, the parallel door speaks
			r.c.Miss(ruleChunked, r.root, 1, 5, "the log decay is %s; expected [B,L,H], one decay per head", r.root.Type)
		}
		return
	}
	r.in = map[*graph.Value]bool{r.root: true}
	r.q = graph.D(1)
	remaining := map[*graph.Value]int{}
	live := map[*graph.Value]bool{r.root: true}
	tails := &tailFinder{memo: map[*graph.Node]bool{}}
	r.tails = tails
	count := func(v *graph.Value) int {
		k := 0
		for _, u := range v.Uses {
			if !tails.is(u.Node) && !r.st.is(u.Node.Out[0]) {
				k++
			}
		}
		return k
	}
	remaining[r.root] = count(r.root)
	var exits []*graph.Value
	var best error
	seen, cuts := 0, 0
	why := "its influence never flows together into one value"
	for _, n := range nodes {
		touched := false
		for _, v := range n.In {
			touched = touched || v != nil && r.in[v]
		}
		if !touched || tails.is(n) || r.st.is(n.Out[0]) { // what only reads shapes is not influenced
			continue
		}
		if bad := notInRegion(n); bad != "" {
			if cuts == 0 { // else the certificate's reason says more
				why = fmt.Sprintf("%s stands between the decays and y: %s, which no scan has", n, bad)
			}
			break
		}
		if n.Op.Name == "CumSum" {
			r.chunkLength(n)
		}
		if isAnchor(r.anchors, n) {
			seen++
		}
		for _, v := range n.In {
			if v != nil && r.in[v] {
				if remaining[v]--; remaining[v] <= 0 {
					delete(live, v)
				}
			}
		}
		for _, v := range n.Out {
			if v == nil {
				continue
			}
			r.in[v] = true
			if remaining[v] = count(v); remaining[v] > 0 {
				live[v] = true
			}
			if v.IsOutput() || remaining[v] < len(v.Uses) {
				exits = append(exits, v)
			}
		}
		if seen < len(r.anchors) || len(live) > 1 {
			continue
		}
		var y *graph.Value
		for v := range live {
			y = v
		}
		if y == nil { // y only leaves the model, directly or through layout
			if y = r.leavingY(exits); y == nil {
				break
			}
		}
		if !r.isY(y) {
			if cuts > 0 {
				continue
			}
			why = fmt.Sprintf("its influence flows together in %q %s, which is not y[B,L,H,P]", y.Name, y.Type)
			if len(live) == 0 {
				break
			}
			continue
		}
		err := r.try(y, exits)
		if err == nil {
			return
		}
		best = certify.Closer(best, err) // the first cut's, unless a later one comes as far as a certificate
		why = best.Error()
		if cuts++; cuts >= maxCuts || len(live) == 0 {
			break
		}
	}
	if len(live) > 1 {
		why += "; still open: " + names(live)
	}
	r.c.Miss(ruleChunked, r.root, 3, 5, "%s", why)
}

func names(vs map[*graph.Value]bool) string {
	var s []string
	for v := range vs {
		s = append(s, fmt.Sprintf("%q %s", v.Name, v.Type))
	}
	sort.Strings(s)
	return strings.Join(s, ", ")
}

// chunkLength reads Q off the axis that a cumulative sum runs over; the sum over
// chunks has a symbolic length, or a shorter one.
func (r *chunkRegion) chunkLength(n *graph.Node) {
	axis, ok := axisOf(n)
	if !ok {
		return
	}
	d := n.Out[0].Type.Shape[axis]
	if k, ok := d.Const(); ok {
		if q, _ := r.q.Const(); k > q {
			r.q = d
		}
	}
}

// leavingY finds y among the exits and the layout chains behind them.
func (r *chunkRegion) leavingY(exits []*graph.Value) *graph.Value {
	for i := len(exits) - 1; i >= 0; i-- {
		for v := exits[i]; ; v = v.Uses[0].Node.Out[0] {
			if r.isY(v) {
				return v
			}
			if len(v.Uses) != 1 || !isTailOp(v.Uses[0].Node) {
				break
			}
		}
	}
	return nil
}

func isAnchor(a map[*graph.Node]bool, n *graph.Node) bool { _, ok := a[n]; return ok }

func axisOf(n *graph.Node) (int, bool) {
	c := n.Input(1)
	if c == nil || c.Const == nil {
		return 0, false
	}
	a := int(c.Const.IntAt(0))
	if a < 0 {
		a += n.Out[0].Type.Rank()
	}
	return a, a >= 0 && a < n.Out[0].Type.Rank()
}

// notInRegion names operators that cannot be part of the form.
func notInRegion(n *graph.Node) string {
	if len(n.Bodies) > 0 {
		return "control flow"
	}
	if n.Op.Domain != "" {
		return "an operator of another domain"
	}
	switch n.Op.Name {
	case "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "Conv", "Gemm", "Pow", "Sqrt", "ReduceMean", "Sigmoid", "Tanh", "Swish", "Softplus", "Relu", "Erf", "Gelu":
		return "a non-linear or normalising operator"
	}
	return ""
}

// isY: as many elements as [B,L,H,P], batch first, and not more axes of time.
func (r *chunkRegion) isY(v *graph.Value) bool {
	a, t := r.root.Type.Shape, v.Type
	if t.Rank() < 3 || t.Shape[0] != a[0] {
		return false
	}
	_, ok := layout.Numel(v).DivExact(layout.Product(a...))
	if !ok {
		return false
	}
	if t.Shape[1] == a[1] {
		return true
	}
	return t.Rank() == 5 && t.Shape[1].Mul(t.Shape[2]) == a[1] && t.Shape[3] == a[2]
}

// operands lists the values that enter the region from outside, by their deepest layout.
func (r *chunkRegion) operands(outs []*graph.Value) [][]*graph.Value {
	var found [][]*graph.Value
	seen := map[*graph.Value]bool{r.root: true}
	roots := map[*graph.Value]bool{}
	stack := append([]*graph.Value{}, outs...)
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v == nil || seen[v] || r.st.is(v) {
			continue
		}
		seen[v] = true
		switch {
		case r.inside(v):
			stack = append(stack, v.Def.In...)
		case r.bare(layout.Deepest(v)):
			stack = append(stack, layout.Deepest(v).Def.In...)
		case r.piece(v) != nil:
			stack = append(stack, r.piece(v))
		default:
			ch := layout.Chain(v)
			if d := ch[len(ch)-1]; !roots[d] {
				roots[d] = true
				found = append(found, ch)
			}
		}
	}
	return found
}

// inside: v is influenced, or only cut and laid out after that.
func (r *chunkRegion) inside(v *graph.Value) bool {
	for !r.in[v] {
		if v.Def == nil || !isTailOp(v.Def) {
			return false
		}
		v = v.Def.In[0]
	}
	return true
}

// piece: a chunk cut from a sequence; it returns what it is cut from.
func (r *chunkRegion) piece(v *graph.Value) *graph.Value {
	ch := layout.Chain(v)
	d := ch[len(ch)-1].Def
	if d == nil || !d.Op.Is("", "Slice") && !d.Op.Is("", "Split") && !d.Op.Is("", "Gather") || r.sequence(ch) != nil || r.st.is(d.In[0]) {
		return nil
	}
	if r.stateOf(ch) != nil && r.sequence(layout.Chain(d.In[0])) == nil {
		return nil // a state, cut from those of all layers
	}
	return d.In[0]
}

// bare: a product or contraction of operands that a does not touch, such as
// C B^T, belongs to the region when its axes are those of chunks rather than
// of tokens.
func (r *chunkRegion) bare(v *graph.Value) bool {
	if v.Def == nil {
		return false
	}
	switch v.Def.Op.Name {
	case "MatMul", "Einsum", "ReduceSum", "Mul", "Concat":
		for _, u := range layout.Chain(v) {
			if t := u.Type; t.Rank() >= 2 && t.Rank() <= 4 && t.Shape[1] == r.root.Type.Shape[1] && !r.quadratic(u) {
				return false
			}
		}
		for _, u := range v.Def.In {
			if u != nil && u.Const != nil && u.Const.Rank() >= 2 && !isMask(u) {
				return false // a projection
			}
		}
		return true
	}
	return false
}

// quadratic: L by L in its last axes.
func (r *chunkRegion) quadratic(v *graph.Value) bool {
	s, l, k := v.Type.Shape, r.root.Type.Shape[1], 0
	for _, d := range s {
		if d == l {
			k++
		}
	}
	return k >= 2
}
