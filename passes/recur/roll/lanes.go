package roll

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// lane is the same value of every step.
type lane struct {
	vals []*graph.Value // per step; nil where no step needs it
	zero bool           // vals[0] is nil and stands for zeros: a first step from which they were folded away
	body *graph.Value   // the value in the body
	dep  bool           // it depends on a carried state
	// outer: its first value comes from outside, the others from the step before
	// if that comes to use it.
	outer bool
}

// state is a value that a step hands to the next.
type state struct {
	init *graph.Value // nil: zeros
	why  error        // the first step differed: this was one way to read it
	next *lane
	in   *graph.Value // of the body
}

// sequence is read by the steps one element after the other.
type sequence struct {
	v       *graph.Value
	from    *graph.Value // what the steps read: v is a part of it, or it
	axis    int
	reverse bool
	in      *graph.Value
}

// roller folds the steps between a first and a last into one body.
type roller struct {
	b      *graph.Builder // of the graph around
	body   *graph.Graph
	n, ref int                           // steps, and the one that the others are compared with
	lanes  map[*graph.Value][]*lane      // by vals[ref]
	before map[*graph.Value][]*lane      // by vals[ref-1]
	nodes  map[*graph.Node][]*graph.Node // copies in the body, by operands
	states []*state
	seqs   []*sequence
	todo   []*state // whose next value is still to be folded
	inside map[*graph.Node]bool
	shapes templates
	order  []*lane
	seen   bool // a state was met: errors are worth telling
	zeroed bool // the first step was completed with zeros

	spelled map[*graph.Value]*graph.Value // values in the one spelling of products
	again   map[*graph.Value]bool         // what is spelled so
	loose   templates                     // the same for every spelling of a product
}

func (r *roller) add(l *lane) {
	r.order = append(r.order, l)
	r.lanes[l.vals[r.ref]] = append(r.lanes[l.vals[r.ref]], l)
	if v := l.vals[r.ref-1]; v != nil {
		r.before[v] = append(r.before[v], l)
	}
}

// fold gives the value in the body that the lane becomes.
func (r *roller) fold(vals []*graph.Value, zero bool) (*lane, error) {
	v := vals[r.ref]
	for _, l := range r.lanes[v] {
		same := covers(l.vals, vals) && l.zero == zero ||
			l.body != nil && covers(l.vals[1:], vals[1:]) && (l.zero || zeros(l.vals[0])) && (zero || zeros(vals[0])) // either is a state of zeros
		if same {
			r.seen = r.seen || l.outer
			return l, nil
		}
	}
	l := &lane{vals: vals, zero: zero}
	r.add(l)
	switch {
	case !zero && constant(vals, v):
		l.body = v
		return l, nil
	case r.shifted(l):
		return l, nil
	}
	if v.Const != nil {
		return l, r.stack(l)
	}
	if _, ok := readOf(v); ok {
		err := r.read(l)
		if err != nil && v.Def.Op.Name != "Split" && r.apply(l) == nil { // of a value that differs from step to step
			err = nil
		}
		return l, err
	}
	return l, r.apply(l)
}

// covers: a has every value that b needs.
func covers(a, b []*graph.Value) bool {
	for t := range b {
		if a[t] != b[t] && b[t] != nil {
			return false
		}
	}
	return true
}

func constant(vals []*graph.Value, v *graph.Value) bool {
	for _, w := range vals {
		if w != nil && w != v && !(v.Const != nil && w.Const != nil && sameConst(v.Const, w.Const)) {
			return false
		}
	}
	return true
}

func sameConst(a, b *tensor.Tensor) bool {
	return a == b || a.DType == b.DType && slices.Equal(a.Shape, b.Shape) && !a.DType.IsContainer() && a.DType != tensor.String && string(a.Data) == string(b.Data)
}

// shifted recognises what the step before left.
func (r *roller) shifted(l *lane) bool {
	for _, s := range r.before[l.vals[r.ref]] {
		if s == l || !covers(s.vals[:r.n-1], l.vals[1:]) {
			continue
		}
		r.carry(l, l.vals[0], s)
		r.seen = true
		return true
	}
	return false
}

// carry makes l a state; next is nil when it is to be folded later.
func (r *roller) carry(l *lane, init *graph.Value, next *lane) *state {
	st := &state{init: init, next: next, in: r.body.AddInput("state", l.vals[r.ref].Type)}
	r.states = append(r.states, st)
	l.body, l.dep = st.in, true
	return st
}

// read folds reads of successive elements of one sequence.
func (r *roller) read(l *lane) error {
	ref, _ := readOf(l.vals[r.ref])
	at := make([]int64, r.n)
	for t, v := range l.vals {
		if v == nil {
			continue
		}
		one, ok := readOf(v)
		if !ok || one.src != ref.src || one.axis != ref.axis || one.keep != ref.keep {
			return mismatchAt(t, fmt.Sprintf("%q does not read %q on axis %d as the others do", v.Name, ref.src.Name, ref.axis))
		}
		at[t] = one.at
	}
	step, start := line(l.vals, at)
	for t, v := range l.vals {
		if want := start + step*int64(t); v != nil && at[t] != want {
			return mismatchAt(t, fmt.Sprintf("element %d of %q is read where %d was expected", at[t], ref.src.Name, want))
		}
	}
	first := start
	last := first + step*int64(r.n-1)
	length, _ := ref.src.Type.Shape[ref.axis].Const()
	if min(first, last) < 0 || max(first, last) >= length {
		return fmt.Errorf("the steps read elements %d to %d of %q, which has %d", first, last, ref.src.Name, length)
	}
	q := &sequence{v: ref.src, from: ref.src, axis: ref.axis, reverse: step < 0}
	if int64(r.n) != length {
		lo := min(first, last)
		q.v = r.b.Op("Slice", nil, ref.src, r.b.Ints(lo), r.b.Ints(lo+int64(r.n)), r.b.Ints(int64(ref.axis)))
		if r.b.Err != nil {
			return r.b.Err
		}
	}
	r.input(l, q, ref.keep)
	for _, v := range l.vals {
		if v != nil {
			r.inside[v.Def] = true
		}
	}
	return nil
}

// line is the direction, and the element of step 0, that most steps read by.
func line(vals []*graph.Value, at []int64) (step, start int64) {
	most := 0
	for _, dir := range []int64{1, -1} {
		votes := map[int64]int{}
		for t, v := range vals {
			if v == nil {
				continue
			}
			from := at[t] - dir*int64(t)
			if votes[from]++; votes[from] > most {
				most, step, start = votes[from], dir, from
			}
		}
	}
	return step, start
}

// input makes q a scan input; keep gives back the axis that a scan drops.
func (r *roller) input(l *lane, q *sequence, keep bool) {
	for _, p := range r.seqs {
		if p.v == q.v && p.axis == q.axis && p.reverse == q.reverse {
			q = p
		}
	}
	if q.in == nil {
		t := q.v.Type
		q.in = r.body.AddInput("x", graph.Type{DType: t.DType, Shape: slices.Delete(slices.Clone(t.Shape), q.axis, q.axis+1)})
		r.seqs = append(r.seqs, q)
	}
	l.body = q.in
	if keep {
		l.body = r.op("Unsqueeze", nil, q.in, r.b.Ints(int64(q.axis)))
	}
}

// op adds a node to the body, where its types are not inferred yet.
func (r *roller) op(name string, attrs graph.Attrs, in ...*graph.Value) *graph.Value {
	id, err := r.b.Resolve("", name)
	if err != nil {
		r.b.Err = err
		return in[0]
	}
	return r.body.Add(id, attrs, in, 1, name).Out[0]
}

// maxStacked bounds the bytes of constants that are put together to a sequence.
const maxStacked = 1 << 28

// stack makes a sequence of constants that differ from step to step.
func (r *roller) stack(l *lane) error {
	ref := l.vals[r.ref].Const
	if ref.DType.IsContainer() || ref.DType == tensor.String || len(ref.Data)*r.n > maxStacked {
		return fmt.Errorf("%d constants of type %s differ from step to step", r.n, ref.TypeString())
	}
	all := tensor.New(ref.DType, append([]int{r.n}, ref.Shape...)...)
	size := len(ref.Data)
	for t, v := range l.vals {
		if v == nil {
			continue
		}
		if v.Const == nil || v.Const.DType != ref.DType || !slices.Equal(v.Const.Shape, ref.Shape) || ref.DType.Size() == 0 {
			return r.odd(l, []int{t}, mismatchAt(t, fmt.Sprintf("%q is not a constant %s as in the other steps", v.Name, ref.TypeString())))
		}
		copy(all.Data[t*size:], v.Const.Data)
	}
	r.input(l, &sequence{v: r.b.Const(all)}, false)
	return nil
}

// apply folds equal nodes of all steps into one of the body.
func (r *roller) apply(l *lane) error {
	v := l.vals[r.ref]
	n := v.Def
	if n == nil || len(n.Bodies) > 0 {
		return r.odd(l, nil, mismatchAt(r.ref, fmt.Sprintf("%q is given from outside and not read from a sequence", v.Name)))
	}
	out := slices.Index(n.Out, v)
	var odd []int
	var why error
	for t, w := range l.vals {
		if w == nil || t == r.ref {
			continue
		}
		if s := unlike(n, w.Def, out, w); s != "" {
			odd = append(odd, t)
			if why == nil {
				why = mismatchAt(t, s)
			}
		}
	}
	if l.zero {
		odd = append(odd, 0)
		if why == nil {
			why = mismatchAt(0, fmt.Sprintf("it has zeros where other steps have %s", n.Op.Name))
		}
	}
	if m := l.vals[max(0, r.ref-1)]; 2*len(odd) > r.n && m != nil && m.Def != nil { // the odd one out is the step that the others are compared with
		if s := unlike(m.Def, n, slices.Index(m.Def.Out, m), v); s != "" {
			why = mismatchAt(r.ref, s)
		}
	}
	if len(odd) == 1 && odd[0] == 0 && !l.zero && zeros(l.vals[0]) { // what zeros were multiplied to
		p, err := r.fold(slices.Concat([]*graph.Value{nil}, l.vals[1:]), true)
		if err != nil {
			return err
		}
		l.body, l.dep, r.zeroed = p.body, p.dep, true
		return nil
	}
	if odd != nil {
		if vals, nodes := r.respell(l); vals != nil {
			p, err := r.fold(vals, false)
			if err != nil {
				return err
			}
			for _, m := range nodes {
				r.inside[m] = true
			}
			l.body, l.dep = p.body, p.dep
			return nil
		}
		return r.odd(l, odd, why)
	}
	operands := make([][]*graph.Value, len(n.In))
	for i := range n.In {
		if n.In[i] == nil {
			continue
		}
		operands[i] = make([]*graph.Value, r.n)
		for t, w := range l.vals {
			if w != nil {
				operands[i][t] = w.Def.In[r.align(n, w.Def, i)]
			}
		}
	}
	return r.emit(l, operands, nil)
}

// zeros: a constant of nothing else.
func zeros(v *graph.Value) bool {
	if v == nil || v.Const == nil || !v.Const.DType.IsFloat() {
		return false
	}
	for i := range v.Const.Len() {
		if v.Const.At(i) != 0 {
			return false
		}
	}
	return true
}

// emit folds the operands and then the node. zero marks operands whose first
// element stands for zeros.
func (r *roller) emit(l *lane, operands [][]*graph.Value, zero []bool) error {
	n := l.vals[r.ref].Def
	in := make([]*graph.Value, len(operands))
	for i, o := range operands {
		if o == nil {
			continue
		}
		p, err := r.fold(o, zero != nil && zero[i])
		if err != nil {
			return err
		}
		in[i] = p.body
		l.dep = l.dep || p.dep
	}
	var m *graph.Node
	for _, k := range r.nodes[n] {
		if slices.Equal(k.In, in) {
			m = k
		}
	}
	if m == nil {
		m = r.body.Add(n.Op, n.Attrs.Clone(), in, len(n.Out), n.Op.Name)
		m.From = n.From
		r.nodes[n] = append(r.nodes[n], m)
	}
	for _, v := range l.vals {
		if v != nil {
			r.inside[v.Def] = true
		}
	}
	l.body = m.Out[slices.Index(n.Out, l.vals[r.ref])]
	return nil
}

// unlike says how a node differs from the reference; "" when it does not.
func unlike(n, m *graph.Node, out int, v *graph.Value) string {
	switch {
	case m == nil:
		return fmt.Sprintf("%q is not computed there, other steps have %s", v.Name, n.Op.Name)
	case m.Op != n.Op:
		return fmt.Sprintf("%s where other steps have %s", m, n.Op.Name)
	case len(m.In) != len(n.In) || len(m.Out) != len(n.Out) || slices.Index(m.Out, v) != out:
		return fmt.Sprintf("%s has other inputs or outputs than %s", m, n)
	case !sameAttrs(n.Attrs, m.Attrs):
		return fmt.Sprintf("%s has other attributes than %s", m, n)
	}
	for i := range n.In {
		if (n.In[i] == nil) != (m.In[i] == nil) {
			return fmt.Sprintf("%s omits another input than %s", m, n)
		}
	}
	return ""
}

func sameAttrs(a, b graph.Attrs) bool {
	if len(a) != len(b) {
		return false
	}
	for k, x := range a {
		y, ok := b[k]
		if !ok {
			return false
		}
		switch x := x.(type) {
		case []int64:
			if y, ok := y.([]int64); !ok || !slices.Equal(x, y) {
				return false
			}
		case []float32:
			if y, ok := y.([]float32); !ok || !slices.Equal(x, y) {
				return false
			}
		case []string:
			if y, ok := y.([]string); !ok || !slices.Equal(x, y) {
				return false
			}
		case *tensor.Tensor:
			if y, ok := y.(*tensor.Tensor); !ok || !sameConst(x, y) {
				return false
			}
		case int64, float32, string:
			if x != y {
				return false
			}
		default: // types and lists of tensors: not in a step
			return false
		}
	}
	return true
}
