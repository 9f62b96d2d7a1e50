package recur

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// A Loop or Scan over time. What enters the body from outside, by capture or
// as a scan input, are sequences, per-head or per-channel parameters and the
// initial state; their shapes leave few ways to give them roles, and the
// certificate, which runs the Loop itself, picks the right one.

const (
	ruleLoopSSD = "ssm.SSD (Loop or Scan)"
	ruleLoopSel = "ssm.SelectiveScan (Loop or Scan)"
)

func loops(c *passes.Context, g *graph.Graph) error {
	for _, n := range append([]*graph.Node{}, g.Nodes...) {
		if !n.Op.Is("", "Loop") && !n.Op.Is("", "Scan") {
			continue
		}
		l := &loop{c: c, g: g, n: n}
		if err := l.rewrite(); err != nil {
			if why := l.notAffine(); why != "" {
				err = fmt.Errorf("%s; expected state*decay + update", why)
			}
			c.Miss(l.rule(), firstOut(n), 1, 3, "%s: %v", n, err)
		}
	}
	return nil
}

func firstOut(n *graph.Node) *graph.Value {
	for _, v := range n.Out {
		if v != nil {
			return v
		}
	}
	return &graph.Value{Name: n.From}
}

type loop struct {
	c     *passes.Context
	g     *graph.Graph
	n     *graph.Node
	init  *graph.Value // initial state
	final *graph.Value // final state, or nil when unused
	slot  int          // position among the carried values
	y     *graph.Value
	seqs  []*graph.Value
	pars  []*graph.Value

	timeFirst bool // y is [L,B,...]
}

func (l *loop) rule() string {
	if l.init != nil && l.init.Type.Rank() == 3 {
		return ruleLoopSel
	}
	return ruleLoopSSD
}

func (l *loop) rewrite() error {
	carried := l.n.In
	if l.n.Op.Name == "Loop" {
		if err := l.runsThrough(); err != nil {
			return err
		}
		carried = l.n.In[2:]
	} else {
		carried = carried[:int64(len(carried))-l.n.Attrs.Int("num_scan_inputs", 0)]
	}
	for i, v := range carried {
		if v != nil && v.Type.Ranked() && isFloat(v) && (v.Type.Rank() == 4 || v.Type.Rank() == 3) && l.isState(i) {
			if l.init != nil {
				return fmt.Errorf("%q and %q are both carried; expected one state", l.init.Name, v.Name)
			}
			l.init, l.final, l.slot = v, l.n.Output(i), i
		}
	}
	if l.init == nil {
		return fmt.Errorf("no state [B,H,P,N] or [B,D,N] is carried")
	}
	for _, v := range l.n.Out {
		if v != nil && v != l.final {
			if l.y = l.findY(v); l.y != nil {
				break
			}
		}
	}
	if l.y == nil {
		return fmt.Errorf("no output is a sequence of %s steps, the trip count, and the batch of the state %q %s; expected y[B,L,...]", l.length(), l.init.Name, l.init.Type)
	}
	l.collect()
	if l.init.Type.Rank() == 4 {
		return l.ssd()
	}
	return l.selective()
}

// isState: the body multiplies the carried value and adds to it; buffers that
// a Loop writes outputs into are carried too, but only scattered into.
func (l *loop) isState(i int) bool {
	body := l.n.Body("body")
	if l.n.Op.Name == "Loop" {
		i += 2
	}
	if body == nil || i >= len(body.Inputs) {
		return false
	}
	for _, v := range layouts(body.Inputs[i]) {
		for _, u := range v.Uses {
			if u.Node.Op.Is("", "Mul") {
				return true
			}
		}
	}
	return false
}

// notAffine names what makes the new state more than decay*state + update.
func (l *loop) notAffine() string {
	body := l.n.Body("body")
	if l.init == nil || body == nil {
		return ""
	}
	in, out := l.slot, l.slot
	if l.n.Op.Name == "Loop" {
		in, out = in+2, out+1
	}
	if in >= len(body.Inputs) || out >= len(body.Outputs) {
		return ""
	}
	return notAffine(body.Inputs[in], body.Outputs[out])
}

// runsThrough: the condition never stops the loop.
func (l *loop) runsThrough() error {
	body := l.n.Body("body")
	if v := l.n.Input(1); v != nil && (v.Const == nil || v.Const.IntAt(0) == 0) {
		return fmt.Errorf("the loop condition is not constant true")
	}
	cond := body.Outputs[0]
	for cond.Def != nil && cond.Def.Op.Is("", "Identity") {
		cond = cond.Def.In[0]
	}
	if cond != body.Inputs[1] && (cond.Const == nil || cond.Const.IntAt(0) == 0) {
		return fmt.Errorf("the loop may stop early: its condition %q is computed in the body; a scan runs over the whole sequence", cond.Name)
	}
	if l.n.Input(0) == nil {
		return fmt.Errorf("the loop has no trip count")
	}
	if _, ok := ops.KnownOf(l.n.In[0]); !ok {
		return fmt.Errorf("the trip count %q is not a length of a sequence", l.n.In[0].Name)
	}
	return nil
}

// findY follows layout operators from an output to [B,L,...], or else to
// [L,B,...], which is what a Loop stacks up.
func (l *loop) findY(v *graph.Value) *graph.Value {
	batch, rank := l.init.Type.Shape[0], l.init.Type.Rank()
	work := []*graph.Value{v}
	var stacked *graph.Value
	for i := 0; i < len(work) && i < 16; i++ {
		u := work[i]
		if t := u.Type; t.Rank() == rank && isFloat(u) && t.Shape[0] == batch && t.Shape[1] == l.length() {
			return u
		} else if stacked == nil && t.Rank() == rank && isFloat(u) && t.Shape[1] == batch && t.Shape[0] == l.length() {
			stacked = u
		}
		for _, use := range u.Uses {
			if m := use.Node; use.Index == 0 && (layout.Is(m) || m.Op.Is("", "ConcatFromSequence")) {
				work = append(work, m.Out[0])
			}
		}
	}
	l.timeFirst = stacked != nil
	return stacked
}

// length is the trip count.
func (l *loop) length() graph.Dim {
	if l.n.Op.Name == "Loop" {
		if k, ok := ops.KnownOf(l.n.In[0]); ok && len(k) == 1 {
			return k[0]
		}
		return graph.D(-1)
	}
	m := int(l.n.Attrs.Int("num_scan_inputs", 0))
	if m == 0 {
		return graph.D(-1)
	}
	v := l.n.In[len(l.n.In)-m]
	axis := 0
	if axes := l.n.Attrs.Ints("scan_input_axes"); len(axes) > 0 {
		axis = int(axes[0])
	}
	if axis < 0 || axis >= v.Type.Rank() {
		return graph.D(-1)
	}
	return v.Type.Shape[axis]
}

// collect gathers the body's float operands from outside.
func (l *loop) collect() {
	seen := map[*graph.Value]bool{l.init: true}
	add := func(v *graph.Value) {
		if v == nil || seen[v] || !isFloat(v) || !v.Type.Ranked() {
			return
		}
		seen[v] = true
		if s := l.sequence(v); s != nil {
			l.seqs = append(l.seqs, s)
		} else if v.Type.Rank() >= 1 {
			l.pars = append(l.pars, v)
		}
	}
	first := 0
	if l.n.Op.Name == "Loop" {
		first = 2
	}
	for _, v := range l.n.In[first:] {
		if v != nil && v.Def != nil && v.Def.Op.Is("", "ConstantOfShape") {
			continue // a buffer of zeros
		}
		add(v)
	}
	outside(l.n, add)
}

// sequence is the form [B,L,...] of an operand, which may come time first.
func (l *loop) sequence(v *graph.Value) *graph.Value {
	batch, length := l.init.Type.Shape[0], l.length()
	for _, u := range layout.Chain(v) {
		if s := u.Type.Shape; len(s) >= 3 && s[0] == batch && s[1] == length {
			return u
		}
	}
	return nil
}

// outside calls f for every value that the bodies of n capture.
func outside(n *graph.Node, f func(*graph.Value)) {
	for _, b := range n.Bodies {
		inner := map[*graph.Graph]bool{}
		var mark func(*graph.Graph)
		mark = func(g *graph.Graph) {
			inner[g] = true
			for _, m := range g.Nodes {
				for _, c := range m.Bodies {
					mark(c.Graph)
				}
			}
		}
		mark(b.Graph)
		params := map[*graph.Value]bool{}
		for g := range inner {
			for _, v := range g.Inputs {
				params[v] = true
			}
		}
		b.Walk(func(m *graph.Node) {
			for _, v := range m.In {
				if v == nil || params[v] || v.Def != nil && inner[v.Def.Graph] {
					continue
				}
				f(v)
			}
		})
	}
}

// claim fills in what every assignment shares.
func (l *loop) claim(b *graph.Builder, n *graph.Node, in []certify.Input) *certify.Claim {
	cl := &certify.Claim{In: append(in, certify.Input{Value: l.init})}
	cl.Along(l.length(), 1, 6)
	y := n.Out[0]
	if l.timeFirst {
		perm := []int64{1, 0, 2, 3}
		y = layout.Transpose(b, y, perm[:y.Type.Rank()]...)
	}
	cl.Old, cl.New = []*graph.Value{l.y}, []*graph.Value{layout.Reshape(b, y, l.y.Type.Shape)}
	if l.final != nil && !l.final.Unused() {
		cl.Old, cl.New = append(cl.Old, l.final), append(cl.New, n.Out[1])
	}
	return cl
}

func (l *loop) ssd() error {
	sh := l.init.Type.Shape
	B, H, P, N := sh[0], sh[1], sh[2], sh[3]
	L := l.length()
	var wide, narrow []*graph.Value
	for _, v := range l.seqs {
		if v.Type.Rank() == 4 {
			wide = append(wide, v)
		} else if v.Type.Rank() == 3 {
			narrow = append(narrow, v)
		}
	}
	var heads []*graph.Value
	for _, v := range l.pars {
		if layout.Numel(v) == H {
			heads = append(heads, v)
		}
	}
	if len(wide) != 3 || len(narrow) == 0 || len(narrow) > 2 {
		return fmt.Errorf("%d sequences [B,L,H,.] and %d [B,L,H] of as many steps as the trip count, %s, are read; expected x, B, C and dt", len(wide), len(narrow), L)
	}
	last := fmt.Errorf("the sequences do not have the shapes of x, B and C")
	for _, p := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		x, bs, cs := wide[p[0]], wide[p[1]], wide[p[2]]
		if x.Type.Shape[2] != H || x.Type.Shape[3] != P || bs.Type.Shape[3] != N || cs.Type.Shape[3] != N {
			continue
		}
		for i, a := range append(append([]*graph.Value{}, heads...), narrow...) {
			b := l.c.Builder(l.g, l.n.From)
			dt := narrow[0]
			if i >= len(heads) { // the log decay itself is given
				if len(narrow) == 2 {
					dt = narrow[1-(i-len(heads))]
				} else {
					dt = nil
				}
			} else if len(narrow) == 2 {
				continue
			} else {
				a = layout.Reshape(b, a, []graph.Dim{H})
			}
			bv, cv := grouped(b, forms(bs, B, L), H), grouped(b, forms(cs, B, L), H)
			if b.Err != nil || bv == nil || cv == nil || bv.Type.Shape[2] != cv.Type.Shape[2] {
				continue
			}
			n := b.Node("ssm", "SSD", nil, 2, x, dt, a, bv, cv, nil, nil, nil, l.init)
			if b.Err != nil {
				last = b.Err
				continue
			}
			in := []certify.Input{{Value: x}, {Value: rootOf(forms(bs, B, L), bv)}, {Value: rootOf(forms(cs, B, L), cv)}}
			if i >= len(heads) {
				in = append(in, certify.Input{Value: a, Kind: certify.LogDecay})
			}
			if dt != nil {
				in = append(in, certify.Input{Value: dt, Kind: certify.Positive})
			}
			cl := l.claim(b, n, in)
			err := certify.Rewrite(l.c, ruleLoopSSD, cl)
			if err == nil {
				return nil
			}
			last = certify.Closer(last, err)
		}
	}
	return last
}

// forms lists the layouts of v that are sequences, deepest first.
func forms(v *graph.Value, batch, length graph.Dim) []*graph.Value {
	ch := layout.Chain(v)
	var out []*graph.Value
	for i := len(ch) - 1; i >= 0; i-- {
		if s := ch[i].Type.Shape; len(s) >= 3 && s[0] == batch && s[1] == length {
			out = append(out, ch[i])
		}
	}
	return out
}

func (l *loop) selective() error {
	sh := l.init.Type.Shape
	D, N := sh[1], sh[2]
	if len(l.seqs) != 4 {
		return fmt.Errorf("%d sequences of %s steps, the trip count, are read; expected u, dt, B and C", len(l.seqs), l.length())
	}
	last := fmt.Errorf("the sequences do not have the shapes of u, dt [B,L,D] and B, C [B,L,N], or no parameter is A [D,N]")
	for i, u := range l.seqs {
		for j, dt := range l.seqs {
			for k, bs := range l.seqs {
				m := 6 - i - j - k
				if i == j || i == k || j == k || m < 0 || m > 3 {
					continue
				}
				cs := l.seqs[m]
				if u.Type.Rank() != 3 || dt.Type.Rank() != 3 || bs.Type.Rank() != 3 || cs.Type.Rank() != 3 ||
					u.Type.Shape[2] != D || dt.Type.Shape[2] != D || bs.Type.Shape[2] != N || cs.Type.Shape[2] != N {
					continue
				}
				for _, a := range l.pars {
					if layout.Numel(a) != layout.Product(D, N) {
						continue
					}
					b := l.c.Builder(l.g, l.n.From)
					n := b.Node("ssm", "SelectiveScan", nil, 2, u, dt, layout.Reshape(b, a, []graph.Dim{D, N}), bs, cs, nil, nil, nil, l.init)
					if b.Err != nil {
						last = b.Err
						continue
					}
					cl := l.claim(b, n, []certify.Input{{Value: u}, {Value: dt, Kind: certify.Positive}, {Value: bs}, {Value: cs}})
					err := certify.Rewrite(l.c, ruleLoopSel, cl)
					if err == nil {
						return nil
					}
					last = certify.Closer(last, err)
				}
			}
		}
	}
	return last
}
