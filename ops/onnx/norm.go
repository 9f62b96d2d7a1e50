package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// normRows are the normalisations over trailing axes: LayerNormalization and
// RMSNormalization. Statistics are computed in float64 whatever stash_type
// says; it only sets the element type of the statistics' outputs.
func normRows() []*ops.Op {
	axis, eps, stash := attr("axis", int64(-1)), attr("epsilon", float32(1e-5)), attr("stash_type", int64(1))
	x := tensor.From([]float32{1, 2, 3, 4, -1, 0, 1, 2}, 2, 4)
	scale, bias := tensor.From([]float32{1, 2, 1, 0.5}, 4), tensor.From([]float32{0, 0.5, -1, 1}, 4)
	rows := versions("LayerNormalization", []int{17}, ops.Op{
		Doc: "(X - mean) / sqrt(variance + epsilon) * Scale + B over the axes from axis on; Scale and B broadcast to X",
		In:  params("X", "Scale", "B?"), Out: params("Y", "Mean?", "InvStdDev?"), Attrs: []ops.Attr{axis, eps, stash},
		Infer: func(c *ops.Infer) error {
			if err := inferTrailingNorm(c, 0); err != nil {
				return err
			}
			stats := stashType(c.Node.Attrs)
			t := c.Type(0)
			out := unranked(stats)
			if t.Ranked() {
				first, _ := axisOf(c.Node.Attrs.Int("axis", -1), t.Rank(), t.Rank())
				out.Shape = append([]graph.Dim{}, t.Shape...)
				for a := first; a < t.Rank(); a++ {
					out.Shape[a] = graph.D(1)
				}
			}
			c.Out(1, out)
			c.Out(2, out)
			return nil
		},
		Eval: evalLayerNorm,
		Cases: []ops.Case{{Name: "last axis", In: []*tensor.Tensor{x, scale, bias}, NOut: 3},
			{Name: "no bias", In: []*tensor.Tensor{tensor.From([]float32{-1, 1}, 1, 2), tensor.From([]float32{2, 2}, 2)}, Want: one(tensor.From([]float32{-1.99999, 1.99999}, 1, 2))}},
	})
	return append(rows, versions("RMSNormalization", []int{23}, ops.Op{
		Doc: "X / sqrt(mean(X^2) + epsilon) * scale over the axes from axis on; the result has scale's element type",
		In:  params("X", "scale"), Out: params("Y"), Attrs: []ops.Attr{axis, eps, stash},
		Infer: func(c *ops.Infer) error { return inferTrailingNorm(c, 1) },
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x, v, shape, first, err := trailing(c)
			if err != nil {
				return nil, err
			}
			epsilon := float64(c.Node.Attrs.Float("epsilon", 1e-5))
			n := product(shape[first:])
			for o := 0; o < len(v); o += n {
				lane, ss := v[o:o+n], 0.0
				for _, y := range lane {
					ss += y * y
				}
				inv := 1 / math.Sqrt(ss/float64(n)+epsilon)
				for i := range lane {
					lane[i] *= inv
				}
			}
			if err := scaleShift(v, x.Shape, c.In[1], nil); err != nil {
				return nil, err
			}
			return one(fromFloats(c.In[1].DType, v, shape...)), nil
		},
		Cases: []ops.Case{{Name: "last axis", In: []*tensor.Tensor{x, scale}},
			{Name: "units", In: []*tensor.Tensor{tensor.From([]float32{-3, 3}, 1, 2), tensor.From([]float32{2, 1}, 2)}, Want: one(tensor.From([]float32{-1.999999, 1}, 1, 2))}},
	})...)
}

// inferTrailingNorm types output 0 as X's shape with the element type of input like.
func inferTrailingNorm(c *ops.Infer, like int) error {
	for i := range c.Node.In {
		if err := want(c, i, floatTypes); err != nil {
			return err
		}
	}
	t := c.Type(0)
	if t.Ranked() {
		if _, ok := axisOf(c.Node.Attrs.Int("axis", -1), t.Rank(), t.Rank()); !ok {
			return c.Errorf("axis %d for X %s, want an axis from %d to %d", c.Node.Attrs.Int("axis", -1), t, -t.Rank(), t.Rank()-1)
		}
		for i := 1; i < len(c.Node.In); i++ {
			if s := c.Type(i); s.Ranked() {
				if _, err := broadcastShapes(t.Shape, s.Shape); err != nil || s.Rank() > t.Rank() {
					return c.Errorf("%s %s does not broadcast to X %s", inputName(c, i), s, t)
				}
			}
		}
	}
	d := t.DType
	if like > 0 && c.Type(like).DType != tensor.Undefined {
		d = c.Type(like).DType
	}
	c.Out(0, withDType(t, d))
	return nil
}

func stashType(a graph.Attrs) tensor.DType { return tensor.DType(a.Int("stash_type", 1)) }

// trailing returns input 0, a copy of its elements, its shape and the first normalised axis.
func trailing(c *ops.Call) (x *tensor.Tensor, v []float64, shape []int, first int, err error) {
	x = c.In[0]
	first, ok := axisOf(c.Node.Attrs.Int("axis", -1), x.Rank(), x.Rank())
	if !ok {
		return nil, nil, nil, 0, errAxis(c.Node.Attrs.Int("axis", -1), x)
	}
	return x, append([]float64{}, floatsOf(x)...), x.Shape, first, nil
}

// scaleShift computes v*scale + bias, both broadcast to v's shape; nil means none.
func scaleShift(v []float64, shape []int, scale, bias *tensor.Tensor) error {
	for i, t := range []*tensor.Tensor{scale, bias} {
		if t == nil {
			continue
		}
		if s, err := broadcastSizes(shape, t.Shape); err != nil || product(s) != product(shape) || len(s) != len(shape) {
			return fmt.Errorf("%s does not broadcast to shape %v", t.TypeString(), shape)
		}
		w := floatsOf(t)
		walk(shape, [][]int{strides(shape), broadcastStrides(t.Shape, shape)}, func(off, step []int, n int) {
			for j := range n {
				if i == 0 {
					v[off[0]+j*step[0]] *= w[off[1]+j*step[1]]
				} else {
					v[off[0]+j*step[0]] += w[off[1]+j*step[1]]
				}
			}
		})
	}
	return nil
}

// standardize subtracts the mean of v and divides by sqrt(variance+epsilon).
func standardize(v []float64, epsilon float64) (mean, inv float64) {
	for _, y := range v {
		mean += y
	}
	mean /= float64(len(v))
	variance := 0.0
	for _, y := range v {
		variance += (y - mean) * (y - mean)
	}
	inv = 1 / math.Sqrt(variance/float64(len(v))+epsilon)
	for i := range v {
		v[i] = (v[i] - mean) * inv
	}
	return mean, inv
}

func evalLayerNorm(c *ops.Call) ([]*tensor.Tensor, error) {
	x, v, shape, first, err := trailing(c)
	if err != nil {
		return nil, err
	}
	epsilon := float64(c.Node.Attrs.Float("epsilon", 1e-5))
	outer, n := product(shape[:first]), product(shape[first:])
	means, invs := make([]float64, outer), make([]float64, outer)
	for o := range outer {
		means[o], invs[o] = standardize(v[o*n:(o+1)*n], epsilon)
	}
	if err := scaleShift(v, shape, c.In[1], c.Arg(2)); err != nil {
		return nil, err
	}
	statShape := append([]int{}, shape...)
	for a := first; a < len(shape); a++ {
		statShape[a] = 1
	}
	d := stashType(c.Node.Attrs)
	return []*tensor.Tensor{fromFloats(x.DType, v, shape...), fromFloats(d, means, statShape...), fromFloats(d, invs, statShape...)}, nil
}
