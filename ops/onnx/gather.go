package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// gatherRows: Gather, GatherElements, GatherND. Negative indices count from the end.
func gatherRows() []*ops.Op {
	m := tensor.From([]float32{1, 2, 3, 4, 5, 6}, 3, 2)
	gather := ops.Op{
		Doc: "The slices of data at indices along axis: out[a.., i.., b..] = data[a.., indices[i..], b..].",
		In:  params("data", "indices"), Out: params("output"), Attrs: []ops.Attr{attr("axis", int64(0))},
		Infer: inferGather, Eval: onBytes(evalGather),
		Cases: []ops.Case{
			{Name: "rows", In: []*tensor.Tensor{m, tensor.From([]int64{0, -1, 1, 1}, 2, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 2, 5, 6, 3, 4, 3, 4}, 2, 2, 2)}},
			{Name: "scalar", Attrs: graph.Attrs{"axis": int64(-1)}, In: []*tensor.Tensor{m, tensor.Scalar[int64](1)}, Want: []*tensor.Tensor{tensor.From([]float32{2, 4, 6}, 3)}},
		},
	}
	elements := ops.Op{
		Doc: "out has the shape of indices; out[i, j, k] = data[i, indices[i,j,k], k] for axis 1.",
		In:  params("data", "indices"), Out: params("output"), Attrs: []ops.Attr{attr("axis", int64(0))},
		Infer: func(c *ops.Infer) error {
			if err := want(c, 1, indexTypes); err != nil {
				return err
			}
			d, x := c.Type(0), c.Type(1)
			if d.Ranked() && x.Ranked() && d.Rank() != x.Rank() {
				return c.Errorf("data %s and indices %s differ in rank", d, x)
			}
			setOut(c, 0, withDType(x, d.DType))
			carryKnown(c, evalGatherElements, 0)
			return nil
		},
		Eval: onBytes(evalGatherElements),
		Cases: []ops.Case{
			{Name: "axis1", Attrs: graph.Attrs{"axis": int64(1)}, In: []*tensor.Tensor{m, tensor.From([]int64{1, -2, 0, 0, 1, 1}, 3, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{2, 1, 3, 3, 6, 6}, 3, 2)}},
		},
	}
	nd := ops.Op{
		Doc: "Slices of data at index tuples: the last axis of indices runs over the leading axes of data.",
		In:  params("data", "indices"), Out: params("output"), Attrs: noAttrs,
		Infer: inferGatherND, Eval: onBytes(evalGatherND),
		Cases: []ops.Case{
			{Name: "points", In: []*tensor.Tensor{m, tensor.From([]int64{0, 1, -1, 0}, 2, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{2, 5}, 2)}},
		},
	}
	nd12 := nd
	nd12.Attrs = []ops.Attr{attr("batch_dims", int64(0))}
	rows := versions("Gather", []int{1, 11, 13}, gather)
	rows = append(rows, versions("GatherElements", []int{11, 13}, elements)...)
	rows = append(rows, versions("GatherND", []int{11}, nd)...)
	return append(rows, versions("GatherND", []int{12, 13}, nd12)...)
}

func inferGather(c *ops.Infer) error {
	if err := want(c, 1, indexTypes); err != nil {
		return err
	}
	d, x := c.Type(0), c.Type(1)
	if !d.Ranked() {
		setOut(c, 0, unranked(d.DType))
		return nil
	}
	axis, ok := axisOf(c.Node.Attrs.Int("axis", 0), d.Rank(), d.Rank())
	if !ok {
		return c.Errorf("axis %d is outside %s", c.Node.Attrs.Int("axis", 0), d)
	}
	if n, ok := d.Shape[axis].Const(); ok {
		if idx, ok := c.Ints(1); ok {
			for _, i := range idx {
				if i < -n || i >= n {
					return c.Errorf("index %d is outside axis %d of %s", i, axis, d)
				}
			}
		}
	}
	if !x.Ranked() {
		setOut(c, 0, unranked(d.DType))
		return nil
	}
	shape := append(append(cloneDims(d.Shape[:axis]), x.Shape...), d.Shape[axis+1:]...)
	setOut(c, 0, graph.T(d.DType, shape...))
	carryKnown(c, evalGather, 0)
	return nil
}

// position resolves an index that may count from the end.
func position(i int64, n int) (int, error) {
	if i < int64(-n) || i >= int64(n) {
		return 0, fmt.Errorf("index %d is outside an axis of length %d", i, n)
	}
	if i < 0 {
		i += int64(n)
	}
	return int(i), nil
}

func evalGather(c *ops.Call) ([]*tensor.Tensor, error) {
	x, idx := c.In[0], c.In[1]
	axis, ok := axisOf(c.Node.Attrs.Int("axis", 0), x.Rank(), x.Rank())
	if !ok {
		return nil, fmt.Errorf("axis %d is outside %s", c.Node.Attrs.Int("axis", 0), x.TypeString())
	}
	outer, n, inner := product(x.Shape[:axis]), x.Shape[axis], product(x.Shape[axis+1:])
	shape := append(append(append([]int{}, x.Shape[:axis]...), idx.Shape...), x.Shape[axis+1:]...)
	out := tensor.New(x.DType, shape...)
	at := make([]int, idx.Len())
	for j, i := range idx.AsInts() {
		var err error
		if at[j], err = position(i, n); err != nil {
			return nil, err
		}
	}
	dst := 0
	for o := range outer {
		for _, i := range at {
			copyRun(out, dst, x, (o*n+i)*inner, inner)
			dst += inner
		}
	}
	return one(out), nil
}

// elementOffsets gives, for every element of indices (of the rank of data), the
// offset in data that it names on axis.
func elementOffsets(data, indices *tensor.Tensor, axis int64) ([]int, error) {
	ax, ok := axisOf(axis, data.Rank(), data.Rank())
	if !ok || indices.Rank() != data.Rank() {
		return nil, fmt.Errorf("axis %d, data %s, indices %s", axis, data.TypeString(), indices.TypeString())
	}
	st := strides(data.Shape)
	for i, n := range indices.Shape {
		if i != ax && n > data.Shape[i] {
			return nil, fmt.Errorf("indices %s reach outside data %s", indices.TypeString(), data.TypeString())
		}
	}
	n, step := data.Shape[ax], st[ax]
	st[ax] = 0
	offs := offsets(indices.Shape, st)
	for j, i := range indices.AsInts() {
		p, err := position(i, n)
		if err != nil {
			return nil, err
		}
		offs[j] += p * step
	}
	return offs, nil
}

func evalGatherElements(c *ops.Call) ([]*tensor.Tensor, error) {
	x, idx := c.In[0], c.In[1]
	offs, err := elementOffsets(x, idx, c.Node.Attrs.Int("axis", 0))
	if err != nil {
		return nil, err
	}
	out := tensor.New(x.DType, idx.Shape...)
	for j, o := range offs {
		copyRun(out, j, x, o, 1)
	}
	return one(out), nil
}

func inferGatherND(c *ops.Infer) error {
	if err := want(c, 1, indexTypes); err != nil {
		return err
	}
	d, x, b := c.Type(0), c.Type(1), int(c.Node.Attrs.Int("batch_dims", 0))
	if !d.Ranked() || !x.Ranked() {
		setOut(c, 0, unranked(d.DType))
		return nil
	}
	if b < 0 || x.Rank() < 1 || b >= x.Rank() || b > d.Rank() {
		return c.Errorf("batch_dims %d, data %s, indices %s", b, d, x)
	}
	k, ok := x.Shape[x.Rank()-1].Const()
	if !ok {
		setOut(c, 0, unranked(d.DType))
		return nil
	}
	if k < 1 || b+int(k) > d.Rank() {
		return c.Errorf("index tuples of length %d into data %s after %d batch axes", k, d, b)
	}
	shape := append(cloneDims(x.Shape[:x.Rank()-1]), d.Shape[b+int(k):]...)
	setOut(c, 0, graph.T(d.DType, append([]graph.Dim{}, shape...)...))
	carryKnown(c, evalGatherND, 0)
	return nil
}

// tupleOffsets gives the offset in data of each index tuple, and the length of
// the slice that a tuple names. batch axes are shared by both.
func tupleOffsets(data, indices *tensor.Tensor, batch int) (offs []int, inner int, err error) {
	if indices.Rank() < 1 || batch < 0 || batch >= indices.Rank() || batch > data.Rank() {
		return nil, 0, fmt.Errorf("data %s, indices %s, batch_dims %d", data.TypeString(), indices.TypeString(), batch)
	}
	k := indices.Shape[indices.Rank()-1]
	if batch+k > data.Rank() || product(data.Shape[:batch]) != product(indices.Shape[:batch]) {
		return nil, 0, fmt.Errorf("data %s, indices %s, batch_dims %d", data.TypeString(), indices.TypeString(), batch)
	}
	st, idx := strides(data.Shape), indices.AsInts()
	inner = product(data.Shape[batch+k:])
	tuples := product(indices.Shape[:indices.Rank()-1])
	perBatch := max(product(indices.Shape[batch:indices.Rank()-1]), 1)
	block := product(data.Shape[batch:])
	offs = make([]int, tuples)
	for j := range offs {
		offs[j] = j / perBatch * block
		for a := range k {
			p, err := position(idx[j*k+a], data.Shape[batch+a])
			if err != nil {
				return nil, 0, err
			}
			offs[j] += p * st[batch+a]
		}
	}
	return offs, inner, nil
}

func evalGatherND(c *ops.Call) ([]*tensor.Tensor, error) {
	x, idx := c.In[0], c.In[1]
	batch := int(c.Node.Attrs.Int("batch_dims", 0))
	offs, inner, err := tupleOffsets(x, idx, batch)
	if err != nil {
		return nil, err
	}
	k := idx.Shape[idx.Rank()-1]
	out := tensor.New(x.DType, append(append([]int{}, idx.Shape[:idx.Rank()-1]...), x.Shape[batch+k:]...)...)
	for j, o := range offs {
		copyRun(out, j*inner, x, o, inner)
	}
	return one(out), nil
}
