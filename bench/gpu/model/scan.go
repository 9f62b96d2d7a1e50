package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// measureScan times one scan alone, by device events: op is selective (Mamba-1's, a decay for every channel and state) or ssd
// (Mamba-2's, a decay for every head), over 5120 channels with the given size of state.
func measureScan(op string, batch, length, state int) error {
	table := &ops.Table{}
	if err := onnx.Register(table); err != nil {
		return err
	}
	if err := ssm.Register(table); err != nil {
		return err
	}
	const channels, headDim = 5120, 64
	heads := channels / headDim
	r, g := rand.New(rand.NewPCG(5, 6)), graph.New("scan")
	in := map[string]*tensor.Tensor{}
	input := func(name string, d tensor.DType, low, high float64, shape ...int) *graph.Value {
		in[name] = filled(d, func() float64 { return low + (high-low)*r.Float64() }, shape...)
		return g.AddInput(name, graph.TypeOf(in[name]))
	}
	bf, f32 := tensor.BFloat16, tensor.Float32
	var n *graph.Node
	if op == "selective" {
		n = g.Add(graph.OpID{Domain: "ssm", Name: "SelectiveScan", Since: 1}, nil, []*graph.Value{
			input("u", bf, -1, 1, batch, length, channels), input("dt", bf, 0.001, 0.1, batch, length, channels), input("A", f32, -16, -1, channels, state),
			input("B", bf, -1, 1, batch, length, state), input("C", bf, -1, 1, batch, length, state)}, 2, "scan")
	} else {
		n = g.Add(graph.OpID{Domain: "ssm", Name: "SSD", Since: 1}, nil, []*graph.Value{
			input("x", bf, -1, 1, batch, length, heads, headDim), input("dt", f32, 0.001, 0.1, batch, length, heads), input("A", f32, -16, -1, heads),
			input("B", bf, -1, 1, batch, length, 1, state), input("C", bf, -1, 1, batch, length, 1, state)}, 1, "scan")
	}
	seconds, err := timed(table, g, n.Out[0], in, 5)
	if err != nil {
		return err
	}
	names := map[string]string{"selective": "selective scan (Mamba-1)", "ssd": "SSD (Mamba-2)"}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"work": "ssdc " + names[op], "B": batch, "L": length, "N": state, "seconds": seconds, "blas": "on", "channels": fmt.Sprint(channels),
	})
}
