package recur

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// Chunks of a constant decay: RetNet's chunkwise form, lightning attention,
// simple gated linear attention whose gates are parameters. The powers of the
// decay are constants, or computed from lengths alone, so there is no a[B,L,H] to
// begin at. The masked scores of a chunk begin the region; the decay is read off
// their mask. What else the region holds is found from y backward: products of
// data, and what scales, sums and cuts them, down to three sequences. How states
// pass from chunk to chunk, by a matrix or step after step, need not be known:
// the certificate says whether they do.

const ruleFolded = "ssm.SSD (chunks of a constant decay)"

// foldedChunks is what is known of all regions of a graph.
type foldedChunks struct {
	inside map[*graph.Node]bool  // of regions that were rewritten
	tried  map[*graph.Value]bool // as y, in vain
}

// maxInfluence bounds how much is looked at behind the scores.
const maxInfluence = 4096

// rewrite takes the scores of m for those of a chunk; why is the reason that they
// are not those of the whole sequence, nil when they surely are a chunk's. told:
// there is nothing more to say.
func (f *foldedChunks) rewrite(m *maskedAttention, why error) (err error, told bool) {
	r := &foldedRegion{scanRoles: scanRoles{c: m.c, g: m.g, st: m.st, rule: ruleFolded}, m: m}
	r.influence()
	var best error
	cuts, chunks := 0, why == nil
	for _, a := range r.lengthsAndHeads() {
		r.a = a
		var closest error // of the last y, which holds the others
		for _, y := range r.order {
			if !r.isY(y) {
				continue
			}
			if f.tried[y] {
				return nil, true
			}
			err := r.try(y)
			if err == nil {
				for n := range r.inside {
					f.inside[n] = true
				}
				return nil, false
			}
			var miss *certify.Mismatch
			if errors.As(err, &usedOutside{}) {
				closest = err
			} else if errors.As(err, &miss) {
				closest = fmt.Errorf("%w; the mask of a chunk has the decays %s; queries of a chunk must read the state before it with decay^(i+1), keys enter the state behind it with decay^(Q-1-j), and the state decays by decay^Q in between", err, r.gamma)
			}
			closest = certify.Closer(closest, err)
			chunks = chunks || !r.q.Is(1) && r.q != a[1] && r.q != a[2]
			if cuts++; cuts >= 2*maxCuts {
				break
			}
		}
		best = certify.Closer(best, closest)
	}
	for _, y := range r.order {
		if r.a != nil && r.isY(y) {
			f.tried[y] = true
		}
	}
	if !chunks {
		return why, false
	}
	if m.doubt != nil {
		return m.doubt, false
	}
	if best == nil {
		return fmt.Errorf("the masked scores of chunks, %s, lead to no y[B,L,H,P] of their queries, keys and values", m.y.Type), false
	}
	return best, false
}

// foldedRegion is one candidate.
type foldedRegion struct {
	scanRoles
	m      *maskedAttention
	in     map[*graph.Value]bool // computed from the masked scores
	order  []*graph.Value        // the same, as the model computes them
	inside map[*graph.Node]bool  // of the form, as found from y
	found  [][]*graph.Value      // the operands
}

// influence follows the product of the masked scores.
func (r *foldedRegion) influence() {
	r.in = map[*graph.Value]bool{r.m.y: true}
	r.order = []*graph.Value{r.m.y}
	for i := 0; i < len(r.order) && i < maxInfluence; i++ {
		for _, u := range r.order[i].Uses {
			n := u.Node
			if n.Graph != r.g || r.st.is(n.Out[0]) || notInRegion(n) != "" || projection(n) {
				continue
			}
			for _, v := range n.Out {
				if v != nil && !r.in[v] {
					r.in[v] = true
					r.order = append(r.order, v)
				}
			}
		}
	}
	index := make(map[*graph.Node]int, len(r.g.Nodes))
	for i, n := range r.g.Nodes {
		index[n] = i
	}
	slices.SortStableFunc(r.order, func(a, b *graph.Value) int { return cmp.Compare(index[a.Def], index[b.Def]) })
}

// projection: a product by a matrix of parameters along the last axis. One along
// another axis, that of the chunks, may carry states on.
func projection(n *graph.Node) bool {
	matrix := func(i int) bool { return n.In[i].Const != nil && n.In[i].Const.Rank() == 2 }
	switch {
	case isOp(n, "Gemm"):
		return true
	case isOp(n, "MatMul"):
		return matrix(1)
	case !isOp(n, "Einsum") || len(n.In) != 2:
		return false
	}
	terms, out, ok := lift.Equation(n)
	for i, t := range terms {
		other := terms[1-i]
		if !ok || t == "" || other == "" {
			return false
		}
		if last := t[len(t)-1:]; matrix(1-i) && strings.Contains(other, last) && !strings.Contains(out, last) {
			return true
		}
	}
	return false
}

// lengthsAndHeads proposes B, L and H from what the queries are cut and laid out
// from, the deepest first.
func (r *foldedRegion) lengthsAndHeads() (out [][]graph.Dim) {
	var forms []*graph.Value
	for _, v := range []*graph.Value{r.m.query, r.m.value} {
		for u := v; u != nil; {
			ch := layout.Chain(u)
			forms = append(forms, ch...)
			d := ch[len(ch)-1].Def
			if d == nil || !isOp(d, "Slice", "Split", "Cast", "Mul", "Div", "Gather") {
				break
			}
			if isOp(d, "Slice", "Split") && r.m.ofChunk() && r.m.s != nil && r.m.s.Type.Rank() <= 4 {
				forms = nil // lengths of a chunk
			}
			u = dataOperand(d.In, r.st)
		}
	}
	add := func(a ...graph.Dim) {
		if a[2].IsConst() && !slices.ContainsFunc(out, func(b []graph.Dim) bool { return slices.Equal(a, b) }) {
			out = append(out, a)
		}
	}
	like := r.m.y
	if r.m.s != nil {
		like = r.m.s
	}
	for _, v := range slices.Backward(forms) {
		switch s := v.Type.Shape; len(s) {
		case 4:
			add(s[0], s[1], s[2])
			add(s[0], s[2], s[1])
		case 3: // H is an axis of the scores
			for _, h := range like.Type.Shape[1:] {
				if k, ok := h.Const(); ok && k > 0 {
					if _, ok := s[2].DivExact(h); ok {
						add(s[0], s[1], h)
					}
				}
			}
		}
	}
	return out[:min(len(out), 8)]
}

// try takes y for the result of the form.
func (r *foldedRegion) try(y *graph.Value) error {
	heads, _ := r.a[2].Const()
	gamma, err := r.m.decay(r.m.value, r.a[1], int(heads))
	if err != nil {
		return err
	}
	r.gamma, r.q = gamma, r.chunk()
	if err := r.operands(y); err != nil {
		return err
	}
	exits := r.exits(y, nil)
	state, from := stateExit(r.a, exits, y)
	other := func(v *graph.Value) bool { return v != from && v != state }
	if slices.ContainsFunc(exits, other) { // the last chunk's part of the final state is not on the way to y
		if last := r.finalState(y); last != nil {
			state, from = last, last
			if err := r.operands(y, last); err != nil {
				return err
			}
			exits = r.exits(y, last)
		}
	}
	if i := slices.IndexFunc(exits, other); i >= 0 {
		return usedOutside{exits[i]}
	}
	return r.roles(r.found, y, state)
}

// finalState finds a state [B,H,P,N] that is used outside among what the values
// of the form, and nothing else, are further used for.
func (r *foldedRegion) finalState(y *graph.Value) (state *graph.Value) {
	known, made, within := map[*graph.Value]bool{}, map[*graph.Value]bool{}, map[*graph.Node]bool{}
	for _, ch := range r.found {
		for _, v := range ch {
			known[v] = true
		}
	}
	for _, n := range r.g.Nodes {
		if !r.inside[n] {
			within[n] = len(n.Out) == 1 && !r.st.is(n.Out[0]) && notInRegion(n) == "" && !projection(n) &&
				!slices.ContainsFunc(n.In, func(v *graph.Value) bool { return v != nil && !known[v] && !r.st.is(v) }) &&
				slices.ContainsFunc(n.In, func(v *graph.Value) bool { return v != nil && made[v] })
			if !within[n] {
				continue
			}
		}
		for _, v := range n.Out {
			known[v], made[v] = v != y, v != y
		}
	}
	for _, n := range r.g.Nodes {
		if r.inside[n] || !within[n] {
			continue
		}
		v := n.Out[0]
		outer := func(u graph.Use) bool { return !within[u.Node] && !r.inside[u.Node] }
		if r.stateOf([]*graph.Value{v}) != nil && (v.IsOutput() || slices.ContainsFunc(v.Uses, outer)) {
			state = v
		}
	}
	return state
}

// usedOutside: a value of the form is also used elsewhere.
type usedOutside struct{ v *graph.Value }

func (e usedOutside) Error() string {
	return fmt.Sprintf("%q %s inside the form is used outside it; only y and the final state may be", e.v.Name, e.v.Type)
}

// chunk is how many positions the mask has.
func (r *foldedRegion) chunk() graph.Dim {
	t := r.m.y.Type
	if r.m.mask != nil {
		t = r.m.mask.Type
	} else if r.m.s != nil {
		t = r.m.s.Type
	}
	for i := len(t.Shape) - 1; i > 0; i-- {
		if slices.Contains(t.Shape[:i], t.Shape[i]) {
			if k, ok := t.Shape[i].Const(); ok && k > 1 {
				return t.Shape[i]
			}
		}
	}
	return graph.D(1)
}

// operands goes from the results back to the sequences and states that the form reads.
func (r *foldedRegion) operands(results ...*graph.Value) error {
	r.inside, r.found = map[*graph.Node]bool{}, nil
	seen, roots := map[*graph.Value]bool{}, map[*graph.Value]bool{}
	stack := slices.Clone(results)
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v == nil || seen[v] || r.st.is(v) {
			continue
		}
		seen[v] = true
		ch := layout.Chain(v)
		d := ch[len(ch)-1]
		if roots[d] {
			continue
		}
		within := r.in[d] || r.made(d, 12)
		if s := r.sequence(ch); !within && s != nil || d.Def == nil || !r.in[d] && r.pastState(ch) {
			roots[d] = true
			r.found = append(r.found, ch)
			continue
		}
		if bad := notInRegion(d.Def); projection(d.Def) || bad != "" && len(d.Def.Bodies) == 0 {
			return fmt.Errorf("%q %s, of %s, is part of the form but neither a sequence %s nor a state [B,H,P,N]", d.Name, d.Type, d.Def, r.shape())
		}
		for _, u := range ch[:len(ch)-1] {
			r.inside[u.Def] = true
		}
		r.inside[d.Def] = true
		stack = append(stack, d.Def.In...)
		if len(d.Def.Bodies) > 0 {
			outside(d.Def, func(u *graph.Value) { stack = append(stack, u) })
		}
	}
	return nil
}

// pastState: cut from states that come from outside.
func (r *foldedRegion) pastState(ch []*graph.Value) bool {
	d := ch[len(ch)-1].Def
	if d == nil || r.stateOf(ch) == nil || !isOp(d, "Slice", "Split", "Gather") {
		return false
	}
	from := layout.Chain(d.In[0])
	return from[len(from)-1].Def == nil && r.sequence(from) == nil
}

// made: v is a product of data, or put together from such, as what chunks add
// to one another is; sequences come from projections and elementwise operators.
func (r *foldedRegion) made(v *graph.Value, depth int) bool {
	v = layout.Deepest(v)
	if v.Def == nil || depth == 0 || r.st.is(v) {
		return false
	}
	if isProduct(v.Def, r.st) && !projection(v.Def) || r.in[v] {
		return true
	}
	if !isOp(v.Def, "Mul", "Div", "Add", "Sub", "Concat", "Slice", "ReduceSum", "Cast") {
		return false
	}
	return slices.ContainsFunc(v.Def.In, func(u *graph.Value) bool { return u != nil && r.made(u, depth-1) })
}

// exits lists what the form computes besides y that is used outside of it.
func (r *foldedRegion) exits(y, state *graph.Value) (out []*graph.Value) {
	for _, n := range r.g.Nodes {
		if !r.inside[n] {
			continue
		}
		for _, v := range n.Out {
			if v == nil || v == y || v == state {
				continue
			}
			outer := func(u graph.Use) bool {
				m := u.Node
				return !r.inside[m] && !isOp(m, "Shape", "Size") && (len(m.Out) == 0 || !m.Out[0].Unused() || len(m.Out) > 1)
			}
			if v.IsOutput() || slices.ContainsFunc(v.Uses, outer) {
				out = append(out, v)
			}
		}
	}
	return out
}
