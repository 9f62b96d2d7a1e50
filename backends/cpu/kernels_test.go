package cpu

import (
	"context"
	"fmt"
	"math/rand/v2"
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
	} {
		for _, constant := range []bool{true, false} {
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
						if err := closeTo(got[v.Name], want[i], 2e-5, 2e-5); err != nil {
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
