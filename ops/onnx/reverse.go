package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

func reverseRows() []*ops.Op {
	return versions("ReverseSequence", []int{10, 28}, ops.Op{
		Doc: "For each batch entry b, the first sequence_lens[b] positions of the time axis in reverse order.",
		In:  params("input", "sequence_lens"), Out: params("Y"),
		Attrs: []ops.Attr{attr("batch_axis", int64(1)), attr("time_axis", int64(0))},
		Infer: func(c *ops.Infer) error {
			if err := rankAtLeast(c, 0, 2); err != nil {
				return err
			}
			if err := rankIs(c, 1, 1); err != nil {
				return err
			}
			if _, _, ok := reverseAxes(c.Node.Attrs); !ok {
				return c.Errorf("batch_axis %d and time_axis %d, want 0 and 1 in either order", c.Node.Attrs.Int("batch_axis", 1), c.Node.Attrs.Int("time_axis", 0))
			}
			setOut(c, 0, c.Type(0))
			return want(c, 1, indexTypes)
		},
		Eval: onBytes(evalReverseSequence),
		Cases: []ops.Case{
			{Name: "time", Attrs: graph.Attrs{"batch_axis": int64(0), "time_axis": int64(1)}, In: []*tensor.Tensor{tensor.From([]int64{1, 2, 3, 4, 5, 6}, 2, 3), tensor.Ints(2, 3)}, Want: []*tensor.Tensor{tensor.From([]int64{2, 1, 3, 6, 5, 4}, 2, 3)}},
		},
	})
}

func reverseAxes(a graph.Attrs) (batch, time int, ok bool) {
	b, t := a.Int("batch_axis", 1), a.Int("time_axis", 0)
	return int(b), int(t), (b == 0 || b == 1) && (t == 0 || t == 1) && b != t
}

func evalReverseSequence(c *ops.Call) ([]*tensor.Tensor, error) {
	x, lens := c.In[0], c.In[1]
	batch, time, ok := reverseAxes(c.Node.Attrs)
	if !ok || x.Rank() < 2 || lens.Len() != x.Shape[batch] {
		return nil, fmt.Errorf("input %s, sequence_lens %s", x.TypeString(), lens.TypeString())
	}
	out, inner := x.Clone(), product(x.Shape[2:])
	st := strides(x.Shape)
	for b := range x.Shape[batch] {
		n := lens.IntAt(b)
		if n < 0 || n > int64(x.Shape[time]) {
			return nil, fmt.Errorf("sequence_lens[%d] is %d, the time axis has length %d", b, n, x.Shape[time])
		}
		for t := range int(n) {
			copyRun(out, b*st[batch]+t*st[time], x, b*st[batch]+(int(n)-1-t)*st[time], inner)
		}
	}
	return one(out), nil
}
