// Package ops defines operators. An Op is one row: its name and version, its
// parameters, how to infer types, how to compute it slowly and obviously (the
// definition that every backend is tested against), how to write it in simpler
// operators, and cases to test it with. A Table holds rows; package ops/onnx
// lists ONNX's operators, ops/ssm ssdc's own.
package ops

import (
	"context"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Op is one version of one operator. Only ID and Infer are required; a zero
// field means "no".
type Op struct {
	ID      graph.OpID
	Doc     string // shapes, units, source
	In, Out []Param
	Attrs   []Attr
	// Until is the last opset in which this version is in force; 0: still in force.
	// It matters only for operators that were removed.
	Until int
	// Infer sets the output types, and Known contents where input contents are known.
	Infer func(*Infer) error
	// Eval computes the outputs. It must support every dtype the operator
	// allows, float64 for every float operator, and any rank.
	Eval func(*Call) ([]*tensor.Tensor, error)
	// Decompose writes the node with simpler operators and returns its outputs.
	Decompose func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error)
	Traits    Traits
	// Alias maps an output to the input whose storage it may take over (recurrent state).
	Alias map[int]int
	Cases []Case
	// Models are the cases of operators with bodies.
	Models []Model
}

// Param describes an input or output.
type Param struct {
	Name     string
	Doc      string
	Optional bool
	Variadic bool // only the last one
}

// Attr describes an attribute. Default nil means required unless Optional.
type Attr struct {
	Name     string
	Doc      string
	Default  any
	Optional bool
}

// Traits are facts that passes ask for.
type Traits uint

// Traits.
const (
	Commutative Traits = 1 << iota // the first two inputs may be exchanged
	Elementwise                    // output element i depends on element i of the broadcast inputs
	View                           // the output is the first input's memory under another shape
	Random                         // not a function of its inputs: never fold or merge
	Composite                      // defined by its decomposition, which passes write out first
	ShapeOnly                      // reads only the type of its first input, never the contents
	Containers                     // takes sequences, optionals or maps; others are given tensors only
	AnyDomain                      // known by name: importers take it for nodes of this name in domains that no table knows
)

// Case is a test: a node on given inputs. Backends are compared with Eval, and
// Eval with Want where that is given.
type Case struct {
	Name  string
	Attrs graph.Attrs
	In    []*tensor.Tensor // nil: omitted
	Want  []*tensor.Tensor
	NOut  int // number of outputs asked for; 0 means 1
	// Static cases need their lengths as numbers; inputs in Consts must be constants.
	Static bool
	Consts []int
	// Rtol and Atol bound |got-want| <= Atol + Rtol*|want| for float32; 0 means 1e-5 and 1e-6.
	Rtol, Atol float64
}

// Model is a case of an operator with bodies: a whole graph in text, in which
// VERSION stands for the row's version.
type Model struct {
	Name, Text string
	In, Want   []*tensor.Tensor
}

// Call is one evaluation of a node.
type Call struct {
	Ctx  context.Context
	Node *graph.Node
	In   []*tensor.Tensor // nil: omitted; not to be modified
	// Body evaluates body i of the node, with the outer values it captures.
	Body func(i int, in ...*tensor.Tensor) ([]*tensor.Tensor, error)
}

// Arg returns input i, or nil when it is omitted.
func (c *Call) Arg(i int) *tensor.Tensor {
	if i < len(c.In) {
		return c.In[i]
	}
	return nil
}

// Wants reports whether output i is asked for.
func (c *Call) Wants(i int) bool { return i < len(c.Node.Out) && c.Node.Out[i] != nil }
