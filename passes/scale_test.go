//go:build unix

package passes_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/std"
)

// TestCompileTimeIsLinear runs the standard passes on chains of layers: ten times
// the nodes take no more than some twenty times as long, and 100,000 nodes less
// than 20 seconds, of the processor: other processes have no part in it.
func TestCompileTimeIsLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("a graph of 100,000 nodes")
	}
	run := func(nodes int) time.Duration {
		g := deep(t, table(t), nodes)
		c := passes.NewContext(context.Background(), table(t))
		start := processorTime(t)
		if err := passes.Pipeline(std.Passes).Run(c, g); err != nil {
			t.Fatal(err)
		}
		return processorTime(t) - start
	}
	small, large := run(10_000), run(100_000)
	t.Logf("10,000 nodes: %v, 100,000: %v", small, large)
	if large > 20*time.Second || large > 25*small {
		t.Errorf("10,000 nodes take %v, 100,000 take %v", small, large)
	}
}

// deep is a chain of projections with bias, SiLU and residual, five nodes each.
func deep(t *testing.T, table *ops.Table, nodes int) *graph.Graph {
	g := graph.New("layers")
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("B"), graph.D(16)))
	b := ops.NewBuilder(table, g)
	var weight, bias []*graph.Value
	for i := range 4 {
		w, c := tensor.New(tensor.Float32, 16, 16), tensor.New(tensor.Float32, 16)
		for j := range w.Len() {
			w.SetAt(j, float64((j*7+i)%5-2)/4)
		}
		weight, bias = append(weight, g.AddConst(fmt.Sprintf("w%d", i), w)), append(bias, g.AddConst(fmt.Sprintf("b%d", i), c))
	}
	for i := 0; len(g.Nodes) < nodes; i++ {
		y := b.Op("Add", nil, b.Op("MatMul", nil, x, weight[i%4]), bias[i%4])
		x = b.Op("Add", nil, b.Op("Mul", nil, y, b.Op("Sigmoid", nil, y)), x)
	}
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	g.AddOutput(x)
	return g
}

// processorTime is what this process has used so far.
func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
