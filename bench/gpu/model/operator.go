package main

import (
	"context"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cuda"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// filled is a tensor of a block of random numbers, again and again.
func filled(d tensor.DType, number func() float64, shape ...int) *tensor.Tensor {
	t := tensor.New(d, shape...)
	const some = 1 << 20
	for i := range min(t.Len(), some) {
		t.SetAt(i, number())
	}
	for at := d.Bytes(some); at < len(t.Data); {
		at += copy(t.Data[at:], t.Data[:d.Bytes(some)])
	}
	return t
}

// timed is the seconds of device time in which g, whose nodes have no types yet, computes y.
func timed(table *ops.Table, g *graph.Graph, y *graph.Value, in map[string]*tensor.Tensor, rounds int) (float64, error) {
	if err := ops.InferGraph(table, g); err != nil {
		return 0, err
	}
	g.AddOutput(y)
	back := cuda.New(table)
	plan, err := back.Compile(g, backends.Target{})
	if err != nil {
		return 0, err
	}
	exe, err := back.Open(plan, nil)
	if err != nil {
		return 0, err
	}
	defer exe.Close()
	s, err := exe.NewSession()
	if err != nil {
		return 0, err
	}
	if _, err := s.Run(context.Background(), in, nil); err != nil {
		return 0, err
	}
	times, err := s.(interface {
		Parts(int) (map[string]float32, error)
	}).Parts(rounds)
	return float64(times[""]) / 1e3, err
}
