package model_test

import (
	"context"
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// A registry compiles and opens graphs, or opens artifacts, and the model makes
// sessions. This one counts: its state is what the last run gave.
func Example() {
	reg, err := model.Standard()
	if err != nil {
		fmt.Println(err)
		return
	}
	g, err := graph.ParseString(`graph count (float[1] step, float[1] past) => (float[1] present) {
		float[1] present = Add-14 (past, step)
	}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	cpu, err := reg.Backend("cpu")
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := cpu.Compile(g, backends.Target{Name: "cpu", States: []backends.StatePair{{In: "past", Out: "present"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := reg.Load(plan, nil, model.Options{Threads: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	s, err := m.NewSession()
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		out, err := s.Run(context.Background(), map[string]*tensor.Tensor{"step": tensor.From([]float32{2}, 1)})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(out["present"].AsFloats())
	}
	// Output:
	// [2]
	// [4]
	// [6]
}
