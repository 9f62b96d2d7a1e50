package onnx

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// argRows: ArgMax and ArgMin, the position of the extremum along one axis.
func argRows() []*ops.Op {
	var rows []*ops.Op
	in := one(tensor.From([]float32{2, 1, 3, 10, 3, 10}, 2, 3))
	for _, a := range []struct {
		name  string
		isMax bool
		want  []int64
	}{{"ArgMax", true, []int64{2, 0}}, {"ArgMin", false, []int64{1, 1}}} {
		row := ops.Op{Doc: "int64 position of the extremum along axis; the first one unless select_last_index",
			In: params("data"), Out: params("reduced"), Attrs: []ops.Attr{attr("axis", int64(0)), attr("keepdims", int64(1))},
			Infer: inferArg,
			Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
				return evalArg(c, a.isMax)
			},
			Cases: []ops.Case{{Name: "rows", Attrs: graph.Attrs{"axis": int64(1), "keepdims": int64(0)}, In: in, Want: one(tensor.Ints(a.want...))}, {Name: "default axis", In: in}}}
		rows = append(rows, versions(a.name, []int{1, 11}, row)...)
		row.Attrs = append(row.Attrs, attr("select_last_index", int64(0)))
		rows = append(rows, versions(a.name, []int{12, 13}, row)...)
	}
	return rows
}

func inferArg(c *ops.Infer) error {
	if err := want(c, 0, numberTypes); err != nil {
		return err
	}
	t := c.Type(0)
	if !t.Ranked() {
		c.Out(0, unranked(tensor.Int64))
		return nil
	}
	axis, ok := axisOf(c.Node.Attrs.Int("axis", 0), t.Rank(), t.Rank())
	if !ok {
		return c.Errorf("axis %d for data %s, want an axis from %d to %d", c.Node.Attrs.Int("axis", 0), t, -t.Rank(), t.Rank()-1)
	}
	out := graph.T(tensor.Int64)
	for a, d := range t.Shape {
		if a != axis {
			out.Shape = append(out.Shape, d)
		} else if c.Node.Attrs.Int("keepdims", 1) != 0 {
			out.Shape = append(out.Shape, graph.D(1))
		}
	}
	c.Out(0, out)
	return nil
}

func evalArg(c *ops.Call, isMax bool) ([]*tensor.Tensor, error) {
	x, at := c.In[0], c.Node.Attrs
	axis, ok := axisOf(at.Int("axis", 0), x.Rank(), x.Rank())
	if !ok {
		return nil, errAxis(at.Int("axis", 0), x)
	}
	mask := make([]bool, x.Rank())
	mask[axis] = true
	g := groupAxes(x.Shape, mask, at.Int("keepdims", 1) != 0)
	out := tensor.New(tensor.Int64, g.shape...)
	o, last := tensor.Of[int64](out), at.Int("select_last_index", 0) != 0
	switch {
	case x.DType.IsFloat():
		reduceGroups(g, floatsOf(x), func(i int, v []float64) { o[i] = argExtreme(v, isMax, last) })
	case x.DType == tensor.Uint64:
		reduceGroups(g, tensor.Of[uint64](x), func(i int, v []uint64) { o[i] = argExtreme(v, isMax, last) })
	default:
		reduceGroups(g, intsOf(x), func(i int, v []int64) { o[i] = argExtreme(v, isMax, last) })
	}
	return one(out), nil
}

// argExtreme: a NaN, as in numpy, counts as the extremum.
func argExtreme[T float64 | int64 | uint64](v []T, isMax, last bool) int64 {
	best := 0
	for i, x := range v {
		b := v[best]
		switch {
		case b != b:
			return int64(best)
		case x != x, isMax && x > b, !isMax && x < b, last && x == b:
			best = i
		}
	}
	return int64(best)
}
