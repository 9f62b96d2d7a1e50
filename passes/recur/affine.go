package recur

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// linearForm is a value of the body as sum_i a[i]*state_i + u over the states of a
// group. An a[i] that is nil is 0, one without a value is 1; a nil u is 0.
// Coefficients broadcast to the value's shape.
type linearForm struct {
	a []*lift.Seq
	u *lift.Seq
}

// splitter follows states through a step.
type splitter struct {
	r     *recurrence
	group []*lift.State
	mask  uint64
	// packed is a complex state with its parts along the last axis, which stand
	// for the two states of the group.
	packed *lift.State
}

const expected = "; expected state*decay + update"

// notLinear: the error is about what a step does to the state.
func notLinear(err error) bool { return strings.HasSuffix(err.Error(), expected) }

// split writes v as a linear function of the states.
func (p *splitter) split(v *graph.Value) (linearForm, error) {
	l := p.r.lift
	if v = lift.Source(v); p.r.need(v)&p.mask == 0 {
		if !p.r.lift.Inside(v) && lift.Zero(v) {
			return linearForm{a: make([]*lift.Seq, len(p.group))}, nil
		}
		s, err := l.Of(v)
		return linearForm{a: make([]*lift.Seq, len(p.group)), u: &s}, err
	}
	if i, ok := p.part(v); ok {
		f := linearForm{a: make([]*lift.Seq, len(p.group))}
		f.a[i] = &lift.Seq{At: -1}
		return f, nil
	}
	for i, s := range p.group {
		if v == s.In && p.packed == nil {
			f := linearForm{a: make([]*lift.Seq, len(p.group))}
			f.a[i] = &lift.Seq{At: -1}
			return f, nil
		}
	}
	n := v.Def
	if n == nil || n.Op.Domain != "" {
		return linearForm{}, p.refuse(n, v)
	}
	switch n.Op.Name {
	case "Add", "Sub", "Sum":
		f, err := p.split(n.In[0])
		for _, u := range n.In[1:] {
			if err != nil {
				return f, err
			}
			var g linearForm
			if g, err = p.split(u); err == nil {
				f = p.add(f, g, n.Op.Name == "Sub", v.Type.DType)
			}
		}
		return f, err
	case "Neg":
		f, err := p.split(n.In[0])
		if err != nil {
			return f, err
		}
		return p.add(linearForm{a: make([]*lift.Seq, len(p.group))}, f, true, v.Type.DType), nil
	case "Mul":
		for i, u := range n.In {
			if p.r.need(u)&p.mask == 0 {
				return p.scaled(n.In[1-i], u, "Mul")
			}
		}
		return linearForm{}, fmt.Errorf("%s multiplies the state by what depends on the state%s", n, expected)
	case "Div":
		if p.r.need(n.In[1])&p.mask == 0 {
			return p.scaled(n.In[0], n.In[1], "Div")
		}
		return linearForm{}, fmt.Errorf("%s divides by what depends on the state%s", n, expected)
	case "Where":
		return p.where(n)
	case "Cast":
		if !v.Type.DType.IsFloat() {
			return linearForm{}, p.refuse(n, v)
		}
		f, err := p.split(n.In[0])
		return p.each(f, func(s lift.Seq) (lift.Seq, error) { return l.Cast(s, v.Type.DType), nil }, err)
	case "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten":
		f, err := p.split(n.In[0])
		return p.each(f, func(s lift.Seq) (lift.Seq, error) { return l.View(n, s) }, err)
	case "Expand":
		if slices.Equal(n.In[0].Type.Shape, v.Type.Shape) {
			return p.split(n.In[0])
		}
	case "Einsum":
		if f, ok, err := p.einsum(n); ok || err != nil {
			return f, err
		}
	}
	return linearForm{}, p.refuse(n, v)
}

// refuse says what a node does to the state that a linear scan cannot.
func (p *splitter) refuse(n *graph.Node, v *graph.Value) error {
	if n == nil {
		return fmt.Errorf("%q does not come from the state", v.Name)
	}
	switch name := n.Op.Name; {
	case (name == "MatMul" || name == "Gemm") && (n.In[0].Const != nil || n.In[1].Const != nil):
		return fmt.Errorf("%s mixes the entries of the state by a matrix%s", n, expected)
	case name == "ReduceSum" || name == "MatMul" || name == "Einsum" || name == "Gemm" || name == "ReduceMean":
		return fmt.Errorf("%s contracts the state on the way to the next state, as the delta rule does%s", n, expected)
	case strings.HasSuffix(name, "Normalization") || strings.HasSuffix(name, "Softmax"):
		return fmt.Errorf("%s normalises the state on the way to the next state%s", n, expected)
	case name == "Max" || name == "Min" || name == "Clip" || name == "Relu":
		return fmt.Errorf("%s compares the state with something: a maximum in place of a sum is not linear%s", n, expected)
	case name == "Slice" || name == "Gather" || name == "Split" || name == "Concat" || name == "Expand" || name == "Tile" || name == "Pad":
		return fmt.Errorf("%s takes the state apart or repeats it on the way to the next state%s", n, expected)
	}
	return fmt.Errorf("%s applies a function that is not linear to the state%s", n, expected)
}

// each applies f to the coefficients and to the rest.
func (p *splitter) each(x linearForm, f func(lift.Seq) (lift.Seq, error), err error) (linearForm, error) {
	if err != nil {
		return x, err
	}
	out := linearForm{a: make([]*lift.Seq, len(x.a))}
	apply := func(s *lift.Seq) *lift.Seq {
		if s == nil || s.V == nil || err != nil {
			return s
		}
		var t lift.Seq
		t, err = f(*s)
		return &t
	}
	for i, s := range x.a {
		out.a[i] = apply(s)
	}
	out.u = apply(x.u)
	if err == nil {
		err = p.r.b.Err
	}
	return out, err
}

// number gives a coefficient of 0 or 1 a value.
func (p *splitter) number(s *lift.Seq, d tensor.DType) lift.Seq {
	switch {
	case s == nil:
		return p.r.lift.Scalar(d, 0)
	case s.V == nil:
		return p.r.lift.Scalar(d, 1)
	}
	return *s
}

// add is x + y or x - y.
func (p *splitter) add(x, y linearForm, minus bool, d tensor.DType) linearForm {
	l := p.r.lift
	sum := func(s, t *lift.Seq) *lift.Seq {
		switch {
		case p.r.b.Err != nil || t == nil:
			return s
		case s == nil && !minus:
			return t
		case s == nil && t.V == nil:
			r := l.Scalar(d, -1)
			return &r
		case s == nil:
			r := l.Elementwise("Neg", nil, *t)
			return &r
		}
		name, y := "Add", p.number(t, d)
		if n := y.V.Def; n != nil && n.Op.Is("", "Neg") {
			y.V, name = n.In[0], "Sub"
		}
		if minus {
			name = map[string]string{"Add": "Sub", "Sub": "Add"}[name]
		}
		r := l.Elementwise(name, nil, p.number(s, d), y)
		return &r
	}
	out := linearForm{a: make([]*lift.Seq, len(x.a))}
	for i := range x.a {
		out.a[i] = sum(x.a[i], y.a[i])
	}
	out.u = sum(x.u, y.u)
	return out
}

// scaled is the product or quotient of v by what does not depend on the state.
func (p *splitter) scaled(v, by *graph.Value, name string) (linearForm, error) {
	f, err := p.split(v)
	if err != nil {
		return f, err
	}
	s, err := p.r.lift.Of(by)
	if err != nil {
		return f, err
	}
	return p.times(f, s, name, v.Type.DType)
}

func (p *splitter) times(f linearForm, s lift.Seq, name string, d tensor.DType) (linearForm, error) {
	l := p.r.lift
	out := linearForm{a: make([]*lift.Seq, len(f.a))}
	one := func(x *lift.Seq) *lift.Seq {
		switch {
		case x == nil || p.r.b.Err != nil:
			return x
		case x.V == nil && name == "Mul":
			return &s
		case name == "Mul" && isConst(x.V, -1):
			r := l.Elementwise("Neg", nil, s)
			return &r
		}
		r := l.Elementwise(name, nil, p.number(x, d), s)
		return &r
	}
	for i, x := range f.a {
		out.a[i] = one(x)
	}
	out.u = one(f.u)
	return out, p.r.b.Err
}

// where: a mask that does not depend on the state chooses between two linear values.
func (p *splitter) where(n *graph.Node) (linearForm, error) {
	if p.r.need(n.In[0])&p.mask != 0 {
		return linearForm{}, fmt.Errorf("%s chooses by a condition that depends on the state%s", n, expected)
	}
	l, d := p.r.lift, n.Out[0].Type.DType
	mask, err := l.Of(n.In[0])
	if err != nil {
		return linearForm{}, err
	}
	x, err := p.split(n.In[1])
	if err != nil {
		return x, err
	}
	y, err := p.split(n.In[2])
	if err != nil {
		return y, err
	}
	pick := func(s, t *lift.Seq) *lift.Seq {
		if s == nil && t == nil || p.r.b.Err != nil {
			return nil
		}
		r := l.Elementwise("Where", nil, mask, p.number(s, d), p.number(t, d))
		return &r
	}
	out := linearForm{a: make([]*lift.Seq, len(x.a))}
	for i := range x.a {
		out.a[i] = pick(x.a[i], y.a[i])
	}
	out.u = pick(x.u, y.u)
	return out, p.r.b.Err
}

// einsum: one that sums over nothing is a product of views.
func (p *splitter) einsum(n *graph.Node) (linearForm, bool, error) {
	terms, out, ok := lift.Equation(n)
	if !ok {
		return linearForm{}, false, nil
	}
	at := -1
	for i, u := range n.In {
		if p.r.need(u)&p.mask == 0 {
			continue
		}
		if at >= 0 {
			return linearForm{}, false, fmt.Errorf("%s multiplies the state by what depends on the state%s", n, expected)
		}
		at = i
	}
	if len(terms[at]) != len(out) {
		return linearForm{}, false, nil
	}
	for _, t := range terms {
		for _, c := range t {
			if strings.Count(t, string(c)) > 1 || !strings.ContainsRune(out, c) {
				return linearForm{}, false, nil
			}
		}
	}
	f, err := p.split(n.In[at])
	l := p.r.lift
	view := func(s lift.Seq, term string) (lift.Seq, error) { // to the order and axes of the result
		var perm []int64
		var missing []int
		s = l.Pad(s, len(term))
		for k, c := range out {
			if j := strings.IndexRune(term, c); j >= 0 {
				perm = append(perm, int64(j))
			} else {
				missing = append(missing, k)
			}
		}
		return l.Unsqueeze(l.Transpose(s, perm), missing), p.r.b.Err
	}
	f, err = p.each(f, func(s lift.Seq) (lift.Seq, error) { return view(s, terms[at]) }, err)
	for i, u := range n.In {
		if i == at || err != nil {
			continue
		}
		var s lift.Seq
		if s, err = l.Of(u); err != nil {
			break
		}
		if s, err = view(s, terms[i]); err != nil {
			break
		}
		f, err = p.times(f, s, "Mul", n.Out[0].Type.DType)
	}
	return f, true, err
}
