package ssdc_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
)

// TestLargeGraph compiles a graph of 100,000 nodes with no recurrence in it:
// attention blocks as exporters write them, with shapes computed at run time.
// Every pass must stay near-linear in nodes: ten times as many nodes may take
// at most twenty times as long. -v prints the seconds.
func TestLargeGraph(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	set := standard(t)
	small := compileBlocks(t, set, 10_000)
	large := compileBlocks(t, set, 100_000)
	if large > 20*small && large > 20*time.Second {
		t.Errorf("100,000 nodes take %v, 10,000 take %v: more than twenty times as long", large, small)
	}
}

func compileBlocks(t *testing.T, set *plugin.Set, nodes int) time.Duration {
	g := blocks(t, set, nodes)
	n := len(g.Nodes)
	start := time.Now()
	c := passes.NewContext(context.Background(), set.Registry.Table)
	c.Observe = func(p *passes.Pass, g *graph.Graph, _ bool, took time.Duration) {
		t.Logf("  %-12s %6.2fs %d nodes", p.Name, took.Seconds(), len(g.Nodes))
	}
	if err := set.Pipeline.Run(c, g); err != nil {
		t.Fatal(err)
	}
	b, err := set.Registry.Backend("cpu")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Compile(g, backends.Target{Name: "cpu", Level: 1}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	t.Logf("%d nodes compiled in %.2f s, %d left", n, took.Seconds(), len(g.Nodes))
	return took
}

// blocks chains attention and feed-forward blocks up to a number of nodes.
func blocks(t *testing.T, set *plugin.Set, nodes int) *graph.Graph {
	g := graph.New("blocks")
	r := rand.New(rand.NewPCG(1, 2))
	b := passes.NewContext(context.Background(), set.Registry.Table).Builder(g, "")
	weight := func(shape ...int) *graph.Value {
		w := tensor.New(tensor.Float32, shape...)
		for i := range w.Len() {
			w.SetAt(i, r.NormFloat64()/8)
		}
		return b.Const(w)
	}
	const width, heads = 16, 4
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("batch"), graph.Sym("seq"), graph.D(width)))
	op := func(name string, attrs graph.Attrs, in ...*graph.Value) *graph.Value { return b.Op(name, attrs, in...) }
	for i := 0; len(g.Nodes) < nodes && b.Err == nil; i++ {
		b.From = fmt.Sprintf("/blocks.%d", i)
		h := op("LayerNormalization", nil, x, weight(width), weight(width))
		shape := op("Shape", nil, h)
		batch, seq := op("Gather", nil, shape, b.Ints(0)), op("Gather", nil, shape, b.Ints(1))
		split := op("Concat", graph.Attrs{"axis": int64(0)}, batch, seq, b.Ints(heads), b.Ints(width/heads))
		merge := op("Concat", graph.Attrs{"axis": int64(0)}, batch, seq, b.Ints(width))
		var qkv []*graph.Value
		for range 3 {
			v := op("Add", nil, op("MatMul", nil, h, weight(width, width)), weight(width))
			qkv = append(qkv, op("Transpose", graph.Attrs{"perm": []int64{0, 2, 1, 3}}, op("Reshape", nil, v, split)))
		}
		k := op("Transpose", graph.Attrs{"perm": []int64{0, 1, 3, 2}}, qkv[1])
		a := op("Softmax", nil, op("Mul", nil, op("MatMul", nil, qkv[0], k), b.Const(tensor.Scalar[float32](0.5))))
		o := op("Reshape", nil, op("Transpose", graph.Attrs{"perm": []int64{0, 2, 1, 3}}, op("MatMul", nil, a, qkv[2])), merge)
		x = op("Add", nil, x, op("MatMul", nil, o, weight(width, width)))
		f := op("MatMul", nil, x, weight(width, 2*width))
		f = op("Mul", nil, f, op("Sigmoid", nil, f))
		x = op("Add", nil, x, op("MatMul", nil, f, weight(2*width, width)))
	}
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	g.AddOutput(x)
	x.Name = g.UniqueName("y")
	return g
}

// TestManyCandidates: where every value has the shape of the input, each might be
// the next value of a state. 4,000 of them took minutes to look through.
func TestManyCandidates(t *testing.T) {
	set := standard(t)
	g := graph.New("fan")
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("b"), graph.D(16)))
	b := passes.NewContext(context.Background(), set.Registry.Table).Builder(g, "")
	var sum *graph.Value
	for i := range 4000 {
		v := b.Op([]string{"Add", "Mul"}[i%2], nil, x, b.Const(tensor.Scalar(float32(i))))
		if sum != nil {
			v = b.Op("Add", nil, sum, v)
		}
		sum = v
	}
	g.AddOutput(sum)
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	start := time.Now()
	if err := set.Pipeline.Run(passes.NewContext(context.Background(), set.Registry.Table), g); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("8,000 nodes take %v", d)
	}
}
