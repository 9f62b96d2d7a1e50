package recur

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// A LinearScan whose update is an outer product and whose states are only
// contracted need not exist: the fused operators keep one state in registers.
// What the factors vary along gives them their roles.

// special is a LinearScan being specialised.
type special struct {
	b       *graph.Builder
	n       *graph.Node
	s       space
	live    *liveness
	grouped bool // look for B and C below their repetition over heads

	from  view         // the new states, as the steps read them
	final *graph.Value // the state after the last step, nil when unused

	reads     []readout
	over      int    // the contracted axis: N
	x, bs     []view // factors of the update that do not, and do, vary along N
	a         []view // factors of the decay
	ungrouped bool   // B or C was found below its repetition
}

// fused is what a LinearScan has become.
type fused struct {
	op       string
	old, new []*graph.Value
	factors  []*graph.Value // of the contractions
	groups   bool           // B or C was taken below what looks like their repetition over heads
}

// specialise proposes the fused operator that does what LinearScan n and its
// contractions do. The proposal still wants a certificate.
func specialise(b *graph.Builder, n *graph.Node, live *liveness, grouped bool) (*fused, error) {
	s := space(n.In[1].Type.Shape)
	p := &special{b: b, n: n, live: live, s: s, grouped: grouped, from: s.all(n.Out[0])}
	if t := n.Output(1); t != nil && live.uses(t) {
		p.final = t
	}
	return p.run(reader{s: s, b: b, live: live})
}

// specialiseStep does the same for a single step, whose new state is the value
// next, seen as from. Other uses of it stay, on the final state.
func specialiseStep(b *graph.Builder, n *graph.Node, from view, grouped bool) (*fused, error) {
	s := space(n.In[1].Type.Shape)
	p := &special{b: b, n: n, s: s, grouped: grouped, from: from, final: from.v}
	return p.run(reader{s: s, b: b, lenient: true})
}

func (p *special) run(rd reader) (*fused, error) {
	n, u := p.n, p.n.In[1]
	if n.Attrs.Int("complex", 0) != 0 {
		return nil, fmt.Errorf("the states are complex")
	}
	if u.Type.Rank() != 4 && u.Type.Rank() != 5 {
		return nil, fmt.Errorf("the state has %d axes beside batch; expected [H,P,N] or [D,N]", u.Type.Rank()-2)
	}
	var err error
	if p.reads, err = rd.of(p.from); err != nil {
		return nil, err
	}
	if len(p.reads) == 0 && p.live != nil && p.final != nil {
		return p.unread()
	}
	if len(p.reads) == 0 {
		return nil, fmt.Errorf("the new state %q is not contracted with C%s; expected y to read it by ReduceSum, MatMul or Einsum over N, not the old state", p.from.v.Name, reads(p.from.v))
	}
	p.over = p.reads[0].over
	for _, r := range p.reads[1:] {
		if r.over != p.over {
			return nil, fmt.Errorf("%q and %q sum over different axes of the state", p.reads[0].out.Name, r.out.Name)
		}
	}
	return p.roles()
}

// reads names an operator that changes v where it should be contracted.
func reads(v *graph.Value) string {
	for _, u := range v.Uses {
		if n := u.Node; !layout.Is(n) && !isOp(n, "Mul", "MatMul", "Einsum", "Cast", "Identity", "Shape") {
			return fmt.Sprintf(": %s reads it", n)
		}
	}
	return ""
}

// unread is for states of which only the last one is used: nothing says which
// axis is N, so each may be.
func (p *special) unread() (*fused, error) {
	var why []error
	for over := len(p.s) - 1; over >= 2; over-- {
		p.over, p.x, p.bs = over, nil, nil
		p.reads = []readout{{over: over}}
		f, err := p.roles()
		if err == nil {
			return f, nil
		}
		why = append(why, err)
	}
	return nil, deepest(why)
}

// roles sorts the factors of the update and of the decay.
func (p *special) roles() (*fused, error) {
	b, n, u := p.b, p.n, p.n.In[1]
	for _, f := range p.s.factors(b, p.s.all(u)) {
		if f.long(p.over) {
			p.bs = append(p.bs, f)
		} else {
			p.x = append(p.x, f)
		}
	}
	p.a = p.s.factors(b, p.s.all(n.In[0]))
	if b.Err != nil {
		return nil, b.Err
	}
	return p.choose()
}

// choose tries the operators, the more specific one first.
func (p *special) choose() (*fused, error) {
	var why []error
	if len(p.s) == 4 {
		d := 5 - p.over
		if f, err := p.selective(d); err == nil {
			return f, nil
		} else {
			why = append(why, err)
		}
		for _, hp := range [][2]int{{-1, d}, {d, -1}} {
			f, err := p.ssd(hp[0], hp[1])
			if err == nil {
				return f, nil
			}
			why = append(why, err)
		}
		return nil, deepest(why)
	}
	var rest []int
	for a := 2; a < 5; a++ {
		if a != p.over {
			rest = append(rest, a)
		}
	}
	for _, hp := range [][2]int{{rest[0], rest[1]}, {rest[1], rest[0]}} {
		f, err := p.ssd(hp[0], hp[1])
		if err == nil {
			return f, nil
		}
		why = append(why, err)
	}
	for _, hp := range [][2]int{{rest[0], rest[1]}, {rest[1], rest[0]}} {
		if f, err := p.gatedAttention(hp[0], hp[1]); err == nil {
			return f, nil
		} else {
			why = append(why, err)
		}
	}
	return nil, deepest(why)
}

// roleErr is a reason with how far the roles fitted.
type roleErr struct {
	depth int
	error
}

func deepest(errs []error) error {
	best := errs[0]
	for _, e := range errs[1:] {
		var x, y roleErr
		if errors.As(e, &x) && (!errors.As(best, &y) || x.depth > y.depth) {
			best = e
		}
	}
	return best
}

func role(depth int, format string, a ...any) error { return roleErr{depth, fmt.Errorf(format, a...)} }

// label names a factor in messages.
func label(w view) string { return fmt.Sprintf("%q %s", w.v.Name, w.v.Type) }

// size is the length of an axis, 1 for a missing one.
func (p *special) size(a int) graph.Dim {
	if a < 0 {
		return graph.D(1)
	}
	return p.s[a]
}

// product multiplies views in the given order of axes; 1 of length 1 when
// there are none. full repeats it to the whole length of every axis.
func (p *special) product(ws []view, order []int, full bool) *graph.Value {
	b := p.b
	var v *graph.Value
	for _, w := range ws {
		x := p.s.project(b, w, order...)
		if x == nil {
			return nil
		}
		if v == nil {
			v = x
		} else {
			v = b.Op("Mul", nil, v, x)
		}
	}
	if v == nil {
		v = p.ones(len(order), 1)
	}
	if full && b.Err == nil {
		v = p.expand(v, order)
	}
	return v
}

func (p *special) ones(rank int, x float64) *graph.Value {
	shape := make([]int, rank)
	for i := range shape {
		shape[i] = 1
	}
	t := tensor.New(p.n.In[1].Type.DType, shape...)
	t.SetAt(0, x)
	return p.b.Const(t)
}

func (p *special) expand(v *graph.Value, order []int) *graph.Value {
	if p.b.Err != nil {
		return v
	}
	dims := make([]graph.Dim, len(order))
	for i, a := range order {
		dims[i] = p.size(a)
	}
	if slices.Equal(v.Type.Shape, dims) {
		return v
	}
	return p.b.Op("Expand", nil, v, layout.Shape(p.b, dims, p.n.In[1]))
}

// state brings a state of the scan to another order of axes, or back.
func (p *special) state(v *graph.Value, order []int) *graph.Value {
	if v == nil {
		return nil
	}
	w := view{v: v}
	for a := range p.s {
		if a == 1 {
			continue
		}
		if p.s[a].Is(1) {
			w.axes = append(w.axes, nil)
		} else {
			w.axes = append(w.axes, []int{a})
		}
	}
	return p.s.project(p.b, w, order...)
}

func (p *special) stateBack(v *graph.Value, order []int) *graph.Value {
	var axes [][]int
	var shape []graph.Dim
	for a := range p.s {
		if a == 1 {
			continue
		}
		shape = append(shape, p.s[a])
		if p.s[a].Is(1) {
			axes = append(axes, nil)
		} else {
			axes = append(axes, []int{a})
		}
	}
	return p.s.place(p.b, v, order, axes, shape)
}

func (r readout) name() string {
	if r.out == nil {
		return "the update"
	}
	return r.out.Name
}

// finish pairs the contractions and the final state with those of the new
// operator, one for each contraction.
func (p *special) finish(op string, yOrder, sOrder []int, make func(r readout) (y, hT *graph.Value)) (*fused, error) {
	f := &fused{op: op}
	for _, r := range p.reads {
		for _, w := range r.factors {
			f.factors = append(f.factors, w.v)
		}
	}
	defer func() { f.groups = p.ungrouped }()
	for i, r := range p.reads {
		y, hT := make(r)
		if p.b.Err != nil {
			return nil, p.b.Err
		}
		if y == nil {
			return nil, role(3, "the factors of %q do not fit", r.name())
		}
		if r.out != nil {
			v := p.s.place(p.b, y, yOrder, r.axes, r.out.Type.Shape)
			if v == nil || p.b.Err != nil {
				return nil, role(3, "the axes of %q %s do not fit", r.out.Name, r.out.Type)
			}
			f.old, f.new = append(f.old, r.out), append(f.new, v)
		}
		if i == 0 {
			if t := p.final; t != nil {
				v := p.stateBack(hT, sOrder)
				if v == nil || p.b.Err != nil {
					return nil, role(3, "the final state does not fit")
				}
				f.old, f.new = append(f.old, t), append(f.new, v)
			}
		}
	}
	return f, nil
}

// split parts the factors of a contraction into those along N and the rest.
func (p *special) split(r readout) (cs, post []view) {
	for _, f := range r.factors {
		if f.long(p.over) {
			cs = append(cs, f)
		} else {
			post = append(post, f)
		}
	}
	return cs, post
}

// scaled multiplies y by the factors of a contraction that do not vary along N.
func (p *special) scaled(y *graph.Value, post []view, order []int) *graph.Value {
	if len(post) == 0 || p.b.Err != nil {
		return y
	}
	k := p.product(post, order, false)
	if k == nil {
		return nil
	}
	return p.b.Op("Mul", nil, y, k)
}
