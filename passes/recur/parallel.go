package recur

import (
	"errors"
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Parallel spellings of h_t = a_t*h_{t-1} + u_t, element by element: Blelloch's
// sweeps, Hillis and Steele's doubling, cumulative sums weighted by cumulative
// decays, a matrix of decays per element. They have nothing in common but this:
// what the decays influence flows together into one value h of their shape, and
// only u enters on the way. So the door looks for that, and the certificate says
// whether h is the scan of a and u.

const ruleScan = "ssm.LinearScan (parallel scan)"

func parallel(c *passes.Context, g *graph.Graph) error {
	st := static{}
	seen := map[*graph.Value]bool{}
	for i, n := range append([]*graph.Node{}, g.Nodes...) {
		if len(n.Out) == 0 || n.Out[0] == nil || n.Out[0].Unused() || !isFloat(n.Out[0]) {
			continue
		}
		r := scanStart(n, st)
		if r == nil || seen[r.root] {
			continue
		}
		seen[r.root] = true
		r.c, r.g, r.st = c, g, st
		if err := r.find(after(g.Nodes, r.root, i)); err != nil {
			c.Miss(ruleScan, r.root, 1, 3, "%v", err)
		}
	}
	return nil
}

// after lists the nodes behind the one that makes v; n is one behind it.
func after(nodes []*graph.Node, v *graph.Value, n int) []*graph.Node {
	for n = min(n, len(nodes)-1); n > 0 && nodes[n] != v.Def; n-- {
	}
	return nodes[n:]
}

// scanRegion is a candidate.
type scanRegion struct {
	c    *passes.Context
	g    *graph.Graph
	st   static
	root *graph.Value // the decays, or their logarithms
	log  bool
	in   map[*graph.Value]bool // influenced by root
}

// scanStart recognises where a candidate may begin: at log decays that are
// summed before an exp, or at decays that are read pair by pair or shifted.
func scanStart(n *graph.Node, st static) *scanRegion {
	v := n.Out[0]
	if n.Op.Is("", "Exp") {
		if root, summed := decayRoot(n.In[0], st); summed && root != nil && root.Type.Rank() >= 3 && !st.is(root) {
			return &scanRegion{root: root, log: true}
		}
	}
	if v.Type.Rank() < 3 || st.is(v) || !n.Op.Is("", "Exp") && !n.Op.Is("", "Sigmoid") && !n.Op.Is("", "Sub") {
		return nil
	}
	for _, u := range layouts(v) {
		if takenInPairs(u) {
			return &scanRegion{root: v}
		}
	}
	return nil
}

// takenInPairs: v is read with a stride of 2, as halves of pairs, or behind ones
// that stand for what lies before the first step.
func takenInPairs(v *graph.Value) bool {
	for _, u := range v.Uses {
		switch n := u.Node; {
		case n.Op.Is("", "Slice") && u.Index == 0 && strided(n):
			return true
		case n.Op.Is("", "Pad") && n.Input(2) != nil && isConst(n.In[2], 1):
			return true
		case u.Index == 0 && (n.Op.Is("", "Gather") && n.In[1].Const != nil || n.Op.Is("", "Split")):
			if inPairs(v, int(n.Attrs.Int("axis", 0))) {
				return true
			}
		case n.Op.Is("", "Concat") && len(n.In) == 2 && isConst(n.In[1-min(u.Index, 1)], 1):
			return true
		}
	}
	return false
}

// strided: n takes every second place, along whichever axis.
func strided(n *graph.Node) bool {
	if n.Input(4) == nil || n.In[4].Const == nil {
		return false
	}
	for i := range n.In[4].Const.Len() {
		if n.In[4].Const.IntAt(i) == 2 {
			return true
		}
	}
	return false
}

// inPairs: the axis of v is of two places that a reshape made. Optimisers may
// leave the transpose to channels first behind that reshape, not before it.
func inPairs(v *graph.Value, axis int) bool {
	if axis < 0 {
		axis += v.Type.Rank()
	}
	if axis < 0 || axis >= v.Type.Rank() || !v.Type.Shape[axis].Is(2) {
		return false
	}
	for v.Def != nil && v.Def.Op.Is("", "Transpose") {
		v = v.Def.In[0]
	}
	return v.Def != nil && v.Def.Op.Is("", "Reshape")
}

// maxScanNodes bounds what a candidate may influence.
const maxScanNodes = 5000

// find follows the influence of root until it flows together in h.
func (r *scanRegion) find(nodes []*graph.Node) error {
	r.in = map[*graph.Value]bool{r.root: true}
	remaining := map[*graph.Value]int{}
	live := map[*graph.Value]bool{r.root: true}
	count := func(v *graph.Value) (k int) {
		for _, u := range v.Uses {
			if len(u.Node.Out) > 0 && u.Node.Out[0] != nil && !r.st.is(u.Node.Out[0]) {
				k++
			}
		}
		return k
	}
	remaining[r.root] = count(r.root)
	var best error
	touched, cuts := 0, 0
	for _, n := range nodes {
		mine := false
		for _, v := range n.In {
			mine = mine || v != nil && r.in[v]
		}
		if !mine || r.st.is(n.Out[0]) {
			continue
		}
		if len(n.Bodies) > 0 || n.Op.Domain != "" {
			break
		}
		if touched++; touched > maxScanNodes {
			break
		}
		if err := r.epsilon(n); err != nil {
			return err
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
			if remaining[v] = count(v); remaining[v] > 0 || v.IsOutput() {
				live[v] = true
			}
		}
		if len(live) != 1 || touched < 3 {
			continue
		}
		for h := range live {
			if layout.Numel(h) != layout.Numel(r.root) || !isFloat(h) {
				continue
			}
			err := r.try(h)
			if err == nil {
				return nil
			}
			if _, none := err.(noUpdate); none {
				continue
			}
			best = certify.Closer(best, err)
			if cuts++; cuts >= maxCuts {
				return best
			}
		}
	}
	switch {
	case r.log && r.root.Type.Rank() == 3:
		return nil // a form of heads: the chunked door speaks of it
	case best == nil:
		return fmt.Errorf("what the decays %q influence never flows together in one value of their shape, %s", r.root.Name, r.root.Type)
	}
	return best
}

// noUpdate: nothing enters yet.
type noUpdate struct{ error }

// update finds u: the one operand of the decays' size.
func (r *scanRegion) update(h *graph.Value) (*graph.Value, error) {
	var u *graph.Value
	seen := map[*graph.Value]bool{}
	stack := []*graph.Value{h}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v == nil || seen[v] || r.st.is(v) || v == r.root {
			continue
		}
		seen[v] = true
		if r.in[v] {
			stack = append(stack, v.Def.In...)
			continue
		}
		if w := unshifted(v); w != nil {
			stack = append(stack, w)
			continue
		}
		if layout.Numel(v) == layout.Numel(r.root) {
			for d := v; ; d = d.Def.In[0] {
				if layout.Numel(d) == layout.Numel(r.root) {
					v = d
				}
				if d.Def == nil || !layout.Is(d.Def) {
					break
				}
			}
			if u != nil && u != v {
				return nil, fmt.Errorf("%q and %q both enter between the decays %q and %q; expected the update alone", u.Name, v.Name, r.root.Name, h.Name)
			}
			u = v
			continue
		}
		if n := v.Def; n != nil && n.Op.Domain == "" && (layout.Is(n) || n.Op.Name == "Slice" || n.Op.Name == "Gather" || n.Op.Name == "Concat" || n.Op.Name == "Split") {
			stack = append(stack, n.In...)
			continue
		}
		return nil, fmt.Errorf("%q %s enters between the decays %q and %q; expected an update of their shape, %s", v.Name, v.Type, r.root.Name, h.Name, r.root.Type)
	}
	if u == nil {
		return nil, noUpdate{fmt.Errorf("no update enters between the decays %q and %q", r.root.Name, h.Name)}
	}
	return u, nil
}

// unshifted is what v is a shift of: padded in front, cut at the end.
func unshifted(v *graph.Value) *graph.Value {
	cut := defOf(v, "Slice")
	if cut == nil {
		return nil
	}
	pad := defOf(cut.In[0], "Pad")
	if pad == nil {
		pad = defOf(cut.In[0], "Concat")
	}
	if pad == nil {
		return nil
	}
	for _, w := range pad.In {
		if w != nil && w.Type.Equal(v.Type) {
			return w
		}
	}
	return nil
}

// try claims that h is the scan of root and what else enters.
func (r *scanRegion) try(h *graph.Value) error {
	u, err := r.update(h)
	if err != nil {
		return err
	}
	if !u.Type.Equal(r.root.Type) {
		return fmt.Errorf("the update %q is %s, the decays are %s", u.Name, u.Type, r.root.Type)
	}
	var last error
	for time := 1; time < max(2, u.Type.Rank()-1); time++ {
		last = certify.Closer(last, r.claim(h, u, time))
		if last == nil {
			return nil
		}
	}
	return last
}

func (r *scanRegion) claim(h, u *graph.Value, time int) error {
	b := r.c.Builder(r.g, h.Def.From)
	kind := certify.Positive
	a := r.root
	if r.log {
		a, kind = b.Op("Exp", nil, r.root), certify.LogDecay
	}
	swap := make([]int64, u.Type.Rank())
	for i := range swap {
		swap[i] = int64(i)
	}
	swap[1], swap[time] = int64(time), 1
	n := b.Node("ssm", "LinearScan", nil, 2, layout.Transpose(b, a, swap...), layout.Transpose(b, u, swap...))
	if b.Err != nil {
		return b.Err
	}
	v := layout.Transpose(b, n.Out[0], swap...)
	if !v.Type.Equal(h.Type) && u.Type.Rank() == 4 { // channels first behind the scan
		v = layout.Transpose(b, v, 0, 2, 1, 3)
	}
	if b.Err != nil || !v.Type.Equal(h.Type) {
		return errors.Join(b.Err, fmt.Errorf("%q is %s, the decays are %s", h.Name, h.Type, r.root.Type))
	}
	cl := &certify.Claim{In: []certify.Input{{Value: r.root, Kind: kind}, {Value: u}}, Old: []*graph.Value{h}, New: []*graph.Value{v}}
	L := u.Type.Shape[time]
	cl.Along(L, 1, 7)
	cl.Shrink = shrinking(cl, L)
	return certify.Rewrite(r.c, ruleScan, cl) // what contracts h, the door of LinearScan takes in
}

// layouts lists v and its reshapes and transposes.
func layouts(v *graph.Value) []*graph.Value {
	out := []*graph.Value{v}
	for i := 0; i < len(out) && i < 32; i++ {
		for _, u := range out[i].Uses {
			if layout.Is(u.Node) && u.Index == 0 && u.Node.Op.Name != "Pad" {
				out = append(out, u.Node.Out[0])
			}
		}
	}
	return out
}
