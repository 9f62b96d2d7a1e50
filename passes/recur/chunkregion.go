package recur

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// chunkRegion is one candidate.
type chunkRegion struct {
	scanRoles
	root    *graph.Value
	anchors map[*graph.Node]bool
	in      map[*graph.Value]bool // influenced by root
	tails   *tailFinder
	through bool // products of sequences that are sequences by their shapes belong to the region
}

// maxCuts bounds how many ends of the region are tried.
const maxCuts = 6

// find looks for y among what the root influences. The root is [B,L,H] or [B,H,L].
func (r *chunkRegion) find(nodes []*graph.Node) {
	t := r.root.Type
	if t.Rank() != 3 {
		if t.Rank() < 3 && !r.st.is(r.root) { // of more, the parallel door speaks; of constants, the masked one
			r.c.Miss(ruleChunked, r.root, 1, 5, "the log decay is %s; expected [B,L,H], one decay per head", t)
		}
		return
	}
	if r.st.is(r.root) {
		return
	}
	orders := [][]graph.Dim{t.Shape}
	if heads := t.Shape[1]; heads.IsConst() && heads != t.Shape[2] {
		orders = append(orders, []graph.Dim{t.Shape[0], t.Shape[2], heads})
		if !t.Shape[2].IsConst() {
			orders = orders[1:]
		}
	}
	var why error
	for _, a := range orders {
		r.a, r.log = a, r.root
		err := r.search(nodes)
		if err == nil {
			return
		}
		if why == nil {
			why = err
		}
		why = certify.Closer(why, err)
	}
	r.c.Miss(ruleChunked, r.root, 3, 5, "%v", why)
}

func (r *chunkRegion) search(nodes []*graph.Node) error {
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
		var ys []*graph.Value
		for v := range live {
			ys = append(ys, v)
		}
		if len(ys) == 0 { // y only leaves the model, directly or through layout
			ys = r.leavingY(exits)
		}
		for _, y := range ys {
			if !r.isY(y) || r.turns(y) {
				if cuts == 0 {
					why = fmt.Sprintf("its influence flows together in %q %s, which is not y[B,L,H,P]", y.Name, y.Type)
				}
				continue
			}
			err := r.try(y, exits)
			if err == nil {
				return nil
			}
			if errors.Is(err, errNoSequence) {
				continue
			}
			best = certify.Closer(best, err) // the first cut's, unless a later one comes as far as a certificate
			why = best.Error()
			cuts++
		}
		if cuts >= maxCuts || len(live) == 0 {
			break
		}
	}
	if len(live) > 1 {
		why += "; still open: " + names(live)
	}
	return &notFound{best, why}
}

// notFound says in its own words why there is no y, or what best says.
type notFound struct {
	best error
	why  string
}

func (e *notFound) Error() string { return e.why }
func (e *notFound) Unwrap() error { return e.best }

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

// leavingY finds what may be y among the exits and the layout chains behind them.
func (r *chunkRegion) leavingY(exits []*graph.Value) (ys []*graph.Value) {
	for i := len(exits) - 1; i >= 0 && len(ys) == 0; i-- {
		for v := exits[i]; ; v = v.Uses[0].Node.Out[0] {
			if r.isY(v) {
				ys = append(ys, v)
			}
			if len(v.Uses) != 1 || !isTailOp(v.Uses[0].Node) {
				break
			}
		}
	}
	if r.a[1] != r.a[2] && slices.ContainsFunc(ys, func(v *graph.Value) bool { return r.placesOf(v)[0] == tokens }) {
		ys = slices.DeleteFunc(ys, func(v *graph.Value) bool { return r.placesOf(v)[0] != tokens }) // layouts of one another
	}
	slices.SortStableFunc(ys, func(a, b *graph.Value) int { return int(r.placesOf(a)[0] - r.placesOf(b)[0]) })
	return ys
}

// turns: y has its heads first, and all that happens to it is that they are
// brought behind the tokens.
func (r *chunkRegion) turns(y *graph.Value) bool {
	if r.placesOf(y)[0] == tokens || len(y.Uses) != 1 || y.IsOutput() {
		return false
	}
	n := y.Uses[0].Node
	return isOp(n, "Transpose") && !r.tails.is(n) && slices.Contains(r.placesOf(n.Out[0]), tokens)
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
		product := isProduct(v.Def, r.st)
		for _, u := range layout.Chain(v) {
			if t := u.Type; !product && t.Rank() >= 2 && t.Rank() <= 4 && t.Shape[1] == r.a[1] && (!r.through || !r.quadratic(u)) {
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
	s, l, k := v.Type.Shape, r.a[1], 0
	for _, d := range s {
		if d == l {
			k++
		}
	}
	return k >= 2
}

// isProduct: a contraction of two values that depend on data.
func isProduct(n *graph.Node, st static) bool {
	if !isOp(n, "MatMul", "Einsum") {
		return false
	}
	data := 0
	for _, v := range n.In {
		if !st.is(v) {
			data++
		}
	}
	return data >= 2
}
