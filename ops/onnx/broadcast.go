package onnx

import (
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
)

// broadcastDim is the length of an axis on which operands have lengths a and b.
//
// Exporters guarantee that the lengths agree at run time (Eval checks), so
// inference only refuses two different constants. A constant other than 1 wins
// over a symbol. Two different symbols are equal or one of them is 1: the one
// that is known to be at least 2 wins, otherwise the larger.
func broadcastDim(a, b graph.Dim) (graph.Dim, bool) {
	_, ca := a.Const()
	_, cb := b.Const()
	switch {
	case a == b || b.Is(1):
		return a, true
	case a.Is(1):
		return b, true
	case ca && cb:
		return a, false
	case ca:
		return a, true
	case cb:
		return b, true
	case a.AtLeast(graph.D(2)):
		return a, true
	case b.AtLeast(graph.D(2)):
		return b, true
	}
	one := graph.D(1) // a length of 0 meets 0 or 1 and gives 0
	return a.Max(b).Mul(one.Min(a).Min(b)), true
}

// broadcastShapes is numpy's rule on symbolic shapes: align at the end, then
// broadcastDim on every axis.
func broadcastShapes(a, b []graph.Dim) ([]graph.Dim, error) {
	if len(b) > len(a) {
		a, b = b, a
	}
	out := append([]graph.Dim{}, a...)
	lead := len(a) - len(b)
	for i, d := range b {
		r, ok := broadcastDim(a[lead+i], d)
		if !ok {
			return nil, fmt.Errorf("cannot broadcast %v with %v: lengths %v and %v on axis %d from the end", a, b, a[lead+i], d, len(b)-i)
		}
		out[lead+i] = r
	}
	return out, nil
}

// broadcastTypes folds broadcastShapes over types; the shape is nil when a rank is unknown.
func broadcastTypes(ts ...graph.Type) ([]graph.Dim, error) {
	shape := []graph.Dim{}
	for _, t := range ts {
		if !t.Ranked() {
			return nil, nil
		}
		var err error
		if shape, err = broadcastShapes(shape, t.Shape); err != nil {
			return nil, err
		}
	}
	return shape, nil
}

// broadcastSizes is the same on numbers.
func broadcastSizes(shapes ...[]int) ([]int, error) {
	rank := 0
	for _, s := range shapes {
		rank = max(rank, len(s))
	}
	out := make([]int, rank)
	for i := range out {
		out[i] = 1
	}
	for _, s := range shapes {
		lead := rank - len(s)
		for i, n := range s {
			switch o := &out[lead+i]; {
			case n == *o || n == 1:
			case *o == 1:
				*o = n
			default:
				return nil, fmt.Errorf("cannot broadcast shapes %v", shapes)
			}
		}
	}
	return out, nil
}

// strides returns the row-major strides of a shape, in elements.
func strides(shape []int) []int {
	out := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		out[i] = n
		n *= shape[i]
	}
	return out
}

// broadcastStrides are the strides with which a tensor of shape in is read
// under the (broadcast) shape out: 0 on the axes that repeat.
func broadcastStrides(in, out []int) []int {
	st := strides(in)
	res := make([]int, len(out))
	lead := len(out) - len(in)
	for i, n := range in {
		if n != 1 {
			res[lead+i] = st[i]
		}
	}
	return res
}

// product is the number of elements, and the largest int where that is more.
func product(shape []int) int {
	n := 1
	for i, d := range shape {
		if d > 0 && n > math.MaxInt/d {
			if slices.Contains(shape[i:], 0) {
				return 0
			}
			return math.MaxInt // a broken model's lengths
		}
		n *= d
	}
	return n
}

// walk visits shape in row-major order, in runs along one axis: f receives,
// per operand, the offset of the run's first element; step[k] is operand k's
// stride within the run. Axes that every operand walks contiguously are
// merged, so that equal shapes make a single run.
func walk(shape []int, st [][]int, f func(off, step []int, n int)) {
	if product(shape) == 0 {
		return
	}
	shape, st = mergeAxes(shape, st)
	off := make([]int, len(st))
	step := make([]int, len(st))
	if len(shape) == 0 {
		f(off, step, 1)
		return
	}
	last := len(shape) - 1
	for k := range st {
		step[k] = st[k][last]
	}
	idx := make([]int, last)
	for {
		f(off, step, shape[last])
		i := last - 1
		for ; i >= 0; i-- {
			idx[i]++
			for k := range st {
				off[k] += st[k][i]
			}
			if idx[i] < shape[i] {
				break
			}
			for k := range st {
				off[k] -= shape[i] * st[k][i]
			}
			idx[i] = 0
		}
		if i < 0 {
			return
		}
	}
}

// mergeAxes drops axes of length 1 and joins neighbours that all operands walk as one.
func mergeAxes(shape []int, st [][]int) ([]int, [][]int) {
	var outShape []int
	out := make([][]int, len(st))
	for i, n := range shape {
		if n == 1 {
			continue
		}
		p := len(outShape) - 1
		join := p >= 0
		for k := range st {
			join = join && out[k][p] == st[k][i]*n
		}
		if join {
			outShape[p] *= n
			for k := range st {
				out[k][p] = st[k][i]
			}
			continue
		}
		outShape = append(outShape, n)
		for k := range st {
			out[k] = append(out[k], st[k][i])
		}
	}
	return outShape, out
}

// offsets lists, in row-major order, the element offsets of a sub-lattice.
func offsets(shape, st []int) []int {
	out := make([]int, 0, product(shape))
	walk(shape, [][]int{st}, func(off, step []int, n int) {
		for j := range n {
			out = append(out, off[0]+j*step[0])
		}
	})
	return out
}
