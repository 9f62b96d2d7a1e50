package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// axisGroups splits the axes of a tensor into kept and reduced ones.
type axisGroups struct {
	shape []int // of the result
	kept  []int // offset of the first element of each group, in result order
	inner []int // offsets of a group's elements relative to its first
}

func groupAxes(shape []int, reduced []bool, keepdims bool) axisGroups {
	st := strides(shape)
	var g axisGroups
	var ks, kst, rs, rst []int
	g.shape = []int{}
	for a, n := range shape {
		if reduced[a] {
			rs, rst = append(rs, n), append(rst, st[a])
			if keepdims {
				g.shape = append(g.shape, 1)
			}
			continue
		}
		ks, kst = append(ks, n), append(kst, st[a])
		g.shape = append(g.shape, n)
	}
	g.kept, g.inner = offsets(ks, kst), offsets(rs, rst)
	return g
}

// reduceGroups calls f with the elements of every group, for reading only. The
// slice is reused.
func reduceGroups[T any](g axisGroups, x []T, f func(i int, v []T)) {
	if n := len(g.inner); n > 0 && g.inner[n-1] == n-1 { // neighbours in memory
		for i, base := range g.kept {
			f(i, x[base:base+n])
		}
		return
	}
	buf := make([]T, len(g.inner))
	for i, base := range g.kept {
		for j, o := range g.inner {
			buf[j] = x[base+o]
		}
		f(i, buf)
	}
}

// lanes splits a shape at one axis: outer * n * inner elements.
func lanes(shape []int, axis int) (outer, n, inner int) {
	return product(shape[:axis]), shape[axis], product(shape[axis+1:])
}

func errAxes(axes []int64, x *tensor.Tensor) error {
	return fmt.Errorf("axes %v for data %s, want axes from %d to %d", axes, x.TypeString(), -x.Rank(), x.Rank()-1)
}

func errAxis(axis int64, x *tensor.Tensor) error {
	return fmt.Errorf("axis %d for input %s, want an axis from %d to %d", axis, x.TypeString(), -x.Rank(), x.Rank()-1)
}
