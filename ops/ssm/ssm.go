// Package ssm defines ssdc's own operators (domain "ssm"): state-space scans
// and what stands around them in a Mamba block. Their Eval functions compute in
// float64, token by token, straight from the definitions: they are the
// reference for every kernel.
//
// Letters: B batch, L sequence, H heads, P head dim, N state, G groups, D
// channels, K convolution width.
package ssm

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Domain is the operator domain of this package.
const Domain = "ssm"

// Rows lists the operators of this package.
func Rows() []*ops.Op {
	return []*ops.Op{SSD, SelectiveScan, LinearScan, CausalConv, GatedRMSNorm, Linear, Dims}
}

// Register adds the operators to t.
func Register(t *ops.Table) error { return t.Add("ops/ssm", Rows()...) }

func id(name string) graph.OpID { return graph.OpID{Domain: Domain, Name: name, Since: 1} }

// shapeCheck collects named axis lengths from input types and reports the
// first contradiction. Symbols are taken to agree: the run checks them.
type shapeCheck struct {
	c    *ops.Infer
	axes map[string]graph.Dim
	from map[string]string
	err  error
}

func newCheck(c *ops.Infer) *shapeCheck {
	return &shapeCheck{c: c, axes: map[string]graph.Dim{}, from: map[string]string{}}
}

// input matches input i, if present and of known rank, with named axes.
func (s *shapeCheck) input(i int, name string, axes ...string) {
	t := s.c.Type(i)
	if s.err != nil || !s.c.Has(i) || !t.Ranked() {
		return
	}
	if !t.DType.IsFloat() && name != "seq_idx" {
		s.err = fmt.Errorf("input %s is %s, want a float tensor", name, t)
		return
	}
	if t.Rank() != len(axes) {
		s.err = fmt.Errorf("input %s is %s, want %d axes %v", name, t, len(axes), axes)
		return
	}
	for a, axis := range axes {
		d := t.Shape[a]
		old, seen := s.axes[axis]
		if !seen {
			s.axes[axis], s.from[axis] = d, name
			continue
		}
		x, xc := old.Const()
		y, yc := d.Const()
		if xc && yc && x != y {
			s.err = fmt.Errorf("axis %s is %d in %s but %d in %s (%s)", axis, x, s.from[axis], y, name, t)
			return
		}
		if yc && !xc { // a number says more than a symbol
			s.axes[axis], s.from[axis] = d, name
		}
	}
}

// dims returns named axes, fresh lengths standing in for unknown ones.
func (s *shapeCheck) dims(out int, axes ...string) []graph.Dim {
	d := make([]graph.Dim, len(axes))
	for i, a := range axes {
		var ok bool
		if d[i], ok = s.axes[a]; !ok {
			if s.c.Node.Output(out) != nil {
				d[i] = s.c.Fresh(out, i)
			}
		}
	}
	return d
}

// f64 is an input as float64 with its strides in mind; nil when omitted.
func f64(c *ops.Call, i int) []float64 {
	if t := c.Arg(i); t != nil {
		return t.AsFloats()
	}
	return nil
}

// store rounds float64 results to a dtype.
func store(d tensor.DType, v []float64, shape ...int) *tensor.Tensor {
	t := tensor.New(d, shape...)
	for i, x := range v {
		t.SetAt(i, x)
	}
	return t
}

// stateType is the dtype of a returned state: that of the initial state when
// there is one, else that of the activations.
func stateType(h0, x *tensor.Tensor) tensor.DType {
	if h0 != nil {
		return h0.DType
	}
	return x.DType
}
