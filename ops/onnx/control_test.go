package onnx

import (
	"context"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// node adds the newest version of an operator without inferring it.
func node(tab *ops.Table, g *graph.Graph, name string, attrs graph.Attrs, nOut int, in ...*graph.Value) *graph.Node {
	return g.Add(tab.Resolve("", name, 27).ID, attrs, in, nOut, strings.ToLower(name))
}

func runGraph(t *testing.T, tab *ops.Table, g *graph.Graph, in ...*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	if err := ops.InferGraph(tab, g); err != nil {
		t.Fatal(err)
	}
	if err := ops.Verify(tab, g); err != nil {
		t.Fatal(err)
	}
	out, err := ops.Run(context.Background(), tab, g, in)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if ty := g.Outputs[i].Type; !o.DType.IsContainer() && !fits(ty, graph.TypeOf(o)) {
			t.Errorf("output %d is %s, inferred %s", i, o.TypeString(), ty)
		}
	}
	return out
}

func wantTypes(t *testing.T, g *graph.Graph, types ...string) {
	t.Helper()
	for i, w := range types {
		if got := describeValue(g.Outputs[i]); got != w {
			t.Errorf("output %d is %s, want %s", i, got, w)
		}
	}
}

// TestLoopRecurrence is the shape of an exported time loop: h = h*x[t] + x[t],
// with h carried, y scanned, and a list that is stacked afterwards.
func TestLoopRecurrence(t *testing.T) {
	tab, g := table(t), graph.New("g")
	b, T := graph.Sym("B"), graph.Sym("T")
	x := g.AddInput("x", graph.T(tensor.Float32, T, b))
	h0 := g.AddInput("h0", graph.T(tensor.Float32, b))
	shape := node(tab, g, "Shape", nil, 1, x).Out[0]
	steps := node(tab, g, "Gather", nil, 1, shape, g.AddConst("zero", tensor.Scalar[int64](0))).Out[0]
	list := node(tab, g, "SequenceEmpty", nil, 1).Out[0]
	loop := node(tab, g, "Loop", nil, 3, steps, g.AddConst("true", tensor.Scalar(true)), h0, list)
	body := loop.AddBody("body", "body")
	i := body.AddInput("i", graph.Type{})
	cond := body.AddInput("cond", graph.Type{})
	h, l := body.AddInput("h", graph.Type{}), body.AddInput("l", graph.Type{})
	xt := node(tab, body, "Gather", nil, 1, x, i).Out[0]
	h1 := node(tab, body, "Add", nil, 1, node(tab, body, "Mul", nil, 1, h, xt).Out[0], xt).Out[0]
	l1 := node(tab, body, "SequenceInsert", nil, 1, l, h1).Out[0]
	y := node(tab, body, "Identity", nil, 1, h1).Out[0]
	body.AddOutput(node(tab, body, "Identity", nil, 1, cond).Out[0])
	for _, v := range []*graph.Value{h1, l1, y} {
		body.AddOutput(v)
	}
	stacked := node(tab, g, "ConcatFromSequence", graph.Attrs{"axis": int64(1), "new_axis": int64(1)}, 1, loop.Out[1]).Out[0]
	for _, v := range append(loop.Out, stacked) {
		g.AddOutput(v)
	}
	out := runGraph(t, tab, g, tensor.From([]float32{1, 2, 3, 4, 5, 6}, 3, 2), tensor.From([]float32{1, 0}, 2))
	wantTypes(t, g, "float[B]", "seq(float[B])={T}", "float[T,B]", "float[B,T]")
	if got := out[0].AsFloats(); got[0] != 50 || got[1] != 78 { // 1,2,9,50 and 0,2,12,78
		t.Errorf("h = %v", got)
	}
	if got, want := out[2].TypeString(), "float[3,2]"; got != want {
		t.Errorf("y is %s, want %s", got, want)
	}
	if out[3].At(1) != out[2].At(2) {
		t.Errorf("stacked %v, scanned %v", out[3].AsFloats(), out[2].AsFloats())
	}
}

// TestLoopGrowing carries a tensor that grows and ends early by its condition.
func TestLoopGrowing(t *testing.T) {
	tab, g := table(t), graph.New("g")
	x := g.AddInput("x", graph.T(tensor.Int64, graph.D(1), graph.Sym("B")))
	limit := g.AddInput("limit", graph.T(tensor.Int64))
	loop := node(tab, g, "Loop", nil, 2, nil, g.AddConst("true", tensor.Scalar(true)), x)
	body := loop.AddBody("body", "body")
	i := body.AddInput("i", graph.Type{})
	body.AddInput("cond", graph.Type{})
	v := body.AddInput("v", graph.Type{})
	grown := node(tab, body, "Concat", graph.Attrs{"axis": int64(0)}, 1, v, x).Out[0]
	body.AddOutput(node(tab, body, "Less", nil, 1, i, limit).Out[0])
	body.AddOutput(grown)
	body.AddOutput(node(tab, body, "Shape", nil, 1, v).Out[0])
	for _, o := range loop.Out {
		g.AddOutput(o)
	}
	out := runGraph(t, tab, g, tensor.From([]int64{7, 8}, 1, 2), tensor.Scalar[int64](2))
	wantTypes(t, g, "int64[?loop.0,B]", "int64[?loop_1.0,2]")
	if out[0].TypeString() != "int64[4,2]" || out[1].TypeString() != "int64[3,2]" {
		t.Errorf("got %s, %s", out[0].TypeString(), out[1].TypeString())
	}
	// No trips: the scan output has the lengths of its type.
	loop.SetIn(1, g.AddConst("false", tensor.Scalar(false)))
	out = runGraph(t, tab, g, tensor.From([]int64{7, 8}, 1, 2), tensor.Scalar[int64](2))
	if out[0].TypeString() != "int64[1,2]" || out[1].TypeString() != "int64[0,2]" {
		t.Errorf("no trips: got %s, %s", out[0].TypeString(), out[1].TypeString())
	}
}

func TestLoopCancel(t *testing.T) {
	tab, g := table(t), graph.New("g")
	loop := node(tab, g, "Loop", nil, 0)
	body := loop.AddBody("body", "body")
	body.AddInput("i", graph.Type{})
	body.AddOutput(body.AddInput("cond", graph.Type{}))
	if err := ops.InferGraph(tab, g); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := ops.Run(ctx, tab, g, nil); err == nil {
		t.Error("an endless loop ended without an error")
	}
}

func TestScan(t *testing.T) {
	tab, g := table(t), graph.New("g")
	b, T := graph.Sym("B"), graph.Sym("T")
	h0 := g.AddInput("h0", graph.T(tensor.Float32, b))
	x := g.AddInput("x", graph.T(tensor.Float32, b, T))
	scan := node(tab, g, "Scan", graph.Attrs{
		"num_scan_inputs": int64(1), "scan_input_axes": []int64{1},
		"scan_output_axes": []int64{-1}, "scan_input_directions": []int64{1}, "scan_output_directions": []int64{1},
	}, 2, h0, x)
	body := scan.AddBody("body", "body")
	h, xt := body.AddInput("h", graph.Type{}), body.AddInput("xt", graph.Type{})
	sum := node(tab, body, "Add", nil, 1, h, xt).Out[0]
	body.AddOutput(sum)
	body.AddOutput(sum)
	g.AddOutput(scan.Out[0])
	g.AddOutput(scan.Out[1])
	out := runGraph(t, tab, g, tensor.From([]float32{0, 10}, 2), tensor.From([]float32{1, 2, 3, 4, 5, 6}, 2, 3))
	wantTypes(t, g, "float[B]", "float[B,T]")
	for i, w := range []float64{6, 5, 3, 25, 21, 16} {
		if out[1].At(i) != w {
			t.Fatalf("suffix sums %v", out[1].AsFloats())
		}
	}
}

func TestIf(t *testing.T) {
	build := func(cond *graph.Value, g *graph.Graph, tab *ops.Table, x *graph.Value) *graph.Node {
		n := node(tab, g, "If", nil, 1, cond)
		then := n.AddBody("then_branch", "then")
		then.AddOutput(node(tab, then, "Squeeze", nil, 1, x, then.AddConst("axes", tensor.Ints(0))).Out[0])
		other := n.AddBody("else_branch", "else")
		other.AddOutput(node(tab, other, "Identity", nil, 1, x).Out[0])
		g.AddOutput(n.Out[0])
		return n
	}
	tab, g := table(t), graph.New("g")
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("B"), graph.D(4)))
	build(g.AddInput("cond", graph.T(tensor.Bool)), g, tab, x)
	out := runGraph(t, tab, g, tensor.New(tensor.Float32, 1, 4), tensor.Scalar(true))
	wantTypes(t, g, "float")
	if out[0].TypeString() != "float[4]" {
		t.Errorf("then: %s", out[0].TypeString())
	}
	// Decided conditions infer the branch taken, even if the other is wrong.
	g = graph.New("g")
	x = g.AddInput("x", graph.T(tensor.Float32, graph.D(2), graph.D(4)))
	build(g.AddConst("cond", tensor.Scalar(false)), g, tab, x)
	runGraph(t, tab, g, tensor.New(tensor.Float32, 2, 4))
	wantTypes(t, g, "float[2,4]")
}

// TestExpandPattern is how TorchScript exports x.expand(B, -1, T): it builds
// the shape and replaces -1 by 1.
func TestExpandPattern(t *testing.T) {
	tab, g := table(t), graph.New("g")
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("B"), graph.D(4), graph.D(1)))
	like := g.AddInput("like", graph.T(tensor.Float32, graph.Sym("T")))
	axis0 := g.AddConst("axis", tensor.Ints(0))
	dim := node(tab, g, "Shape", nil, 1, like).Out[0]
	one := g.AddConst("one", tensor.Scalar[int64](1))
	scalar := node(tab, g, "Gather", nil, 1, dim, g.AddConst("idx", tensor.Scalar[int64](0))).Out[0]
	next := node(tab, g, "Unsqueeze", nil, 1, node(tab, g, "Add", nil, 1, scalar, one).Out[0], axis0).Out[0]
	shape := node(tab, g, "Concat", graph.Attrs{"axis": int64(0)}, 1, g.AddConst("m", tensor.Ints(-1, -1)), next).Out[0]
	ones := node(tab, g, "ConstantOfShape", graph.Attrs{"value": tensor.Ints(1)}, 1, node(tab, g, "Shape", nil, 1, shape).Out[0]).Out[0]
	minus := node(tab, g, "Mul", nil, 1, ones, g.AddConst("minus", tensor.Scalar[int64](-1))).Out[0]
	eq := node(tab, g, "Equal", nil, 1, shape, minus).Out[0]
	target := node(tab, g, "Where", nil, 1, eq, ones, shape).Out[0]
	y := node(tab, g, "Expand", nil, 1, x, target).Out[0]
	g.AddOutput(y)
	out := runGraph(t, tab, g, tensor.New(tensor.Float32, 2, 4, 1), tensor.New(tensor.Float32, 5))
	wantTypes(t, g, "float[B,4,T+1]")
	if out[0].TypeString() != "float[2,4,6]" {
		t.Error(out[0].TypeString())
	}
}

// TestLoopWithoutEnd: what a loop would collect in more iterations than memory
// has room for is refused after the first one.
func TestLoopWithoutEnd(t *testing.T) {
	tab, g := table(t), graph.New("g")
	loop := node(tab, g, "Loop", nil, 1, g.AddConst("trips", tensor.Scalar(int64(1)<<62)), nil)
	body := loop.AddBody("body", "body")
	i := body.AddInput("i", graph.T(tensor.Int64))
	body.AddInput("go", graph.T(tensor.Bool))
	body.AddOutput(body.AddConst("yes", tensor.Scalar(true)))
	body.AddOutput(node(tab, body, "Neg", nil, 1, i).Out[0])
	if err := ops.InferNode(tab, loop); err != nil {
		t.Fatal(err)
	}
	g.AddOutput(loop.Out[0])
	_, err := ops.Run(context.Background(), tab, g, nil)
	if err == nil || !strings.Contains(err.Error(), "scan outputs of a Loop of 4611686018427387904 iterations") {
		t.Fatalf("got %v", err)
	}
}
