package recur

import (
	"errors"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// logDecay writes the decay per head as A and dt with a = exp(A*dt), where dt
// is also a factor of the update, or as its logarithm [B,L,H]. It returns the
// factors of x that are left.
func (p *special) logDecay(h int) (log, dt *graph.Value, x []view, err error) {
	b := p.b
	if len(p.a) == 1 {
		if e := p.a[0].v.Def; e != nil && e.Op.Is("", "Exp") {
			times, params, rest := p.shared(p.s.factors(b, view{e.In[0], p.a[0].axes}))
			if len(times) > 0 {
				dt = p.product(times, []int{0, 1, h}, true)
				a := p.product(params, []int{h}, true)
				if dt != nil && a != nil && b.Err == nil {
					return a, dt, rest, nil
				}
			}
		}
	}
	for _, f := range p.a {
		l, err := p.log(f)
		if err != nil {
			return nil, nil, nil, err
		}
		v := p.s.project(b, l, 0, 1, h)
		if v == nil {
			return nil, nil, nil, role(2, "the decay %s does not fit", label(f))
		}
		if log == nil {
			log = v
		} else {
			log = b.Op("Add", nil, log, v)
		}
	}
	return p.expand(log, []int{0, 1, h}), nil, p.x, b.Err
}

// shared parts the factors of a log decay into those that scale the update too,
// dt, and the others, A; rest is what is left of the update's.
func (p *special) shared(log []view) (dt, a, rest []view) {
	rest = slices.Clone(p.x)
	for _, f := range log {
		i := slices.IndexFunc(rest, func(w view) bool { return w.v == f.v && slices.EqualFunc(w.axes, f.axes, slices.Equal) })
		if i < 0 {
			a = append(a, f)
			continue
		}
		dt, rest = append(dt, f), slices.Delete(rest, i, i+1)
	}
	return dt, a, rest
}

// zeroDecay stands for exp of it in a logarithm: e^-104 is 0 in float32, and
// sums of a few hundred of it still leave the digits of what follows.
const zeroDecay = -104

// log is the logarithm of a factor of the decay, which must be shown positive.
func (p *special) log(w view) (view, error) {
	b, n := p.b, w.v.Def
	if c := w.v.Const; c != nil && c.DType.IsFloat() {
		least := math.Inf(1)
		for i := range c.Len() {
			least = math.Min(least, c.At(i))
		}
		if least < 0 {
			return w, role(2, "the decay %s is negative in places", label(w))
		}
		v := b.Op("Log", nil, w.v) // not folded here: the certificate computes it in float64
		if least == 0 {
			v = b.Op("Max", nil, v, p.ones(0, zeroDecay))
		}
		return view{v, w.axes}, b.Err
	}
	if n == nil || n.Op.Domain != "" {
		return w, role(2, "the decay %s is not shown to be positive; expected exp or sigmoid of something", label(w))
	}
	switch n.Op.Name {
	case "Exp":
		return view{n.In[0], w.axes}, nil
	case "Sigmoid": // log sigmoid(x) = -softplus(-x)
		return view{b.Op("Neg", nil, b.Op("Softplus", nil, b.Op("Neg", nil, n.In[0]))), w.axes}, b.Err
	case "Sub": // 1 - sigmoid(x) = sigmoid(-x)
		if s := n.In[1].Def; s != nil && s.Op.Is("", "Sigmoid") && isConst(n.In[0], 1) {
			return view{b.Op("Neg", nil, b.Op("Softplus", nil, s.In[0])), w.axes}, b.Err
		}
	case "Cast":
		in, err := p.log(view{n.In[0], w.axes})
		if err != nil || b.Err != nil {
			return w, errors.Join(err, b.Err)
		}
		return view{b.Op("Cast", n.Attrs.Clone(), in.v), w.axes}, b.Err
	case "Where":
		var parts []*graph.Value
		for _, v := range n.In[1:] {
			if v.Const == nil && lift.Zero(v) {
				parts = append(parts, p.ones(0, zeroDecay))
				continue
			}
			l, err := p.log(view{v, aligned(v.Type.Shape, w.axes)})
			if err != nil {
				return w, err
			}
			if l.v.Type.Rank() != v.Type.Rank() {
				return w, role(2, "the decay %s does not fit", label(w))
			}
			parts = append(parts, l.v)
		}
		return view{b.Op("Where", nil, n.In[0], parts[0], parts[1]), w.axes}, b.Err
	}
	if n.Op.Name == "Mul" || layout.Is(n) {
		f := p.s.factors(b, w)
		if len(f) > 1 || len(f) == 1 && f[0].v != w.v {
			var sum *graph.Value
			for _, g := range f {
				l, err := p.log(g)
				if err != nil {
					return w, err
				}
				v := p.s.project(b, l, 0, 1, 2, 3, 4)
				if v == nil {
					return w, role(2, "the decay %s does not fit", label(w))
				}
				if sum == nil {
					sum = v
				} else {
					sum = b.Op("Add", nil, sum, v)
				}
			}
			return p.s.all(sum), b.Err
		}
	}
	return w, role(2, "the decay %s is not shown to be positive; expected exp or sigmoid of something", label(w))
}

func isConst(v *graph.Value, x float64) bool {
	if v = layout.Deepest(v); v.Const == nil || !v.Const.DType.IsFloat() {
		return false
	}
	for i := range v.Const.Len() {
		if v.Const.At(i) != x {
			return false
		}
	}
	return true
}
