package onnx

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// dropoutRows: the identity in inference. Since version 12, training_mode
// zeroes elements at random and scales the others by 1/(1-ratio).
func dropoutRows() []*ops.Op {
	x := tensor.From([]float32{1, -2, 3}, 3)
	row := ops.Op{Doc: "the input, and a mask of all ones", In: params("data"), Out: params("output", "mask?"), Attrs: []ops.Attr{attr("ratio", float32(0.5))},
		Infer: inferDropout, Eval: evalDropout, Cases: []ops.Case{{Name: "inference", In: one(x), Want: one(x)}}}
	rows := versions("Dropout", []int{7, 10}, row)
	row.Doc = "the input in inference; in training elements are dropped with probability ratio and the rest scaled by 1/(1-ratio); the mask tells which stay"
	row.In, row.Attrs = params("data", "ratio?", "training_mode?"), []ops.Attr{attrOpt("seed")}
	row.Traits = ops.Random
	return append(rows, versions("Dropout", []int{12, 13, 22}, row)...)
}

// maskType: version 7's mask had the type of the data.
func maskType(n *graph.Node, d tensor.DType) tensor.DType {
	if n.Op.Since < 10 {
		return d
	}
	return tensor.Bool
}

func inferDropout(c *ops.Infer) error {
	if err := want(c, 0, floatTypes); err != nil {
		return err
	}
	if err := want(c, 1, floatTypes); err != nil {
		return err
	}
	if err := want(c, 2, boolType); err != nil {
		return err
	}
	c.Out(0, c.Type(0))
	c.Out(1, withDType(c.Type(0), maskType(c.Node, c.Type(0).DType)))
	return nil
}

func evalDropout(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	ratio := 0.5
	if r := c.Arg(1); r != nil {
		ratio = r.At(0)
	}
	mask := tensor.New(maskType(c.Node, x.DType), x.Shape...)
	train := c.Arg(2) != nil && c.Arg(2).IntAt(0) != 0 && ratio > 0
	if !train {
		for i := range mask.Len() {
			mask.SetAt(i, 1)
		}
		return []*tensor.Tensor{x, mask}, nil
	}
	out := tensor.New(x.DType, x.Shape...)
	g := generator(c.Node.Attrs)
	for i := range x.Len() {
		if g.Float64() >= ratio {
			mask.SetAt(i, 1)
			out.SetAt(i, x.At(i)/(1-ratio))
		}
	}
	return []*tensor.Tensor{out, mask}, nil
}
