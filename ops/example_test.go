package ops_test

import (
	"context"
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
)

// Run is the definition of what a graph computes: every operator's Eval, one
// after the other.
func ExampleRun() {
	t := &ops.Table{}
	if err := onnx.Register(t); err != nil {
		fmt.Println(err)
		return
	}
	g, err := graph.ParseString(`graph mean (float[B,3] x) => (float[B] y) < int64[1] last = {-1} > {
		float[B] y = ReduceMean-18 <keepdims: int = 0> (x, last)
	}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := ops.Run(context.Background(), t, g, []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4, 5, 6}, 2, 3)})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(out[0].TypeString(), out[0].AsFloats())
	// Output: float[2] [2 5]
}

// A row is the whole operator; a table refuses a second definition.
func ExampleTable_Add() {
	row := &ops.Op{
		ID:    graph.OpID{Domain: "example", Name: "Same", Since: 1},
		Infer: func(c *ops.Infer) error { c.Out(0, c.Type(0)); return nil },
		Eval:  func(c *ops.Call) ([]*tensor.Tensor, error) { return c.In[:1], nil },
	}
	t := &ops.Table{}
	fmt.Println(t.Add("plugin one", row))
	fmt.Println(t.Add("plugin two", row))
	// Output:
	// <nil>
	// operator example.Same-1 is defined by plugin one and by plugin two
}
