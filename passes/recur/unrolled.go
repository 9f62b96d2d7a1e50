package recur

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// An unrolled trace: a Concat of L outputs, each computed from what the step
// before left and from element t of a few sequences. Walking back from the
// Concat, the reads of sequences at constant times are where the region begins.
// The walk visits each node once, so a trace of any length costs linear time.

const ruleUnrolled = "ssm.SelectiveScan (unrolled trace)"

func unrolled(c *passes.Context, g *graph.Graph) error {
	for _, n := range append([]*graph.Node{}, g.Nodes...) {
		if !n.Op.Is("", "Concat") || len(n.In) < 2 || !isFloat(n.Out[0]) || n.Out[0].Unused() {
			continue
		}
		t := &trace{c: c, g: g, concat: n, L: int64(len(n.In)), inside: map[*graph.Value]bool{}, reads: map[*graph.Value]*timeRead{}, st: static{}}
		if !t.walk() {
			continue // a Concat of something else
		}
		if err := t.rewrite(); err != nil {
			c.Miss(ruleUnrolled, n.Out[0], 2, 4, "%v", err)
		}
	}
	return nil
}

// timeRead is a sequence read at single times.
type timeRead struct {
	v    *graph.Value
	axis int
	at   map[int64]bool
}

type trace struct {
	c      *passes.Context
	g      *graph.Graph
	concat *graph.Node
	L      int64
	inside map[*graph.Value]bool
	reads  map[*graph.Value]*timeRead
	order  []*timeRead
	roots  []*graph.Value // other operands: the initial state
	st     static
}

// read matches Gather(v, t) and Slice(v, t:t+1) along an axis of length L.
func (t *trace) read(n *graph.Node) (v *graph.Value, axis int, at int64, ok bool) {
	in := n.In[0]
	switch {
	case n.Op.Is("", "Gather"):
		idx := n.In[1].Const
		if idx == nil || idx.Len() != 1 {
			return nil, 0, 0, false
		}
		axis, at = int(n.Attrs.Int("axis", 0)), idx.IntAt(0)
	case n.Op.Is("", "Slice") && len(n.In) >= 4 && n.In[1].Const != nil && n.In[2].Const != nil && n.In[3] != nil && n.In[3].Const != nil && n.In[1].Const.Len() == 1:
		axis, at = int(n.In[3].Const.IntAt(0)), n.In[1].Const.IntAt(0)
		if n.In[2].Const.IntAt(0) != at+1 {
			return nil, 0, 0, false
		}
	default:
		return nil, 0, 0, false
	}
	if axis < 0 {
		axis += in.Type.Rank()
	}
	if at < 0 {
		at += t.L
	}
	if axis <= 0 || axis >= in.Type.Rank() || !in.Type.Shape[axis].Is(t.L) {
		return nil, 0, 0, false
	}
	return in, axis, at, true
}

// walk collects the region. It reports false when this is no recurrence.
func (t *trace) walk() bool {
	stack := append([]*graph.Value{}, t.concat.In...)
	adds := 0
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v == nil || t.inside[v] || t.st.is(v) {
			continue
		}
		if v.Def == nil || !inStep(v.Def) {
			t.inside[v] = false
			t.roots = appendNew(t.roots, v)
			continue
		}
		t.inside[v] = true
		if src, axis, at, ok := t.read(v.Def); ok {
			r := t.reads[src]
			if r == nil {
				r = &timeRead{v: src, axis: axis, at: map[int64]bool{}}
				t.reads[src] = r
				t.order = append(t.order, r)
			}
			if r.axis != axis {
				return false
			}
			r.at[at] = true
			continue
		}
		if v.Def.Op.Name == "Add" {
			adds++
		}
		stack = append(stack, v.Def.In...)
	}
	return len(t.order) >= 2 && int64(adds) >= t.L-1
}

func appendNew(vs []*graph.Value, v *graph.Value) []*graph.Value {
	for _, u := range vs {
		if u == v {
			return vs
		}
	}
	return append(vs, v)
}

// inStep lists what a step of a scan is made of.
func inStep(n *graph.Node) bool {
	if n.Op.Domain != "" {
		return false
	}
	switch n.Op.Name {
	case "Gather", "Slice", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Expand", "Identity", "Mul", "Add", "MatMul", "ReduceSum", "Einsum":
		return true
	}
	return false
}

func (t *trace) rewrite() error {
	for _, r := range t.order {
		if int64(len(r.at)) != t.L {
			return fmt.Errorf("sequence %q is read at %d of %d times", r.v.Name, len(r.at), t.L)
		}
	}
	var decay, update, readout *timeRead
	for _, r := range t.order {
		switch {
		case r.v.Type.Rank() == 4 && r.v.Def != nil && r.v.Def.Op.Is("", "Exp"):
			decay = r
		case r.v.Type.Rank() == 4:
			update = r
		default:
			readout = r
		}
	}
	if decay == nil || update == nil || readout == nil || len(t.order) != 3 {
		return fmt.Errorf("%d sequences are read; expected exp(A dt) [B,D,L,N], dt B u [B,D,L,N] and C [B,L,N]", len(t.order))
	}
	if decay.axis != update.axis || decay.axis == 3 || readout.v.Type.Rank() != 3 {
		return fmt.Errorf("decay %s and update %s have time on different axes", decay.v.Type, update.v.Type)
	}
	ta := int64(decay.axis)
	da := 3 - ta // axes are (B, time and channels in some order, N)
	log := decay.v.Def.In[0]
	if log.Def == nil || !log.Def.Op.Is("", "Mul") {
		return fmt.Errorf("the log decay %q is not a product A*dt", log.Name)
	}
	b := t.c.Builder(t.g, t.concat.From)
	sh := decay.v.Type.Shape
	B, L, D, N := sh[0], graph.D(t.L), sh[da], sh[3]
	dt, a := log.Def.In[0], log.Def.In[1]
	if a.Type.Rank() == 4 && a.Type.Shape[3].Is(1) {
		dt, a = a, dt
	}
	if layout.Numel(dt) != layout.Product(B, L, D) || layout.Numel(a) != layout.Product(D, N) || dt.Type.Rank() != 4 {
		return fmt.Errorf("the log decay multiplies %s and %s; expected dt [B,D,L,1] and A [D,N]", dt.Type, a.Type)
	}
	var u, bm *graph.Value
	for _, f := range factors(update.v) {
		switch {
		case f == dt || layout.Deepest(f) == layout.Deepest(dt):
		case layout.Numel(f) == layout.Product(B, L, N) && f.Type.Rank() == 4 && bm == nil:
			bm = f
		case layout.Numel(f) == layout.Product(B, L, D) && f.Type.Rank() == 4 && u == nil:
			u = f
		default:
			return fmt.Errorf("factor %q %s of the update is neither dt, B nor u", f.Name, f.Type)
		}
	}
	if u == nil || bm == nil {
		return fmt.Errorf("the update is not a product dt*B*u")
	}
	var past *graph.Value
	if len(t.roots) > 1 || len(t.roots) == 1 && layout.Numel(t.roots[0]) != layout.Product(B, D, N) {
		return fmt.Errorf("%d other operands enter the trace; expected at most a state [B,D,N]", len(t.roots))
	}
	cl := &certify.Claim{In: []certify.Input{{Value: dt, Kind: certify.Positive}, {Value: u}, {Value: bm}, {Value: readout.v}}}
	if len(t.roots) == 1 {
		past = layout.Reshape(b, t.roots[0], []graph.Dim{B, D, N})
		cl.In = append(cl.In, certify.Input{Value: t.roots[0]})
	}
	tokens := func(v *graph.Value, last graph.Dim) *graph.Value {
		return layout.Reshape(b, layout.Transpose(b, v, 0, ta, da, 3), []graph.Dim{B, L, last})
	}
	cv := readout.v
	if readout.axis == 2 {
		cv = layout.Transpose(b, cv, 0, 2, 1)
	}
	n := b.Node("ssm", "SelectiveScan", nil, 2, tokens(u, D), tokens(dt, D), layout.Reshape(b, a, []graph.Dim{D, N}), tokens(bm, N), cv, nil, nil, nil, past)
	if b.Err != nil {
		return b.Err
	}
	y := t.concat.Out[0]
	ny := n.Out[0]
	if y.Type.Rank() == 3 && !y.Type.Shape[1].Is(t.L) || t.concat.Attrs.Int("axis", 0) == int64(y.Type.Rank()-1) {
		ny = layout.Transpose(b, ny, 0, 2, 1)
	}
	cl.Old, cl.New = []*graph.Value{y}, []*graph.Value{layout.Reshape(b, ny, y.Type.Shape)}
	final, err := t.exit(y)
	if err != nil {
		return err
	}
	if final != nil {
		cl.Old = append(cl.Old, final)
		cl.New = append(cl.New, layout.Reshape(b, n.Out[1], final.Type.Shape))
	}
	if b.Err != nil {
		return b.Err
	}
	s := certify.NewShrinker(L)
	s.To(D, 3)
	cl.Shrink = s.Map
	return certify.Rewrite(t.c, ruleUnrolled, cl)
}

// exit finds the one inner value that is used outside: the final state.
func (t *trace) exit(y *graph.Value) (*graph.Value, error) {
	var final *graph.Value
	for v, in := range t.inside {
		if !in {
			continue
		}
		out := v.IsOutput()
		for _, u := range v.Uses {
			if u.Node == t.concat || t.inside[u.Node.Out[0]] {
				continue
			}
			out = true
		}
		if !out {
			continue
		}
		if final != nil {
			return nil, fmt.Errorf("%q and %q inside the trace are used outside it", final.Name, v.Name)
		}
		final = v
	}
	if final == y {
		return nil, nil
	}
	return final, nil
}
