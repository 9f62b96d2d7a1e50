package cpu

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// smallTiles makes tiles so small that the test's tensors have many.
func smallTiles(t *testing.T) {
	was := tileElems
	tileElems = 16
	t.Cleanup(func() { tileElems = was })
}

// TestTiles: chains with numbers, rows and columns run as one step, and a part
// of a result that is broadcast back ends the chain.
func TestTiles(t *testing.T) {
	smallTiles(t)
	table := opTable(t)
	r := rand.New(rand.NewPCG(6, 6))
	g := graph.New("chain")
	b := ops.NewBuilder(table, g)
	B := graph.Sym("B")
	x := g.AddInput("x", graph.T(tensor.Float32, B, graph.D(37)))
	row, col := b.Const(randn(r, 1, 37)), g.AddInput("col", graph.T(tensor.Float32, B, graph.D(1)))
	h := b.Op("Sigmoid", nil, b.Op("Add", nil, x, row))
	h = b.Op("Mul", nil, col, h)
	h = b.Op("Sub", nil, b.Const(tensor.Scalar[float32](1)), h)
	first := b.Op("Slice", nil, h, b.Ints(0), b.Ints(1), b.Ints(1)) // a view
	g.AddOutput(b.Op("Tanh", nil, b.Op("Mul", nil, h, first)))
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	s := newSession(t, open(t, table, g, backends.Target{Threads: 2}))
	var kernels []string
	s.Trace(func(st backends.StepTime) { kernels = append(kernels, st.Kernel) })
	for _, n := range []int{1, 2, 50, 2000} {
		kernels = nil
		agree(t, table, g, s, map[string]*tensor.Tensor{"x": randn(r, 1, n, 37), "col": randn(r, 1, n, 1)})
	}
	if got, want := strings.Join(kernels, "; "), "tiled Add+Sigmoid+Mul+Sub; tiled Mul+Tanh"; got != want {
		t.Errorf("steps are %q, want %q", got, want)
	}
}

// BenchmarkChain runs seven element-wise operators over 12 million elements,
// in tiles and one after another.
func BenchmarkChain(b *testing.B) {
	table := opTable(b)
	for _, tile := range []int{tileElems, 1 << 40} {
		b.Run(fmt.Sprintf("tile=%d", tile), func(b *testing.B) {
			defer func(was int) { tileElems = was }(tileElems)
			tileElems = tile
			g := graph.New("chain")
			bb := ops.NewBuilder(table, g)
			x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("B"), graph.D(3072)))
			row := bb.Const(tensor.New(tensor.Float32, 3072))
			h := bb.Op("Add", nil, x, row)
			h = bb.Op("Mul", nil, h, bb.Op("Sigmoid", nil, h))
			h = bb.Op("Mul", nil, h, row)
			h = bb.Op("Sub", nil, h, x)
			h = bb.Op("Relu", nil, bb.Op("Neg", nil, h))
			g.AddOutput(h)
			if bb.Err != nil {
				b.Fatal(bb.Err)
			}
			s := newSession(b, open(b, table, g, backends.Target{Threads: 1}))
			in := feed("x", tensor.New(tensor.Float32, 4096, 3072))
			must(b, s, in, nil)
			for b.Loop() {
				must(b, s, in, nil)
			}
		})
	}
}
