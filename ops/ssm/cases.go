package ssm

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// The seeds that every backend is tested on: odd sizes, every optional operand,
// decays from none to strong. Numbers are made by a formula, so that a case is
// the same everywhere.

// wave fills a tensor with numbers in about (-1, 1).
func wave(seed float64, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, shape...)
	for i := range t.Len() {
		t.SetAt(i, math.Sin(seed+1.7*float64(i)+0.3*float64(i%7)))
	}
	return t
}

// scaled maps x to lo + (hi-lo)*(x+1)/2.
func scaled(t *tensor.Tensor, lo, hi float64) *tensor.Tensor {
	for i := range t.Len() {
		t.SetAt(i, lo+(hi-lo)*(t.At(i)+1)/2)
	}
	return t
}

func ssdCase(name string, B, L, H, P, G, N int, change func(in []*tensor.Tensor, a graph.Attrs)) ops.Case {
	in := []*tensor.Tensor{
		wave(1, B, L, H, P), scaled(wave(2, B, L, H), 0.001, 0.5), scaled(wave(3, H), -4, -0.1), wave(4, B, L, G, N), wave(5, B, L, G, N),
		nil, nil, nil, nil, nil,
	}
	a := graph.Attrs{}
	if change != nil {
		change(in, a)
	}
	return ops.Case{Name: name, In: in, Attrs: a, NOut: 2, Rtol: 1e-4, Atol: 1e-5}
}

var ssdCases = []ops.Case{
	ssdCase("plain", 2, 37, 4, 8, 1, 16, nil),
	ssdCase("one token", 1, 1, 4, 8, 2, 16, func(in []*tensor.Tensor, _ graph.Attrs) { in[8] = wave(6, 1, 4, 8, 16) }),
	ssdCase("no token", 2, 0, 2, 3, 1, 5, func(in []*tensor.Tensor, _ graph.Attrs) { in[8] = wave(6, 2, 2, 3, 5) }),
	ssdCase("all options", 2, 70, 6, 5, 3, 24, func(in []*tensor.Tensor, a graph.Attrs) {
		in[1], in[5], in[6], in[7], in[8] = wave(2, 2, 70, 6), wave(7, 6), wave(8, 2, 70, 6, 5), wave(9, 6), wave(6, 2, 6, 5, 24)
		a["dt_softplus"], a["dt_min"], a["dt_max"] = int64(1), float32(0.05), float32(1.5)
	}),
	ssdCase("D per head and channel", 1, 33, 2, 7, 2, 40, func(in []*tensor.Tensor, _ graph.Attrs) { in[5] = wave(7, 2, 7) }),
	ssdCase("log decay", 2, 65, 3, 16, 1, 16, func(in []*tensor.Tensor, _ graph.Attrs) {
		in[1], in[2] = nil, scaled(wave(3, 2, 65, 3), -1, 0.1)
	}),
	ssdCase("log decay and dt", 1, 20, 3, 4, 3, 4, func(in []*tensor.Tensor, _ graph.Attrs) { in[2] = scaled(wave(3, 1, 20, 3), -60, 0) }),
	ssdCase("sequences", 2, 40, 2, 8, 1, 8, func(in []*tensor.Tensor, _ graph.Attrs) {
		seq := tensor.New(tensor.Int32, 2, 40)
		for i := range seq.Len() {
			seq.SetIntAt(i, int64(i%40/13))
		}
		in[8], in[9] = wave(6, 2, 2, 8, 8), seq
	}),
}

func selectiveCase(name string, B, L, D, N int, change func(in []*tensor.Tensor, a graph.Attrs)) ops.Case {
	in := []*tensor.Tensor{
		wave(1, B, L, D), scaled(wave(2, B, L, D), 0.001, 0.5), scaled(wave(3, D, N), -8, -0.1), wave(4, B, L, N), wave(5, B, L, N),
		nil, nil, nil, nil,
	}
	a := graph.Attrs{}
	if change != nil {
		change(in, a)
	}
	return ops.Case{Name: name, In: in, Attrs: a, NOut: 2, Rtol: 1e-4, Atol: 1e-5}
}

var selectiveCases = []ops.Case{
	selectiveCase("plain", 2, 19, 24, 16, nil),
	selectiveCase("one token", 3, 1, 33, 8, func(in []*tensor.Tensor, _ graph.Attrs) { in[8] = wave(6, 3, 33, 8) }),
	selectiveCase("all options", 1, 40, 17, 5, func(in []*tensor.Tensor, a graph.Attrs) {
		in[1], in[5], in[6], in[7], in[8] = wave(2, 1, 40, 17), wave(7, 17), wave(8, 1, 40, 17), wave(9, 17), wave(6, 1, 17, 5)
		a["dt_softplus"] = int64(1)
	}),
}

var linearScanCases = []ops.Case{
	{Name: "plain", In: []*tensor.Tensor{scaled(wave(1, 2, 9, 33), 0, 1), wave(2, 2, 9, 33), nil}, NOut: 2},
	{Name: "from a state", In: []*tensor.Tensor{wave(1, 1, 5, 3, 4), wave(2, 1, 5, 3, 4), wave(3, 1, 3, 4)}, NOut: 2},
	{Name: "constant decay per channel", In: []*tensor.Tensor{scaled(wave(1, 1, 1, 3, 1), 0, 1), wave(2, 2, 7, 3, 4), wave(3, 2, 3, 4)}, NOut: 2},
	{Name: "decay per token and head", In: []*tensor.Tensor{scaled(wave(1, 2, 7, 3, 1), 0, 1), wave(2, 2, 7, 3, 4), nil}, NOut: 2},
	{Name: "complex", In: []*tensor.Tensor{scaled(wave(1, 1, 1, 5, 2), -0.7, 0.7), wave(2, 2, 9, 5, 2), wave(3, 2, 5, 2)}, Attrs: graph.Attrs{"complex": int64(1)}, NOut: 2},
	{Name: "complex by hand", In: []*tensor.Tensor{tensor.From([]float32{0, 1}, 1, 1, 1, 2), tensor.From([]float32{1, 0, 1, 0}, 1, 2, 1, 2), nil},
		Attrs: graph.Attrs{"complex": int64(1)}, NOut: 2, // i*1 + 1
		Want: []*tensor.Tensor{tensor.From([]float32{1, 0, 1, 1}, 1, 2, 1, 2), tensor.From([]float32{1, 1}, 1, 1, 2)}},
}

var convCases = []ops.Case{
	{Name: "plain", In: []*tensor.Tensor{wave(1, 2, 11, 20), wave(2, 20, 4), nil, nil}, NOut: 2},
	{Name: "SiLU, state of K columns", In: []*tensor.Tensor{wave(1, 2, 3, 35), wave(2, 35, 4), wave(3, 35), wave(4, 2, 35, 4)},
		Attrs: graph.Attrs{"activation": "silu"}, NOut: 2},
	{Name: "one token, state of K-1 columns", In: []*tensor.Tensor{wave(1, 1, 1, 16), wave(2, 16, 3), wave(3, 16), wave(4, 1, 16, 2)}, NOut: 2},
	{Name: "wider state out", In: []*tensor.Tensor{wave(1, 1, 2, 8), wave(2, 8, 4), nil, nil}, Attrs: graph.Attrs{"state_width": int64(4)}, NOut: 2},
}

var gatedNormCases = []ops.Case{
	{Name: "gate first", In: []*tensor.Tensor{wave(1, 2, 3, 48), wave(2, 2, 3, 48), wave(3, 48)}},
	{Name: "norm first, groups", In: []*tensor.Tensor{wave(1, 5, 48), wave(2, 5, 48), wave(3, 48)},
		Attrs: graph.Attrs{"norm_before_gate": int64(1), "group_size": int64(16), "epsilon": float32(1e-3)}},
}

var linearCases = []ops.Case{
	{Name: "product", In: []*tensor.Tensor{wave(1, 2, 3, 20), wave(2, 20, 33), nil, nil}},
	{Name: "SiLU and residual", In: []*tensor.Tensor{wave(1, 7, 20), wave(2, 20, 33), wave(3, 33), wave(4, 7, 33)}, Attrs: graph.Attrs{"activation": "silu"}},
	{Name: "softplus, one row", In: []*tensor.Tensor{wave(1, 1, 64), wave(2, 64, 40), wave(3, 40)}, Attrs: graph.Attrs{"activation": "softplus"}},
}
