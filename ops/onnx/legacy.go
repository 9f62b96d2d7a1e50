package onnx

import (
	"fmt"
	"sync"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// legacyRows are operators as they were before opset 7, whose B stands at an
// axis of A instead of at its end. Each is a composite of today's version.
func legacyRows() []*ops.Op {
	var rows []*ops.Op
	aligned := ops.Op{
		In: params("A", "B"), Out: params("C"), Attrs: []ops.Attr{attrOpt("axis"), attr("broadcast", int64(0))},
		Decompose: func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
			right, err := alignedB(b, n)
			if err != nil {
				return nil, err
			}
			return single(b.Op(n.Op.Name, nil, n.In[0], right))
		},
	}
	pair := []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4, 5, 6}, 2, 3), tensor.From([]float32{1, 2}, 2)}
	truth := []*tensor.Tensor{tensor.From([]bool{true, true, false, false}, 2, 2), tensor.From([]bool{true, false}, 2)}
	along := graph.Attrs{"broadcast": int64(1), "axis": int64(0)}
	for _, name := range []string{"Add", "Sub", "Mul", "Div"} {
		rows = append(rows, versions(name, []int{6}, aligned)...)
	}
	for _, name := range []string{"Pow", "Greater", "Less"} {
		rows = append(rows, versions(name, []int{1}, aligned)...)
	}
	for _, r := range rows {
		r.Cases = []ops.Case{{Name: "B along axis 0", Attrs: along, In: pair}}
	}
	for _, name := range []string{"And", "Or", "Xor"} {
		row := aligned
		row.Cases = []ops.Case{{Name: "B along axis 0", Attrs: along, In: truth}}
		rows = append(rows, versions(name, []int{1}, row)...)
	}
	for _, r := range rows {
		r.Doc = r.ID.Name + " before opset 7: with broadcast=1, B's axes are those of A from axis on, or A's last"
	}
	rows = append(rows, versions("Gemm", []int{6}, ops.Op{
		Doc: "Gemm before opset 7: C broadcasts only when broadcast says so",
		In:  params("A", "B", "C"), Out: params("Y"),
		Attrs: []ops.Attr{attr("alpha", float32(1)), attr("beta", float32(1)), attr("broadcast", int64(0)), attr("transA", int64(0)), attr("transB", int64(0))},
		Decompose: func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
			a := n.Attrs.Clone()
			delete(a, "broadcast")
			return single(b.Op("Gemm", a, n.In...))
		},
		Cases: []ops.Case{{Name: "bias", Attrs: graph.Attrs{"broadcast": int64(1)}, In: []*tensor.Tensor{tensor.From([]float32{1, 2}, 1, 2), tensor.From([]float32{3, 4, 5, 6}, 2, 2), tensor.From([]float32{1, -1}, 2)},
			Want: one(tensor.From([]float32{14, 15}, 1, 2))}},
	})...)
	rows = append(rows, versions("PRelu", []int{6}, ops.Op{
		Doc: "x for x>=0, slope*x below; one slope, or one per channel (axis 1)",
		In:  params("X", "slope"), Out: params("Y"), Attrs: noAttrs,
		Decompose: func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
			slope, err := fromAxis(b, n, n.In[1], 1)
			if err != nil {
				return nil, err
			}
			return single(b.Op("PRelu", nil, n.In[0], slope))
		},
		Cases: []ops.Case{{Name: "per channel", In: []*tensor.Tensor{tensor.From([]float32{-1, -2, 3, -4}, 1, 2, 2), tensor.From([]float32{0.5, 0.25}, 2)},
			Want: one(tensor.From([]float32{-0.5, -1, 3, -1}, 1, 2, 2))}},
	})...)
	rows = append(rows, versions("BatchNormalization", []int{6}, ops.Op{
		Doc: "BatchNormalization before opset 7, at inference (is_test=1)",
		In:  params("X", "scale", "B", "mean", "var"), Out: params("Y", "mean?", "var?", "saved_mean?", "saved_var?"),
		Attrs: []ops.Attr{attr("epsilon", float32(1e-5)), attr("is_test", int64(0)), attr("momentum", float32(0.9)), attr("spatial", int64(1))},
		Decompose: func(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
			if n.Attrs.Int("is_test", 0) == 0 || n.Attrs.Int("spatial", 1) == 0 || len(n.Out) > 1 {
				return nil, fmt.Errorf("is_test=%d, spatial=%d, %d outputs: only inference per channel (1, 1, 1) is defined for opset 6; convert the model to opset 7 or newer",
					n.Attrs.Int("is_test", 0), n.Attrs.Int("spatial", 1), len(n.Out))
			}
			return single(b.Op("BatchNormalization", graph.Attrs{"epsilon": n.Attrs.Float("epsilon", 1e-5)}, n.In...))
		},
		Cases: []ops.Case{{Name: "inference", Attrs: graph.Attrs{"is_test": int64(1)}, In: []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4}, 1, 2, 2),
			tensor.From([]float32{1, 0.5}, 2), tensor.From([]float32{0, 1}, 2), tensor.From([]float32{1, 2}, 2), tensor.From([]float32{4, 0.25}, 2)}}},
	})...)
	return ops.ByDecomposition(ownTable, rows...)
}

// own holds this package's rows, for those that are made of others.
var own struct {
	once  sync.Once
	table ops.Table
}

func ownTable() *ops.Table {
	own.once.Do(func() {
		if err := Register(&own.table); err != nil {
			panic(err) // two rows of one name: a mistake in this package
		}
	})
	return &own.table
}

// alignedB gives B as today's broadcasting wants it.
func alignedB(b *graph.Builder, n *graph.Node) (*graph.Value, error) {
	x, y := n.In[0], n.In[1]
	if n.Attrs.Int("broadcast", 0) == 0 {
		if x.Type.Ranked() && y.Type.Ranked() {
			if err := fitsType(y.Type, x.Type); err != nil {
				return nil, fmt.Errorf("input B is %w: attribute broadcast is 0", err)
			}
		}
		return y, nil
	}
	if !n.Attrs.Has("axis") {
		return y, nil
	}
	return fromAxis(b, n, y, n.Attrs.Int("axis", 0))
}

// fromAxis appends axes of length 1 to y until its first axis stands at the
// given axis of input 0. A single element needs none.
func fromAxis(b *graph.Builder, n *graph.Node, y *graph.Value, axis int64) (*graph.Value, error) {
	x := n.In[0]
	if !x.Type.Ranked() || !y.Type.Ranked() {
		return nil, fmt.Errorf("inputs are %s and %s, want known ranks", x.Type, y.Type)
	}
	if s, ok := y.Type.Static(); ok && product(s) == 1 && len(s) <= 1 {
		return y, nil
	}
	at, ok := axisOf(axis, x.Type.Rank(), x.Type.Rank())
	pad := x.Type.Rank() - at - y.Type.Rank()
	if !ok || pad < 0 {
		return nil, fmt.Errorf("%s does not fit %s from axis %d on", y.Type, x.Type, axis)
	}
	var axes []int64
	for i := range pad {
		axes = append(axes, int64(y.Type.Rank()+i))
	}
	if axes == nil {
		return y, nil
	}
	return b.Op("Unsqueeze", nil, y, b.Ints(axes...)), nil
}
