package graph

import (
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Type is the type of a value. Shape nil means that not even the rank is
// known; a scalar has the empty, non-nil shape. For tensor.Sequence and
// tensor.Optional, Elem is the type of the members and Shape is nil. For
// tensor.Map, Key is the type of the keys and Elem, a scalar, that of the values.
type Type struct {
	DType tensor.DType
	Shape []Dim
	Elem  *Type
	Key   tensor.DType
}

// T is shorthand for a tensor type.
func T(d tensor.DType, shape ...Dim) Type {
	if shape == nil {
		shape = []Dim{}
	}
	return Type{DType: d, Shape: shape}
}

// MapOf is the type of maps from keys to single values.
func MapOf(key, value tensor.DType) Type {
	elem := T(value)
	return Type{DType: tensor.Map, Key: key, Elem: &elem}
}

// TypeOf is the type of a host tensor.
func TypeOf(t *tensor.Tensor) Type {
	if t.DType == tensor.Map {
		keys, values := t.Entries()
		return MapOf(keys.DType, values.DType)
	}
	if t.DType.IsContainer() {
		ty := Type{DType: t.DType, Elem: &Type{}}
		if len(t.Elems) > 0 {
			*ty.Elem = TypeOf(t.Elems[0])
		}
		return ty
	}
	s := make([]Dim, len(t.Shape))
	for i, n := range t.Shape {
		s[i] = D(int64(n))
	}
	return Type{DType: t.DType, Shape: s}
}

// Ranked reports whether the rank is known.
func (t Type) Ranked() bool { return t.Shape != nil }

// Rank is the number of axes; 0 when unknown too, so check Ranked.
func (t Type) Rank() int { return len(t.Shape) }

// Static returns the lengths when every axis is a constant.
func (t Type) Static() ([]int, bool) {
	if t.Shape == nil {
		return nil, false
	}
	out := make([]int, len(t.Shape))
	for i, d := range t.Shape {
		n, ok := d.Const()
		if !ok {
			return nil, false
		}
		out[i] = int(n)
	}
	return out, true
}

// Len is the number of elements as a dimension; ok is false for an unknown rank.
func (t Type) Len() (n Dim, ok bool) {
	n = D(1)
	for _, d := range t.Shape {
		n = n.Mul(d)
	}
	return n, t.Shape != nil
}

// Equal compares types structurally.
func (t Type) Equal(o Type) bool {
	if t.DType != o.DType || t.Key != o.Key || (t.Shape == nil) != (o.Shape == nil) || len(t.Shape) != len(o.Shape) || (t.Elem == nil) != (o.Elem == nil) {
		return false
	}
	for i := range t.Shape {
		if t.Shape[i] != o.Shape[i] {
			return false
		}
	}
	return t.Elem == nil || t.Elem.Equal(*o.Elem)
}

// String prints float[B,L,64]; float[] is a scalar and float a tensor of unknown rank.
func (t Type) String() string {
	if t.DType == tensor.Map && t.Elem != nil {
		return t.DType.String() + "(" + t.Key.String() + "," + t.Elem.String() + ")"
	}
	if t.Elem != nil {
		return t.DType.String() + "(" + t.Elem.String() + ")"
	}
	if t.Shape == nil {
		return t.DType.String()
	}
	var b strings.Builder
	b.WriteString(t.DType.String())
	b.WriteByte('[')
	for i, d := range t.Shape {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(d.String())
	}
	b.WriteByte(']')
	return b.String()
}

// Conforms checks that a host tensor may be a value of type t, as far as element
// types tell, through all members of containers: sequences need not be of one shape.
func (t Type) Conforms(x *tensor.Tensor) error {
	bad := func() error { return fmt.Errorf("expected %s, got %s", t, x.TypeString()) }
	switch {
	case x == nil:
		return fmt.Errorf("expected %s, got nothing", t)
	case t.DType == tensor.Undefined:
		return nil
	case x.DType != t.DType:
		return bad()
	case t.DType == tensor.Map:
		if len(x.Elems) != 2 {
			return bad()
		}
		keys, values := x.Entries()
		if _, err := tensor.NewMap(keys, values); err != nil {
			return err
		}
		if t.Elem != nil && (keys.DType != t.Key || values.DType != t.Elem.DType) {
			return bad()
		}
		return nil
	case t.DType.IsContainer():
		for i, e := range x.Elems {
			if t.Elem == nil {
				break
			}
			if err := t.Elem.Conforms(e); err != nil {
				return fmt.Errorf("member %d: %w", i, err)
			}
		}
		return nil
	}
	if n := x.Len(); n < 0 || t.DType != tensor.String && len(x.Data) != t.DType.Bytes(n) || t.DType == tensor.String && len(x.Strings) != n {
		return fmt.Errorf("the tensor says %s but holds %d bytes", x.TypeString(), len(x.Data))
	}
	return nil
}
