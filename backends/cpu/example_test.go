package cpu_test

import (
	"context"
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// A running sum: a linear scan whose state the session keeps from run to run.
func Example() {
	table := &ops.Table{}
	if err := ssm.Register(table); err != nil {
		fmt.Println(err)
		return
	}
	g, err := graph.ParseString(`graph sum (float[1,L,1] decay, float[1,L,1] x, float[1,1] past) => (float[1,L,1] y, float[1,1] next) {
		float[1,L,1] y, float[1,1] next = ssm.LinearScan-1(decay, x, past)
	}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	b := cpu.New(table)
	plan, err := b.Compile(g, backends.Target{States: []backends.StatePair{{In: "past", Out: "next"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	exe, err := b.Open(plan, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer exe.Close()
	s, err := exe.NewSession()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, x := range [][]float32{{1, 2, 3}, {4, 5}} {
		ones := tensor.New(tensor.Float32, 1, len(x), 1)
		for i := range x {
			ones.SetAt(i, 1)
		}
		out, err := s.Run(context.Background(), map[string]*tensor.Tensor{"decay": ones, "x": tensor.From(x, 1, len(x), 1)}, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(plan.Kernels[0], out["y"].AsFloats())
	}
	// Output:
	// selscan [1 3 6]
	// selscan [10 15]
}
