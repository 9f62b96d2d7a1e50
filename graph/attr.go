package graph

import (
	"sort"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Attrs holds a node's attributes. A value is one of int64, float32, string,
// *tensor.Tensor, []int64, []float32, []string, Type, []*tensor.Tensor.
// Graph-valued attributes are the node's Bodies.
type Attrs map[string]any

// Names lists the attribute names in order.
func (a Attrs) Names() []string {
	out := make([]string, 0, len(a))
	for k := range a {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// Int returns the integer attribute name, or def when it is absent or of another kind.
func (a Attrs) Int(name string, def int64) int64 {
	if v, ok := a[name].(int64); ok {
		return v
	}
	return def
}

// Float returns the float attribute name, or def.
func (a Attrs) Float(name string, def float32) float32 {
	if v, ok := a[name].(float32); ok {
		return v
	}
	return def
}

// Str returns the string attribute name, or def.
func (a Attrs) Str(name, def string) string {
	if v, ok := a[name].(string); ok {
		return v
	}
	return def
}

// Ints returns the integer-list attribute name, or nil.
func (a Attrs) Ints(name string) []int64 { v, _ := a[name].([]int64); return v }

// Floats returns the float-list attribute name, or nil.
func (a Attrs) Floats(name string) []float32 { v, _ := a[name].([]float32); return v }

// Strings returns the string-list attribute name, or nil.
func (a Attrs) Strings(name string) []string { v, _ := a[name].([]string); return v }

// Tensor returns the tensor attribute name, or nil.
func (a Attrs) Tensor(name string) *tensor.Tensor { v, _ := a[name].(*tensor.Tensor); return v }

// Has reports whether the attribute is present.
func (a Attrs) Has(name string) bool { _, ok := a[name]; return ok }

// Clone copies the map; values are shared and must not be modified in place.
func (a Attrs) Clone() Attrs {
	c := make(Attrs, len(a))
	for k, v := range a {
		c[k] = v
	}
	return c
}
