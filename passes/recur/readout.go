package recur

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// readout is a contraction of a scan's states with something: out, whose axes
// are given, is the sum over one axis of state*factors.
type readout struct {
	out     *graph.Value
	axes    [][]int
	over    int
	factors []view
	before  bool // it reads the state before the step, not after
}

// reader finds readouts.
type reader struct {
	s    space
	b    *graph.Builder
	live *liveness
	// lenient passes over uses that are no contractions.
	lenient bool
}

// liveness tells what a graph that is still being built will use; nil: all.
type liveness struct {
	nodes map[*graph.Node]bool
	outs  map[*graph.Value]bool
}

// liveFor marks what the values are computed from.
func liveFor(outs []*graph.Value) *liveness {
	l := &liveness{map[*graph.Node]bool{}, map[*graph.Value]bool{}}
	stack := slices.Clone(outs)
	for _, v := range outs {
		l.outs[v] = true
	}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v == nil || v.Def == nil || l.nodes[v.Def] {
			continue
		}
		l.nodes[v.Def] = true
		stack = append(stack, v.Def.In...)
	}
	return l
}

func (l *liveness) node(n *graph.Node) bool { return l == nil || l.nodes[n] }

func (l *liveness) output(v *graph.Value) bool { return l != nil && l.outs[v] || v.IsOutput() }

// uses reports whether v is an output or goes into a live node.
func (l *liveness) uses(v *graph.Value) bool {
	if l.output(v) {
		return true
	}
	for _, u := range v.Uses {
		if l.node(u.Node) {
			return true
		}
	}
	return false
}

// of lists the contractions through which w, a view of the states, is used; it
// fails at a use of another kind.
func (s reader) of(w view) ([]readout, error) {
	var out []readout
	if s.live.output(w.v) && !s.lenient {
		return nil, fmt.Errorf("the states %q of all steps are an output", w.v.Name)
	}
	for _, u := range w.v.Uses {
		n := u.Node
		if n.Op.Is("", "Shape") || !s.live.node(n) {
			continue
		}
		var more []readout
		var err error
		switch {
		case len(n.Out) != 1 || n.Out[0] == nil:
			err = fmt.Errorf("%s uses the states of all steps; expected them to be contracted with C", n)
		case layout.Is(n) && u.Index == 0:
			axes := s.s.forward(n, w.axes)
			if axes == nil {
				if s.lenient {
					continue
				}
				return nil, fmt.Errorf("%s takes the states apart", n)
			}
			more, err = s.of(view{n.Out[0], axes})
		case n.Op.Is("", "Mul"):
			more, err = s.product(n, u.Index, w)
		case n.Op.Is("", "MatMul"):
			more, err = s.matmul(n, u.Index, w)
		case n.Op.Is("", "Einsum"):
			more, err = s.einsum(n, u.Index, w)
		case s.before(n, w) != nil:
			if more, err = s.of(view{s.before(n, w), w.axes}); err == nil {
				for i := range more {
					more[i].before = true
				}
			}
		case n.Op.Is("", "Slice"), n.Op.Is("", "Concat"):
			err = fmt.Errorf("the state is read before the step's own token is written; expected y to read the new state")
		default:
			err = fmt.Errorf("%s uses the states of all steps; expected them to be contracted with C", n)
		}
		if err != nil && s.lenient {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// before recognises the states before each step, as the analysis of a loop
// writes them: the initial state, then all states, but for the last.
func (s reader) before(n *graph.Node, w view) *graph.Value {
	if !n.Op.Is("", "Concat") || len(n.In) != 2 || n.In[1] != w.v || n.Attrs.Int("axis", 0) != 1 || !slices.EqualFunc(w.axes, s.s.all(w.v).axes, slices.Equal) || len(n.Out[0].Uses) != 1 || s.live == nil {
		return nil
	}
	m := n.Out[0].Uses[0].Node
	if !m.Op.Is("", "Slice") || m.Out[0].Type.Shape[1] != s.s[1] {
		return nil
	}
	return m.Out[0]
}

// product: Mul by something, then ReduceSum over one axis.
func (s reader) product(n *graph.Node, at int, w view) ([]readout, error) {
	c, p := n.In[1-at], n.Out[0]
	if c == w.v || p.Type.Rank() != len(w.axes) || s.live.output(p) {
		return nil, fmt.Errorf("%s uses the states of all steps; expected them to be contracted with C", n)
	}
	for i, d := range p.Type.Shape {
		if d != w.v.Type.Shape[i] {
			return nil, fmt.Errorf("%s reads one state several times", n)
		}
	}
	f := s.s.factors(s.b, view{c, aligned(c.Type.Shape, w.axes)})
	var out []readout
	for _, u := range p.Uses {
		m := u.Node
		if !s.live.node(m) {
			continue
		}
		var more []readout
		var err error
		switch {
		case m.Op.Is("", "ReduceSum") && u.Index == 0:
			r := readout{out: m.Out[0], factors: f}
			over := reduced(m, len(w.axes))
			for i, g := range w.axes {
				if !slices.Contains(over, i) {
					r.axes = append(r.axes, g)
					continue
				}
				if m.Attrs.Int("keepdims", 1) != 0 {
					r.axes = append(r.axes, nil)
				}
				if len(g) == 1 && r.over == 0 {
					r.over = g[0]
				} else if len(g) > 0 {
					return nil, fmt.Errorf("%s sums the states over several axes", m)
				}
			}
			if r.over < 2 {
				return nil, fmt.Errorf("%s sums over no axis of the state", m)
			}
			more = []readout{r}
		case m.Op.Is("", "Mul"):
			if more, err = s.product(m, u.Index, view{p, w.axes}); err == nil {
				for i := range more {
					more[i].factors = append(more[i].factors, f...)
				}
			}
		default:
			err = fmt.Errorf("%s uses the states of all steps; expected them to be contracted with C", m)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// reduced lists the axes of a reduction.
func reduced(n *graph.Node, rank int) []int {
	list := n.Attrs.Ints("axes")
	if list == nil && n.Input(1) != nil && n.In[1].Const != nil {
		list = n.In[1].Const.AsInts()
	}
	var out []int
	for _, a := range list {
		if a < 0 {
			a += int64(rank)
		}
		out = append(out, int(a))
	}
	if list == nil {
		for a := range rank {
			out = append(out, a)
		}
	}
	return out
}

// matmul: states [..., P, N] by [..., N, 1], or [..., 1, N] by states [..., N, P].
func (s reader) matmul(n *graph.Node, at int, w view) ([]readout, error) {
	c := n.In[1-at]
	r, k := len(w.axes), c.Type.Rank()
	bad := fmt.Errorf("%s mixes the states by a matrix", n)
	if c == w.v || r < 2 || n.Out[0].Type.Rank() < r-2 { // an unknown type too, as after a failed step of the builder
		return nil, bad
	}
	var inner, kept []int // the contracted axis and the one kept
	caxes := slices.Clone(w.axes)
	if at == 0 {
		inner, kept = w.axes[r-1], w.axes[r-2]
		caxes[r-2], caxes[r-1] = inner, nil
		if k >= 2 && !c.Type.Shape[k-1].Is(1) {
			return nil, bad
		}
		if k == 1 {
			caxes = append(caxes[:r-2:r-2], inner)
		}
	} else {
		inner, kept = w.axes[r-2], w.axes[r-1]
		caxes[r-2], caxes[r-1] = nil, inner
		if k >= 2 && !c.Type.Shape[k-2].Is(1) {
			return nil, bad
		}
		if k == 1 {
			caxes = append(caxes[:r-2:r-2], inner)
		}
	}
	if len(inner) != 1 || inner[0] < 2 {
		return nil, fmt.Errorf("%s does not sum over one axis of the state", n)
	}
	ca := aligned(c.Type.Shape, caxes)
	if ca == nil || n.Out[0].Type.Rank() > r {
		return nil, fmt.Errorf("%s reads one state several times", n)
	}
	for i, d := range n.Out[0].Type.Shape[:max(r-2, 0)] {
		if k > 1 && d != w.v.Type.Shape[i] {
			return nil, fmt.Errorf("%s reads one state several times", n)
		}
	}
	out := readout{out: n.Out[0], over: inner[0], factors: s.s.factors(s.b, view{c, ca})}
	out.axes = append(slices.Clone(w.axes[:r-2]), kept)
	if k > 1 {
		if at == 0 {
			out.axes = append(out.axes, nil)
		} else {
			out.axes = append(out.axes[:r-2:r-2], nil, kept)
		}
	}
	return []readout{out}, nil
}

func (s reader) einsum(n *graph.Node, at int, w view) ([]readout, error) {
	terms, res, ok := lift.Equation(n)
	bad := fmt.Errorf("%s mixes the states by a matrix", n)
	if !ok || len(terms[at]) != len(w.axes) {
		return nil, bad
	}
	axes := map[rune][]int{}
	r := readout{out: n.Out[0]}
	for i, c := range terms[at] {
		if _, twice := axes[c]; twice {
			return nil, bad
		}
		axes[c] = w.axes[i]
		if strings.ContainsRune(res, c) || len(w.axes[i]) == 0 {
			continue
		}
		if len(w.axes[i]) != 1 || r.over != 0 || w.axes[i][0] < 2 {
			return nil, fmt.Errorf("%s does not sum over one axis of the state", n)
		}
		r.over = w.axes[i][0]
	}
	if r.over == 0 {
		return nil, fmt.Errorf("%s does not sum over an axis of the state", n)
	}
	for i, t := range terms {
		if i == at {
			continue
		}
		f := view{v: n.In[i]}
		for k, c := range t {
			g, known := axes[c]
			if !known && !n.In[i].Type.Shape[k].Is(1) || strings.Count(t, string(c)) > 1 {
				return nil, bad
			}
			if n.In[i].Type.Shape[k].Is(1) {
				g = nil
			}
			f.axes = append(f.axes, g)
		}
		r.factors = append(r.factors, s.s.factors(s.b, f)...)
	}
	for _, c := range res {
		r.axes = append(r.axes, axes[c])
	}
	return []readout{r}, nil
}
