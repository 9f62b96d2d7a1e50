package onnx

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// dtypes is a set of element types. Rows accept the widest set that any
// version of the operator allows, and float64 wherever other floats go.
type dtypes uint32

func setOf(ds ...tensor.DType) dtypes {
	var s dtypes
	for _, d := range ds {
		s |= 1 << d
	}
	return s
}

var (
	floatTypes    = setOf(tensor.Float16, tensor.BFloat16, tensor.Float32, tensor.Float64)
	float8Types   = setOf(tensor.Float8E4M3, tensor.Float8E4M3UZ, tensor.Float8E5M2, tensor.Float8E5M2UZ, tensor.Float8E8M0, tensor.Float4E2M1)
	signedTypes   = setOf(tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64)
	unsignedTypes = setOf(tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64)
	packedInts    = setOf(tensor.Int4, tensor.Uint4, tensor.Int2, tensor.Uint2)
	intTypes      = signedTypes | unsignedTypes
	numberTypes   = floatTypes | intTypes
	boolType      = setOf(tensor.Bool)
	stringType    = setOf(tensor.String)
	complexTypes  = setOf(tensor.Complex64, tensor.Complex128)
	byteTypes     = setOf(tensor.Int8, tensor.Uint8)
	indexTypes    = setOf(tensor.Int32, tensor.Int64)
	castTypes     = numberTypes | boolType | stringType | float8Types | packedInts
)

func (s dtypes) has(d tensor.DType) bool { return d < 32 && s&(1<<d) != 0 }

func (s dtypes) String() string {
	out := ""
	for d := tensor.DType(1); d < 32; d++ {
		if s.has(d) {
			if out != "" {
				out += ", "
			}
			out += d.String()
		}
	}
	return out
}

// want checks the element type of input i; an omitted input and a type that
// is not known yet pass.
func want(c *ops.Infer, i int, s dtypes) error {
	t := c.Type(i)
	if t.DType == tensor.Undefined || s.has(t.DType) {
		return nil
	}
	return c.Errorf("input %s has type %s, want one of %v", inputName(c, i), t, s)
}

// same checks that the given inputs (omitted ones aside) have one element type of the set.
func same(c *ops.Infer, s dtypes, ins ...int) error {
	first := -1
	for _, i := range ins {
		if err := want(c, i, s); err != nil {
			return err
		}
		d := c.Type(i).DType
		if d == tensor.Undefined {
			continue
		}
		if first >= 0 && c.Type(first).DType != d {
			return c.Errorf("inputs %s and %s have types %s and %s, want the same element type", inputName(c, first), inputName(c, i), c.Type(first), c.Type(i))
		}
		first = i
	}
	return nil
}

// rankIs checks that input i has one of the given ranks, when its rank is known.
func rankIs(c *ops.Infer, i int, ranks ...int) error {
	t := c.Type(i)
	if !t.Ranked() {
		return nil
	}
	for _, r := range ranks {
		if t.Rank() == r {
			return nil
		}
	}
	return c.Errorf("input %s has type %s, want rank %v", inputName(c, i), t, ranks)
}

// rankAtLeast checks a lower bound on the rank of input i.
func rankAtLeast(c *ops.Infer, i, r int) error {
	if t := c.Type(i); t.Ranked() && t.Rank() < r {
		return c.Errorf("input %s has type %s, want rank %d or more", inputName(c, i), t, r)
	}
	return nil
}

func inputName(c *ops.Infer, i int) string {
	row, err := c.Table.Of(c.Node)
	if err != nil || len(row.In) == 0 {
		return graph.D(int64(i)).String()
	}
	if i >= len(row.In) {
		i = len(row.In) - 1
	}
	return row.In[i].Name
}

// params makes a parameter list from names; a trailing '?' marks an optional
// one and "..." a variadic one.
func params(names ...string) []ops.Param {
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

// attr describes an attribute with a default; nil makes it required.
func attr(name string, def any) ops.Attr { return ops.Attr{Name: name, Default: def} }

// attrOpt describes an attribute that may be absent.
func attrOpt(name string) ops.Attr { return ops.Attr{Name: name, Optional: true} }

// noAttrs is the attribute list of operators that have none (nil would mean "not checked").
var noAttrs = []ops.Attr{}

// axisOf turns an axis attribute into 0..rank-1. limit is one past the largest
// allowed axis: the rank, or rank+1 for operators that split a shape in two.
func axisOf(axis int64, rank, limit int) (int, bool) {
	if axis < 0 {
		axis += int64(rank)
	}
	return int(axis), axis >= 0 && axis < int64(limit)
}

// withDType gives a type another element type.
func withDType(t graph.Type, d tensor.DType) graph.Type { return graph.Type{DType: d, Shape: t.Shape} }

// unranked is a type of which only the element type is known.
func unranked(d tensor.DType) graph.Type { return graph.Type{DType: d} }
