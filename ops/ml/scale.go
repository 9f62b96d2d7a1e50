package ml

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// scaleRows change numbers one by one, by feature (the last axis).
func scaleRows() []*ops.Op {
	x := tensor.From([]float32{1, 2, -3, 4, 0, 6}, 2, 3)
	toFloat := func(c *ops.Infer) error {
		if err := sig.Want(c, 0, numberTypes); err != nil {
			return err
		}
		c.Out(0, sig.WithDType(c.Type(0), tensor.Float32))
		return nil
	}
	keep := func(c *ops.Infer) error {
		if err := sig.Want(c, 0, numberTypes); err != nil {
			return err
		}
		c.Out(0, c.Type(0))
		return nil
	}
	return []*ops.Op{
		{
			ID: id("Scaler", 1), Doc: "(X - offset) * scale, one of each per feature or one for all",
			In: sig.Params("X"), Out: sig.Params("Y"), Attrs: []ops.Attr{sig.AttrOpt("offset"), sig.AttrOpt("scale")},
			Infer: toFloat, Eval: evalScaler,
			Cases: []ops.Case{{Name: "per feature", In: one(x), Attrs: graph.Attrs{"offset": []float32{1, 0, -1}, "scale": []float32{2, 1, 0.5}},
				Want: one(tensor.From([]float32{0, 2, -1, 6, 0, 3.5}, 2, 3))}},
		},
		{
			ID: id("Normalizer", 1), Doc: "each row divided by its largest value (MAX), the sum of its absolute values (L1) or its length (L2); a zero divisor leaves it",
			In: sig.Params("X"), Out: sig.Params("Y"), Attrs: []ops.Attr{sig.Attr("norm", "MAX")},
			Infer: func(c *ops.Infer) error {
				if n := c.Node.Attrs.Str("norm", "MAX"); n != "MAX" && n != "L1" && n != "L2" {
					return c.Errorf("attribute norm is %q, want MAX, L1 or L2", n)
				}
				return toFloat(c)
			},
			Eval:  evalNormalizer,
			Cases: []ops.Case{{Name: "L2", In: one(x), Attrs: graph.Attrs{"norm": "L2"}}, {Name: "L1", In: one(x), Attrs: graph.Attrs{"norm": "L1"}}, {Name: "MAX", In: one(x)}},
		},
		{
			ID: id("Binarizer", 1), Doc: "1 where X > threshold, else 0",
			In: sig.Params("X"), Out: sig.Params("Y"), Attrs: []ops.Attr{sig.Attr("threshold", float32(0))}, Traits: ops.Elementwise,
			Infer: keep,
			Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
				y, limit := tensor.New(c.In[0].DType, c.In[0].Shape...), float64(c.Node.Attrs.Float("threshold", 0))
				for i := range y.Len() {
					if c.In[0].At(i) > limit {
						y.SetAt(i, 1)
					}
				}
				return one(y), nil
			},
			Cases: []ops.Case{{Name: "above 1", In: one(x), Attrs: graph.Attrs{"threshold": float32(1)}, Want: one(tensor.From([]float32{0, 1, 0, 1, 0, 1}, 2, 3))}},
		},
		{
			ID: id("Imputer", 1), Doc: "elements equal to the replaced value (NaN equals NaN) become the imputed value of their feature",
			In: sig.Params("X"), Out: sig.Params("Y"),
			Attrs: []ops.Attr{sig.AttrOpt("imputed_value_floats"), sig.AttrOpt("imputed_value_int64s"), sig.Attr("replaced_value_float", float32(0)), sig.Attr("replaced_value_int64", int64(0))},
			Infer: keep, Eval: evalImputer,
			Cases: []ops.Case{{Name: "zeros", In: one(x), Attrs: graph.Attrs{"imputed_value_floats": []float32{7, 8, 9}}, Want: one(tensor.From([]float32{1, 2, -3, 4, 8, 6}, 2, 3))}},
		},
	}
}

func evalScaler(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	_, f, err := batch(x)
	if err != nil {
		f, err = x.Shape[max(x.Rank()-1, 0)], nil
	}
	offset, scale := c.Node.Attrs.Floats("offset"), c.Node.Attrs.Floats("scale")
	for name, v := range map[string][]float32{"offset": offset, "scale": scale} {
		if len(v) > 1 && len(v) != f {
			return nil, fmt.Errorf("attribute %s has %d values, want 1 or one for each of %d features", name, len(v), f)
		}
	}
	at := func(v []float32, i int, otherwise float64) float64 {
		if len(v) == 0 {
			return otherwise
		}
		return float64(v[i%len(v)])
	}
	y := tensor.New(tensor.Float32, x.Shape...)
	for i := range y.Len() {
		y.SetAt(i, (x.At(i)-at(offset, i, 0))*at(scale, i, 1))
	}
	return one(y), err
}

func evalNormalizer(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	n, f, err := batch(x)
	if err != nil {
		return nil, err
	}
	y := tensor.New(tensor.Float32, x.Shape...)
	for r := range n {
		by := 0.0
		for i := range f {
			v := x.At(r*f + i)
			switch c.Node.Attrs.Str("norm", "MAX") {
			case "MAX":
				if i == 0 {
					by = v
				}
				by = max(by, v)
			case "L1":
				by += math.Abs(v)
			default:
				by += v * v
			}
		}
		if c.Node.Attrs.Str("norm", "MAX") == "L2" {
			by = math.Sqrt(by)
		}
		if by == 0 {
			by = 1
		}
		for i := range f {
			y.SetAt(r*f+i, x.At(r*f+i)/by)
		}
	}
	return one(y), nil
}

func evalImputer(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	f := 1
	if x.Rank() > 0 {
		f = x.Shape[x.Rank()-1]
	}
	y := x.Clone()
	if x.DType.IsInt() {
		with, what := a.Ints("imputed_value_int64s"), a.Int("replaced_value_int64", 0)
		if len(with) != 1 && len(with) != f {
			return nil, fmt.Errorf("attribute imputed_value_int64s has %d values, want 1 or one for each of %d features", len(with), f)
		}
		for i := range y.Len() {
			if x.IntAt(i) == what {
				y.SetIntAt(i, with[i%f%len(with)])
			}
		}
		return one(y), nil
	}
	with, what := a.Floats("imputed_value_floats"), float64(a.Float("replaced_value_float", 0))
	if len(with) != 1 && len(with) != f {
		return nil, fmt.Errorf("attribute imputed_value_floats has %d values, want 1 or one for each of %d features", len(with), f)
	}
	for i := range y.Len() {
		if v := x.At(i); v == what || v != v && what != what {
			y.SetAt(i, float64(with[i%f%len(with)]))
		}
	}
	return one(y), nil
}
