package tensor

import (
	"fmt"
	"slices"
	"sort"
)

// NewMap makes a map: keys are strings or integers, [n], all different; values
// holds one element for each, [n]. A map keeps its entries in ascending order of
// the keys, so that equal maps look alike.
func NewMap(keys, values *Tensor) (*Tensor, error) {
	switch {
	case keys == nil || values == nil || keys.DType != String && !keys.DType.IsInt() || values.DType.IsContainer() || values.DType == Undefined:
		return nil, fmt.Errorf("a map goes from strings or integers to single elements")
	case keys.Rank() != 1 || values.Rank() != 1 || keys.Shape[0] != values.Shape[0]:
		return nil, fmt.Errorf("a map of keys %s and values %s, want as many of both", keys.TypeString(), values.TypeString())
	}
	order := make([]int, keys.Shape[0])
	for i := range order {
		order[i] = i
	}
	less := func(i, j int) bool { return keys.IntAt(i) < keys.IntAt(j) }
	switch keys.DType {
	case String:
		less = func(i, j int) bool { return keys.Strings[i] < keys.Strings[j] }
	case Uint64:
		less = func(i, j int) bool { return uint64(keys.IntAt(i)) < uint64(keys.IntAt(j)) }
	}
	sort.SliceStable(order, func(a, b int) bool { return less(order[a], order[b]) })
	for a := 1; a < len(order); a++ {
		if i := order[a]; !less(order[a-1], i) {
			if keys.DType == String {
				return nil, fmt.Errorf("a map has the key %q twice", keys.Strings[i])
			}
			return nil, fmt.Errorf("a map has the key %d twice", keys.IntAt(i))
		}
	}
	return &Tensor{DType: Map, Elems: []*Tensor{keys.pick(order), values.pick(order)}}, nil
}

// Entries are the keys and the values of a map, both [n].
func (t *Tensor) Entries() (keys, values *Tensor) { return t.Elems[0], t.Elems[1] }

// pick gathers elements of a vector.
func (t *Tensor) pick(at []int) *Tensor {
	if slices.IsSorted(at) {
		return t
	}
	out := New(t.DType, len(at))
	size := t.DType.Size()
	for i, j := range at {
		switch {
		case t.DType == String:
			out.Strings[i] = t.Strings[j]
		case size > 0:
			copy(out.Data[i*size:(i+1)*size], t.Data[j*size:])
		default:
			out.setBits(i, t.bits(j))
		}
	}
	return out
}
