// Package sig helps rows to state their signatures: parameter lists, attributes,
// and checks of the element types and ranks of a node's inputs.
package sig

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Types is a set of element types. Rows accept the widest set that any
// version of the operator allows, and float64 wherever other floats go.
type Types uint32

// SetOf makes a set.
func SetOf(ds ...tensor.DType) Types {
	var s Types
	for _, d := range ds {
		s |= 1 << d
	}
	return s
}

// The sets that rows name.
var (
	Floats    = SetOf(tensor.Float16, tensor.BFloat16, tensor.Float32, tensor.Float64)
	Float8    = SetOf(tensor.Float8E4M3, tensor.Float8E4M3UZ, tensor.Float8E5M2, tensor.Float8E5M2UZ, tensor.Float8E8M0, tensor.Float4E2M1)
	Signed    = SetOf(tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64)
	Unsigned  = SetOf(tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64)
	Packed    = SetOf(tensor.Int4, tensor.Uint4, tensor.Int2, tensor.Uint2)
	Ints      = Signed | Unsigned
	Numbers   = Floats | Ints
	Bool      = SetOf(tensor.Bool)
	Strings   = SetOf(tensor.String)
	Complex   = SetOf(tensor.Complex64, tensor.Complex128)
	BytesOnly = SetOf(tensor.Int8, tensor.Uint8)
	Index     = SetOf(tensor.Int32, tensor.Int64)
	Castable  = Numbers | Bool | Strings | Float8 | Packed
)

// Has reports whether d is in the set.
func (s Types) Has(d tensor.DType) bool { return d < 32 && s&(1<<d) != 0 }

// String lists the names.
func (s Types) String() string {
	out := ""
	for d := tensor.DType(1); d < 32; d++ {
		if s.Has(d) {
			if out != "" {
				out += ", "
			}
			out += d.String()
		}
	}
	return out
}

// Want checks the element type of input i; an omitted input and a type that
// is not known yet pass.
func Want(c *ops.Infer, i int, s Types) error {
	t := c.Type(i)
	if t.DType == tensor.Undefined || s.Has(t.DType) {
		return nil
	}
	return c.Errorf("input %s has type %s, want one of %v", InputName(c, i), t, s)
}

// Same checks that the given inputs (omitted ones aside) have one element type of the set.
func Same(c *ops.Infer, s Types, ins ...int) error {
	first := -1
	for _, i := range ins {
		if err := Want(c, i, s); err != nil {
			return err
		}
		d := c.Type(i).DType
		if d == tensor.Undefined {
			continue
		}
		if first >= 0 && c.Type(first).DType != d {
			return c.Errorf("inputs %s and %s have types %s and %s, want the same element type", InputName(c, first), InputName(c, i), c.Type(first), c.Type(i))
		}
		first = i
	}
	return nil
}

// RankIs checks that input i has one of the given ranks, when its rank is known.
func RankIs(c *ops.Infer, i int, ranks ...int) error {
	t := c.Type(i)
	if !t.Ranked() {
		return nil
	}
	for _, r := range ranks {
		if t.Rank() == r {
			return nil
		}
	}
	return c.Errorf("input %s has type %s, want rank %v", InputName(c, i), t, ranks)
}

// RankAtLeast checks a lower bound on the rank of input i.
func RankAtLeast(c *ops.Infer, i, r int) error {
	if t := c.Type(i); t.Ranked() && t.Rank() < r {
		return c.Errorf("input %s has type %s, want rank %d or more", InputName(c, i), t, r)
	}
	return nil
}

// InputName is what the row calls input i, for messages.
func InputName(c *ops.Infer, i int) string {
	row, err := c.Table.Of(c.Node)
	if err != nil || len(row.In) == 0 {
		return graph.D(int64(i)).String()
	}
	if i >= len(row.In) {
		i = len(row.In) - 1
	}
	return row.In[i].Name
}

// Params makes a parameter list from names; a trailing '?' marks an optional
// one and "..." a variadic one.
func Params(names ...string) []ops.Param {
	out := make([]ops.Param, len(names))
	for i, n := range names {
		switch {
		case len(n) > 3 && n[len(n)-3:] == "...":
			out[i] = ops.Param{Name: n[:len(n)-3], Variadic: true}
		case n[len(n)-1] == '?':
			out[i] = ops.Param{Name: n[:len(n)-1], Optional: true}
		default:
			out[i] = ops.Param{Name: n}
		}
	}
	return out
}

// Attr describes an attribute with a default; nil makes it required.
func Attr(name string, def any) ops.Attr { return ops.Attr{Name: name, Default: def} }

// AttrOpt describes an attribute that may be absent.
func AttrOpt(name string) ops.Attr { return ops.Attr{Name: name, Optional: true} }

// NoAttrs is the attribute list of operators that have none (nil would mean "not checked").
var NoAttrs = []ops.Attr{}

// AxisOf turns an axis attribute into 0..rank-1. limit is one past the largest
// allowed axis: the rank, or rank+1 for operators that split a shape in two.
func AxisOf(axis int64, rank, limit int) (int, bool) {
	if axis < 0 {
		axis += int64(rank)
	}
	return int(axis), axis >= 0 && axis < int64(limit)
}

// WithDType gives a type another element type.
func WithDType(t graph.Type, d tensor.DType) graph.Type { return graph.Type{DType: d, Shape: t.Shape} }

// Unranked is a type of which only the element type is known.
func Unranked(d tensor.DType) graph.Type { return graph.Type{DType: d} }
