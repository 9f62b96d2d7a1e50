package onnx

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

func onehotRows() []*ops.Op {
	return versions("OneHot", []int{9, 11, 28}, ops.Op{
		Doc: "A new axis of length depth that holds values[1] at the position that indices give and values[0] elsewhere.",
		In:  params("indices", "depth", "values"), Out: params("output"), Attrs: []ops.Attr{attr("axis", int64(-1))},
		Infer: inferOneHot, Eval: onBytes(evalOneHot),
		Cases: []ops.Case{
			{Name: "vector", In: []*tensor.Tensor{tensor.Ints(1, -1), tensor.Scalar[int64](3), tensor.From([]float32{0, 2}, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{0, 2, 0, 0, 0, 2}, 2, 3)}},
		},
	})
}

func inferOneHot(c *ops.Infer) error {
	t, v := c.Type(0), c.Type(2)
	if err := want(c, 0, numberTypes); err != nil {
		return err
	}
	if !t.Ranked() {
		setOut(c, 0, unranked(v.DType))
		return nil
	}
	axis, ok := axisOf(c.Node.Attrs.Int("axis", -1), t.Rank()+1, t.Rank()+1)
	if !ok {
		return c.Errorf("axis %d is outside rank %d", c.Node.Attrs.Int("axis", -1), t.Rank()+1)
	}
	depth := freshDim(c, 0, axis)
	if k := c.Const(1); k != nil && k.Len() == 1 && k.DType != tensor.String {
		depth = graph.D(int64(k.At(0)))
	} else if dims, ok := c.Known(1); ok && len(dims) == 1 {
		depth = dims[0]
	}
	if n, ok := depth.Const(); ok && n < 0 {
		return c.Errorf("depth is %d", n)
	}
	setOut(c, 0, graph.T(v.DType, slices.Insert(cloneDims(t.Shape), axis, depth)...))
	carryKnown(c, evalOneHot, 2) // repeat_interleave builds the repeats of a Tile so
	return nil
}

func evalOneHot(c *ops.Call) ([]*tensor.Tensor, error) {
	idx, values := c.In[0], c.In[2]
	axis, ok := axisOf(c.Node.Attrs.Int("axis", -1), idx.Rank()+1, idx.Rank()+1)
	if !ok || c.In[1].Len() != 1 || values.Len() != 2 {
		return nil, fmt.Errorf("axis %d, indices %s, depth %s, values %s", c.Node.Attrs.Int("axis", -1), idx.TypeString(), c.In[1].TypeString(), values.TypeString())
	}
	depth := int(c.In[1].At(0))
	if depth < 0 {
		return nil, fmt.Errorf("depth is %d", depth)
	}
	out := tensor.New(values.DType, slices.Insert(slices.Clone(idx.Shape), axis, depth)...)
	fill(out, values)
	inner := product(idx.Shape[axis:])
	for j := range idx.Len() {
		p := int64(idx.At(j))
		if p < 0 {
			p += int64(depth)
		}
		if p >= 0 && p < int64(depth) {
			copyRun(out, (j/inner*depth+int(p))*inner+j%inner, values, 1, 1)
		}
	}
	return one(out), nil
}
