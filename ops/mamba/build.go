package mamba

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// abort ends a decomposition at its first error, so that what the methods below
// return is always there.
type abort struct{ error }

func (x *call) fail(format string, a ...any) { panic(abort{fmt.Errorf(format, a...)}) }

func (x *call) node(domain, name string, a graph.Attrs, outs int, in ...*graph.Value) []*graph.Value {
	n := x.b.Node(domain, name, a, outs, in...)
	if x.b.Err != nil {
		panic(abort{x.b.Err})
	}
	return n.Out
}

// op is an ONNX operator with one output.
func (x *call) op(name string, a graph.Attrs, in ...*graph.Value) *graph.Value {
	return x.node("", name, a, 1, in...)[0]
}

func (x *call) transpose(v *graph.Value, perm ...int64) *graph.Value {
	if v == nil {
		return nil
	}
	return x.op("Transpose", graph.Attrs{"perm": perm}, v)
}

func (x *call) unsqueeze(v *graph.Value, axes ...int64) *graph.Value {
	if v == nil {
		return nil
	}
	return x.op("Unsqueeze", nil, v, x.b.Ints(axes...))
}

func (x *call) squeeze(v *graph.Value, axes ...int64) *graph.Value {
	if v == nil {
		return nil
	}
	return x.op("Squeeze", nil, v, x.b.Ints(axes...))
}

// reshape takes ONNX's shorthands: 0 keeps a length, -1 is what remains.
func (x *call) reshape(v *graph.Value, shape ...int64) *graph.Value {
	if v == nil {
		return nil
	}
	return x.op("Reshape", nil, v, x.b.Ints(shape...))
}

// split cuts v along an axis into parts of the given lengths.
func (x *call) split(v *graph.Value, axis int64, sizes ...int64) []*graph.Value {
	return x.node("", "Split", graph.Attrs{"axis": axis}, len(sizes), v, x.b.Ints(sizes...))
}

// shares cuts v along an axis into n equal parts.
func (x *call) shares(v *graph.Value, axis int64, n int64) []*graph.Value {
	if v == nil {
		return make([]*graph.Value, n)
	}
	if n == 1 {
		return []*graph.Value{v}
	}
	return x.node("", "Split", graph.Attrs{"axis": axis, "num_outputs": n}, int(n), v)
}

func (x *call) concat(axis int64, v []*graph.Value) *graph.Value {
	if len(v) == 1 {
		return v[0]
	}
	return x.op("Concat", graph.Attrs{"axis": axis}, v...)
}

func (x *call) cast(v *graph.Value, d tensor.DType) *graph.Value {
	if v == nil || v.Type.DType == d {
		return v
	}
	return x.op("Cast", graph.Attrs{"to": int64(d)}, v)
}

func (x *call) silu(v *graph.Value) *graph.Value {
	return x.op("Mul", nil, v, x.op("Sigmoid", nil, v))
}

// zeros is a tensor of zeros whose lengths are axes of other values.
func (x *call) zeros(d tensor.DType, shape []graph.Dim, from ...*graph.Value) *graph.Value {
	zero := x.b.Const(tensor.New(d))
	to := ssm.ShapeOf(x.b, shape, from...)
	if x.b.Err != nil {
		panic(abort{x.b.Err})
	}
	return x.op("Expand", nil, zero, to)
}

// shape gives the axes of a tensor, nil when it is omitted; it must have one of the
// given ranks.
func (x *call) shape(name string, ranks ...int) []graph.Dim {
	v := x.tensor(name)
	if v == nil {
		return nil
	}
	if !v.Type.Ranked() {
		x.fail("the rank of %s is not known; want %s", name, x.doc(name))
	}
	for _, r := range ranks {
		if v.Type.Rank() == r {
			return v.Type.Shape
		}
	}
	x.fail("%s is %s, want %s", name, v.Type, x.doc(name))
	return nil
}

func (x *call) doc(name string) string {
	for _, p := range x.f.params {
		if p.name == name {
			return p.doc
		}
	}
	return ""
}

// number is a length that decides what is computed.
func (x *call) number(d graph.Dim, what string) int64 {
	n, ok := d.Const()
	if !ok {
		x.fail("%s is %s, want a number", what, d)
	}
	return n
}

// positive is an integer parameter that must be above 0; 0 when it is omitted.
func (x *call) positive(name string) int64 {
	n := x.int(name, 0)
	if n <= 0 && x.scalars[name] != nil {
		x.fail("%s is %d, want 1 or more", name, n)
	}
	return n
}

// state is the initial state of a scan of activations of type d. States are kept
// in float32 where activations have 16 bits, as the kernels do; the operators of
// package ssm give a final state the type of the initial one.
func (x *call) state(h0 *graph.Value, d tensor.DType, final bool, shape []graph.Dim, from ...*graph.Value) *graph.Value {
	half := d == tensor.Float16 || d == tensor.BFloat16
	switch {
	case !half || !final:
		return h0
	case h0 != nil:
		return x.cast(h0, tensor.Float32)
	}
	return x.zeros(tensor.Float32, shape, from...)
}

func (x *call) wants(i int) bool { return x.n.Output(i) != nil }
