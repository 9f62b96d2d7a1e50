package mamba

import (
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// call is one node with its parameters told apart.
type call struct {
	f       *function
	b       *graph.Builder
	n       *graph.Node
	tensors map[string]*graph.Value
	scalars map[string]any // int64, bool, float64, [2]float64, string; nil: None
}

// bind gives every input and attribute to its parameter.
func (x *call) bind() error {
	x.tensors, x.scalars = map[string]*graph.Value{}, map[string]any{}
	order := x.order()
	if len(x.n.In) > len(order) {
		return fmt.Errorf("input %d fits no parameter of %s", len(order), x.f.signature())
	}
	for i, v := range x.n.In {
		p := order[i]
		if p.kind == tensorKind {
			if v == nil {
				continue
			}
			if scalarLike(v) {
				return fmt.Errorf("input %d (%s) is %s, want a tensor %s; inputs stand in the order of %s", i, p.name, v.Type, p.doc, x.f.signature())
			}
			x.tensors[p.name] = v
			continue
		}
		if v == nil {
			x.scalars[p.name] = nil
			continue
		}
		s, err := constant(p.kind, v)
		if err != nil {
			return fmt.Errorf("input %d (%s): %w", i, p.name, err)
		}
		x.scalars[p.name] = s
	}
	for _, name := range x.n.Attrs.Names() {
		i := slices.IndexFunc(x.f.params, func(p param) bool { return p.name == name })
		if i < 0 || x.f.params[i].kind == tensorKind {
			return fmt.Errorf("attribute %q is no parameter of %s", name, x.f.signature())
		}
		if x.scalars[name] != nil {
			return fmt.Errorf("%s is given twice, as an input and as an attribute", name)
		}
		s, err := attribute(x.f.params[i].kind, x.n.Attrs[name])
		if err != nil {
			return fmt.Errorf("attribute %q: %w", name, err)
		}
		x.scalars[name] = s
	}
	for _, p := range x.f.params {
		if p.need && x.tensors[p.name] == nil && x.scalars[p.name] == nil {
			return fmt.Errorf("%s is missing; want %s", p.name, p.doc)
		}
	}
	return nil
}

// order is the parameter that each input stands for: the function's own order
// when constants stand where it has them, else tensors first and the rest behind.
func (x *call) order() []param {
	inPlace := false
	for i, v := range x.n.In {
		if i >= len(x.f.params) {
			break
		}
		p := x.f.params[i]
		if p.kind == tensorKind {
			if v != nil && scalarLike(v) {
				inPlace = false
				break
			}
			continue
		}
		if v == nil {
			if p.need {
				inPlace = false
				break
			}
			continue
		}
		if inPlace = fits(p.kind, v); !inPlace {
			break
		}
	}
	if inPlace {
		return x.f.params
	}
	var first, rest []param
	for _, p := range x.f.params {
		if p.kind == tensorKind {
			first = append(first, p)
		} else {
			rest = append(rest, p)
		}
	}
	return append(first, rest...)
}

// scalarLike tells a number or string from the tensors of these functions, all
// of which have axes.
func scalarLike(v *graph.Value) bool {
	return v.Type.DType == tensor.String || v.Type.Ranked() && v.Type.Rank() == 0
}

// fits reports whether a value may be a parameter of a kind, its contents aside.
func fits(k kind, v *graph.Value) bool {
	t := v.Type
	if !t.Ranked() {
		return false
	}
	single := t.Rank() == 0 || t.Rank() == 1 && t.Shape[0].Is(1)
	switch k {
	case intKind:
		return single && t.DType.IsInt()
	case boolKind:
		return single && (t.DType == tensor.Bool || t.DType.IsInt())
	case floatKind:
		return single && (t.DType.IsFloat() || t.DType.IsInt())
	case pairKind:
		return t.Rank() == 1 && t.Shape[0].Is(2) && t.DType.IsFloat()
	case stringKind:
		return single && t.DType == tensor.String
	}
	return false
}

// constant reads a parameter from a constant input.
func constant(k kind, v *graph.Value) (any, error) {
	if !fits(k, v) {
		return nil, fmt.Errorf("is %s, want %s", v.Type, k)
	}
	t := v.Const
	if t == nil {
		dims, ok := ops.KnownOf(v)
		if !ok || len(dims) != 1 {
			return nil, fmt.Errorf("is computed by the model; want a constant, for what it says decides what is computed")
		}
		n, ok := dims[0].Const()
		if !ok {
			return nil, fmt.Errorf("depends on a length (%s); want a constant", dims[0])
		}
		t = tensor.Scalar(n)
	}
	switch k {
	case intKind:
		return t.IntAt(0), nil
	case boolKind:
		return t.IntAt(0) != 0, nil
	case floatKind:
		return t.At(0), nil
	case pairKind:
		return [2]float64{t.At(0), t.At(1)}, nil
	default:
		return t.Strings[0], nil
	}
}

// attribute reads a parameter from an attribute.
func attribute(k kind, a any) (any, error) {
	switch a := a.(type) {
	case int64:
		switch k {
		case intKind:
			return a, nil
		case boolKind:
			return a != 0, nil
		case floatKind:
			return float64(a), nil
		}
	case float32:
		if k == floatKind {
			return float64(a), nil
		}
	case []float32:
		if k == pairKind && len(a) == 2 {
			return [2]float64{float64(a[0]), float64(a[1])}, nil
		}
		return nil, fmt.Errorf("holds %d numbers, want %s", len(a), k)
	case string:
		if k == stringKind {
			return a, nil
		}
	case *tensor.Tensor:
		if a != nil {
			return constant(k, &graph.Value{Type: graph.TypeOf(a), Const: a})
		}
	}
	return nil, fmt.Errorf("is %T, want %s", a, k)
}

// signature is how the function is called, for messages.
func (f *function) signature() string {
	s := f.name + "("
	for i, p := range f.params {
		if i > 0 {
			s += ", "
		}
		s += p.name
		if !p.need {
			s += "?"
		}
	}
	return s + ")"
}

func (x *call) tensor(name string) *graph.Value { return x.tensors[name] }

func (x *call) int(name string, def int64) int64 {
	if v, ok := x.scalars[name].(int64); ok {
		return v
	}
	return def
}

func (x *call) flag(name string, def bool) bool {
	if v, ok := x.scalars[name].(bool); ok {
		return v
	}
	return def
}

func (x *call) float(name string, def float64) float64 {
	if v, ok := x.scalars[name].(float64); ok {
		return v
	}
	return def
}

// limits is dt_limit, by default from 0 on.
func (x *call) limits() (lo, hi float64) {
	v, ok := x.scalars["dt_limit"].([2]float64)
	if !ok {
		return 0, math.Inf(1)
	}
	if !(v[0] <= v[1]) {
		x.fail("dt_limit is (%g, %g): the lower limit must come first", v[0], v[1])
	}
	return v[0], v[1]
}

// activation is ssm.CausalConv's name for the activation. An omitted parameter is
// the function's default; None, given as an empty input, is none.
func (x *call) activation(def string) string {
	v, given := x.scalars["activation"]
	if !given {
		return def
	}
	switch v {
	case nil, "", "none", "None", "identity":
		return "none"
	case "silu", "swish":
		return "silu"
	}
	x.fail("activation is %q, want silu, swish or none", v)
	return ""
}

// refuse ends the call when parameters are given that ssdc has no form for.
func (x *call) refuse(why string, names ...string) {
	for _, name := range names {
		given := x.tensors[name] != nil
		if s := x.scalars[name]; s != nil && s != false {
			given = true
		}
		if given {
			x.fail("%s is not supported: %s", name, why)
		}
	}
}
