package onnx

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// generateRows make tensors out of shapes and parameters: random numbers, the
// same for a given attribute seed and different in every run without one.
func generateRows() []*ops.Op {
	seed, dtype := attrOpt("seed"), attrOpt("dtype")
	uniform := func(a graph.Attrs, g *draws) func() float64 {
		lo, hi := float64(a.Float("low", 0)), float64(a.Float("high", 1))
		return func() float64 { return lo + (hi-lo)*g.Float64() }
	}
	normal := func(a graph.Attrs, g *draws) func() float64 {
		mean, sd := float64(a.Float("mean", 0)), float64(a.Float("scale", 1))
		return func() float64 { return mean + sd*g.Normal() }
	}
	var rows []*ops.Op
	for _, r := range []struct {
		name  string
		sure  graph.Attrs // every draw is 2
		attrs []ops.Attr
		draw  func(graph.Attrs, *draws) func() float64
	}{
		{"RandomUniform", graph.Attrs{"low": float32(2), "high": float32(2)}, []ops.Attr{attr("low", float32(0)), attr("high", float32(1))}, uniform},
		{"RandomNormal", graph.Attrs{"mean": float32(2), "scale": float32(0)}, []ops.Attr{attr("mean", float32(0)), attr("scale", float32(1))}, normal},
	} {
		fill := func(c *ops.Call, d tensor.DType, shape []int) []*tensor.Tensor {
			out := tensor.New(d, shape...)
			next := r.draw(c.Node.Attrs, generator(c.Node.Attrs))
			for i := range out.Len() {
				out.SetAt(i, next())
			}
			return one(out)
		}
		like := []ops.Case{{Name: "certain", Attrs: r.sure, In: one(tensor.From([]float32{0, 1}, 2)), Want: one(tensor.From([]float32{2, 2}, 2))}}
		sure := r.sure.Clone()
		sure["shape"] = []int64{2}
		rows = append(rows, versions(r.name, []int{1, 22}, ops.Op{
			Doc: "random tensor of the attribute shape", Out: params("output"), In: []ops.Param{}, Traits: ops.Random,
			Attrs: append([]ops.Attr{attr("shape", nil), attr("dtype", int64(tensor.Float32)), seed}, r.attrs...),
			Infer: func(c *ops.Infer) error {
				d := tensor.DType(c.Node.Attrs.Int("dtype", int64(tensor.Float32)))
				if !floatTypes.Has(d) {
					return c.Errorf("attribute dtype is %v, want one of %v", d, floatTypes)
				}
				c.Out(0, graph.T(d, graph.Ds(c.Node.Attrs.Ints("shape")...)...))
				return nil
			},
			Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
				var shape []int
				for _, n := range c.Node.Attrs.Ints("shape") {
					shape = append(shape, int(n))
				}
				return fill(c, tensor.DType(c.Node.Attrs.Int("dtype", int64(tensor.Float32))), shape), nil
			},
			Cases: []ops.Case{{Name: "certain", Attrs: sure, Want: like[0].Want}},
		})...)
		rows = append(rows, versions(r.name+"Like", []int{1, 22}, ops.Op{
			Doc: "random tensor of the input's shape, and of its type unless dtype says otherwise", In: params("input"), Out: params("output"),
			Traits: ops.Random | ops.ShapeOnly, Attrs: append([]ops.Attr{dtype, seed}, r.attrs...),
			Infer: inferLike(floatTypes),
			Eval:  func(c *ops.Call) ([]*tensor.Tensor, error) { return fill(c, likeType(c), c.In[0].Shape), nil },
			Cases: like,
		})...)
	}
	rows = append(rows, versions("Bernoulli", []int{15, 22}, ops.Op{
		Doc: "1 with the probability given by each input element, else 0", In: params("input"), Out: params("output"),
		Traits: ops.Random, Attrs: []ops.Attr{dtype, seed}, Infer: inferLike(numberTypes | boolType),
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			out, g := tensor.New(likeType(c), c.In[0].Shape...), generator(c.Node.Attrs)
			for i := range out.Len() {
				out.SetAt(i, g.Bernoulli(c.In[0].At(i)))
			}
			return one(out), nil
		},
		Cases: []ops.Case{{Name: "certain", In: one(tensor.From([]float32{0, 1, 1}, 3)), Want: one(tensor.From([]float32{0, 1, 1}, 3))}},
	})...)
	rows = append(rows, versions("Multinomial", []int{7, 22}, ops.Op{
		Doc: "sample_size class indices per row of unnormalised log-probabilities [batch, classes]", In: params("input"), Out: params("output"),
		Traits: ops.Random, Attrs: []ops.Attr{attr("dtype", int64(tensor.Int32)), attr("sample_size", int64(1)), seed},
		Cases: []ops.Case{{Name: "certain", Attrs: graph.Attrs{"sample_size": int64(2)}, In: one(tensor.From([]float32{-1e9, 0, -1e9, 0, -1e9, -1e9}, 2, 3)),
			Want: one(tensor.From([]int32{1, 1, 0, 0}, 2, 2))}},
		Infer: func(c *ops.Infer) error {
			if err := want(c, 0, floatTypes); err != nil {
				return err
			}
			if err := rankIs(c, 0, 2); err != nil {
				return err
			}
			out := unranked(tensor.DType(c.Node.Attrs.Int("dtype", int64(tensor.Int32))))
			if t := c.Type(0); t.Ranked() {
				out.Shape = []graph.Dim{t.Shape[0], graph.D(c.Node.Attrs.Int("sample_size", 1))}
			}
			c.Out(0, out)
			return nil
		},
		Eval: evalMultinomial,
	})...)
	return rows
}

// inferLike types output 0 as input 0 with the element type of attribute dtype.
func inferLike(types dtypes) func(*ops.Infer) error {
	return func(c *ops.Infer) error {
		d := c.Type(0).DType
		if n := c.Node.Attrs.Int("dtype", 0); n != 0 {
			d = tensor.DType(n)
		}
		if d != tensor.Undefined && !types.Has(d) {
			return c.Errorf("element type %v, want one of %v", d, types)
		}
		c.Out(0, withDType(c.Type(0), d))
		return nil
	}
}

func likeType(c *ops.Call) tensor.DType {
	if n := c.Node.Attrs.Int("dtype", 0); n != 0 {
		return tensor.DType(n)
	}
	return c.In[0].DType
}

func evalMultinomial(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	n := int(a.Int("sample_size", 1))
	out := tensor.New(tensor.DType(a.Int("dtype", int64(tensor.Int32))), x.Shape[0], n)
	g, v := generator(a), floatsOf(x)
	for b := range x.Shape[0] {
		p := append([]float64{}, v[b*x.Shape[1]:(b+1)*x.Shape[1]]...)
		softmax(p)
		for s := range n {
			u, k := g.Float64(), 0
			for u -= p[0]; u >= 0 && k < len(p)-1; u -= p[k] {
				k++
			}
			out.SetIntAt(b*n+s, int64(k))
		}
	}
	return one(out), nil
}
