package recur

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// realScan makes h = a*h + u a LinearScan.
func (r *recurrence) realScan(s *lift.State, f linearForm) error {
	if _, err := r.lift.Of(s.Init); err != nil {
		return err
	}
	h, hT, err := r.linearScan(s.In.Type, f.a[0], f.u, s.Init, nil)
	if err != nil {
		return err
	}
	r.solved(s, h, hT, s.Init)
	return r.b.Err
}

// complexScan makes re' = ar*re - ai*im + ur, im' = ai*re + ar*im + ui a
// LinearScan of complex numbers. That the decays of both are the same, up to
// the sign, is left to the certificate.
func (r *recurrence) complexScan(re, im *lift.State, f, g linearForm) error {
	if f.a[0] == nil || g.a[0] != nil && g.a[1] == nil || f.a[1] == nil {
		return fmt.Errorf("the states %s depend on each other, but are not turned as the parts of a complex number", stateNames([]*lift.State{re, im}))
	}
	// g is split for the group [re, im] in the same order as f.
	l, d := r.lift, re.In.Type
	pair := func(x, y *lift.Seq, zero float64, full bool) *lift.Seq {
		dims := slices.Clone(d.Shape)
		parts := []*lift.Seq{x, y}
		timed := full
		for i, p := range parts {
			if p == nil {
				s := l.Scalar(r.dtype(f, g, d), zero)
				parts[i] = &s
			} else if p.V == nil {
				s := l.Scalar(r.dtype(f, g, d), 1)
				parts[i] = &s
			}
			*parts[i] = l.Pad(*parts[i], len(dims))
			timed = timed || parts[i].Timed()
		}
		if r.b.Err != nil {
			return nil
		}
		if !full {
			for a := range dims {
				if parts[0].Dims()[a].Is(1) && parts[1].Dims()[a].Is(1) {
					dims[a] = graph.D(1)
				}
			}
		}
		var vs []*graph.Value
		at := -1
		for _, p := range parts {
			s := l.Expand(*p, dims)
			if timed && r.b.Err == nil {
				s = l.Over(s, min(1, len(dims)))
			}
			if r.b.Err != nil {
				return nil
			}
			at = s.At
			vs = append(vs, l.Unsqueeze(s, []int{len(dims)}).V)
		}
		return &lift.Seq{V: r.b.Op("Concat", graph.Attrs{"axis": int64(-1)}, vs...), At: at}
	}
	a := pair(f.a[0], g.a[0], 0, false)
	u := pair(f.u, g.u, 0, true)
	if r.b.Err != nil {
		return r.b.Err
	}
	h0 := pair(&lift.Seq{V: re.Init, At: -1}, &lift.Seq{V: im.Init, At: -1}, 0, false)
	for _, v := range []*graph.Value{re.Init, im.Init} {
		if _, err := l.Of(v); err != nil {
			return err
		}
	}
	init := h0.V
	if lift.Zero(re.Init) && lift.Zero(im.Init) {
		init = nil
	}
	t := graph.Type{DType: d.DType, Shape: append(slices.Clone(d.Shape), graph.D(2))}
	h, hT, err := r.linearScan(t, a, u, init, graph.Attrs{"complex": int64(1)})
	if err != nil {
		return err
	}
	part := func(v *graph.Value, k int64) *graph.Value {
		return r.b.Op("Gather", graph.Attrs{"axis": int64(-1)}, v, layout.Reshape(r.b, r.b.Ints(k), nil))
	}
	r.solved(re, lift.Seq{V: part(h.V, 0), At: h.At}, part(hT, 0), re.Init)
	r.solved(im, lift.Seq{V: part(h.V, 1), At: h.At}, part(hT, 1), im.Init)
	return r.b.Err
}

func (r *recurrence) dtype(f, g linearForm, t graph.Type) tensor.DType {
	for _, s := range []*lift.Seq{f.u, g.u, f.a[0], g.a[0]} {
		if s != nil && s.V != nil {
			return s.V.Type.DType
		}
	}
	return t.DType
}

// linearScan builds the operator for a state of type t; a or u nil: 0, a
// without a value: 1.
func (r *recurrence) linearScan(t graph.Type, a, u *lift.Seq, init *graph.Value, attrs graph.Attrs) (lift.Seq, *graph.Value, error) {
	l, dims, d := r.lift, t.Shape, t.DType
	for _, s := range []*lift.Seq{u, a} {
		if s != nil && s.V != nil {
			d = s.V.Type.DType
			break
		}
	}
	scalar := len(dims) == 0
	if scalar {
		dims = graph.Ds(1)
	}
	if a == nil {
		return lift.Seq{}, nil, fmt.Errorf("the new state does not depend on the old one")
	}
	av := *a
	if av.V == nil {
		av = l.Scalar(d, 1)
	}
	av = l.Pad(av, len(dims))
	uv := l.Scalar(d, 0)
	if u != nil {
		uv = *u
	}
	uv = l.Over(l.Expand(uv, dims), 1)
	if r.b.Err != nil {
		return lift.Seq{}, nil, r.b.Err
	}
	if av.Timed() {
		av = l.MoveTime(av, 1)
	} else {
		av = lift.Seq{V: r.b.Op("Unsqueeze", nil, av.V, r.b.Ints(1)), At: 1}
	}
	if init != nil {
		if lift.Zero(init) {
			init = nil
		} else {
			init = l.Cast(lift.Seq{V: init, At: -1}, d).V
			if scalar {
				init = layout.Reshape(r.b, init, dims)
			}
		}
	}
	n := r.b.Node("ssm", "LinearScan", attrs, 2, av.V, uv.V, init)
	if r.b.Err != nil {
		return lift.Seq{}, nil, r.b.Err
	}
	r.scans = append(r.scans, n)
	h, hT := lift.Seq{V: n.Out[0], At: 1}, n.Out[1]
	if scalar {
		h = l.Squeeze(lift.Seq{V: h.V, At: 1}, []int{0})
		hT = layout.Reshape(r.b, hT, nil)
	}
	return h, hT, r.b.Err
}
