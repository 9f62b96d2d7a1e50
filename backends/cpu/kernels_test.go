package cpu

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// TestKernelsOnShapes compares kernels with Eval on sizes that the operators'
// cases do not have: several images, groups, directions, initial states.
func TestKernelsOnShapes(t *testing.T) {
	table := opTable(t)
	r := rand.New(rand.NewPCG(8, 9))
	f := func(shape ...int) *tensor.Tensor {
		x := tensor.New(tensor.Float32, shape...)
		for i := range x.Len() {
			x.SetAt(i, r.NormFloat64())
		}
		return x
	}
	positive := func(n int) *tensor.Tensor {
		x := f(n)
		for i := range n {
			x.SetAt(i, 0.1+x.At(i)*x.At(i))
		}
		return x
	}
	ints := func(v ...int64) []int64 { return v }
	bytes := func(d tensor.DType, shape ...int) *tensor.Tensor {
		x := tensor.New(d, shape...)
		for i := range x.Data {
			x.Data[i] = uint8(r.IntN(256))
		}
		return x
	}
	whole := func(n int) *tensor.Tensor {
		x := tensor.New(tensor.Int32, n)
		for i := range n {
			x.SetIntAt(i, int64(r.IntN(4000)-2000))
		}
		return x
	}
	u8, i8 := tensor.Uint8, tensor.Int8
	one, zu, zi := tensor.Scalar(float32(1)), tensor.Scalar(uint8(3)), tensor.Scalar(int8(-5))
	step, none := tensor.Scalar(float32(0.01)), tensor.From(make([]int8, 7), 7)
	type attrs = graph.Attrs
	for _, c := range []struct {
		op     graph.OpID
		kernel string
		attrs  attrs
		in     []*tensor.Tensor
		nOut   int
	}{
		{onnxOp("Conv", 11), "filters", attrs{"pads": ints(1, 1, 1, 1), "strides": ints(2, 2)}, []*tensor.Tensor{f(2, 5, 11, 13), f(7, 5, 3, 3), f(7)}, 1},
		{onnxOp("Conv", 11), "filters", attrs{"group": int64(2), "auto_pad": "SAME_UPPER"}, []*tensor.Tensor{f(2, 6, 9, 8), f(34, 3, 4, 3)}, 1},
		{onnxOp("Conv", 11), "filters", attrs{"group": int64(6), "pads": ints(1, 2, 0, 1)}, []*tensor.Tensor{f(2, 6, 9, 8), f(12, 1, 3, 3), f(12)}, 1},
		{onnxOp("Conv", 11), "filters", attrs{"pads": ints(2, 1), "dilations": ints(2)}, []*tensor.Tensor{f(2, 6, 40), f(10, 6, 3), f(10)}, 1},
		{onnxOp("ConvTranspose", 11), "terms", attrs{"strides": ints(2, 2), "pads": ints(1, 0, 1, 1), "group": int64(2), "output_padding": ints(1, 0)}, []*tensor.Tensor{f(2, 6, 5, 4), f(6, 4, 3, 3), f(8)}, 1},
		{onnxOp("MaxPool", 12), "planes", attrs{"kernel_shape": ints(3, 3), "strides": ints(2, 2), "pads": ints(1, 1, 1, 1)}, []*tensor.Tensor{f(2, 3, 12, 9)}, 1},
		{onnxOp("MaxPool", 12), "planes", attrs{"kernel_shape": ints(3, 2), "strides": ints(2, 2), "ceil_mode": int64(1)}, []*tensor.Tensor{f(2, 3, 12, 9)}, 1},
		{onnxOp("AveragePool", 19), "planes", attrs{"kernel_shape": ints(3, 3), "pads": ints(1, 1, 1, 1), "count_include_pad": int64(1)}, []*tensor.Tensor{f(2, 3, 12, 9)}, 1},
		{onnxOp("AveragePool", 19), "planes", attrs{"kernel_shape": ints(3, 3), "strides": ints(2, 2), "auto_pad": "SAME_LOWER"}, []*tensor.Tensor{f(2, 3, 12, 9)}, 1},
		{onnxOp("GlobalAveragePool", 1), "rows", nil, []*tensor.Tensor{f(2, 3, 12, 9)}, 1},
		{onnxOp("BatchNormalization", 15), "channels", nil, []*tensor.Tensor{f(2, 3, 12, 9), f(3), f(3), f(3), positive(3)}, 1},
		{onnxOp("InstanceNormalization", 6), "channels", nil, []*tensor.Tensor{f(2, 3, 12, 9), f(3), f(3)}, 1},
		{onnxOp("GroupNormalization", 21), "channels", attrs{"num_groups": int64(2)}, []*tensor.Tensor{f(2, 6, 12, 9), f(6), f(6)}, 1},
		{onnxOp("LSTM", 14), "steps", attrs{"direction": "bidirectional", "hidden_size": int64(9)}, []*tensor.Tensor{f(5, 3, 7), f(2, 36, 7), f(2, 36, 9), f(2, 72), nil, f(2, 3, 9), f(2, 3, 9)}, 3},
		{onnxOp("LSTM", 7), "steps", attrs{"direction": "reverse", "hidden_size": int64(16)}, []*tensor.Tensor{f(4, 1, 7), f(1, 64, 7), f(1, 64, 16)}, 3},
		{onnxOp("GRU", 14), "steps", attrs{"direction": "bidirectional", "hidden_size": int64(9), "linear_before_reset": int64(1)}, []*tensor.Tensor{f(5, 3, 7), f(2, 27, 7), f(2, 27, 9), f(2, 54), nil, f(2, 3, 9)}, 2},
		{onnxOp("GRU", 7), "steps", attrs{"hidden_size": int64(16)}, []*tensor.Tensor{f(5, 2, 7), f(1, 48, 7), f(1, 48, 16), f(1, 96), nil, f(1, 2, 16)}, 2},
		{onnxOp("QuantizeLinear", 13), "bytes", nil, []*tensor.Tensor{f(2, 3, 50), step, zu}, 1},
		{onnxOp("QuantizeLinear", 13), "bytes", attrs{"axis": int64(1)}, []*tensor.Tensor{f(2, 3, 50), positive(3), bytes(i8, 3)}, 1},
		{onnxOp("DequantizeLinear", 13), "bytes", attrs{"axis": int64(-2)}, []*tensor.Tensor{bytes(u8, 2, 3, 50), positive(3), bytes(u8, 3)}, 1},
		{onnxOp("DequantizeLinear", 10), "bytes", nil, []*tensor.Tensor{bytes(i8, 2, 3, 50), step, zi}, 1},
		{onnxOp("DynamicQuantizeLinear", 11), "bytes", nil, []*tensor.Tensor{f(7, 33)}, 3},
		{onnxOp("MatMulInteger", 10), "quads", nil, []*tensor.Tensor{bytes(u8, 2, 20, 37), bytes(i8, 37, 70), zu, zi}, 1},
		{onnxOp("MatMulInteger", 10), "quads", nil, []*tensor.Tensor{bytes(i8, 3, 64), bytes(u8, 64, 33), zi, bytes(u8, 33)}, 1},
		{onnxOp("MatMulInteger", 10), "quads", nil, []*tensor.Tensor{bytes(u8, 2, 3, 9, 31), bytes(u8, 2, 3, 31, 12), zu, zu}, 1},
		{onnxOp("QLinearMatMul", 10), "quads", nil, []*tensor.Tensor{bytes(u8, 5, 40), step, zu, bytes(i8, 40, 50), step, zi, one, zu}, 1},
		{onnxOp("QLinearMatMul", 10), "quads", nil, []*tensor.Tensor{bytes(i8, 37, 40), step, zi, bytes(i8, 40, 50), positive(50), bytes(i8, 50), one, zi}, 1},
		{onnxOp("QLinearMatMul", 10), "quads", nil, []*tensor.Tensor{bytes(u8, 2, 30, 40), step, zu, bytes(u8, 2, 40, 33), step, zu, one, zu}, 1},
		{onnxOp("Resize", 10), "repeat", nil, []*tensor.Tensor{f(2, 3, 5, 7), tensor.From([]float32{1, 1, 2, 2}, 4)}, 1},
		{onnxOp("Resize", 13), "repeat", nil, []*tensor.Tensor{f(2, 3, 5, 7), nil, tensor.From([]float32{1, 1, 1, 3}, 4)}, 1},
		{onnxOp("Resize", 19), "repeat", attrs{"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, []*tensor.Tensor{f(2, 3, 5, 7), nil, nil, tensor.Ints(2, 3, 20, 14)}, 1},
		{onnxOp("Resize", 19), "repeat", attrs{"nearest_mode": "round_prefer_ceil"}, []*tensor.Tensor{f(2, 3, 5, 7), nil, tensor.From([]float32{1, 1, 5, 2.1}, 4)}, 1},
		{onnxOp("QLinearConv", 10), "filters", attrs{"pads": ints(1, 1, 1, 1), "strides": ints(2, 1)}, []*tensor.Tensor{bytes(u8, 2, 5, 11, 13), step, zu, bytes(i8, 7, 5, 3, 3), positive(7), none, one, zu, whole(7)}, 1},
		{onnxOp("QLinearConv", 10), "filters", attrs{"kernel_shape": ints(1, 1)}, []*tensor.Tensor{bytes(i8, 1, 6, 8, 8), step, zi, bytes(i8, 7, 6, 1, 1), step, tensor.Scalar(int8(0)), one, zi}, 1},
		{onnxOp("MaxPool", 12), "planes", attrs{"kernel_shape": ints(3, 3), "strides": ints(2, 2), "pads": ints(1, 1, 1, 1)}, []*tensor.Tensor{bytes(i8, 2, 3, 12, 9)}, 1},
		{graph.OpID{Domain: "com.microsoft", Name: "QLinearAdd", Since: 1}, "bytes", nil, []*tensor.Tensor{bytes(u8, 2, 300), step, zu, bytes(u8, 2, 300), positive(1), zu, step, zu}, 1},
		{graph.OpID{Domain: "com.microsoft", Name: "FusedConv", Since: 1}, "filters", attrs{"pads": ints(1, 1, 1, 1), "activation": "Clip", "activation_params": []float32{0, 6}}, []*tensor.Tensor{f(2, 5, 9, 8), f(6, 5, 3, 3), f(6), f(2, 6, 9, 8)}, 1},
		{onnxOp("QLinearConv", 10), "filters", attrs{"group": int64(7), "pads": ints(1, 1, 1, 1)}, []*tensor.Tensor{bytes(u8, 2, 7, 9, 8), step, zu, bytes(i8, 7, 1, 3, 3), positive(7), none, one, zu, whole(7)}, 1},
	} {
		quantised := strings.Contains(c.op.Name, "Q") || c.op.Name == "MaxPool" || c.op.Name == "MatMulInteger"
		for _, constant := range []bool{true, false} {
			if c.op.Name == "QLinearConv" && !constant {
				continue // bytes to convolve with are constants
			}
			t.Run(fmt.Sprintf("%s/%s/constant=%v", c.op, c.kernel, constant), func(t *testing.T) {
				g, feeds, err := nodeGraph(t, table, c.op, c.attrs, c.in, c.nOut, func(i int, _ *tensor.Tensor) bool { return constant && i > 0 }, false)
				if err != nil {
					t.Fatal(err)
				}
				want, err := ops.Eval(context.Background(), table, g.Nodes[0], c.in)
				if err != nil {
					t.Fatal(err)
				}
				var first map[string]*tensor.Tensor
				for _, threads := range []int{1, 2} {
					e := open(t, table, g, backends.Target{Threads: threads})
					if k := e.Plan().Kernels[0]; k != c.kernel {
						t.Fatalf("kernel %q, want %q", k, c.kernel)
					}
					got, err := newSession(t, e).Run(context.Background(), feeds, nil)
					if err != nil {
						t.Fatal(err)
					}
					for i, v := range g.Outputs {
						if quantised && !want[i].DType.IsFloat() {
							offByOne(t, got[v.Name], want[i])
						} else if err := closeTo(got[v.Name], want[i], 2e-5, 2e-5); err != nil {
							t.Errorf("%d threads, output %d: %v", threads, i, err)
						}
						if first != nil && string(first[v.Name].Data) != string(got[v.Name].Data) {
							t.Errorf("output %d depends on the number of threads", i)
						}
					}
					first = got
				}
			})
		}
	}
}

// offByOne allows a rounding in float32 to fall on the other side of a tie: one
// unit, in one of a thousand elements; sums of integers are exact.
func offByOne(t *testing.T, got, want *tensor.Tensor) {
	t.Helper()
	if got.TypeString() != want.TypeString() {
		t.Fatalf("got %s, want %s", got.TypeString(), want.TypeString())
	}
	off := 0
	for i := range got.Len() {
		switch d := got.IntAt(i) - want.IntAt(i); {
		case d == 0:
		case got.DType == tensor.Int32 || d > 1 || d < -1:
			t.Fatalf("element %d is %d, want %d", i, got.IntAt(i), want.IntAt(i))
		default:
			off++
		}
	}
	if off > got.Len()/1000 {
		t.Errorf("%d of %d elements are off by one", off, got.Len())
	}
}
