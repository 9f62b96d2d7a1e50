package cuda

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// TestCompiledChains: chains compiled by NVRTC give what the interpreter gives, bit for bit but for functions of floats, in every type, over
// operands that step evenly, repeat or lie apart; where NVRTC refuses, the interpreter serves.
func TestCompiledChains(t *testing.T) {
	needDevice(t)
	t.Setenv("SSDC_EMULATED_RTC", "1")
	if _, _, err := driver.RTCVersion(); err != nil {
		if strings.Contains(os.Getenv("SSDC_LIBNVRTC"), "emulated") {
			t.Fatal(err)
		}
		t.Skip("this machine has no NVRTC, which the driver does not need: ", err)
	}
	table := opTable(t)
	f32, bf16, f16, f64 := tensor.Float32, tensor.BFloat16, tensor.Float16, tensor.Float64
	node := func(g *graph.Graph, op string, since int, attrs graph.Attrs, in ...*graph.Value) *graph.Value {
		return g.Add(graph.OpID{Name: op, Since: since}, attrs, in, 1, fmt.Sprint("n", len(g.Nodes))).Out[0]
	}
	for _, c := range []struct {
		name   string
		inputs []*tensor.Tensor
		build  func(g *graph.Graph, x []*graph.Value) *graph.Value
	}{
		{"affine", []*tensor.Tensor{random(1, f32, 3, 5, 8), random(2, f32, 8), random(3, f32, 3, 1, 1)}, func(g *graph.Graph, x []*graph.Value) *graph.Value {
			two := g.AddConst("two", number32(2))
			return node(g, "Tanh", 13, nil, node(g, "Sub", 14, nil, two, node(g, "Mul", 14, nil, node(g, "Add", 14, nil, x[0], x[1]), x[2])))
		}},
		{"bfloat16", []*tensor.Tensor{random(1, bf16, 2, 6, 4), random(2, bf16, 6, 4)}, func(g *graph.Graph, x []*graph.Value) *graph.Value {
			return node(g, "Sigmoid", 13, nil, node(g, "Mul", 14, nil, x[0], x[1]))
		}},
		{"float16, odd", []*tensor.Tensor{random(1, f16, 7, 3), random(2, f16, 7, 1)}, func(g *graph.Graph, x []*graph.Value) *graph.Value {
			return node(g, "LeakyRelu", 16, graph.Attrs{"alpha": float32(0.1)}, node(g, "Div", 14, nil, x[0], x[1]))
		}},
		{"apart", []*tensor.Tensor{random(1, f32, 4, 6), random(2, f32, 6, 4)}, func(g *graph.Graph, x []*graph.Value) *graph.Value {
			return node(g, "Exp", 13, nil, node(g, "Add", 14, nil, x[0], node(g, "Transpose", 13, graph.Attrs{"perm": []int64{1, 0}}, x[1])))
		}},
		{"choice", []*tensor.Tensor{random(1, f32, 5, 4), random(2, f32, 5, 4)}, func(g *graph.Graph, x []*graph.Value) *graph.Value {
			return node(g, "Where", 16, nil, node(g, "Less", 13, nil, x[0], x[1]), x[0], node(g, "Neg", 13, nil, x[1]))
		}},
		{"integers", []*tensor.Tensor{tensor.Ints(5, -7, 9, 0, 12), tensor.Ints(3, 2, -4, 1, 5)}, func(g *graph.Graph, x []*graph.Value) *graph.Value {
			return node(g, "Add", 14, nil, node(g, "Mod", 13, nil, x[0], x[1]), node(g, "Mul", 14, nil, x[0], x[0]))
		}},
		{"double", []*tensor.Tensor{random(1, f64, 9)}, func(g *graph.Graph, x []*graph.Value) *graph.Value {
			return node(g, "Softplus", 1, nil, node(g, "Pow", 15, nil, node(g, "Abs", 13, nil, x[0]), g.AddConst("p", number32(1.5))))
		}},
		{"casts", []*tensor.Tensor{random(1, f32, 6, 4)}, func(g *graph.Graph, x []*graph.Value) *graph.Value {
			return node(g, "Cast", 13, graph.Attrs{"to": int64(bf16)}, node(g, "Clip", 13, nil, x[0], g.AddConst("low", number32(-0.5)), g.AddConst("high", number32(0.25))))
		}},
		{"logic", []*tensor.Tensor{tensor.Ints(1, 2, 3, 4), tensor.Ints(4, 3, 3, 1)}, func(g *graph.Graph, x []*graph.Value) *graph.Value {
			return node(g, "Not", 1, nil, node(g, "GreaterOrEqual", 16, nil, x[0], x[1]))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := graph.New("chain")
			var x []*graph.Value
			feeds := map[string]*tensor.Tensor{}
			for i, in := range c.inputs {
				name := fmt.Sprint("x", i)
				x = append(x, g.AddInput(name, graph.TypeOf(in)))
				feeds[name] = in
			}
			y := c.build(g, x)
			g.AddOutput(y)
			if err := ops.InferGraph(table, g); err != nil {
				t.Fatal(err)
			}
			var results []*tensor.Tensor
			for _, rtc := range []string{"on", "off"} {
				h, _ := g.Clone()
				e, _ := open(t, h, backends.Target{Options: map[string]string{"rtc": rtc}})
				out, err := session_(t, e).Run(context.Background(), feeds, nil)
				if err != nil {
					t.Fatal(err)
				}
				compiled := 0
				for _, f := range e.dev.chains {
					if f != nil {
						compiled++
					}
				}
				if want := rtc == "on"; (compiled > 0) != want {
					t.Errorf("rtc=%s: %d chains are compiled", rtc, compiled)
				}
				results = append(results, out[y.Name].Clone())
			}
			want, err := ops.Run(context.Background(), table, g, c.inputs)
			if err != nil {
				t.Fatal(err)
			}
			for i, got := range results {
				if dist, err := distance(got, want[0]); err != nil || !(dist <= limit(want[0].DType)) {
					t.Errorf("%s: distance %.2e %v", []string{"compiled", "interpreted"}[i], dist, err)
				}
			}
		})
	}
}

func number32(v float64) *tensor.Tensor {
	t := tensor.New(tensor.Float32)
	t.SetAt(0, v)
	return t
}

// TestChainText: the text of a chain says what is done, and chains that differ in lengths alone share it.
func TestChainText(t *testing.T) {
	c := &chain{code: []instruction{{code: binaryCodes["Mul"], from: fromConstant, constants: [2]float64{0.5}}, {code: binaryCodes["Add"], from: fromInput, index: 1, swap: 1}}}
	in := []*Mem{denseMem(tensor.BFloat16, []int{64}), denseMem(tensor.Float32, []int{64})}
	text, ok := c.source("f32", 4, 1, denseMem(tensor.Float32, []int{64}), in, []int{1, 0})
	for _, line := range []string{"load<kBF16, 1>(p.in[0], at[0], p.in[0].stride[0], acc);", "operate<3, false>(acc, (float)0x1p-01);", "load<kF32, 0>(p.in[1], at[1], p.in[1].stride[0], a);", "operate<1, true>(acc, a, ", "store<kF32>(p.out, first, acc);"} {
		if !ok || !strings.Contains(text, line) {
			t.Errorf("the text lacks %q:\n%s", line, text)
		}
	}
}
