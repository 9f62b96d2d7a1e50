package ssm

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// LinearScan is the bare recurrence h_t = a_t*h_{t-1} + u_t, elementwise over
// all axes after L. It is what every recovered recurrence is before it is
// specialised, and a fast operator in its own right (minGRU, LRU, HGRN).
//
// An axis of a may be 1 where u's is longer, time among them: the decay is then
// the same there. With complex=1 the last axis, of length 2, holds real and
// imaginary parts, and the product is that of complex numbers.
var LinearScan = &ops.Op{
	ID:  id("LinearScan"),
	Doc: "Elementwise linear recurrence h_t = a_t*h_{t-1} + u_t along axis 1.",
	In: []ops.Param{
		{Name: "a", Doc: "[B,L,...], broadcast to the shape of u"}, {Name: "u", Doc: "[B,L,...]"},
		{Name: "h0", Doc: "[B,...]; zeros when omitted", Optional: true},
	},
	Out:   []ops.Param{{Name: "h", Doc: "[B,L,...]"}, {Name: "hT", Doc: "[B,...]", Optional: true}},
	Attrs: []ops.Attr{{Name: "complex", Doc: "1: the last axis is (real, imaginary)", Default: int64(0)}},
	Alias: map[int]int{1: 2},
	Cases: linearScanCases,
	Infer: inferLinearScan,
	Eval:  evalLinearScan,

	Decompose: decomposeLinearScan,
}

func inferLinearScan(c *ops.Infer) error {
	a, u := c.Type(0), c.Type(1)
	if !u.Ranked() {
		c.Out(0, u)
		c.Out(1, u)
		return nil
	}
	if u.Rank() < 2 || a.Ranked() && a.Rank() != u.Rank() {
		return c.Errorf("a is %s and u is %s; want [B,L,...] of the same rank", a, u)
	}
	for i := range a.Shape {
		m, ok := a.Shape[i].Const()
		n, ok2 := u.Shape[i].Const()
		if ok && ok2 && m != n && m != 1 {
			return c.Errorf("a is %s and u is %s: axis %d of a must be 1 or as long as that of u", a, u, i)
		}
	}
	if c.Node.Attrs.Int("complex", 0) != 0 {
		for _, t := range []graph.Type{a, u} {
			if !t.Ranked() {
				continue
			}
			if t.Rank() == 0 {
				return c.Errorf("complex numbers want a last axis (real, imaginary), not %s", t)
			}
			if n, ok := t.Shape[len(t.Shape)-1].Const(); t.Rank() < 3 || ok && n != 2 {
				return c.Errorf("complex numbers want a last axis (real, imaginary) of length 2, not %s", t)
			}
		}
	}
	c.Out(0, u)
	t := graph.Type{DType: u.DType, Shape: append([]graph.Dim{u.Shape[0]}, u.Shape[2:]...)}
	if c.Has(2) {
		t.DType = c.Type(2).DType
	}
	c.Out(1, t)
	return nil
}

func evalLinearScan(c *ops.Call) ([]*tensor.Tensor, error) {
	u, h0 := f64(c, 1), f64(c, 2)
	shape := c.In[1].Shape
	B, L := shape[0], shape[1]
	inner := 1
	for _, n := range shape[2:] {
		inner *= n
	}
	a, err := decayAt(c.In[0], shape)
	if err != nil {
		return nil, err
	}
	if h0 != nil && len(h0) != B*inner {
		return nil, fmt.Errorf("h0 has shape %v, u %v: want the axes of u but time", c.In[2].Shape, shape)
	}
	cplx := c.Node.Attrs.Int("complex", 0) != 0
	h, hT := make([]float64, len(u)), make([]float64, B*inner)
	copy(hT, h0)
	for b := range B {
		s := hT[b*inner:][:inner]
		for t := range L {
			o := (b*L + t) * inner
			if cplx {
				for i := 0; i < inner; i += 2 {
					re, im := a(o+i), a(o+i+1)
					s[i], s[i+1] = re*s[i]-im*s[i+1]+u[o+i], re*s[i+1]+im*s[i]+u[o+i+1]
				}
			} else {
				for i := range s {
					s[i] = a(o+i)*s[i] + u[o+i]
				}
			}
			copy(h[o:], s)
		}
	}
	return []*tensor.Tensor{store(c.In[1].DType, h, shape...), store(stateType(c.Arg(2), c.In[1]), hT, append([]int{B}, shape[2:]...)...)}, nil
}

// decayAt returns a as a function of the flat position in u.
func decayAt(t *tensor.Tensor, shape []int) (func(i int) float64, error) {
	a := t.AsFloats()
	if len(t.Shape) != len(shape) {
		return nil, fmt.Errorf("a has shape %v and u %v; want the same rank", t.Shape, shape)
	}
	same := true
	stride := make([]int, len(shape)) // 0 along repeated axes
	n := 1
	for k := len(shape) - 1; k >= 0; k-- {
		switch t.Shape[k] {
		case shape[k]:
			stride[k] = n
		case 1:
			same = false
		default:
			return nil, fmt.Errorf("a has shape %v and u %v; axes of a must be 1 or as long as those of u", t.Shape, shape)
		}
		n *= t.Shape[k]
	}
	if same {
		return func(i int) float64 { return a[i] }, nil
	}
	return func(i int) float64 {
		o := 0
		for k := len(shape) - 1; k >= 0; k-- {
			o += i % shape[k] * stride[k]
			i /= shape[k]
		}
		return a[o]
	}, nil
}
