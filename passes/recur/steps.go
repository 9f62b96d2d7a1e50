package recur

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// One decode step is a loop of one step whose body is the model itself: a state
// that comes in, alone or as a part of a stack, is decayed and added to, and
// leaves. The analysis is that of a loop.

const ruleStep = " (decode step)"

func steps(c *passes.Context, g *graph.Graph) error {
	order := map[*graph.Node]int{}
	for i, n := range g.Nodes {
		order[n] = i
	}
	told := map[*graph.Value]bool{}
	settled := map[*graph.Value]bool{} // inputs of which something is said, or nothing is left to say
	doubts := map[*step]error{}
	var rest []*step
	states, returns := carriedIn(g), returning(g)
	unnamed := func(in carried) int {
		if returns[in.state] == nil {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(states, func(x, y carried) int { // where two are mixed, what is a state by its name first
		return unnamed(x) - unnamed(y)
	})
	for _, in := range states {
		s := &step{c: c, g: g, state: in.state, back: returns[in.state], order: order}
		done, err := s.rewrite()
		settled[in.root] = settled[in.root] || done || err != nil
		if err != nil && (s.decayed || s.back != nil) {
			told[s.at()] = true
			c.Miss(s.op()+ruleStep, s.at(), 2, 4, "%v", err)
		} else if err != nil {
			rest, doubts[s] = append(rest, s), err
		}
	}
	for _, s := range rest { // which may be factors of an update and no states
		if !told[s.at()] {
			c.Miss(s.op()+ruleStep, s.at(), 2, 4, "%v", doubts[s])
		}
	}
	returns = returning(g)
	shaped := alike(g)
	for _, in := range g.Inputs {
		back, named := returns[in], true
		if back == nil {
			back, named = shaped[in], false
		}
		if back != nil && !settled[in] && !told[back] {
			s := &step{c: c, g: g, state: in, next: back, order: order}
			if err := s.explain(named); err != nil {
				c.Miss(s.op()+ruleStep, back, 1, 4, "%v", err)
			}
		}
	}
	return nil
}

func isOp(n *graph.Node, names ...string) bool {
	return n.Op.Domain == "" && slices.Contains(names, n.Op.Name)
}

type step struct {
	c           *passes.Context
	g           *graph.Graph
	state, next *graph.Value
	back        *graph.Value // the output that the state comes back as, where names tell
	order       map[*graph.Node]int
	first       int // position of the first node that uses the state
	memo        map[*graph.Value]bool
	decayed     bool // scaled by an exponential or a gate
	diagonal    bool // scaled by constants, and read where it is not named
}

func (s *step) op() string {
	switch s.state.Type.Rank() {
	case 4:
		return "ssm.SSD"
	case 3:
		return "ssm.SelectiveScan"
	}
	return "ssm.LinearScan"
}

// at is what remarks are about.
func (s *step) at() *graph.Value {
	if s.next != nil {
		return s.next
	}
	return s.state
}

// depends reports whether v is computed from the state. What stands before the
// first use of the state is not.
func (s *step) depends(v *graph.Value) bool {
	if v == s.state {
		return true
	}
	if r, ok := s.memo[v]; ok {
		return r
	}
	s.memo[v] = false
	if v.Def == nil || v.Def.Graph != s.g {
		return false
	}
	if at, old := s.order[v.Def]; old && at < s.first {
		return false
	}
	r := len(v.Def.Bodies) > 0 // what a body captures is not looked at
	for _, u := range v.Def.In {
		r = r || u != nil && s.depends(u)
	}
	s.memo[v] = r
	return r
}

// candidates lists the values of the state's shape that stand a few linear
// operators behind it, those that leave the model first; then what other
// operators make of them, and whether the state is scaled by an exponential or
// a gate.
func (s *step) candidates() (leaving, rest, behind []*graph.Value, decayed bool) {
	tails := &tailFinder{memo: map[*graph.Node]bool{}}
	seen := map[*graph.Value]bool{s.state: true}
	work := []*graph.Value{s.state}
	size := layout.Numel(s.state)
	for i := 0; i < len(work) && i < 64; i++ {
		for _, u := range work[i].Uses {
			n := u.Node
			if n.Graph != s.g || len(n.Out) != 1 || seen[n.Out[0]] || layout.Numel(n.Out[0]) != size {
				continue
			}
			if work[i] != s.state && layout.Numel(n.Out[0]) == size && slices.Equal(n.Out[0].Type.Shape, s.state.Type.Shape) {
				behind = append(behind, n.Out[0])
			}
			if !isOp(n, "Mul", "Add", "Sub", "Where", "Sum", "Neg", "Div", "Einsum", "Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze") {
				continue
			}
			v := n.Out[0]
			seen[v] = true
			work = append(work, v)
			if isOp(n, "Mul") && work[i] == s.state {
				if e := layout.Deepest(n.In[1-u.Index]); e.Def != nil && isOp(e.Def, "Exp", "Sigmoid") {
					decayed = true
				}
			}
			if !slices.Equal(v.Type.Shape, s.state.Type.Shape) || !isFloat(v) {
				continue
			}
			switch {
			case tails.leaves(v, nil):
				leaving = append(leaving, v)
			case isOp(n, "Add", "Sub", "Where", "Sum"):
				rest = append(rest, v)
			}
		}
	}
	return leaving, rest, behind, decayed
}

// begin finds where the state is first used.
func (s *step) begin() {
	s.memo = map[*graph.Value]bool{}
	s.first = len(s.g.Nodes)
	for _, u := range s.state.Uses {
		if at, ok := s.order[u.Node]; ok && u.Node.Graph == s.g {
			s.first = min(s.first, at)
		}
	}
}

func (s *step) rewrite() (done bool, err error) {
	s.begin()
	leaving, rest, behind, decayed := s.candidates()
	s.decayed = decayed
	if i := slices.Index(leaving, s.back); i > 0 {
		leaving[0], leaving[i] = leaving[i], leaving[0]
	}
	var last error
	spent := 0
	for i, v := range append(slices.Clone(leaving), rest...) {
		if spent > maxSearch { // a step is made of tens of nodes; this is no step
			break
		}
		if d := s.order[v.Def] - s.first; d > 0 {
			spent += d
		}
		s.next = v
		done, err := s.try(i < len(leaving))
		if done {
			return true, nil
		}
		if last == nil {
			last = err
		}
	}
	all := slices.Concat(leaving, rest, behind)
	if len(all) > 0 {
		s.next = all[0]
	}
	if len(leaving)+len(rest) == 0 && len(behind) > 0 && decayed {
		_, last = s.try(false) // to say why
	}
	// Only what is decayed, or leaves and is read or contracted over an axis, looks
	// like a state; a residual stream is added to.
	contracted := len(leaving) > 0 && errors.As(last, &roleErr{})
	if s.back != nil && slices.Contains(leaving, s.back) { // a state by its name
		return false, last
	}
	if !decayed && !contracted && !s.diagonal || s.state.Type.Rank() < 3 {
		return false, nil
	}
	return false, last
}

// maxSearch bounds the nodes that are looked at for one state: in a graph in which
// everything has the state's shape, every value might be the one that leaves.
const maxSearch = 1 << 18

// try takes s.next for the state that leaves. Without done, a nil error means
// that there is nothing to say.
func (s *step) try(leaves bool) (done bool, err error) {
	way := specialisation{params: true, groups: true, fuse: true}
	for {
		used, done, e := s.attempt(leaves, way)
		if done || e == nil {
			return done, nil
		}
		if err == nil || !used.params {
			err = e
		}
		if _, mismatch := e.(*certify.Mismatch); !mismatch && !certify.CannotEvaluate(e) {
			return false, err
		}
		switch {
		case used.params:
			way.params = false
		case used.groups:
			way.groups = false
		default:
			return false, err
		}
	}
}

// attempt builds the replacement in one way and asks for its certificate. It
// returns which liberties were taken.
func (s *step) attempt(leaves bool, way specialisation) (used specialisation, done bool, err error) {
	before := len(s.g.Nodes)
	b := s.c.Builder(s.g, s.next.Def.From)
	state := &lift.State{In: s.state, Out: s.next, Init: s.state}
	loop := &lift.Loop{Node: &graph.Node{}, Length: graph.D(1), States: []*lift.State{state}}
	r := &recurrence{c: s.c, g: s.g, b: b, loop: loop, done: map[*lift.State]*solution{}, depends: func(v *graph.Value) uint64 {
		if s.depends(v) {
			return 1
		}
		return 0
	}}
	r.lift = lift.New(b, s.c.Table, loop)
	f, err := (&splitter{r: r, group: loop.States, mask: 1}).split(s.next)
	if err != nil {
		return used, false, err
	}
	if f.a[0] == nil || f.u == nil {
		return used, false, fmt.Errorf("%q is no state*decay + update", s.next.Name)
	}
	grows := f.a[0].V == nil
	if grows && !leaves {
		return used, false, nil
	}
	if _, _, err := r.linearScan(s.state.Type, f.a[0], f.u, s.state, nil); err != nil {
		return used, false, err
	}
	n := r.scans[0]
	from := view{v: s.next}
	for i, d := range s.next.Type.Shape {
		if d.Is(1) {
			from.axes = append(from.axes, nil)
		} else if i == 0 {
			from.axes = append(from.axes, []int{0})
		} else {
			from.axes = append(from.axes, []int{i + 1})
		}
	}
	fuse, why := specialiseStep(b, n, from, way.groups)
	cl := &certify.Claim{}
	if why == nil {
		cl.Old, cl.New = fuse.old, fuse.new
	} else {
		if grows {
			return used, false, nil
		}
		whole := leaves && s.state.Def == nil && (s.back != nil || s.read()) // what nothing reads and no name tells of may be any sum
		if s.state.Type.Rank() > 2 {
			if whole {
				why = s.unfused(f, why)
			}
			return used, false, why
		}
		if !whole {
			return used, false, nil
		}
		if s.shared() { // one step after another: nothing would be saved
			return used, false, nil
		}
		fuse = &fused{op: "ssm.LinearScan"}
		wholeDecay(b, n)
		cl.Old, cl.New = []*graph.Value{s.next}, []*graph.Value{n.Out[1]}
		if t := s.next.Type.DType; n.Out[1].Type.DType != t {
			cl.New[0] = b.Op("Cast", graph.Attrs{"to": int64(t)}, n.Out[1])
		}
	}
	if b.Err != nil {
		return used, false, b.Err
	}
	roots := map[*graph.Value]bool{}
	for _, v := range stepRoots(n, way.params) {
		if v = layout.Deepest(v); !roots[v] {
			roots[v] = true
			cl.In = append(cl.In, certify.Input{Value: v})
		}
	}
	for _, v := range fuse.factors {
		if v = layout.Deepest(v); !roots[v] && (!(static{}).is(v) || way.params && isParam(v)) {
			roots[v] = true
			cl.In = append(cl.In, certify.Input{Value: v})
		}
	}
	deepen(cl, r.scans, graph.D(1), s.g.Nodes[before:])
	used.groups = fuse.groups
	for _, in := range cl.In {
		used.params = used.params || in.Value.Const != nil
	}
	err = certify.Rewrite(s.c, fuse.op+ruleStep, cl)
	return used, err == nil, err
}

// unfused says why a step of a constant decay is left alone when it is: one that
// differs along the last axis is a diagonal recurrence, of which a step is a
// product and a sum, and plain arithmetic the fastest way to do it.
func (s *step) unfused(f linearForm, why error) error {
	a := f.a[0].V
	if fixed := (static{}); !fixed.is(a) || fixed.is(f.u.V) {
		return why
	}
	s.diagonal = true
	if r := a.Type.Rank(); r == 0 || a.Type.Shape[r-1].Is(1) {
		return why
	}
	return fmt.Errorf("the decay %q %s is constant and no fused operator takes its step: %w", layout.Deepest(a).Name, a.Type, why)
}

// read reports whether the next state is used for more than to leave once.
func (s *step) read() bool {
	uses := 0
	for _, u := range s.next.Uses {
		if _, old := s.order[u.Node]; old && !isOp(u.Node, "Shape") { // and not of an attempt
			uses++
		}
	}
	if s.next.IsOutput() {
		uses++
	}
	return uses > 1
}

// shared reports whether something between the state and the next, which
// depends on the state, is also used elsewhere.
func (s *step) shared() bool {
	between := map[*graph.Value]bool{}
	var collect func(v *graph.Value)
	collect = func(v *graph.Value) {
		if v == nil || between[v] || v == s.state || !s.depends(v) {
			return
		}
		between[v] = true
		for _, u := range v.Def.In {
			collect(u)
		}
	}
	collect(s.next)
	elsewhere := func(u graph.Use) bool {
		_, old := s.order[u.Node] // and not of an attempt
		return old && !between[u.Node.Out[0]] && !isOp(u.Node, "Shape") && !u.Node.Out[0].Unused()
	}
	for v := range between {
		if v != s.next && (v.IsOutput() || slices.ContainsFunc(v.Uses, elsewhere)) {
			return true
		}
	}
	return false
}

// stepRoots lists what a step's update and decay are made from: the factors of
// the update and, through the functions that make decays, of the decay.
func stepRoots(n *graph.Node, params bool) []*graph.Value {
	fixed := static{}
	var out []*graph.Value
	seen := map[*graph.Value]bool{}
	add := func(v *graph.Value) {
		if !seen[v] && (!fixed.is(v) || params && isParam(v)) {
			seen[v] = true
			out = append(out, v)
		}
	}
	s := space(n.In[1].Type.Shape)
	for _, f := range s.factors(nil, s.all(n.In[1])) {
		add(layout.Deepest(f.v))
	}
	if len(n.In) > 2 {
		add(layout.Deepest(n.In[2]))
	}
	var decay func(v *graph.Value)
	decay = func(v *graph.Value) {
		v = layout.Deepest(v)
		if d := v.Def; d != nil && !seen[v] && !fixed.is(v) && isOp(d, "Cast", "Exp", "Sigmoid", "Neg", "Mul", "Sub", "Where") {
			for _, u := range d.In {
				decay(u)
			}
			return
		}
		add(v)
	}
	decay(n.In[0])
	return out
}
