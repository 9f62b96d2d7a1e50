package cpu

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// parse reads a text graph whose constants are inline.
func parse(t *testing.T, table *ops.Table, text string) *graph.Graph {
	t.Helper()
	g, err := graph.ParseString(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := ops.Verify(table, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// agree runs g on this backend and by definition.
func agree(t *testing.T, table *ops.Table, g *graph.Graph, s backends.Session, in map[string]*tensor.Tensor) {
	t.Helper()
	var args []*tensor.Tensor
	for _, v := range g.Inputs {
		args = append(args, in[v.Name])
	}
	want, err := ops.Run(context.Background(), table, g, args)
	if err != nil {
		t.Fatal(err)
	}
	got := must(t, s, in, nil)
	for i, v := range g.Outputs {
		if err := closeTo(got[v.Name], want[i], 1e-5, 1e-6); err != nil {
			t.Errorf("output %s: %v", v.Name, err)
		}
	}
}

// TestDataDependent: lengths that only running tells, then ordinary operators.
func TestDataDependent(t *testing.T) {
	table := opTable(t)
	g := graph.New("dynamic")
	b := ops.NewBuilder(table, g)
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("N")))
	half := b.Op("Mul", nil, x, b.Const(tensor.Scalar[float32](0.5)))
	at := b.Op("NonZero", nil, b.Op("Relu", nil, half))
	picked := b.Op("Gather", nil, half, b.Op("Squeeze", nil, at, b.Ints(0)))
	total := b.Op("ReduceSum", graph.Attrs{"keepdims": int64(0)}, picked)
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	for _, v := range []*graph.Value{picked, total, half} {
		g.AddOutput(v)
	}
	s := newSession(t, open(t, table, g, backends.Target{Threads: 2}))
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{1, 10, 10, 3} {
		agree(t, table, g, s, feed("x", randn(r, 1, n)))
	}
}

// TestBodies: control flow whose bodies use values of the graph around them,
// one of which nothing else uses.
func TestBodies(t *testing.T) {
	table := opTable(t)
	g := graph.New("bodies")
	b := ops.NewBuilder(table, g)
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("N"), graph.D(4)))
	cond := g.AddInput("c", graph.T(tensor.Bool))
	outer := b.Op("Exp", nil, x)
	n := g.Add(graph.OpID{Name: "If", Since: 21}, nil, []*graph.Value{cond}, 1, "y")
	for _, branch := range []struct{ attr, op string }{{"then_branch", "Neg"}, {"else_branch", "Abs"}} {
		body := n.AddBody(branch.attr, branch.attr)
		bb := ops.NewBuilder(table, body)
		v := bb.Op(branch.op, nil, bb.Op("Add", nil, outer, x))
		if bb.Err != nil {
			t.Fatal(bb.Err)
		}
		body.AddOutput(v)
	}
	if err := ops.InferNode(table, n); err != nil {
		t.Fatal(err)
	}
	g.AddOutput(b.Op("Tanh", nil, n.Out[0]))
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	s := newSession(t, open(t, table, g, backends.Target{Threads: 2}))
	r := rand.New(rand.NewPCG(2, 2))
	for _, c := range []bool{true, false} {
		agree(t, table, g, s, map[string]*tensor.Tensor{"x": randn(r, 1, 3, 4), "c": tensor.Scalar(c)})
	}
}

// TestOutputForms: outputs that are inputs, constants, views, known lengths,
// parts, and one value under two shapes.
func TestOutputForms(t *testing.T) {
	table := opTable(t)
	g := graph.New("outputs")
	b := ops.NewBuilder(table, g)
	r := rand.New(rand.NewPCG(2, 2))
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("N"), graph.D(6)))
	y := b.Op("Neg", nil, x)
	flat := b.Op("Reshape", nil, y, b.Ints(-1))
	parts := b.Node("", "Split", graph.Attrs{"axis": int64(1)}, 2, y, b.Ints(2, 4))
	shape := b.Op("Shape", nil, x)
	same := b.Op("Identity", nil, x)
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	for _, v := range []*graph.Value{y, flat, parts.Out[0], parts.Out[1], shape, same, x, b.Const(randn(r, 1, 3))} {
		g.AddOutput(v)
	}
	s := newSession(t, open(t, table, g, backends.Target{Threads: 1}))
	for _, n := range []int{1, 5, 0} {
		agree(t, table, g, s, feed("x", randn(r, 1, n, 6)))
	}
	// The result of a run as the input of the next one.
	in := randn(r, 1, 2, 6)
	got := must(t, s, feed("x", in), nil)
	for range 3 {
		got = must(t, s, feed("x", got[y.Name]), nil)
	}
	if err := closeTo(got[y.Name], in, 0, 0); err != nil {
		t.Errorf("negated four times: %v", err)
	}
	// In place in the caller's memory.
	buf := in.Clone()
	must(t, s, feed("x", buf), feed(y.Name, buf))
	for i := range buf.Len() {
		if buf.At(i) != -in.At(i) {
			t.Fatalf("in place: element %d is %v, want %v", i, buf.At(i), -in.At(i))
		}
	}
}

// TestGrowingState: a state that gets longer with every run, like a cache of
// keys, starts empty.
func TestGrowingState(t *testing.T) {
	table := opTable(t)
	g := parse(t, table, `graph cache (float[T,2] past, float[L,2] x) => (float[L+T,2] present, float[2] sum)
	< int64[1] axes = {0} > {
	  float[L+T,2] present = Concat-13<axis: int = 0>(past, x)
	  float[2] sum = ReduceSum-13<keepdims: int = 0>(present, axes)
	}`)
	s := newSession(t, open(t, table, g, backends.Target{Threads: 1, States: []backends.StatePair{{In: "past", Out: "present"}}}))
	for i := range 20 {
		got := must(t, s, feed("x", tensor.From([]float32{1, 2}, 1, 2)), nil)
		if n := got["present"].Shape[0]; n != i+1 || got["sum"].At(1) != float64(2*(i+1)) {
			t.Fatalf("run %d: %d rows, sum %v", i, n, got["sum"].AsFloats())
		}
	}
	s.Reset()
	if got := must(t, s, feed("x", tensor.From([]float32{1, 2}, 1, 2)), nil); got["present"].Shape[0] != 1 {
		t.Errorf("after Reset: %v", got["present"].Shape)
	}
}

// TestManyShapes evicts bindings and comes back to them.
func TestManyShapes(t *testing.T) {
	table := opTable(t)
	g, pairs := small.build(t, table)
	e := open(t, table, g, backends.Target{Threads: 1, States: pairs})
	s := newSession(t, e)
	r := rand.New(rand.NewPCG(8, 8))
	first := map[int]*tensor.Tensor{}
	prompts := map[int]*tensor.Tensor{}
	for round := range 3 {
		for l := 1; l <= 12; l++ {
			if prompts[l] == nil {
				prompts[l] = tokens(r, small.vocab, 1, l)
			}
			s.Reset()
			got := must(t, s, feed("ids", prompts[l]), nil)["logits"]
			if round == 0 {
				first[l] = got.Clone()
			} else if err := closeTo(got, first[l], 0, 0); err != nil {
				t.Errorf("round %d, L=%d: %v", round, l, err)
			}
		}
	}
	if n := len(s.(*session).programs); n > maxPrograms {
		t.Errorf("%d bindings are kept", n)
	}
}

// TestSessionsInParallel shares one executable.
func TestSessionsInParallel(t *testing.T) {
	table := opTable(t)
	g, pairs := small.build(t, table)
	e := open(t, table, g, backends.Target{Threads: 2, States: pairs})
	x := tokens(rand.New(rand.NewPCG(1, 1)), small.vocab, 1, 30)
	want := must(t, newSession(t, e), feed("ids", x), nil)["logits"].Clone()
	var wg sync.WaitGroup
	for range 4 {
		s := newSession(t, e)
		wg.Go(func() {
			for range 5 {
				s.Reset()
				got, err := s.Run(context.Background(), feed("ids", x), nil)
				if err != nil {
					t.Error(err)
				} else if err := closeTo(got["logits"], want, 0, 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestPluginKernel: rows added later come first, and a clash names both sources.
func TestPluginKernel(t *testing.T) {
	table := opTable(t)
	b := New(table)
	calls := 0
	row := &Kernel{Op: graph.OpID{Name: "Neg", Since: 6}, Name: "mine", Lower: func(b *Bind, n *graph.Node) (Step, error) {
		y, x := b.Out(0), b.In(0)
		return func() error {
			calls++
			for i, v := range x.F32 {
				y.F32[i] = -v
			}
			return nil
		}, nil
	}}
	if err := b.Add("plugin mine", row); err != nil {
		t.Fatal(err)
	}
	if err := b.Add("plugin other", row); err == nil || !strings.Contains(err.Error(), "plugin mine") || !strings.Contains(err.Error(), "plugin other") {
		t.Errorf("adding it twice: %v", err)
	}
	g := parse(t, table, `graph g (float[N] x) => (float[N] y) { float[N] y = Neg-13(x) }`)
	p, err := b.Compile(g, backends.Target{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Open(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	agree(t, table, g, newSession(t, e), feed("x", tensor.From([]float32{1, -2}, 2)))
	if calls != 1 {
		t.Errorf("the kernel ran %d times", calls)
	}
	if _, err := New(table).Open(p, nil); err == nil || !strings.Contains(err.Error(), `kernel "mine"`) {
		t.Errorf("opened without the plugin: %v", err)
	}
}

// TestTransposeView: with one token a Transpose moves nothing.
func TestTransposeView(t *testing.T) {
	table := opTable(t)
	g := parse(t, table, `graph g (float[B,L,6] x) => (float[B,6,L] y) {
	  float[B,L,6] h = Neg-13(x)
	  float[B,6,L] s = Transpose-13<perm: ints = [0, 2, 1]>(h)
	  float[B,6,L] y = Relu-14(s)
	}`)
	s := newSession(t, open(t, table, g, backends.Target{Threads: 1}))
	r := rand.New(rand.NewPCG(2, 2))
	steps := 0
	s.Trace(func(backends.StepTime) { steps++ })
	for _, c := range []struct{ b, l, steps int }{{1, 1, 1}, {3, 1, 1}, {3, 4, 3}} { // a view leaves one chain
		steps = 0
		agree(t, table, g, s, feed("x", randn(r, 1, c.b, c.l, 6)))
		if steps != c.steps {
			t.Errorf("B=%d L=%d: %d steps, want %d", c.b, c.l, steps, c.steps)
		}
	}
}

// TestSuppression: boxes that overlap much, of several images and classes, with
// and without a lowest score, kept as the definition keeps them.
func TestSuppression(t *testing.T) {
	table := opTable(t)
	const images, classes, boxes = 2, 3, 700
	r := rand.New(rand.NewPCG(21, 22))
	for _, floor := range []bool{true, false} {
		for _, centre := range []int64{0, 1} {
			g := graph.New("detector")
			b := ops.NewBuilder(table, g)
			args := []*graph.Value{g.AddInput("boxes", graph.T(tensor.Float32, graph.D(images), graph.Sym("N"), graph.D(4))),
				g.AddInput("scores", graph.T(tensor.Float32, graph.D(images), graph.D(classes), graph.Sym("N"))),
				b.Const(tensor.Scalar[int64](40)), b.Const(tensor.Scalar[float32](0.45))}
			if floor {
				args = append(args, b.Const(tensor.Scalar[float32](0.7)))
			}
			y := b.Op("NonMaxSuppression", graph.Attrs{"center_point_box": centre}, args...)
			if b.Err != nil {
				t.Fatal(b.Err)
			}
			y.Name = "y"
			g.AddOutput(y)
			s := newSession(t, open(t, table, g, backends.Target{Threads: 2}))
			for _, n := range []int{boxes, 0} {
				in := map[string]*tensor.Tensor{"boxes": tensor.New(tensor.Float32, images, n, 4), "scores": tensor.New(tensor.Float32, images, classes, n)}
				for i, v := range tensor.Of[float32](in["boxes"]) {
					tensor.Of[float32](in["boxes"])[i] = v + float32(r.IntN(9)) + r.Float32()/2 + float32(i%4/2)
				}
				for i := range tensor.Of[float32](in["scores"]) {
					tensor.Of[float32](in["scores"])[i] = float32(r.IntN(50)) / 50 // many are equal
				}
				agree(t, table, g, s, in)
			}
		}
	}
}
