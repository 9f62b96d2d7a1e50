// Package microsoft defines the operators of the domain com.microsoft that
// exported models carry: what ONNX Runtime's optimiser and its model builder
// write in place of ONNX's own operators.
//
// Nearly every row is a composite: its Decompose says in standard operators what
// it computes, passes/expand writes that out, and so it runs on the kernels that
// those operators have. ONNX Runtime's results, recorded in
// testdata/ops/com.microsoft, hold the rows to what the peer computes.
package microsoft

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/sig"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// Domain is the operator domain of this package.
const Domain = "com.microsoft"

// Rows lists the operators of this package.
func Rows() []*ops.Op {
	return slices.Concat(normRows(), activationRows(), matmulRows(), attentionRows(), cacheRows(), recurrentRows(), quantRows(), qlinearRows(), moeRows(), weightRows(), visionRows(), deltaNetRows(), directRows(), miscRows(), []*ops.Op{gatedRMSNorm})
}

// Register adds the operators to t.
func Register(t *ops.Table) error { return t.Add("ops/microsoft", Rows()...) }

func id(name string) graph.OpID { return graph.OpID{Domain: Domain, Name: name, Since: 1} }

var own struct {
	once  sync.Once
	table ops.Table
}

// table holds what decompositions are made of.
func table() *ops.Table {
	own.once.Do(func() {
		for _, add := range []func(*ops.Table) error{onnx.Register, ssm.Register, Register} {
			if err := add(&own.table); err != nil {
				panic(err) // two rows of one name: a mistake in these packages
			}
		}
	})
	return &own.table
}

// composite makes a row that is its decomposition.
func composite(name, doc string, in, out []ops.Param, attrs []ops.Attr, f func(x *expansion) []*graph.Value, cases ...ops.Case) *ops.Op {
	r := &ops.Op{
		ID: id(name), Doc: doc, In: in, Out: out, Attrs: attrs, Cases: cases,
		Decompose: func(b *graph.Builder, n *graph.Node) (res []*graph.Value, err error) {
			defer func() {
				switch p := recover().(type) {
				case nil:
				case abort:
					res, err = nil, p.error
				default: // a rank that no model of this operator has
					res, err = nil, fmt.Errorf("inputs of type %s do not fit: %s", types(n), ops.Reason(p))
				}
			}()
			if res = f(&expansion{b: b, n: n}); res == nil {
				return nil, nil
			}
			for i := range n.Out {
				if n.Out[i] != nil && (i >= len(res) || res[i] == nil) {
					return nil, fmt.Errorf("output %d (%s) is not supported", i, out[min(i, len(out)-1)].Name)
				}
			}
			return res, nil
		},
	}
	return ops.ByDecomposition(table, r)[0]
}

// types lists the input types of a node for messages.
func types(n *graph.Node) string {
	var s []string
	for _, v := range n.In {
		if v == nil {
			s = append(s, "-")
		} else {
			s = append(s, v.Type.String())
		}
	}
	return strings.Join(s, ", ")
}

// expansion writes one node out. Its methods end it with an abort at the first
// error, so that what they return is always there.
type expansion struct {
	b *graph.Builder
	n *graph.Node
}

type abort struct{ error }

func (x *expansion) fail(format string, a ...any) { panic(abort{fmt.Errorf(format, a...)}) }

// in is input i, nil when it is omitted.
func (x *expansion) in(i int) *graph.Value { return x.n.Input(i) }

func (x *expansion) wants(i int) bool { return x.n.Output(i) != nil }

func (x *expansion) int(name string, def int64) int64 { return x.n.Attrs.Int(name, def) }

func (x *expansion) float(name string, def float32) float32 { return x.n.Attrs.Float(name, def) }

// op is an ONNX operator with one output.
func (x *expansion) op(name string, in ...*graph.Value) *graph.Value { return x.with(name, nil, in...) }

func (x *expansion) with(name string, a graph.Attrs, in ...*graph.Value) *graph.Value {
	return x.node(name, a, 1, in...)[0]
}

// node is an ONNX operator with several outputs.
func (x *expansion) node(name string, a graph.Attrs, outs int, in ...*graph.Value) []*graph.Value {
	return x.nodeOf("", name, a, outs, in...)
}

func (x *expansion) nodeOf(domain, name string, a graph.Attrs, outs int, in ...*graph.Value) []*graph.Value {
	n := x.b.Node(domain, name, a, outs, in...)
	if x.b.Err != nil {
		panic(abort{x.b.Err})
	}
	return slices.Clone(n.Out) // callers replace some
}

func (x *expansion) ints(v ...int64) *graph.Value { return x.b.Ints(v...) }

func (x *expansion) scalar(v int64) *graph.Value { return x.b.Const(tensor.Scalar(v)) }

// like is the number v in the element type of a value.
func (x *expansion) like(of *graph.Value, v float64) *graph.Value {
	d := of.Type.DType
	if !d.IsFloat() && !d.IsInt() {
		x.fail("a value of type %s where a number is expected", of.Type)
	}
	t := tensor.New(d)
	t.SetAt(0, v)
	return x.b.Const(t)
}

func (x *expansion) cast(v *graph.Value, d tensor.DType) *graph.Value {
	if v == nil || v.Type.DType == d {
		return v
	}
	return x.with("Cast", graph.Attrs{"to": int64(d)}, v)
}

// plus adds what is there.
func (x *expansion) plus(v *graph.Value, more ...*graph.Value) *graph.Value {
	for _, m := range more {
		if m != nil {
			v = x.op("Add", v, m)
		}
	}
	return v
}

func (x *expansion) reshape(v *graph.Value, shape ...int64) *graph.Value {
	return x.op("Reshape", v, x.ints(shape...))
}

func (x *expansion) transpose(v *graph.Value, perm ...int64) *graph.Value {
	return x.with("Transpose", graph.Attrs{"perm": perm}, v)
}

func (x *expansion) unsqueeze(v *graph.Value, axes ...int64) *graph.Value {
	return x.op("Unsqueeze", v, x.ints(axes...))
}

// slice is v[from:to] along an axis, both given as vectors of one element.
func (x *expansion) slice(v, from, to *graph.Value, axis int64) *graph.Value {
	return x.op("Slice", v, from, to, x.ints(axis))
}

// dim is a length of v as a vector of one element.
func (x *expansion) dim(v *graph.Value, axis int64) *graph.Value {
	return x.with("Shape", graph.Attrs{"start": axis, "end": axis + 1}, v)
}

// upTo is 0, 1, ... n-1 for a vector n of one element.
func (x *expansion) upTo(n *graph.Value) *graph.Value {
	return x.op("Range", x.scalar(0), x.op("Squeeze", n), x.scalar(1))
}

// rank is the rank of input i, which must be known.
func (x *expansion) rank(i int) int {
	v := x.in(i)
	if v == nil || !v.Type.Ranked() {
		x.fail("the rank of input %d is not known", i)
	}
	return v.Type.Rank()
}

// refuse reports inputs that no recorded model needed.
func (x *expansion) refuse(inputs ...int) {
	for _, i := range inputs {
		if x.in(i) != nil {
			x.fail("input %d is not supported", i)
		}
	}
}

// refuseAttrs reports attributes that are set to something else than def.
func (x *expansion) refuseAttrs(def int64, names ...string) {
	for _, name := range names {
		if v := x.int(name, def); v != def {
			x.fail("attribute %s=%d is not supported", name, v)
		}
	}
}

func one(v *graph.Value) []*graph.Value { return []*graph.Value{v} }

var (
	params  = sig.Params
	attr    = sig.Attr
	attrOpt = sig.AttrOpt
)

// wave fills a tensor with numbers in about (-1, 1), for cases.
func wave(seed int, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, shape...)
	for i := range t.Len() {
		t.SetAt(i, float64((i*7+seed*3)%11-5)/6)
	}
	return t
}
