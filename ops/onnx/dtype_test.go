package onnx

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// TestMovementElementTypes runs data movement on every kind of storage (packed,
// bytes to 16 bytes, strings) and compares with the same movement of int64,
// element by element.
func TestMovementElementTypes(t *testing.T) {
	type A = graph.Attrs
	count := func(shape ...int) *tensor.Tensor {
		x := tensor.New(tensor.Int64, shape...)
		for i := range x.Len() {
			x.SetIntAt(i, int64(i*7+1)%4)
		}
		return x
	}
	x := count(3, 5, 2)
	ints := tensor.Ints
	cases := []struct {
		op      string
		attrs   A
		payload []int
		in      []*tensor.Tensor
		nOut    int
	}{
		{"Transpose", A{"perm": []int64{2, 0, 1}}, []int{0}, []*tensor.Tensor{x}, 1},
		{"Transpose", nil, []int{0}, []*tensor.Tensor{count(0, 3)}, 1},
		{"Slice", nil, []int{0}, []*tensor.Tensor{x, ints(-1, 1), ints(-9, 4), ints(1, 0), ints(-2, 1)}, 1},
		{"Split", A{"axis": int64(1)}, []int{0}, []*tensor.Tensor{x, ints(1, 0, 4)}, 3},
		{"Concat", A{"axis": int64(1)}, []int{0, 1}, []*tensor.Tensor{x, count(3, 1, 2)}, 1},
		{"Gather", A{"axis": int64(1)}, []int{0}, []*tensor.Tensor{x, ints(4, -5, 4)}, 1},
		{"GatherElements", A{"axis": int64(1)}, []int{0}, []*tensor.Tensor{x, tensor.From([]int64{4, -1, 0, 2}, 1, 2, 2)}, 1},
		{"GatherND", nil, []int{0}, []*tensor.Tensor{x, tensor.From([]int64{2, 4, -3, 0}, 2, 2)}, 1},
		{"ScatterND", nil, []int{0, 2}, []*tensor.Tensor{x, tensor.From([]int64{2, 4, 0, 0}, 2, 2), count(2, 2)}, 1},
		{"ScatterElements", nil, []int{0, 2}, []*tensor.Tensor{x, tensor.From([]int64{2}, 1, 1, 1), count(1, 1, 1)}, 1},
		{"TensorScatter", A{"axis": int64(1)}, []int{0, 1}, []*tensor.Tensor{x, count(3, 2, 2), ints(0, 3, 1)}, 1},
		{"Pad", nil, []int{0, 2}, []*tensor.Tensor{x, ints(0, -1, 2, 1, 1, -1), count(1)}, 1},
		{"Pad", A{"mode": "reflect"}, []int{0}, []*tensor.Tensor{x, ints(1, -1, 0, 2, 3, 1)}, 1},
		{"Pad", A{"mode": "wrap"}, []int{0}, []*tensor.Tensor{x, ints(1, -1, 0, 2, 3, 1)}, 1},
		{"Expand", nil, []int{0}, []*tensor.Tensor{count(5, 1), ints(2, 1, 3)}, 1},
		{"Tile", nil, []int{0}, []*tensor.Tensor{x, ints(1, 2, 3)}, 1},
		{"Where", nil, []int{1, 2}, []*tensor.Tensor{tensor.From([]bool{true, false, true}, 3, 1, 1), x, count(1, 2)}, 1},
		{"Trilu", A{"upper": int64(0)}, []int{0}, []*tensor.Tensor{x, tensor.Scalar[int64](-1)}, 1},
		{"Compress", A{"axis": int64(1)}, []int{0}, []*tensor.Tensor{x, tensor.From([]bool{true, false, true}, 3)}, 1},
		{"ReverseSequence", nil, []int{0}, []*tensor.Tensor{x, ints(1, 2, 3, 0, 2)}, 1},
		{"DepthToSpace", A{"blocksize": int64(2), "mode": "CRD"}, []int{0}, []*tensor.Tensor{count(1, 8, 2, 1)}, 1},
		{"OneHot", A{"axis": int64(0)}, []int{2}, []*tensor.Tensor{ints(0, 2), tensor.Scalar[int64](3), count(2)}, 1},
		{"CenterCropPad", nil, []int{0}, []*tensor.Tensor{x, ints(4, 2, 2)}, 1},
		{"Resize", nil, []int{0}, []*tensor.Tensor{x, nil, nil, ints(2, 8, 2)}, 1},
	}
	tab := table(t)
	for _, c := range cases {
		want, err := evalOn(tab, c.op, c.attrs, c.nOut, c.in)
		if err != nil {
			t.Errorf("%s on int64: %v", c.op, err)
			continue
		}
		for _, d := range []tensor.DType{tensor.Int4, tensor.Uint2, tensor.Float4E2M1, tensor.Bool, tensor.Float16, tensor.Float32, tensor.Float64, tensor.Complex64, tensor.Complex128, tensor.String} {
			if d == tensor.Complex64 || d == tensor.Complex128 {
				if c.op == "Resize" || c.op == "TensorScatter" {
					continue // not among their types
				}
			}
			in := slices.Clone(c.in)
			for _, i := range c.payload {
				in[i] = recode(in[i], d)
			}
			got, err := evalOn(tab, c.op, c.attrs, c.nOut, in)
			if err != nil {
				t.Errorf("%s on %v: %v", c.op, d, err)
				continue
			}
			for i, w := range want {
				if e := recode(w, d); !sameBits(got[i], e) {
					t.Errorf("%s on %v, output %d: got %s %v, want %s %v", c.op, d, i, got[i].TypeString(), got[i].Data, e.TypeString(), e.Data)
				}
			}
		}
	}
}

func evalOn(tab *ops.Table, op string, attrs graph.Attrs, nOut int, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	g := graph.New("g")
	vals := make([]*graph.Value, len(in))
	for i, x := range in {
		if x != nil {
			vals[i] = g.AddInput("in", graph.TypeOf(x))
		}
	}
	n := g.Add(tab.Resolve("", op, 27).ID, attrs, vals, nOut, "n")
	if err := ops.InferNode(tab, n); err != nil {
		return nil, err
	}
	return ops.Eval(context.Background(), tab, n, in)
}

// recode writes the values 0 to 3 as elements of dtype d, 0 as what d's zero is.
func recode(x *tensor.Tensor, d tensor.DType) *tensor.Tensor {
	out := tensor.New(d, x.Shape...)
	for i := range x.Len() {
		v := x.IntAt(i)
		switch d {
		case tensor.String:
			if v != 0 {
				out.Strings[i] = fmt.Sprint(v)
			}
		case tensor.Complex64:
			tensor.Of[complex64](out)[i] = complex(float32(v), float32(-v))
		case tensor.Complex128:
			tensor.Of[complex128](out)[i] = complex(float64(v), float64(-v))
		default:
			out.SetIntAt(i, v)
		}
	}
	return out
}

func sameBits(a, b *tensor.Tensor) bool {
	return a.DType == b.DType && slices.Equal(a.Shape, b.Shape) && slices.Equal(a.Data, b.Data) && slices.Equal(a.Strings, b.Strings)
}
