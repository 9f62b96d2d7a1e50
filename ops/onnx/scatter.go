package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// scatterRows: Scatter, ScatterElements, ScatterND, TensorScatter.
func scatterRows() []*ops.Op {
	m := tensor.From([]float32{1, 2, 3, 4, 5}, 1, 5)
	io := params("data", "indices", "updates")
	elements := ops.Op{
		Doc: "data with data[i, indices[i,j], k] = updates[i,j,k] (for axis 1), or combined by reduction.",
		In:  io, Out: params("output"), Attrs: []ops.Attr{attr("axis", int64(0))},
		Infer: inferScatter, Eval: onBytes(evalScatterElements),
		Cases: []ops.Case{
			{Name: "axis1", Attrs: graph.Attrs{"axis": int64(1)}, In: []*tensor.Tensor{m, tensor.From([]int64{1, -2}, 1, 2), tensor.From([]float32{10, 20}, 1, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 10, 3, 20, 5}, 1, 5)}},
		},
	}
	elements16 := elements
	elements16.Attrs = []ops.Attr{attr("axis", int64(0)), attr("reduction", "none")}
	elements16.Cases = append([]ops.Case{
		{Name: "add", Attrs: graph.Attrs{"axis": int64(1), "reduction": "add"}, In: []*tensor.Tensor{m, tensor.From([]int64{1, 1}, 1, 2), tensor.From([]float32{10, 20}, 1, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 32, 3, 4, 5}, 1, 5)}},
	}, elements.Cases...)
	nd := ops.Op{
		Doc: "data with the slices at index tuples replaced by updates, or combined by reduction.",
		In:  io, Out: params("output"), Attrs: noAttrs,
		Infer: inferScatter, Eval: onBytes(evalScatterND),
		Cases: []ops.Case{
			{Name: "points", In: []*tensor.Tensor{tensor.Ints(1, 2, 3, 4), tensor.From([]int64{3, 0}, 2, 1), tensor.Ints(40, 10)}, Want: []*tensor.Tensor{tensor.Ints(10, 2, 3, 40)}},
		},
	}
	nd16 := nd
	nd16.Attrs = []ops.Attr{attr("reduction", "none")}
	cache := ops.Op{
		Doc: "past_cache with update written along axis, for each batch entry from write_indices on; circular wraps around.",
		In:  params("past_cache", "update", "write_indices?"), Out: params("present_cache"),
		Attrs: []ops.Attr{attr("axis", int64(-2)), attr("mode", "linear")},
		Infer: func(c *ops.Infer) error {
			setOut(c, 0, c.Type(0))
			return same(c, castTypes, 0, 1)
		},
		Eval: onBytes(evalTensorScatter),
		Cases: []ops.Case{
			{Name: "circular", Attrs: graph.Attrs{"axis": int64(1), "mode": "circular"}, In: []*tensor.Tensor{tensor.New(tensor.Int64, 1, 3), tensor.From([]int64{1, 2}, 1, 2), tensor.Ints(2)}, Want: []*tensor.Tensor{tensor.From([]int64{2, 0, 1}, 1, 3)}},
		},
	}
	rows := versions("Scatter", []int{9, 11}, elements)
	rows = append(rows, versions("ScatterElements", []int{11, 13}, elements)...)
	rows = append(rows, versions("ScatterElements", []int{16, 18}, elements16)...)
	rows = append(rows, versions("ScatterND", []int{11, 13}, nd)...)
	rows = append(rows, versions("ScatterND", []int{16, 18}, nd16)...)
	return append(rows, versions("TensorScatter", []int{24}, cache)...)
}

func inferScatter(c *ops.Infer) error {
	if err := want(c, 1, indexTypes); err != nil {
		return err
	}
	d, x, u := c.Type(0), c.Type(1), c.Type(2)
	if d.DType != u.DType {
		return c.Errorf("data is %s, updates are %s", d, u)
	}
	elements := c.Node.Op.Name != "ScatterND"
	if elements && d.Ranked() {
		if _, ok := axisOf(c.Node.Attrs.Int("axis", 0), d.Rank(), d.Rank()); !ok {
			return c.Errorf("axis %d is outside %s", c.Node.Attrs.Int("axis", 0), d)
		}
		if x.Ranked() && x.Rank() != d.Rank() || u.Ranked() && u.Rank() != d.Rank() {
			return c.Errorf("data %s, indices %s and updates %s differ in rank", d, x, u)
		}
	}
	if !elements && x.Ranked() && x.Rank() < 1 {
		return c.Errorf("indices are %s, want rank 1 or more", x)
	}
	reduction := c.Node.Attrs.Str("reduction", "none")
	if _, ok := scatterReductions[reduction]; !ok {
		return c.Errorf("reduction %q, want none, add, mul, max or min", reduction)
	}
	setOut(c, 0, d)
	if reduction != "none" {
		return nil
	}
	if elements {
		carryKnown(c, evalScatterElements, 0, 2)
	} else {
		carryKnown(c, evalScatterND, 0, 2)
	}
	return nil
}

// scatterReduction combines an element with an update.
type scatterReduction struct {
	float func(a, b float64) float64
	int   func(a, b int64) int64
	uint  func(a, b uint64) uint64
}

var scatterReductions = map[string]scatterReduction{
	"none": {},
	"add":  {func(a, b float64) float64 { return a + b }, func(a, b int64) int64 { return a + b }, func(a, b uint64) uint64 { return a + b }},
	"mul":  {func(a, b float64) float64 { return a * b }, func(a, b int64) int64 { return a * b }, func(a, b uint64) uint64 { return a * b }},
	"max":  {math.Max, func(a, b int64) int64 { return max(a, b) }, func(a, b uint64) uint64 { return max(a, b) }},
	"min":  {math.Min, func(a, b int64) int64 { return min(a, b) }, func(a, b uint64) uint64 { return min(a, b) }},
}

// update combines n elements of dst from d on with those of src from s on.
func update(kind string, dst *tensor.Tensor, d int, src *tensor.Tensor, s, n int) error {
	r, known := scatterReductions[kind]
	switch {
	case !known:
		return fmt.Errorf("reduction %q, want none, add, mul, max or min", kind)
	case kind == "none":
		copyRun(dst, d, src, s, n)
	case dst.DType.IsFloat():
		for i := range n {
			dst.SetAt(d+i, r.float(dst.At(d+i), src.At(s+i)))
		}
	case dst.DType == tensor.Uint64:
		a, b := tensor.Of[uint64](dst), tensor.Of[uint64](src)
		for i := range n {
			a[d+i] = r.uint(a[d+i], b[s+i])
		}
	case dst.DType.IsInt() || dst.DType == tensor.Bool:
		for i := range n {
			dst.SetIntAt(d+i, r.int(dst.IntAt(d+i), src.IntAt(s+i)))
		}
	default:
		return fmt.Errorf("reduction %q of %s", kind, dst.TypeString())
	}
	return nil
}

func evalScatterElements(c *ops.Call) ([]*tensor.Tensor, error) {
	x, idx, u := c.In[0], c.In[1], c.In[2]
	offs, err := elementOffsets(x, idx, c.Node.Attrs.Int("axis", 0))
	if err != nil {
		return nil, err
	}
	if u.Len() != len(offs) || u.Rank() != idx.Rank() || u.DType != x.DType {
		return nil, fmt.Errorf("updates are %s, data %s, indices %s", u.TypeString(), x.TypeString(), idx.TypeString())
	}
	out := x.Clone()
	kind := c.Node.Attrs.Str("reduction", "none")
	for j, o := range offs {
		if err := update(kind, out, o, u, j, 1); err != nil {
			return nil, err
		}
	}
	return one(out), nil
}

func evalScatterND(c *ops.Call) ([]*tensor.Tensor, error) {
	x, idx, u := c.In[0], c.In[1], c.In[2]
	offs, inner, err := tupleOffsets(x, idx, 0)
	if err != nil {
		return nil, err
	}
	if u.Len() != len(offs)*inner || u.DType != x.DType {
		return nil, fmt.Errorf("updates are %s, data %s, indices %s", u.TypeString(), x.TypeString(), idx.TypeString())
	}
	out := x.Clone()
	kind := c.Node.Attrs.Str("reduction", "none")
	for j, o := range offs {
		if err := update(kind, out, o, u, j*inner, inner); err != nil {
			return nil, err
		}
	}
	return one(out), nil
}

func evalTensorScatter(c *ops.Call) ([]*tensor.Tensor, error) {
	past, upd, at := c.In[0], c.In[1], c.Arg(2)
	axis, ok := axisOf(c.Node.Attrs.Int("axis", -2), past.Rank(), past.Rank())
	if !ok || axis == 0 || upd.Rank() != past.Rank() {
		return nil, fmt.Errorf("axis %d, past %s, update %s", c.Node.Attrs.Int("axis", -2), past.TypeString(), upd.TypeString())
	}
	out := past.Clone()
	n, steps, inner := past.Shape[axis], upd.Shape[axis], product(past.Shape[axis+1:])
	rows := product(past.Shape[1:axis])
	circular := c.Node.Attrs.Str("mode", "linear") == "circular"
	for b := range past.Shape[0] {
		start := int64(0)
		if at != nil {
			start = at.IntAt(b)
		}
		for r := range rows {
			for s := range steps {
				p := start + int64(s)
				if circular {
					p = (p%int64(n) + int64(n)) % int64(n)
				}
				if p < 0 || p >= int64(n) {
					return nil, fmt.Errorf("write position %d is outside a cache of length %d", p, n)
				}
				row := b*rows + r
				copyRun(out, (row*n+int(p))*inner, upd, (row*steps+s)*inner, inner)
			}
		}
	}
	return one(out), nil
}
