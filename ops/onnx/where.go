package onnx

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

func whereRows() []*ops.Op {
	return versions("Where", []int{9, 16}, ops.Op{
		Doc: "X where condition holds, Y elsewhere; the three broadcast.",
		In:  params("condition", "X", "Y"), Out: params("output"), Attrs: noAttrs,
		Traits: ops.Elementwise,
		Infer:  inferWhere, Eval: onBytes(evalWhere),
		Cases: []ops.Case{
			{Name: "broadcast", In: []*tensor.Tensor{tensor.From([]bool{true, false}, 2, 1), tensor.From([]float32{1, 2}, 2), tensor.Scalar[float32](0)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 2, 0, 0}, 2, 2)}},
			{Name: "strings", In: []*tensor.Tensor{tensor.From([]bool{true, false}, 2), tensor.FromStrings([]string{"a", "b"}, 2), tensor.FromStrings([]string{"c", "d"}, 2)}, Want: []*tensor.Tensor{tensor.FromStrings([]string{"a", "d"}, 2)}},
		},
	})
}

func inferWhere(c *ops.Infer) error {
	if err := want(c, 0, boolType); err != nil {
		return err
	}
	x, y := c.Type(1), c.Type(2)
	if x.DType != y.DType {
		return c.Errorf("X is %s, Y is %s", x, y)
	}
	shape, err := broadcastTypes(c.Type(0), x, y)
	if err != nil {
		return err
	}
	out := graph.Type{DType: x.DType, Shape: shape}
	c.OutKnown(0, out, whereKnown(c, out))
	return nil
}

// whereKnown selects element-wise among symbolic contents. A condition that is
// not known does not matter where both sides agree.
func whereKnown(c *ops.Infer, out graph.Type) []graph.Dim {
	n, ok := staticLen(out)
	if !ok || n > ops.MaxKnown {
		return nil
	}
	sides := make([][]graph.Dim, 3)
	shape, _ := out.Static()
	for i := range sides {
		in, static := c.Type(i).Static()
		dims, ok := c.Known(i)
		if !ok && i == 0 {
			continue
		}
		if !ok || !static || product(in) != len(dims) {
			return nil
		}
		for _, o := range offsets(shape, broadcastStrides(in, shape)) {
			sides[i] = append(sides[i], dims[o])
		}
	}
	known := make([]graph.Dim, n)
	for i := range known {
		x, y := sides[1][i], sides[2][i]
		switch {
		case x == y:
			known[i] = x
		case sides[0] == nil || !sides[0][i].IsConst():
			return nil
		case sides[0][i].Is(0):
			known[i] = y
		default:
			known[i] = x
		}
	}
	return known
}

func evalWhere(c *ops.Call) ([]*tensor.Tensor, error) {
	cond, x, y := c.In[0], c.In[1], c.In[2]
	shape, err := broadcastSizes(cond.Shape, x.Shape, y.Shape)
	if err != nil {
		return nil, err
	}
	out := tensor.New(x.DType, shape...)
	if out.Len() == 0 {
		return one(out), nil
	}
	if x.DType == tensor.String {
		pick(out.Strings, x.Strings, y.Strings, out, cond, x, y)
		return one(out), nil
	}
	switch x.DType.Size() {
	case 1:
		pick(tensor.Of[uint8](out), tensor.Of[uint8](x), tensor.Of[uint8](y), out, cond, x, y)
	case 2:
		pick(tensor.Of[uint16](out), tensor.Of[uint16](x), tensor.Of[uint16](y), out, cond, x, y)
	case 4:
		pick(tensor.Of[uint32](out), tensor.Of[uint32](x), tensor.Of[uint32](y), out, cond, x, y)
	case 8:
		pick(tensor.Of[uint64](out), tensor.Of[uint64](x), tensor.Of[uint64](y), out, cond, x, y)
	default:
		pick(tensor.Of[complex128](out), tensor.Of[complex128](x), tensor.Of[complex128](y), out, cond, x, y)
	}
	return one(out), nil
}

// pick writes x or y, element by element; d, a and b view out, x and y.
func pick[T any](d, a, b []T, out, cond, x, y *tensor.Tensor) {
	if len(d) == 0 {
		return
	}
	on := tensor.Of[bool](cond)
	st := [][]int{strides(out.Shape), broadcastStrides(cond.Shape, out.Shape), broadcastStrides(x.Shape, out.Shape), broadcastStrides(y.Shape, out.Shape)}
	walk(out.Shape, st, func(off, step []int, n int) {
		o, i, j, k := off[0], off[1], off[2], off[3]
		for range n {
			if on[i] {
				d[o] = a[j]
			} else {
				d[o] = b[k]
			}
			o, i, j, k = o+step[0], i+step[1], j+step[2], k+step[3]
		}
	})
}
