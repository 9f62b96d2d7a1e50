package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// padRows: Pad with attributes (2), with inputs (11, 13), with axes (18), and
// with mode wrap (19 on). Negative pads remove.
func padRows() []*ops.Op {
	v := tensor.From([]float32{1, 2, 3}, 3)
	f := func(x ...float32) []*tensor.Tensor { return []*tensor.Tensor{tensor.From(x, len(x))} }
	pad2 := ops.Op{
		Doc: "data with pads[i] elements added before and pads[n+i] after axis i; negative numbers remove.",
		In:  params("data"), Out: params("output"),
		Attrs: []ops.Attr{attr("mode", "constant"), attr("pads", nil), attr("value", float32(0))},
		Infer: inferPad, Eval: onBytes(evalPad),
		Cases: []ops.Case{
			{Name: "constant", Attrs: graph.Attrs{"pads": []int64{1, 2}, "value": float32(9)}, In: []*tensor.Tensor{v}, Want: f(9, 1, 2, 3, 9, 9)},
		},
	}
	pad11 := pad2
	pad11.In, pad11.Attrs = params("data", "pads", "constant_value?"), []ops.Attr{attr("mode", "constant")}
	pad11.Cases = []ops.Case{
		{Name: "crop", In: []*tensor.Tensor{v, tensor.Ints(1, -2)}, Want: f(0, 1)},
		{Name: "reflect", Attrs: graph.Attrs{"mode": "reflect"}, In: []*tensor.Tensor{v, tensor.Ints(2, 1)}, Want: f(3, 2, 1, 2, 3, 2)},
		{Name: "edge", Attrs: graph.Attrs{"mode": "edge"}, In: []*tensor.Tensor{v, tensor.Ints(2, 1)}, Want: f(1, 1, 1, 2, 3, 3)},
	}
	pad18 := pad11
	pad18.In = params("data", "pads", "constant_value?", "axes?")
	pad18.Cases = append([]ops.Case{
		{Name: "axes", In: []*tensor.Tensor{v.Reshaped(1, 3), tensor.Ints(0, 1), tensor.Scalar[float32](5), tensor.Ints(-1)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 5}, 1, 4)}},
	}, pad11.Cases...)
	pad19 := pad18
	pad19.Cases = append([]ops.Case{
		{Name: "wrap", Attrs: graph.Attrs{"mode": "wrap"}, In: []*tensor.Tensor{v, tensor.Ints(2, 1)}, Want: f(2, 3, 1, 2, 3, 1)},
	}, pad18.Cases...)
	rows := versions("Pad", []int{2}, pad2)
	rows = append(rows, versions("Pad", []int{11, 13}, pad11)...)
	rows = append(rows, versions("Pad", []int{18}, pad18)...)
	return append(rows, versions("Pad", []int{19, 21, 23, 24, 25}, pad19)...)
}

var padModes = map[string]bool{"constant": true, "reflect": true, "edge": true, "wrap": true}

func inferPad(c *ops.Infer) error {
	t := c.Type(0)
	if m := c.Node.Attrs.Str("mode", "constant"); !padModes[m] {
		return c.Errorf("mode %q, want constant, reflect, edge or wrap", m)
	}
	if !t.Ranked() {
		setOut(c, 0, t)
		return nil
	}
	pads, ok := graph.Ds(c.Node.Attrs.Ints("pads")...), c.Node.Attrs.Has("pads")
	if !ok {
		pads, ok = c.Known(1)
	}
	shape := cloneDims(t.Shape)
	axes := make([]int, len(shape))
	for i := range axes {
		axes[i] = i
	}
	if c.Has(3) {
		list, known := c.Ints(3)
		if !known {
			setOut(c, 0, graph.T(t.DType, freshShape(c, 0, t.Rank())...))
			return nil
		}
		var err error
		if axes, err = axesOf(list, t.Rank()); err != nil {
			return c.Errorf("%w of %s", err, t)
		}
	}
	if ok && len(pads) != 2*len(axes) {
		return c.Errorf("%d pads for %d axes of %s, want %d", len(pads), len(axes), t, 2*len(axes))
	}
	for i, a := range axes {
		if !ok {
			shape[a] = freshDim(c, 0, a)
			continue
		}
		shape[a] = shape[a].Add(pads[i]).Add(pads[i+len(axes)])
		if n, ok := shape[a].Const(); ok && n < 0 {
			return c.Errorf("pads %v remove more than axis %d of %s has", pads, a, t)
		}
	}
	setOut(c, 0, graph.T(t.DType, append([]graph.Dim{}, shape...)...))
	if c.Node.Attrs.Float("value", 0) == 0 {
		carryKnown(c, evalPad, 0, 2)
	}
	return nil
}

func evalPad(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	pads := a.Ints("pads")
	value := tensor.New(x.DType)
	if a.Float("value", 0) != 0 {
		value.SetAt(0, float64(a.Float("value", 0)))
	}
	if t := c.Arg(1); t != nil {
		pads = t.AsInts()
	}
	if t := c.Arg(2); t != nil && t.Len() > 0 {
		value = t
	}
	axes := make([]int, x.Rank())
	for i := range axes {
		axes[i] = i
	}
	if t := c.Arg(3); t != nil {
		var err error
		if axes, err = axesOf(t.AsInts(), x.Rank()); err != nil {
			return nil, err
		}
	}
	if len(pads) != 2*len(axes) || value.DType != x.DType {
		return nil, fmt.Errorf("%d pads for %d axes, value %s, data %s", len(pads), len(axes), value.TypeString(), x.TypeString())
	}
	before, after := make([]int, x.Rank()), make([]int, x.Rank())
	for i, ax := range axes {
		before[ax], after[ax] = int(pads[i]), int(pads[i+len(axes)])
	}
	mode := a.Str("mode", "constant")
	if mode == "constant" {
		return padConstant(x, value, before, after)
	}
	// One axis at a time, as numpy does; crops come first.
	cropped, err := padConstant(x, value, clampPads(before), clampPads(after))
	if err != nil {
		return nil, err
	}
	out := cropped[0]
	for ax := range before {
		b, e := max(before[ax], 0), max(after[ax], 0)
		if b == 0 && e == 0 {
			continue
		}
		n := out.Shape[ax]
		if n == 0 {
			return nil, fmt.Errorf("cannot pad the empty axis %d in mode %q", ax, mode)
		}
		at := make([]int64, b+n+e)
		for i := range at {
			at[i] = int64(padSource(mode, i-b, n))
		}
		out = take(out, ax, at)
	}
	return one(out), nil
}

// clampPads keeps only the crops.
func clampPads(p []int) []int {
	out := make([]int, len(p))
	for i, v := range p {
		out[i] = min(v, 0)
	}
	return out
}

// padSource is the position in an axis of length n that padded position i repeats.
func padSource(mode string, i, n int) int {
	switch {
	case mode == "edge":
		return min(max(i, 0), n-1)
	case mode == "wrap":
		return (i%n + n) % n
	case n == 1:
		return 0
	}
	period := 2 * (n - 1)
	i = (i%period + period) % period
	return min(i, period-i)
}

// take gathers positions at of one axis.
func take(x *tensor.Tensor, axis int, at []int64) *tensor.Tensor {
	shape := append([]int{}, x.Shape...)
	shape[axis] = len(at)
	out := tensor.New(x.DType, shape...)
	outer, n, inner := product(x.Shape[:axis]), x.Shape[axis], product(x.Shape[axis+1:])
	dst := 0
	for o := range outer {
		for _, i := range at {
			copyRun(out, dst, x, (o*n+int(i))*inner, inner)
			dst += inner
		}
	}
	return out
}

func padConstant(x, value *tensor.Tensor, before, after []int) ([]*tensor.Tensor, error) {
	shape, inner := make([]int, x.Rank()), make([]int, x.Rank())
	st, from := strides(x.Shape), 0
	for i, n := range x.Shape {
		shape[i] = n + before[i] + after[i]
		if shape[i] < 0 {
			return nil, fmt.Errorf("pads %v, %v remove more than %s has", before, after, x.TypeString())
		}
		lo, hi := max(-before[i], 0), min(n, n+after[i]) // what is kept of the axis
		inner[i] = max(hi-lo, 0)
		from += lo * st[i]
	}
	out := tensor.New(x.DType, shape...)
	fill(out, value)
	to, ost := 0, strides(shape)
	for i := range before {
		to += max(before[i], 0) * ost[i]
	}
	moveND(out, to, ost, x, from, st, inner)
	return one(out), nil
}
