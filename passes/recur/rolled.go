package recur

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// rolled is a recurrence in the form that all doors over time share: an ONNX
// Scan or Loop in the graph. The door of Loop and Scan hands over a node of
// the model; a door that rolls something else up (an unrolled trace) builds a
// Scan over it and says which values of the model its outputs stand for.
//
// Such a Scan is built with the context's Builder anywhere in g: its body may
// capture outer values, and nothing needs to use its outputs. When it is
// recovered, the scan replaces the values it stands for, certified against
// them; when not, nothing has changed, and the Scan is swept as dead code.
type rolled struct {
	node *graph.Node
	// old are the values that the outputs of node stand for, nil where there is
	// none; when old itself is nil, they are the outputs.
	old []*graph.Value
	// rule names the form in remarks: "Loop or Scan", "unrolled trace".
	rule string
	// op is the operator aimed at, for remarks: set by rewrite.
	op string
	// pair are the states last taken for a complex number.
	pair string
}

// rewrite replaces r, or says in an error why it stays. The caller makes the remark.
func (r *rolled) rewrite(c *passes.Context, g *graph.Graph) error {
	r.op = "ssm.LinearScan"
	var first error
	final := false // first is not an error of a check with other numbers than the model's
	way := specialisation{params: true, groups: true, convs: true, fuse: true}
	for {
		used, err := r.attempt(c, g, way)
		if err == nil {
			return nil
		}
		if first == nil || !final {
			first, final = err, !used.params
			if r.pair != "" {
				first = fmt.Errorf("the states %s drive each other, but not as the parts of a complex number: %w", r.pair, err)
			}
		}
		if _, mismatch := err.(*certify.Mismatch); !mismatch && !certify.CannotEvaluate(err) {
			return first
		}
		switch {
		case used.params:
			way.params = false
		case used.groups:
			way.groups = false
		case used.convs:
			way.convs = false
		case used.fuse:
			way.fuse = false
		default:
			return first
		}
	}
}

// specialisation says what an attempt takes for granted until the certificate.
type specialisation struct {
	params bool // constant vectors are parameters: any will do, and equal layers share a certificate
	groups bool // what looks like a repetition over heads is one
	convs  bool // sums of windows of a shift register are convolutions
	fuse   bool // LinearScans become fused operators
}

// attempt builds the replacement in one way and asks for its certificate. It
// returns which liberties were taken.
func (r *rolled) attempt(c *passes.Context, g *graph.Graph, way specialisation) (used specialisation, err error) {
	before := len(g.Nodes)
	rec, err := newRecurrence(c, g, r.node)
	r.guess(rec)
	if err != nil {
		return used, err
	}
	cl, err := r.claim(rec, way.params)
	r.pair = rec.pair
	if err != nil {
		return used, err
	}
	for _, in := range cl.In {
		used.params = used.params || in.Value.Const != nil
	}
	if len(rec.scans) == 0 {
		return used, fmt.Errorf("no carried state is decayed and added to: this is no recurrence")
	}
	if way.convs {
		used.convs = rec.convolutions(cl)
	}
	live := liveFor(cl.New)
	var done []*fused
	for _, n := range rec.scans {
		if !live.nodes[n] {
			continue
		}
		f, why := &fused{op: "ssm.LinearScan", new: n.Out[:1]}, error(nil)
		if way.fuse {
			var s *fused
			if s, why = specialise(rec.b, n, live, way.groups); why == nil {
				f = s
				used.fuse, used.groups = true, used.groups || s.groups
				for i, v := range s.old {
					v.ReplaceWith(s.new[i])
					for j, w := range cl.New {
						if w == v {
							cl.New[j] = s.new[i]
						}
					}
				}
			}
		}
		if f.old == nil {
			if err := tooLarge(n, why); err != nil {
				return used, err
			}
			wholeDecay(rec.b, n)
		}
		done = append(done, f)
	}
	if rec.b.Err != nil {
		return used, rec.b.Err
	}
	if len(done) == 0 {
		return used, fmt.Errorf("nothing that is used needs a state: this is no recurrence")
	}
	r.op = done[0].op
	deepen(cl, rec.scans, rec.loop.Length, g.Nodes[before:])
	if err := certify.Rewrite(c, r.op+" ("+r.rule+")", cl); err != nil {
		return used, err
	}
	for i, v := range cl.Old {
		if !v.Type.Equal(cl.New[i].Type) { // a length that only running told is known now
			return used, ops.InferGraph(c.Table, g)
		}
	}
	for _, f := range done[1:] {
		c.Done(f.op+" ("+r.rule+")", f.new[0], "certified in float64")
	}
	return used, nil
}

// tooLarge: a matrix per head and token is more than the loop would ever hold
// at once, so such a scan is only worth having when a fused operator does it.
func tooLarge(n *graph.Node, why error) error {
	rank := n.In[1].Type.Rank() - 1
	if n.Attrs.Int("complex", 0) != 0 {
		rank--
	}
	if rank < 4 {
		return nil
	}
	if why == nil {
		why = fmt.Errorf("no fused operator was found for it")
	}
	return fmt.Errorf("the recurrence is linear, but its states, %s, are too large to be kept for all steps: %w", n.Out[0].Type, why)
}

// wholeDecay repeats the decay along the axes of the state, which kernels read
// side by side; batch and time may stay 1.
func wholeDecay(b *graph.Builder, n *graph.Node) {
	a, u := n.In[0], n.In[1]
	if b.Err != nil || slices.Equal(a.Type.Shape[2:], u.Type.Shape[2:]) {
		return
	}
	shape := append(slices.Clone(a.Type.Shape[:2]), u.Type.Shape[2:]...)
	if v := b.Op("Expand", nil, a, layout.Shape(b, shape, u)); v != nil {
		n.SetIn(0, v)
	}
}

// guess names the operator that the shape of the state suggests.
func (r *rolled) guess(rec *recurrence) {
	body, rank := r.node.Body("body"), 0
	if body == nil {
		return
	}
	for _, v := range body.Inputs {
		if isFloat(v) && v.Type.Ranked() && (rec == nil || rec.needs[v] != 0) {
			rank = max(rank, v.Type.Rank())
		}
	}
	switch rank {
	case 4, 5:
		r.op = "ssm.SSD"
	case 3:
		r.op = "ssm.SelectiveScan"
	}
}

// claim lifts the outputs and pairs them with what they replace.
func (r *rolled) claim(rec *recurrence, params bool) (*certify.Claim, error) {
	cl := &certify.Claim{}
	stands := func(v *graph.Value) *graph.Value { // what an output of the node stands for
		if v == nil || r.old == nil {
			if v == nil || v.Unused() {
				return nil
			}
			return v
		}
		if i := slices.Index(r.node.Out, v); i >= 0 && i < len(r.old) {
			return r.old[i]
		}
		return nil
	}
	add := func(old, new *graph.Value) error {
		if new == nil || rec.b.Err != nil {
			return rec.b.Err
		}
		if !sameType(old.Type, new.Type) {
			return fmt.Errorf("%q is %s, its form over whole sequences %s", old.Name, old.Type, new.Type)
		}
		cl.Old, cl.New = append(cl.Old, old), append(cl.New, new)
		return nil
	}
	loop := rec.loop
	for _, w := range loop.Writes { // the outputs of the steps, of which remarks speak, first
		old := stands(w.V)
		if old == nil {
			continue
		}
		s, err := rec.value(w.Out)
		if err != nil {
			return nil, err
		}
		s = rec.lift.Over(s, w.Axis)
		if w.Reverse {
			s = rec.lift.Reversed(s)
		}
		if err := add(old, s.V); err != nil {
			return nil, err
		}
	}
	for _, s := range loop.States {
		old := stands(s.Final)
		if old == nil {
			continue
		}
		if err := rec.solve(s); err != nil {
			return nil, err
		}
		b := rec.buffers[s]
		switch {
		case b == nil:
			if err := add(old, rec.done[s].final); err != nil {
				return nil, err
			}
		case b.axis < 0:
			olds, news, err := rec.stacked(s, b)
			if err != nil {
				return nil, err
			}
			for i := range olds {
				if err := add(olds[i], news[i]); err != nil {
					return nil, err
				}
			}
		default:
			v, err := rec.whole(s, b)
			if err != nil {
				return nil, err
			}
			if err := add(old, v); err != nil {
				return nil, err
			}
		}
	}
	if len(cl.Old) == 0 {
		return nil, fmt.Errorf("nothing uses its results")
	}
	r.inputs(rec, cl, params)
	return cl, rec.b.Err
}

// sameType allows a replacement to know lengths that the original did not.
func sameType(old, new graph.Type) bool {
	if old.DType != new.DType || !new.Ranked() {
		return false
	}
	if !old.Ranked() {
		return true
	}
	if old.Rank() != new.Rank() {
		return false
	}
	for i, d := range old.Shape {
		if d != new.Shape[i] && !strings.Contains(d.String(), "?") {
			return false
		}
	}
	return true
}

// inputs says where the check begins: at what the body reads from outside,
// below layouts that the scan may be built before.
func (r *rolled) inputs(rec *recurrence, cl *certify.Claim, params bool) {
	fixed := static{}
	seen := map[*graph.Value]bool{}
	add := func(v *graph.Value) {
		if v == nil || v.Type.DType.IsContainer() {
			return
		}
		if v = layout.Deepest(v); !seen[v] && v.Type.Ranked() && (!fixed.is(v) || params && isParam(v)) {
			seen[v] = true
			cl.In = append(cl.In, certify.Input{Value: v})
		}
	}
	for _, v := range rec.lift.Reads {
		add(v)
	}
	if r.old == nil {
		for _, v := range r.node.In {
			add(v)
		}
		outside(r.node, add)
	}
	setKinds(cl, rec.scans, seen)
	L := rec.loop.Length
	cl.Along(L, 1, 6)
	cl.Shrink = shrinking(cl, L)
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

// shrinking maps the long axes of the inputs to short ones. Products of axes
// and multiples stay such; where that does not fit, the check runs at full size.
func shrinking(cl *certify.Claim, length graph.Dim) map[int64]int64 {
	s := certify.NewShrinker(length)
	var long, short []int64
	for _, in := range cl.In {
		for _, d := range in.Value.Type.Shape {
			n, ok := d.Const()
			switch {
			case !ok || d == length:
			case n > 8 && !slices.Contains(long, n):
				long = append(long, n)
			case n > 1 && n <= 8 && !slices.Contains(short, n):
				short = append(short, n)
			}
		}
	}
	slices.Sort(long)
	taken := map[int64]bool{}
	for _, n := range short {
		taken[n] = true
	}
	image := func(n int64) int64 { return s.Of(graph.D(n)) }
	all := append(slices.Clone(short), long...)
	for _, n := range long {
		to := int64(0)
		for i, p := range all {
			for _, q := range all[i:] {
				if p*q == n && q < n {
					to = image(p) * image(q)
				}
			}
		}
		if to == 0 {
			step := int64(1)
			for _, p := range short {
				if n%p == 0 {
					step = max(step, p)
				}
			}
			for to = 2 * step; taken[to] || to < 3; to += step {
			}
		}
		taken[to] = true
		s.To(graph.D(n), to)
	}
	return s.Map
}
