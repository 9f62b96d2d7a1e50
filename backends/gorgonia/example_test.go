package gorgonia_test

import (
	"context"
	"fmt"

	gg "gorgonia.org/gorgonia"
	gt "gorgonia.org/tensor"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/gorgonia"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// A Gorgonia program with Mamba-2's scan in it: one head of one channel and one
// state, whose decay exp(A*dt) is 1/2 per step.
func ExampleSSD() {
	g := gg.NewGraph()
	in := func(name string, v []float32, shape ...int) *gg.Node {
		return gg.NodeFromAny(g, gt.New(gt.WithShape(shape...), gt.WithBacking(v)), gg.WithName(name))
	}
	ones := func() []float32 { return []float32{1, 1, 1, 1} }
	x := in("x", []float32{8, 0, 0, 4}, 1, 4, 1, 1)                  // [B,L,H,P]
	dt := in("dt", ones(), 1, 4, 1)                                  // [B,L,H]
	A := in("A", []float32{-0.6931472}, 1)                           // [H]: -ln 2
	B, C := in("B", ones(), 1, 4, 1, 1), in("C", ones(), 1, 4, 1, 1) // [B,L,G,N]
	y, hT, err := gorgonia.SSD(x, dt, A, B, C)
	if err != nil {
		fmt.Println(err)
		return
	}
	m := gg.NewTapeMachine(g)
	defer m.Close()
	if err := m.RunAll(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.3f\n", y.Value().Data())
	fmt.Printf("%.3f\n", hT.Value().Data())
	// Output:
	// [8.000 4.000 2.000 5.000]
	// [5.000]
}

// Gorgonia as a backend of ssdc.
func ExampleNew() {
	registry, err := model.Standard()
	if err != nil {
		fmt.Println(err)
		return
	}
	registry.Backends = append(registry.Backends, gorgonia.New(registry.Table))

	g := graph.New("double")
	b := ops.NewBuilder(registry.Table, g)
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("n")))
	y := b.Op("Add", nil, x, x)
	g.AddOutput(y)

	on, err := registry.Backend("gorgonia")
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := on.Compile(g, backends.Target{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := registry.Load(plan, nil, model.Options{})
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
	out, err := s.Run(context.Background(), map[string]*tensor.Tensor{"x": tensor.From([]float32{1, 2}, 2)})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(out[y.Name].AsFloats())
	// Output: [2 4]
}
