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

// The chunked and the quadratic form: decays appear as exp of segment sums of
// the log decay a[B,L,H] (Mamba-2 paper, section 6 and listing 1). Every such
// exp leads back, through cumulative sums, masks, differences and layout, to the
// same a. What a influences, up to the point where everything flows through one
// value again, is the region; its other operands are x, B, C and perhaps a state.

const ruleChunked = "ssm.SSD (chunked form)"

func chunked(c *passes.Context, g *graph.Graph) error {
	index := make(map[*graph.Node]int, len(g.Nodes))
	st := static{}
	var order []*graph.Value
	anchors := map[*graph.Value]map[*graph.Node]bool{}
	for i, n := range g.Nodes {
		index[n] = i
		if !n.Op.Is("", "Exp") || !isFloat(n.Out[0]) {
			continue
		}
		root, summed := decayRoot(n.In[0], st)
		if root == nil {
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
		r := &chunkRegion{c: c, g: g, st: st, root: root, anchors: anchors[root]}
		r.find(g.Nodes[start:])
	}
	return nil
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
		case "Slice", "Neg":
			next = n.In[0]
		case "Gather":
			if n.In[1].Const != nil {
				next = n.In[0]
			}
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
			if layout.Is(n) {
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

// chunkRegion is one candidate.
type chunkRegion struct {
	c       *passes.Context
	g       *graph.Graph
	st      static
	root    *graph.Value
	anchors map[*graph.Node]bool
	in      map[*graph.Value]bool // influenced by root
	q       graph.Dim             // chunk length, 1 when not seen
}

// maxCuts bounds how many ends of the region are tried.
const maxCuts = 6

func (r *chunkRegion) find(nodes []*graph.Node) {
	if r.root.Type.Rank() != 3 {
		r.c.Miss(ruleChunked, r.root, 1, 5, "the log decay is %s; expected [B,L,H], one decay per head", r.root.Type)
		return
	}
	r.in = map[*graph.Value]bool{r.root: true}
	r.q = graph.D(1)
	remaining := map[*graph.Value]int{}
	live := map[*graph.Value]bool{r.root: true}
	tails := &tailFinder{memo: map[*graph.Node]bool{}}
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
				why = fmt.Sprintf("%s stands inside: %s", n, bad)
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
		why = err.Error()
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
		case r.in[v] || v.Def != nil && isTailOp(v.Def) && r.in[v.Def.In[0]]:
			stack = append(stack, v.Def.In...)
		case r.bare(layout.Deepest(v)):
			stack = append(stack, layout.Deepest(v).Def.In...)
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

// try assigns roles to the operands and asks for a certificate.
func (r *chunkRegion) try(y *graph.Value, exits []*graph.Value) error {
	state := stateExit(r.root, exits, y)
	outs := []*graph.Value{y}
	if state != nil {
		outs = append(outs, state)
	}
	var seq [][]*graph.Value
	var past *graph.Value
	for _, ch := range r.operands(outs) {
		if s := r.sequence(ch); s != nil {
			seq = append(seq, s)
		} else if p := r.stateOf(ch); p != nil && past == nil {
			past = p
		} else {
			d := ch[len(ch)-1]
			return fmt.Errorf("operand %q %s is neither a sequence [B,L,..] nor a state [B,H,P,N]", d.Name, d.Type)
		}
	}
	if len(seq) != 3 {
		return fmt.Errorf("found %d sequence operands; expected x, B and C", len(seq))
	}
	var last error
	for _, p := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		err := r.assign(seq[p[0]], seq[p[1]], seq[p[2]], past, y, state)
		if err == nil {
			return nil
		}
		if last == nil || !isRole(err) {
			last = err
		}
	}
	return last
}

// sequence returns the forms [B,L,x,y] and [B,L,x] of an operand, deepest first.
func (r *chunkRegion) sequence(ch []*graph.Value) []*graph.Value {
	a := r.root.Type.Shape
	var out []*graph.Value
	for i := len(ch) - 1; i >= 0; i-- {
		s := ch[i].Type.Shape
		if (len(s) == 4 || len(s) == 3) && s[0] == a[0] && s[1] == a[1] {
			out = append(out, ch[i])
		}
	}
	return out
}

func (r *chunkRegion) stateOf(ch []*graph.Value) *graph.Value {
	a := r.root.Type.Shape
	for i := len(ch) - 1; i >= 0; i-- {
		if s := ch[i].Type.Shape; len(s) == 4 && s[0] == a[0] && s[1] == a[2] {
			return ch[i]
		}
	}
	return nil
}

// roleError: the shapes rule the assignment out, before any evaluation.
type roleError struct{ error }

func isRole(err error) bool { _, ok := err.(roleError); return ok }

func (r *chunkRegion) assign(xs, bs, cs []*graph.Value, past, y, state *graph.Value) error {
	a := r.root.Type.Shape
	x := perHead(xs, a[2])
	if x == nil {
		return roleError{fmt.Errorf("no operand has the shape of x[B,L,H,P]")}
	}
	bb := r.c.Builder(r.g, y.Def.From)
	xv := headed(bb, x, a[2])
	if bb.Err != nil {
		return bb.Err
	}
	P := xv.Type.Shape[3]
	if layout.Numel(y) != layout.Product(a[0], a[1], a[2], P) {
		return roleError{fmt.Errorf("y has another head dim than x")}
	}
	bv, cv := grouped(bb, bs, a[2]), grouped(bb, cs, a[2])
	if bv == nil || cv == nil || bv.Type.Shape[3] != cv.Type.Shape[3] || bv.Type.Shape[2] != cv.Type.Shape[2] {
		return roleError{fmt.Errorf("no operands have the shapes of B and C [B,L,G,N]")}
	}
	n := bb.Node("ssm", "SSD", graph.Attrs{}, 2, xv, nil, r.root, bv, cv, nil, nil, nil, past)
	if bb.Err != nil {
		return roleError{bb.Err}
	}
	if k, ok := r.q.Const(); ok && k > 1 {
		n.Attrs["chunk_size"] = k
	}
	cl := &certify.Claim{
		In:    []certify.Input{{Value: x, Kind: certify.Any}, {Value: r.root, Kind: certify.LogDecay}, {Value: rootOf(bs, bv), Kind: certify.Any}, {Value: rootOf(cs, cv), Kind: certify.Any}},
		Old:   []*graph.Value{y},
		New:   []*graph.Value{layout.Reshape(bb, n.Out[0], y.Type.Shape)},
		Sizes: certify.Bindings(a[1], r.lengths()...),
	}
	if past != nil {
		cl.In = append(cl.In, certify.Input{Value: past, Kind: certify.Any})
	}
	if state != nil {
		cl.Old = append(cl.Old, state)
		cl.New = append(cl.New, layout.Reshape(bb, n.Out[1], state.Type.Shape))
	}
	if bb.Err != nil {
		return bb.Err
	}
	cl.Shrink = r.shrinking(a[2], P, bv.Type.Shape[2], bv.Type.Shape[3])
	err := certify.Rewrite(r.c, ruleChunked, cl)
	if q, ok := r.q.Const(); ok && certify.CannotEvaluate(err) {
		// The form may only exist for whole chunks: elsewhere the graph cannot run.
		cl.Sizes, cl.Multiple = certify.Bindings(a[1], q, 3*q), q
		err = certify.Rewrite(r.c, ruleChunked, cl)
	}
	return err
}

// lengths to certify at: shorter than a chunk, and across chunks with a tail.
func (r *chunkRegion) lengths() []int64 {
	q, ok := r.q.Const()
	if !ok || q <= 1 {
		return []int64{3, 7}
	}
	return []int64{3, 2*q + (q+1)/2}
}

func (r *chunkRegion) shrinking(h, p, g, n graph.Dim) map[int64]int64 {
	s := certify.NewShrinker(r.q, r.root.Type.Shape[1])
	if g.Is(1) {
		s.To(h, 2)
	} else {
		s.To(h, 4)
		if g != h {
			s.To(g, 2)
		}
	}
	s.To(p, 3)
	s.To(n, 5)
	s.To(h.Mul(p), s.Of(h)*s.Of(p))
	s.To(g.Mul(n), s.Of(g)*s.Of(n))
	return s.Map
}

// perHead picks the deepest form that is [B,L,H,*], else one that H divides.
func perHead(forms []*graph.Value, h graph.Dim) *graph.Value {
	for _, v := range forms {
		if v.Type.Rank() == 4 && v.Type.Shape[2] == h {
			return v
		}
	}
	for _, v := range forms {
		if v.Type.Rank() == 3 {
			if _, ok := v.Type.Shape[2].DivExact(h); ok {
				return v
			}
		}
	}
	return nil
}

func headed(b *graph.Builder, v *graph.Value, h graph.Dim) *graph.Value {
	if v.Type.Rank() == 4 {
		return v
	}
	s := v.Type.Shape
	p, _ := s[2].DivExact(h)
	return layout.Reshape(b, v, []graph.Dim{s[0], s[1], h, p})
}

// grouped picks the deepest [B,L,G,N] with G dividing H; a rank 3 form is one group.
func grouped(b *graph.Builder, forms []*graph.Value, h graph.Dim) *graph.Value {
	for _, v := range forms {
		if v.Type.Rank() == 4 {
			if _, ok := h.DivExact(v.Type.Shape[2]); ok {
				return v
			}
		}
	}
	for _, v := range forms {
		if s := v.Type.Shape; len(s) == 3 {
			return layout.Reshape(b, v, []graph.Dim{s[0], s[1], graph.D(1), s[2]})
		}
	}
	return nil
}

// rootOf is the form that v was made from.
func rootOf(forms []*graph.Value, v *graph.Value) *graph.Value {
	for _, f := range forms {
		if f == v {
			return v
		}
	}
	return v.Def.In[0]
}

// stateExit finds the final state [B,H,P,N] among values that leave the region
// toward outputs of the model.
func stateExit(root *graph.Value, exits []*graph.Value, y *graph.Value) *graph.Value {
	a := root.Type.Shape
	isState := func(v *graph.Value) bool {
		s := v.Type.Shape
		return v != y && len(s) == 4 && s[0] == a[0] && s[1] == a[2] && s[2] != a[1]
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
				return u
			}
			for _, w := range u.Uses {
				if isTailOp(w.Node) {
					stack = append(stack, w.Node.Out[0])
				}
			}
		}
	}
	return nil
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
