package cuda

import (
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Mem is where a value lives in one bound program: strided device memory. DType is how it is stored, which may be
// narrower than the value's type (see storage). Addresses are known once the program is placed.
type Mem struct {
	DType   tensor.DType
	Shape   []int
	Strides []int // in elements; 0 repeats, negative goes backwards

	root *root
	off  int // bytes from the start of the root
}

// rootKind says who owns a piece of memory.
type rootKind uint8

const (
	inArena rootKind = iota // the session's arena, at an offset
	inState                 // the session's state
	inConst                 // the executable's, read-only
)

// root is one piece of memory, shared by the Mems that view it.
type root struct {
	kind        rootKind
	index       int // of the state pair
	size        int // bytes
	off         int // in the arena
	first, last int // steps that use it
	base        driver.Ptr
}

// denseMem makes a Mem without memory.
func denseMem(d tensor.DType, shape []int) *Mem {
	return &Mem{DType: d, Shape: shape, Strides: denseStrides(shape)}
}

func denseStrides(shape []int) []int {
	s, n := make([]int, len(shape)), 1
	for a := len(shape) - 1; a >= 0; a-- {
		s[a] = n
		n *= shape[a]
	}
	return s
}

func product(s []int) int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// Len is the number of elements.
func (m *Mem) Len() int { return product(m.Shape) }

// Bytes is their size when they lie densely.
func (m *Mem) Bytes() int { return m.Len() * m.DType.Size() }

// Dense reports whether the elements follow one another without gaps.
func (m *Mem) Dense() bool { return m.denseFrom(0) }

// denseFrom reports whether the axes from a on are dense among themselves.
func (m *Mem) denseFrom(a int) bool {
	n := 1
	for i := len(m.Shape) - 1; i >= a; i-- {
		if m.Shape[i] != 1 && m.Strides[i] != n {
			return false
		}
		n *= m.Shape[i]
	}
	return true
}

// whole reports whether m is all of its root.
func (m *Mem) whole() bool { return m.off == 0 && m.Dense() && m.Bytes() == m.root.size }

// addr is the address, once the program is placed.
func (m *Mem) addr() driver.Ptr { return driver.Ptr(int64(m.root.base) + int64(m.off)) }

// aligned reports whether the first element lies on a multiple of n bytes.
func (m *Mem) aligned(n int) bool { return m.off%n == 0 }

// view is the same memory seen otherwise; off counts elements.
func (m *Mem) view(shape, strides []int, off int) *Mem {
	return &Mem{DType: m.DType, Shape: shape, Strides: strides, root: m.root, off: m.off + off*m.DType.Size()}
}

// reshaped is m under another shape without a copy, or nil when its gaps do not allow that.
func (m *Mem) reshaped(shape []int) *Mem {
	if m.Dense() {
		return m.view(shape, denseStrides(shape), 0)
	}
	if product(shape) == 0 {
		return m.view(shape, denseStrides(shape), 0)
	}
	strides := make([]int, len(shape))
	// Groups of axes with equal products on both sides; a group of m must step evenly.
	i, j := 0, 0
	for i < len(m.Shape) || j < len(shape) {
		i0, j0 := i, j
		have, want := 1, 1
		if i < len(m.Shape) {
			have = m.Shape[i]
			i++
		}
		if j < len(shape) {
			want = shape[j]
			j++
		}
		for have != want {
			switch {
			case have < want && i < len(m.Shape):
				have *= m.Shape[i]
				i++
			case want < have && j < len(shape):
				want *= shape[j]
				j++
			default:
				return nil
			}
		}
		// Length 1 steps anyhow.
		step, n, set := 0, 1, false
		for a := i - 1; a >= i0; a-- {
			if m.Shape[a] == 1 {
				continue
			}
			if !set {
				step, set = m.Strides[a], true
			} else if m.Strides[a] != step*n {
				return nil
			}
			n *= m.Shape[a]
		}
		n = 1
		for a := j - 1; a >= j0; a-- {
			strides[a] = step * n
			n *= shape[a]
		}
	}
	return m.view(shape, strides, 0)
}

// matrix sees m as rows of its last axis, ld elements apart.
func (m *Mem) matrix() (rows, cols, ld int, ok bool) {
	if len(m.Shape) == 0 {
		return 0, 0, 0, false
	}
	cols = m.Shape[len(m.Shape)-1]
	if cols == 0 || m.Len() == 0 {
		return 0, 0, 0, false
	}
	v := m.reshaped([]int{m.Len() / cols, cols})
	if v == nil || cols > 1 && v.Strides[1] != 1 {
		return 0, 0, 0, false
	}
	rows, ld = v.Shape[0], v.Strides[0]
	if rows == 1 {
		ld = cols
	}
	return rows, cols, ld, true
}
