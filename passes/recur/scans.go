package recur

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
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

// linearScan builds the operator for a state of type t; a or u nil: 0, a
// without a value: 1.
func (r *recurrence) linearScan(t graph.Type, a, u *lift.Seq, init *graph.Value, attrs graph.Attrs) (lift.Seq, *graph.Value, error) {
	if r.b.Err != nil { // values have no types then
		return lift.Seq{}, nil, r.b.Err
	}
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
