// Package mamba knows the functions of state-spaces/mamba and causal-conv1d by
// name. Their kernels are Triton and CUDA code that no exporter can look into, so
// an exported model has one opaque node per call, in whatever domain its author
// registered the function in. The rows carry the trait AnyDomain: an importer
// takes them for a node of that name when no table knows its domain.
//
// Inputs stand in the order of the function's parameters. What is no tensor
// (chunk_size, dt_softplus, activation) comes as an attribute of that name, as a
// constant input at its place in the parameter list (what PyTorch's TorchScript
// exporter writes for a registered operator), or as a constant input behind all
// tensors. A function that updates its state in place returns the new state as one
// more output.
//
// Every row is a composite: its Decompose says in the operators of package ssm
// what it computes. Signatures are those of mamba_ssm 2 and causal_conv1d 1.5.
package mamba

import (
	"fmt"
	"sync"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// The domains of the rows: the Python packages that the functions come from.
const (
	Domain     = "mamba_ssm"
	ConvDomain = "causal_conv1d"
)

// Rows lists the operators of this package.
func Rows() []*ops.Op {
	var rows []*ops.Op
	for _, f := range []*function{chunkScan, splitConvScan, selectiveScan, selectiveScanFn, stateUpdate, causalConv, convUpdate} {
		rows = append(rows, f.row())
	}
	return rows
}

// Register adds the operators to t.
func Register(t *ops.Table) error { return t.Add("ops/mamba", Rows()...) }

var own struct {
	once  sync.Once
	table ops.Table
}

// table holds what decompositions are made of.
func table() *ops.Table {
	own.once.Do(func() {
		for _, add := range []func(*ops.Table) error{onnx.Register, ssm.Register} {
			if err := add(&own.table); err != nil {
				panic(err) // two rows of one name: a mistake in these packages
			}
		}
	})
	return &own.table
}

// kind is what a parameter holds.
type kind int

const (
	tensorKind kind = iota
	intKind
	boolKind
	floatKind
	pairKind // two floats
	stringKind
)

func (k kind) String() string {
	return [...]string{"a tensor", "an integer", "a bool", "a number", "two numbers", "a string"}[k]
}

// param is one parameter of a function.
type param struct {
	name string
	doc  string // shape of a tensor, meaning of anything else
	kind kind
	need bool
}

// function is a Python function whose calls are nodes.
type function struct {
	domain, name, doc string
	params            []param
	out               []ops.Param
	expand            func(*call) []*graph.Value
	cases             []ops.Case
}

func (f *function) row() *ops.Op {
	r := &ops.Op{
		ID: graph.OpID{Domain: f.domain, Name: f.name, Since: 1}, Doc: f.doc, Out: f.out, Traits: ops.AnyDomain, Cases: f.cases,
		Attrs: []ops.Attr{}, Decompose: f.decompose,
	}
	for _, p := range f.params {
		in := ops.Param{Name: p.name, Doc: p.doc, Optional: !p.need || p.kind != tensorKind}
		if p.kind != tensorKind {
			in.Doc += " (constant, or an attribute)"
			r.Attrs = append(r.Attrs, ops.Attr{Name: p.name, Doc: p.doc, Optional: true})
		}
		r.In = append(r.In, in)
	}
	return ops.ByDecomposition(table, r)[0]
}

func (f *function) decompose(b *graph.Builder, n *graph.Node) (res []*graph.Value, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case abort:
			res, err = nil, p.error
		default: // a rank or length that no call of this function has
			res, err = nil, fmt.Errorf("inputs do not fit %s: %s", f.signature(), ops.Reason(p))
		}
	}()
	x := &call{f: f, b: b, n: n}
	if err := x.bind(); err != nil {
		return nil, err
	}
	if len(n.Out) > len(f.out) {
		return nil, fmt.Errorf("has %d outputs, at most %d are known: %s", len(n.Out), len(f.out), f.outputs())
	}
	return f.expand(x), nil
}

func (f *function) outputs() string {
	s := ""
	for i, o := range f.out {
		if i > 0 {
			s += ", "
		}
		s += o.Name
	}
	return s
}

var finalOut = ops.Param{Name: "final_states", Doc: "[B,H,P,N], float32 for activations of 16 bits", Optional: true}
