package gorgonia_test

import (
	"bytes"
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/gorgonia"
	"github.com/ssdc-go/ssdc/backends/ref"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/plugin"
	"github.com/ssdc-go/ssdc/std"
)

func standard(t testing.TB) *plugin.Set {
	t.Helper()
	set, err := plugin.Join(std.Plugin)
	if err != nil {
		t.Fatal(err)
	}
	set.Registry.Backends = append(set.Registry.Backends, gorgonia.New(set.Registry.Table))
	return set
}

// session opens g on a backend.
func session(t testing.TB, b backends.Backend, g *graph.Graph, states ...backends.StatePair) backends.Session {
	t.Helper()
	p, err := b.Compile(g, backends.Target{Level: 1, States: states})
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Open(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// same runs both sessions and compares every output.
func same(t *testing.T, got, want backends.Session, in map[string]*tensor.Tensor) {
	t.Helper()
	w, err := want.Run(context.Background(), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := got.Run(context.Background(), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name := range w {
		near(t, name, g[name], w[name])
	}
}

// mlp is softplus(x W1 + b1) W2, with a sum, a transposition and a residual
// around it. x is also an operand of several nodes: none may write over it.
func mlp(t testing.TB, table *ops.Table, r random) *graph.Graph {
	g := graph.New("mlp")
	b := ops.NewBuilder(table, g)
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("n"), graph.D(12)))
	h := b.Op("Add", nil, b.Op("MatMul", nil, x, b.Const(r.floats(-1, 1, 12, 20))), b.Const(r.floats(-1, 1, 20)))
	h = b.Op("Softplus", nil, b.Op("Tanh", nil, h))
	y := b.Op("Add", nil, b.Op("MatMul", nil, h, b.Const(r.floats(-1, 1, 20, 12))), x)
	gate := b.Op("Mul", nil, b.Op("Sigmoid", nil, y), b.Op("Exp", nil, x))
	total := b.Op("ReduceSum", graph.Attrs{"keepdims": int64(0)}, gate, b.Ints(-1))
	mean := b.Op("ReduceSum", nil, gate)
	turned := b.Op("Transpose", graph.Attrs{"perm": []int64{1, 0}}, b.Op("Sub", nil, gate, x))
	flat := b.Op("Reshape", nil, x, b.Ints(-1))
	double := b.Op("Exp", nil, flat)
	square := b.Op("Mul", nil, x, x)
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	for _, v := range []*graph.Value{y, gate, total, mean, turned, flat, double, square, x} {
		g.AddOutput(v)
	}
	return g
}

func TestMLP(t *testing.T) {
	set := standard(t)
	r := seeded(1)
	g := mlp(t, set.Registry.Table, r)
	got, want := session(t, gorgonia.New(set.Registry.Table), g), session(t, ref.New(set.Registry.Table), g)
	for _, n := range []int{3, 1, 7, 3} { // 1: what Gorgonia would take for a vector
		x := r.floats(-1, 1, n, 12)
		before := x.Clone()
		same(t, got, want, map[string]*tensor.Tensor{"x": x})
		if !bytes.Equal(x.Data, before.Data) {
			t.Fatalf("n=%d: the run wrote over its input", n)
		}
	}
}

// TestSharedMemory: a value is still needed after operators that compute in
// place have followed another form of it.
func TestSharedMemory(t *testing.T) {
	set := standard(t)
	table := set.Registry.Table
	g := graph.New("shared")
	b := ops.NewBuilder(table, g)
	x := g.AddInput("x", graph.T(tensor.Float32, graph.D(3), graph.D(4)))
	a := b.Op("Exp", nil, x)
	twice := func(v *graph.Value) *graph.Value { return b.Op("Add", nil, v, v) }
	perm := graph.Attrs{"perm": []int64{1, 0}}
	g.AddOutput(b.Op("Add", nil, b.Op("Transpose", perm, twice(b.Op("Transpose", perm, a))), a))
	g.AddOutput(b.Op("Add", nil, b.Op("Reshape", nil, twice(b.Op("Reshape", nil, a, b.Ints(-1))), b.Ints(3, 4)), a))
	half := b.Node("", "Split", graph.Attrs{"num_outputs": int64(2), "axis": int64(1)}, 2, a)
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	g.AddOutput(twice(half.Out[0]))
	g.AddOutput(half.Out[0])
	g.AddOutput(half.Out[1])
	same(t, session(t, gorgonia.New(table), g), session(t, ref.New(table), g), map[string]*tensor.Tensor{"x": seeded(5).floats(-1, 1, 3, 4)})
}

// TestModels: Mamba blocks as PyTorch exports them, fused, against PyTorch's
// results and against the reference backend.
func TestModels(t *testing.T) {
	for _, name := range []string{"mamba2_dynamo_dyn_block_g1n16", "mamba2_ts_dyn_prefill_cache_g2", "mamba1_dynamo_dynbatch_prefill"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("../../testdata/models", name)
			c, err := ssdc.BuildWith(context.Background(), standard(t), filepath.Join(dir, "model.onnx"), ssdc.Options{Target: gorgonia.Name, NoStates: true})
			if err != nil {
				t.Fatal(err)
			}
			if c.Fused["ssm.SSD"]+c.Fused["ssm.SelectiveScan"] == 0 {
				t.Fatalf("no scan was fused: %v", c.Fused)
			}
			m, err := c.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			s, err := m.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			sets, err := filepath.Glob(filepath.Join(dir, "inputs*.npz"))
			if err != nil || len(sets) == 0 {
				t.Fatalf("no inputs: %v", err)
			}
			reference := session(t, ref.New(standard(t).Registry.Table), c.Plan.Graph)
			for _, path := range sets {
				in, _, err := tensor.ReadNpz(path)
				if err != nil {
					t.Fatal(err)
				}
				want, _, err := tensor.ReadNpz(filepath.Join(dir, "expected"+filepath.Base(path)[len("inputs"):]))
				if err != nil {
					t.Fatal(err)
				}
				got, err := s.Run(context.Background(), in)
				if err != nil {
					t.Fatalf("%s: %v", filepath.Base(path), err)
				}
				for k, w := range want { // in float64 or float32, as PyTorch gave it
					g := got[k]
					if g == nil {
						t.Fatalf("no output %q", k)
					}
					var diff, norm float64
					for i := range w.Len() {
						diff += (g.At(i) - w.At(i)) * (g.At(i) - w.At(i))
						norm += w.At(i) * w.At(i)
					}
					if !(math.Sqrt(diff) <= 1e-5*math.Sqrt(norm)) {
						t.Errorf("%s %s: relative error %.2e, at most 1e-5", filepath.Base(path), k, math.Sqrt(diff/norm))
					}
				}
				same(t, s.Session, reference, in)
			}
		})
	}
}

// A state that the session keeps: y = state' = state + x.
func TestStates(t *testing.T) {
	set := standard(t)
	g := graph.New("sum")
	b := ops.NewBuilder(set.Registry.Table, g)
	ty := graph.T(tensor.Float32, graph.D(2))
	y := b.Op("Add", nil, g.AddInput("state", ty), g.AddInput("x", ty))
	g.AddOutput(y)
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	s := session(t, gorgonia.New(set.Registry.Table), g, backends.StatePair{In: "state", Out: y.Name})
	run := func(s backends.Session, want ...float64) {
		t.Helper()
		out := map[string]*tensor.Tensor{y.Name: tensor.New(tensor.Float32, 2)}
		got, err := s.Run(context.Background(), map[string]*tensor.Tensor{"x": tensor.From([]float32{1, 2}, 2)}, out)
		if err != nil {
			t.Fatal(err)
		}
		if got[y.Name] != out[y.Name] || !slices.Equal(got[y.Name].AsFloats(), want) {
			t.Errorf("got %v, want %v", got[y.Name].AsFloats(), want)
		}
	}
	run(s, 1, 2)
	run(s, 2, 4)
	var saved bytes.Buffer
	if err := s.Save(&saved); err != nil {
		t.Fatal(err)
	}
	c, err := s.Clone()
	if err != nil {
		t.Fatal(err)
	}
	run(s, 3, 6)
	run(c, 3, 6)
	s.Reset()
	run(s, 1, 2)
	if err := s.Restore(&saved); err != nil {
		t.Fatal(err)
	}
	run(s, 3, 6)
}

// TestCases runs the cases of the operator table, each with its inputs as such
// and with all but the first as constants, against the definition. What the
// backend says it lacks is counted, and must be for one of the stated reasons.
func TestCases(t *testing.T) {
	table := standard(t).Registry.Table
	b := gorgonia.New(table)
	ran := 0
	refused := map[string]int{}
	reasons := []string{"no control flow", "gorgonia's expression graphs carry no", "without elements", "expression graphs have fixed shapes", "operators without inputs"}
	for _, row := range table.All() {
		for _, c := range row.Cases {
			if row.Traits&ops.Random != 0 || row.Eval == nil {
				continue
			}
			for _, constants := range []bool{false, true} {
				g := graph.New("case")
				feeds := map[string]*tensor.Tensor{}
				var in []*graph.Value
				for i, x := range c.In {
					switch {
					case x == nil:
						in = append(in, nil)
					case constants && i > 0:
						in = append(in, g.AddConst("c", x))
					default:
						v := g.AddInput("x", graph.TypeOf(x))
						in, feeds[v.Name] = append(in, v), x
					}
				}
				n := g.Add(row.ID, c.Attrs, in, max(1, c.NOut), "y")
				if err := ops.InferNode(table, n); err != nil {
					continue // shapes that only constants tell
				}
				for _, v := range n.Out {
					g.AddOutput(v)
				}
				want, err := ops.Eval(context.Background(), table, n, c.In)
				if err != nil {
					t.Fatal(err)
				}
				got, err := func() (map[string]*tensor.Tensor, error) {
					p, err := b.Compile(g, backends.Target{Level: 1})
					if err != nil {
						return nil, err
					}
					e, err := b.Open(p, nil)
					if err != nil {
						return nil, err
					}
					s, err := e.NewSession()
					if err != nil {
						return nil, err
					}
					return s.Run(context.Background(), feeds, nil)
				}()
				if err != nil {
					known := slices.IndexFunc(reasons, func(r string) bool { return strings.Contains(err.Error(), r) })
					if known < 0 {
						t.Errorf("%s %s: %v", row.ID, c.Name, err)
					} else {
						refused[reasons[known]]++
					}
					continue
				}
				ran++
				for i, v := range n.Out {
					closeTo(t, row.ID.String()+" "+c.Name, got[v.Name], want[i], c)
				}
			}
		}
	}
	t.Logf("%d cases ran; refused: %v", ran, refused)
	if ran < 300 {
		t.Errorf("only %d cases ran", ran)
	}
}

func closeTo(t *testing.T, what string, got, want *tensor.Tensor, c ops.Case) {
	t.Helper()
	if got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) {
		t.Errorf("%s: got %s, want %s", what, got.TypeString(), want.TypeString())
		return
	}
	rtol, atol := c.Rtol, c.Atol
	if rtol == 0 {
		rtol = 1e-5
	}
	if atol == 0 {
		atol = 1e-6
	}
	for i := range want.Len() {
		g, w := got.At(i), want.At(i)
		if math.IsNaN(g) != math.IsNaN(w) || !math.IsNaN(g) && g != w && !(math.Abs(g-w) <= atol+rtol*math.Abs(w)) {
			t.Errorf("%s: element %d of %s is %v, want %v", what, i, want.TypeString(), g, w)
			return
		}
	}
}

func TestErrors(t *testing.T) {
	set := standard(t)
	b := gorgonia.New(set.Registry.Table)
	build := func(f func(g *graph.Graph, b *graph.Builder) *graph.Value) *graph.Graph {
		g := graph.New("g")
		gb := ops.NewBuilder(set.Registry.Table, g)
		v := f(g, gb)
		if gb.Err != nil {
			t.Fatal(gb.Err)
		}
		g.AddOutput(v)
		return g
	}
	half := build(func(g *graph.Graph, b *graph.Builder) *graph.Value {
		return b.Op("Exp", nil, g.AddInput("x", graph.T(tensor.Float16, graph.D(2))))
	})
	if _, err := b.Compile(half, backends.Target{}); err == nil || !strings.Contains(err.Error(), "carry no float16 values; compile for the cpu backend") {
		t.Errorf("float16: %v", err)
	}
	nonzero := build(func(g *graph.Graph, b *graph.Builder) *graph.Value {
		return b.Op("Cast", graph.Attrs{"to": int64(1)}, b.Op("NonZero", nil, g.AddInput("x", graph.T(tensor.Float32, graph.D(2)))))
	})
	x := map[string]*tensor.Tensor{"x": tensor.From([]float32{0, 1}, 2)}
	if _, err := session(t, b, nonzero).Run(context.Background(), x, nil); err == nil || !strings.Contains(err.Error(), "expression graphs have fixed shapes") {
		t.Errorf("NonZero: %v", err)
	}
	exp := session(t, b, build(func(g *graph.Graph, b *graph.Builder) *graph.Value {
		return b.Op("Exp", nil, g.AddInput("x", graph.T(tensor.Float32, graph.Sym("n"))))
	}))
	for want, in := range map[string]map[string]*tensor.Tensor{
		`did you mean "x"`: {"X": x["x"]},
		"is missing":       {},
		"without elements": {"x": tensor.New(tensor.Float32, 0)},
	} {
		if _, err := exp.Run(context.Background(), in, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
}
