package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// constantRows: Constant, ConstantOfShape, EyeLike.
func constantRows() []*ops.Op {
	value := ops.Op{
		Doc: "The tensor that the attribute holds.",
		In:  params(), Out: params("output"), Attrs: []ops.Attr{attr("value", nil)},
		Infer: func(c *ops.Infer) error {
			t, err := constantOf(c.Node.Attrs)
			if err != nil {
				return err
			}
			var known []graph.Dim
			if (t.DType.IsInt() || t.DType == tensor.Bool) && t.Len() <= ops.MaxKnown {
				known = graph.Ds(t.AsInts()...)
			}
			c.OutKnown(0, graph.TypeOf(t), known)
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			t, err := constantOf(c.Node.Attrs)
			return one(t), err
		},
		Cases: []ops.Case{{Name: "tensor", Attrs: graph.Attrs{"value": tensor.Ints(1, 2)}, Want: []*tensor.Tensor{tensor.Ints(1, 2)}}},
	}
	value11 := value
	value11.Attrs = []ops.Attr{attrOpt("value"), attrOpt("sparse_value")}
	value12 := value
	value12.Attrs = []ops.Attr{attrOpt("value"), attrOpt("sparse_value"), attrOpt("value_int"), attrOpt("value_ints"), attrOpt("value_float"), attrOpt("value_floats"), attrOpt("value_string"), attrOpt("value_strings")}
	value12.Cases = append([]ops.Case{
		{Name: "int", Attrs: graph.Attrs{"value_int": int64(3)}, Want: []*tensor.Tensor{tensor.Scalar[int64](3)}},
		{Name: "floats", Attrs: graph.Attrs{"value_floats": []float32{1, 2}}, Want: []*tensor.Tensor{tensor.From([]float32{1, 2}, 2)}},
		{Name: "string", Attrs: graph.Attrs{"value_string": "s"}, Want: []*tensor.Tensor{tensor.FromStrings([]string{"s"})}},
	}, value.Cases...)
	ofShape := ops.Op{
		Doc: "A tensor of the given shape whose elements are all value, a tensor of one element (float 0 by default).",
		In:  params("input"), Out: params("output"), Attrs: []ops.Attr{attrOpt("value")},
		Infer: inferConstantOfShape, Eval: onBytes(evalConstantOfShape),
		Cases: []ops.Case{
			{Name: "zeros", In: []*tensor.Tensor{tensor.Ints(2, 1)}, Want: []*tensor.Tensor{tensor.New(tensor.Float32, 2, 1)}},
			{Name: "ones", Attrs: graph.Attrs{"value": tensor.Ints(1)}, In: []*tensor.Tensor{tensor.Ints(2)}, Want: []*tensor.Tensor{tensor.Ints(1, 1)}},
			{Name: "scalar", In: []*tensor.Tensor{tensor.Ints()}, Want: []*tensor.Tensor{tensor.Scalar[float32](0)}},
		},
	}
	eye := ops.Op{
		Doc: "A matrix of the input's shape with ones on diagonal k.",
		In:  params("input"), Out: params("output"), Attrs: []ops.Attr{attrOpt("dtype"), attr("k", int64(0))},
		Traits: ops.ShapeOnly,
		Infer: func(c *ops.Infer) error {
			t := c.Type(0)
			if err := rankIs(c, 0, 2); err != nil {
				return err
			}
			d := tensor.DType(c.Node.Attrs.Int("dtype", int64(t.DType)))
			if !(numberTypes | boolType).Has(d) {
				return c.Errorf("dtype %v, want a number type", d)
			}
			setOut(c, 0, withDType(t, d))
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x, a := c.In[0], c.Node.Attrs
			out := tensor.New(tensor.DType(a.Int("dtype", int64(x.DType))), x.Shape...)
			for i := range x.Shape[0] {
				if j := int64(i) + a.Int("k", 0); j >= 0 && j < int64(x.Shape[1]) {
					out.SetAt(i*x.Shape[1]+int(j), 1)
				}
			}
			return one(out), nil
		},
		Cases: []ops.Case{{Name: "upper", Attrs: graph.Attrs{"k": int64(1)}, In: []*tensor.Tensor{tensor.New(tensor.Float32, 2, 3)}, Want: []*tensor.Tensor{tensor.From([]float32{0, 1, 0, 0, 0, 1}, 2, 3)}}},
	}
	rows := versions("Constant", []int{1, 9}, value)
	rows = append(rows, versions("Constant", []int{11}, value11)...)
	rows = append(rows, versions("Constant", []int{12, 13, 19, 21, 23, 24, 25}, value12)...)
	rows = append(rows, versions("ConstantOfShape", []int{9, 20, 21, 23, 24, 25}, ofShape)...)
	return append(rows, versions("EyeLike", []int{9, 22}, eye)...)
}

func constantOf(a graph.Attrs) (*tensor.Tensor, error) {
	for name, v := range a {
		switch v := v.(type) {
		case *tensor.Tensor:
			if v != nil {
				return v, nil
			}
		case int64:
			return tensor.Scalar(v), nil
		case []int64:
			return tensor.Ints(v...), nil
		case float32:
			return tensor.Scalar(v), nil
		case []float32:
			return tensor.From(v, len(v)), nil
		case string:
			return tensor.FromStrings([]string{v}), nil
		case []string:
			return tensor.FromStrings(v, len(v)), nil
		}
		return nil, fmt.Errorf("attribute %q holds no constant", name)
	}
	return nil, fmt.Errorf("no value")
}

// fillValue is the element of ConstantOfShape.
func fillValue(a graph.Attrs) (*tensor.Tensor, error) {
	v := a.Tensor("value")
	if v == nil {
		return tensor.New(tensor.Float32, 1), nil
	}
	if v.Len() != 1 {
		return nil, fmt.Errorf("value is %s, want one element", v.TypeString())
	}
	return v, nil
}

func inferConstantOfShape(c *ops.Infer) error {
	v, err := fillValue(c.Node.Attrs)
	if err != nil {
		return err
	}
	if err := want(c, 0, indexTypes); err != nil {
		return err
	}
	shape, ok := c.Known(0)
	if !ok {
		t := unranked(v.DType)
		if n, ok := vectorLen(c.Type(0)); ok {
			t.Shape = freshShape(c, 0, n)
		}
		setOut(c, 0, t)
		return nil
	}
	for _, d := range shape {
		if n, ok := d.Const(); ok && n < 0 {
			return c.Errorf("shape %v has the negative length %d", shape, n)
		}
	}
	t := graph.T(v.DType, append([]graph.Dim{}, shape...)...)
	var known []graph.Dim
	if n, ok := staticLen(t); ok && n <= ops.MaxKnown && (v.DType.IsInt() || v.DType == tensor.Bool) {
		known = make([]graph.Dim, n)
		for i := range known {
			known[i] = graph.D(v.IntAt(0))
		}
	}
	c.OutKnown(0, t, known)
	return nil
}

func evalConstantOfShape(c *ops.Call) ([]*tensor.Tensor, error) {
	v, err := fillValue(c.Node.Attrs)
	if err != nil {
		return nil, err
	}
	shape := make([]int, c.In[0].Len())
	for i, d := range c.In[0].AsInts() {
		if shape[i] = int(d); d < 0 {
			return nil, fmt.Errorf("shape %v has the negative length %d", c.In[0].AsInts(), d)
		}
	}
	out := tensor.New(v.DType, shape...)
	if packed(v.DType) {
		wide := tensor.New(tensor.Uint8, shape...)
		fill(wide, unpack(v))
		return one(pack(wide, v.DType)), nil
	}
	fill(out, v)
	return one(out), nil
}
