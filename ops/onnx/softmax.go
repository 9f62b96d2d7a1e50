package onnx

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// softmaxRows: Softmax, LogSoftmax and Hardmax. Before version 13 they work on
// the input flattened to a matrix at axis (default 1); from 13 on along one
// axis (default -1).
func softmaxRows() []*ops.Op {
	var rows []*ops.Op
	in := tensor.From([]float32{0, 0, 1, 1, 3, 1}, 2, 3)
	for _, s := range []struct {
		name, doc string
		f         func(v []float64)
		want      []float32
	}{
		{"Softmax", "exp(x) over its sum", softmax, []float32{0.2119415576, 0.2119415576, 0.5761168848, 0.1065069789, 0.7869860422, 0.1065069789}},
		{"LogSoftmax", "log of softmax", logSoftmax, nil},
		{"Hardmax", "1 at the first maximum, else 0", hardmax, []float32{0, 0, 1, 0, 1, 0}},
	} {
		infer := func(def int64) func(c *ops.Infer) error {
			return func(c *ops.Infer) error {
				if err := want(c, 0, floatTypes); err != nil {
					return err
				}
				t := c.Type(0)
				// A scalar is softmaxed as a vector of one element.
				limit := max(t.Rank(), 1)
				if def == 1 {
					limit = t.Rank() + 1 // flattening may happen after the last axis
				}
				if axis := c.Node.Attrs.Int("axis", def); t.Ranked() {
					if _, ok := axisOf(axis, max(t.Rank(), 1), limit); !ok {
						return c.Errorf("axis %d for input %s, want an axis from %d to %d", axis, t, -t.Rank(), limit-1)
					}
				}
				c.Out(0, t)
				return nil
			}
		}
		cases := []ops.Case{{Name: "rows", In: one(in)}, {Name: "axis 0", Attrs: graph.Attrs{"axis": int64(0)}, In: one(in)}}
		if s.want != nil {
			cases[0].Want = one(tensor.From(s.want, 2, 3))
		}
		row := ops.Op{Doc: s.doc + " along an axis", In: params("input"), Out: params("output"), Attrs: []ops.Attr{attr("axis", int64(-1))}, Infer: infer(-1), Cases: cases,
			Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
				x := c.In[0]
				axis, ok := axisOf(c.Node.Attrs.Int("axis", -1), max(x.Rank(), 1), max(x.Rank(), 1))
				if !ok {
					return nil, errAxis(c.Node.Attrs.Int("axis", -1), x)
				}
				shape := x.Shape
				if len(shape) == 0 {
					shape = []int{1}
				}
				outer, n, inner := lanes(shape, axis)
				return one(alongLanes(x, outer, n, inner, s.f)), nil
			}}
		old := row
		old.Doc, old.Attrs, old.Infer = s.doc+" over rows of the input flattened to a matrix at axis", []ops.Attr{attr("axis", int64(1))}, infer(1)
		old.Eval = func(c *ops.Call) ([]*tensor.Tensor, error) {
			x := c.In[0]
			axis, ok := axisOf(c.Node.Attrs.Int("axis", 1), x.Rank(), x.Rank()+1)
			if !ok {
				return nil, errAxis(c.Node.Attrs.Int("axis", 1), x)
			}
			return one(alongLanes(x, product(x.Shape[:axis]), product(x.Shape[axis:]), 1, s.f)), nil
		}
		rows = append(rows, versions(s.name, []int{1, 11}, old)...)
		rows = append(rows, versions(s.name, []int{13}, row)...)
	}
	return rows
}

// alongLanes applies f in place to each lane of a float tensor seen as [outer,n,inner].
func alongLanes(x *tensor.Tensor, outer, n, inner int, f func(v []float64)) *tensor.Tensor {
	v := floatsOf(x)
	out := make([]float64, len(v))
	lane := make([]float64, n)
	for o := range outer {
		for i := range inner {
			base := o*n*inner + i
			for j := range lane {
				lane[j] = v[base+j*inner]
			}
			f(lane)
			for j, y := range lane {
				out[base+j*inner] = y
			}
		}
	}
	return fromFloats(x.DType, out, x.Shape...)
}

func softmax(v []float64) {
	m, s := math.Inf(-1), 0.0
	for _, x := range v {
		m = math.Max(m, x)
	}
	for i, x := range v {
		v[i] = math.Exp(x - m)
		s += v[i]
	}
	for i := range v {
		v[i] /= s
	}
}

func logSoftmax(v []float64) {
	l := logSumExp(v)
	for i := range v {
		v[i] -= l
	}
}

func hardmax(v []float64) {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	for i := range v {
		v[i] = b2f(i == best)
	}
}
