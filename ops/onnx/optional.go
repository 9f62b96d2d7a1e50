package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// optionalRows: Optional, OptionalGetElement, OptionalHasElement. From opset 18
// the latter two also accept tensors and sequences, which count as present.
func optionalRows() []*ops.Op {
	x := tensor.Ints(1, 2)
	full := &tensor.Tensor{DType: tensor.Optional, Elems: []*tensor.Tensor{x}}
	none := &tensor.Tensor{DType: tensor.Optional}
	wrap := ops.Op{
		Doc: "An optional that holds the input, or an empty one of the type that the attribute names.",
		In:  params("input?"), Out: params("output"), Attrs: []ops.Attr{attrOpt("type")},
		Infer: func(c *ops.Infer) error {
			elem := c.Type(0)
			if t, ok := c.Node.Attrs["type"].(graph.Type); ok && !c.Has(0) {
				elem = t
			} else if !c.Has(0) {
				return c.Errorf("neither an input nor a type")
			}
			setOut(c, 0, graph.Type{DType: tensor.Optional, Elem: &elem})
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			out := &tensor.Tensor{DType: tensor.Optional}
			if t := c.Arg(0); t != nil {
				out.Elems = []*tensor.Tensor{t}
			}
			return one(out), nil
		},
		Cases: []ops.Case{{Name: "full", In: []*tensor.Tensor{x}, Want: []*tensor.Tensor{full}}},
	}
	get := ops.Op{
		Doc: "What the optional holds.",
		In:  params("input"), Out: params("output"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			t := c.Type(0)
			if t.DType == tensor.Optional {
				if t.Elem == nil {
					return c.Errorf("input is %s without a member type", t)
				}
				t = *t.Elem
			}
			setOut(c, 0, t)
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			t := c.In[0]
			if t.DType != tensor.Optional {
				return one(t), nil
			}
			if len(t.Elems) == 0 {
				return nil, fmt.Errorf("the optional is empty")
			}
			return one(t.Elems[0]), nil
		},
		Cases: []ops.Case{{Name: "full", In: []*tensor.Tensor{full}, Want: []*tensor.Tensor{x}}},
	}
	has := ops.Op{
		Doc: "Whether the optional holds something; false for an omitted input.",
		In:  params("input"), Out: params("output"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			var known []graph.Dim
			switch d := c.Type(0).DType; {
			case !c.Has(0):
				known = graph.Ds(0)
			case d != tensor.Optional && d != tensor.Undefined:
				known = graph.Ds(1)
			}
			c.OutKnown(0, graph.T(tensor.Bool), known)
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			t := c.Arg(0)
			return one(tensor.Scalar(t != nil && (t.DType != tensor.Optional || len(t.Elems) > 0))), nil
		},
		Cases: []ops.Case{
			{Name: "full", In: []*tensor.Tensor{full}, Want: []*tensor.Tensor{tensor.Scalar(true)}},
			{Name: "empty", In: []*tensor.Tensor{none}, Want: []*tensor.Tensor{tensor.Scalar(false)}},
		},
	}
	has18 := has
	has18.In = params("input?")
	rows := versions("Optional", []int{15, 28}, wrap)
	rows = append(rows, versions("OptionalGetElement", []int{15, 18, 28}, get)...)
	rows = append(rows, versions("OptionalHasElement", []int{15}, has)...)
	return append(rows, versions("OptionalHasElement", []int{18, 28}, has18)...)
}
