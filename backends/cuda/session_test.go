package cuda

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// random is a tensor of normal numbers, in any float type.
func random(seed uint64, d tensor.DType, shape ...int) *tensor.Tensor {
	r := rand.New(rand.NewPCG(seed, 7))
	t := tensor.New(d, shape...)
	for i := range t.Len() {
		t.SetAt(i, r.NormFloat64())
	}
	return t
}

// runNode runs one node on the device and by definition in float64 on the same numbers.
func runNode(t *testing.T, id graph.OpID, attrs graph.Attrs, in []*tensor.Tensor, nOut int, set map[string]string, konst func(i int, x *tensor.Tensor) bool) (worst float64, kernels []string) {
	t.Helper()
	needDevice(t)
	table := opTable(t)
	g, feeds, err := nodeGraph(table, id, attrs, in, nOut, konst)
	if err != nil {
		t.Fatal(err)
	}
	wide := make([]*tensor.Tensor, len(in))
	for i, x := range in {
		if x != nil && x.DType.IsFloat() {
			wide[i] = tensor.New(tensor.Float64, x.Shape...)
			for j := range x.Len() {
				wide[i].SetAt(j, x.At(j))
			}
		} else {
			wide[i] = x
		}
	}
	g2, _, err := nodeGraph(table, id, attrs, wide, nOut, func(int, *tensor.Tensor) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	want, err := ops.Eval(context.Background(), table, g2.Nodes[0], wide)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := open(t, g, backends.Target{Options: set})
	s := session_(t, e)
	s.Trace(func(st backends.StepTime) { kernels = append(kernels, st.Kernel) })
	got, err := s.Run(context.Background(), feeds, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range g.Nodes[0].Out {
		w := tensor.New(got[v.Name].DType, want[i].Shape...)
		for j := range w.Len() {
			w.SetAt(j, want[i].At(j))
		}
		d, err := distance(got[v.Name], w)
		if err != nil {
			t.Fatal(err)
		}
		worst = max(worst, d)
	}
	return worst, kernels
}

func never(int, *tensor.Tensor) bool      { return false }
func second(i int, _ *tensor.Tensor) bool { return i == 1 }

// TestProducts: matrix products of 16-bit and 32-bit types, thin and thick, with lengths that fit no tile, against float64.
func TestProducts(t *testing.T) {
	for _, d := range []tensor.DType{tensor.BFloat16, tensor.Float16, tensor.Float32} {
		for _, s := range [][3]int{{1, 40, 64}, {3, 17, 72}, {8, 33, 1032}, {11, 20, 136}, {16, 48, 264}, {17, 24, 40}, {130, 136, 200}, {5, 6, 7}, {70, 9, 33}} {
			m, n, k := s[0], s[1], s[2]
			t.Run(fmt.Sprintf("%v/%dx%dx%d", d, m, n, k), func(t *testing.T) {
				for _, c := range []func(int, *tensor.Tensor) bool{second, never} {
					in := []*tensor.Tensor{random(1, d, m, k), random(2, d, k, n), random(3, d, n), random(4, d, m, n)}
					got, _ := runNode(t, ssmOp("Linear"), graph.Attrs{"activation": "silu"}, in, 1, map[string]string{"blas": "off"}, c)
					// 16-bit results are rounded once; sums are f32.
					if lim := map[tensor.DType]float64{tensor.BFloat16: 4e-3, tensor.Float16: 5e-4, tensor.Float32: 2e-6}[d]; !(got <= lim) {
						t.Errorf("distance %.2e, at most %.0e", got, lim)
					}
				}
			})
		}
		t.Run(fmt.Sprintf("%v/batches", d), func(t *testing.T) {
			in := []*tensor.Tensor{random(1, d, 2, 3, 20, 16), random(2, d, 3, 16, 24)}
			got, _ := runNode(t, onnxOp("MatMul", 13), nil, in, 1, nil, never)
			if !(got <= 4e-3) {
				t.Errorf("distance %.2e", got)
			}
		})
	}
}

// TestSSDTensorCores: 16-bit operands take the fused kernel, whole and cut in time, with packed sequences, a gate, and states of
// more than 128 columns; the last ones it does not serve.
func TestSSDTensorCores(t *testing.T) {
	for _, d := range []tensor.DType{tensor.BFloat16, tensor.Float16} {
		for _, c := range []struct {
			B, L, H, P, G, N int
			seq, gate        bool
		}{
			{B: 1, L: 70, H: 4, P: 64, G: 1, N: 128}, {B: 2, L: 130, H: 2, P: 16, G: 2, N: 16},
			{B: 1, L: 1030, H: 1, P: 8, G: 1, N: 32}, {B: 1, L: 150, H: 3, P: 64, G: 1, N: 128, seq: true},
			{B: 1, L: 1100, H: 2, P: 80, G: 1, N: 64, seq: true}, {B: 1, L: 90, H: 2, P: 32, G: 1, N: 96, gate: true, seq: true},
			{B: 2, L: 100, H: 3, P: 64, G: 1, N: 256}, {B: 1, L: 70, H: 2, P: 24, G: 2, N: 136, gate: true, seq: true},
			{B: 1, L: 1, H: 4, P: 64, G: 1, N: 128}, {B: 1, L: 20, H: 2, P: 10, G: 1, N: 12},
		} {
			t.Run(fmt.Sprintf("%v/%+v", d, c), func(t *testing.T) {
				dt := random(2, d, c.B, c.L, c.H)
				A := random(3, tensor.Float32, c.H)
				for i := range A.Len() {
					A.SetAt(i, -1-A.At(i)*A.At(i))
				}
				in := []*tensor.Tensor{
					random(1, d, c.B, c.L, c.H, c.P), dt, A, random(4, d, c.B, c.L, c.G, c.N), random(5, d, c.B, c.L, c.G, c.N), random(6, tensor.Float32, c.H), nil,
					random(7, tensor.Float32, c.H), random(8, tensor.Float32, c.B, c.H, c.P, c.N),
				}
				if c.gate {
					in[6] = random(9, d, c.B, c.L, c.H, c.P)
				}
				if c.seq {
					seq := tensor.New(tensor.Int32, c.B, c.L)
					for i := range seq.Len() {
						seq.SetAt(i, float64(i%c.L*i%c.L/300+i%c.L/29)) // starts far apart and near, some on a chunk's first position
					}
					in = append(in, seq)
				}
				got, kernels := runNode(t, ssmOp("SSD"), graph.Attrs{"dt_softplus": int64(1)}, in, 2, nil, func(i int, _ *tensor.Tensor) bool { return i == 2 || i == 5 || i == 7 })
				if lim := map[tensor.DType]float64{tensor.BFloat16: 8e-3, tensor.Float16: 1.5e-3}[d]; !(got <= lim) {
					t.Errorf("distance %.2e on %v, at most %.0e", got, kernels, lim)
				}
			})
		}
	}
}

// TestSelectiveScan: every width of the kernel, with lengths that fit no tile, against float64.
func TestSelectiveScan(t *testing.T) {
	for _, N := range []int{3, 8, 16, 20, 32, 48, 64, 100, 128, 200, 256} {
		t.Run(fmt.Sprint(N), func(t *testing.T) {
			const B, L, D = 2, 83, 37
			A := random(3, tensor.Float32, D, N)
			for i := range A.Len() {
				A.SetAt(i, -0.01-A.At(i)*A.At(i))
			}
			f := tensor.Float32
			in := []*tensor.Tensor{random(1, f, B, L, D), random(2, f, B, L, D), A, random(4, f, B, L, N), random(5, f, B, L, N), random(6, f, D), random(7, f, B, L, D), random(8, f, D), random(9, f, B, D, N)}
			got, _ := runNode(t, ssmOp("SelectiveScan"), graph.Attrs{"dt_softplus": int64(1)}, in, 2, nil, never)
			if !(got <= 1e-6) {
				t.Errorf("distance %.2e, at most 1e-6", got)
			}
		})
	}
}

// TestEights: prompts of 16-bit channels in eights take the wide convolution and the wide norms, tails and states too.
func TestEights(t *testing.T) {
	for d, limit := range map[tensor.DType]float64{tensor.BFloat16: 4e-3, tensor.Float16: 5e-4} {
		for _, L := range []int{2, 3, 32, 70, 101} {
			t.Run(fmt.Sprintf("conv/%v/%d", d, L), func(t *testing.T) {
				in := []*tensor.Tensor{random(1, d, 2, L, 40), random(2, d, 40, 4), random(3, d, 40), random(4, d, 2, 40, 3)}
				got, _ := runNode(t, ssmOp("CausalConv"), graph.Attrs{"activation": "silu"}, in, 2, nil, never)
				if !(got <= limit) {
					t.Errorf("distance %.2e, at most %.0e", got, limit)
				}
			})
		}
		for _, cols := range []int{8, 72, 2568} {
			t.Run(fmt.Sprintf("norm/%v/%d", d, cols), func(t *testing.T) {
				in := []*tensor.Tensor{random(1, d, 9, 70, cols), random(2, d, 9, 70, cols), random(3, d, cols)}
				got, _ := runNode(t, ssmOp("GatedRMSNorm"), nil, in, 1, nil, never)
				if !(got <= limit) {
					t.Errorf("gated: distance %.2e, at most %.0e", got, limit)
				}
				if got, _ = runNode(t, onnxOp("RMSNormalization", 23), nil, []*tensor.Tensor{in[0], in[2]}, 1, nil, never); !(got <= limit) {
					t.Errorf("distance %.2e, at most %.0e", got, limit)
				}
			})
		}
	}
}

// stepGraph is a decode step: a convolution with its state, a chain, a projection.
func stepGraph(t testing.TB) (*graph.Graph, []backends.StatePair) {
	g := graph.New("step")
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("batch"), graph.D(1), graph.D(32)))
	past := g.AddInput("past", graph.T(tensor.Float32, graph.Sym("batch"), graph.D(32), graph.D(3)))
	conv := g.Add(ssmOp("CausalConv"), graph.Attrs{"activation": "silu"}, []*graph.Value{x, g.AddConst("w", random(1, tensor.Float32, 32, 4)), nil, past}, 2, "conv")
	half := g.AddConst("half", tensor.From([]float32{0.5}))
	a := g.Add(onnxOp("Mul", 14), nil, []*graph.Value{conv.Out[0], half}, 1, "a")
	b := g.Add(onnxOp("Tanh", 13), nil, []*graph.Value{a.Out[0]}, 1, "b")
	c := g.Add(onnxOp("Add", 14), nil, []*graph.Value{b.Out[0], x}, 1, "c")
	y := g.Add(onnxOp("MatMul", 13), nil, []*graph.Value{c.Out[0], g.AddConst("p", random(2, tensor.Float32, 32, 48))}, 1, "y")
	g.AddOutput(y.Out[0])
	g.AddOutput(conv.Out[1])
	if err := ops.InferGraph(opTable(t), g); err != nil {
		t.Fatal(err)
	}
	return g, []backends.StatePair{{In: "past", Out: conv.Out[1].Name}}
}

// TestPlan: element-wise nodes join one launch, the state is updated in place, the second run is a graph, and other shapes
// and sessions do not disturb each other.
func TestPlan(t *testing.T) {
	g, states := stepGraph(t)
	e, _ := open(t, g, backends.Target{States: states})
	s, other := session_(t, e), session_(t, e)
	ctx := context.Background()
	x := random(3, tensor.Float32, 2, 1, 32)
	first, err := s.Run(ctx, map[string]*tensor.Tensor{"x": x}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := s.programs[0]
	var names []string
	for _, st := range p.steps {
		names = append(names, st.kernel)
	}
	if got := strings.Join(names, " "); got != "conv chain gemm" {
		t.Errorf("steps are %q, want conv chain gemm", got)
	}
	y1 := first["y"].Clone()
	for range 3 {
		if _, err := s.Run(ctx, map[string]*tensor.Tensor{"x": x}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if p.graph == nil {
		t.Error("the program was not recorded as a graph")
	}
	same := func(what string, got map[string]*tensor.Tensor, want *tensor.Tensor) {
		t.Helper()
		if d, err := distance(got["y"], want); err != nil || d > 1e-6 {
			t.Errorf("%s: distance %.2e %v", what, d, err)
		}
	}
	got, err := other.Run(ctx, map[string]*tensor.Tensor{"x": x}, nil)
	if err != nil {
		t.Fatal(err)
	}
	same("another session", got, y1)
	if len(e.resident) != 2 {
		t.Errorf("%d constants are on the device, want 2 for both sessions", len(e.resident))
	}
	s.Reset()
	if got, err = s.Run(ctx, map[string]*tensor.Tensor{"x": x}, nil); err != nil {
		t.Fatal(err)
	}
	same("after Reset", got, y1)
	// A larger batch moves the arena and the state: what was recorded before must not be replayed.
	s.Reset()
	if _, err := s.Run(ctx, map[string]*tensor.Tensor{"x": random(4, tensor.Float32, 40, 1, 32)}, nil); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	if got, err = s.Run(ctx, map[string]*tensor.Tensor{"x": x}, nil); err != nil {
		t.Fatal(err)
	}
	same("after a larger batch", got, y1)
	s.KeepStates(true)
	if got, err = s.Run(ctx, map[string]*tensor.Tensor{"x": x}, nil); err != nil || got[states[0].Out] != nil || got["y"] == nil {
		t.Errorf("KeepStates: %v, results %v", err, got)
	}
	for what, in := range map[string]map[string]*tensor.Tensor{
		"missing":      {},
		"no input":     {"x": x, "z": x},
		"expected":     {"x": random(1, tensor.Float32, 2, 2, 32)},
		"keeps; Reset": {"x": random(1, tensor.Float32, 3, 1, 32)},
	} {
		if _, err := s.Run(ctx, in, nil); err == nil || what != "keeps; Reset" && !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestFailures: no memory left and a lost device are errors that say so, on the emulated driver, which can be told to fail.
func TestFailures(t *testing.T) {
	needDevice(t)
	if !strings.Contains(os.Getenv("SSDC_LIBCUDA"), "emulated") {
		t.Skip("a real device does not fail on demand")
	}
	g, states := stepGraph(t)
	e, _ := open(t, g, backends.Target{States: states})
	ctx := context.Background()
	x := map[string]*tensor.Tensor{"x": random(3, tensor.Float32, 1<<14, 1, 32)}
	s := session_(t, e)
	os.Setenv("SSDC_EMULATED_MEMORY", "1000000")
	_, err := s.Run(ctx, x, nil)
	os.Unsetenv("SSDC_EMULATED_MEMORY")
	if !errors.Is(err, driver.ErrOutOfMemory) {
		t.Errorf("out of memory: %v", err)
	}
	small := map[string]*tensor.Tensor{"x": random(3, tensor.Float32, 2, 1, 32)}
	if _, err := s.Run(ctx, small, nil); err != nil {
		t.Errorf("a smaller run after that: %v", err)
	}
	os.Setenv("SSDC_EMULATED_LAUNCHES", "0")
	s = session_(t, e)
	_, err = s.Run(ctx, small, nil)
	os.Unsetenv("SSDC_EMULATED_LAUNCHES")
	if !errors.Is(err, driver.ErrLost) || !strings.Contains(err.Error(), "open the model again") {
		t.Errorf("lost device: %v", err)
	}
	if _, err := s.Run(ctx, small, nil); err == nil {
		t.Error("the session runs on a lost device")
	}
}

// TestOptions: options that mean nothing are errors of Compile.
func TestOptions(t *testing.T) {
	g, states := stepGraph(t)
	for _, o := range []map[string]string{{"compute": "int3"}, {"blas": "maybe"}, {"device": "-1"}, {"speed": "high"}} {
		if _, err := New(opTable(t)).Compile(g, backends.Target{States: states, Options: o}); err == nil {
			t.Errorf("%v is accepted", o)
		}
	}
}

// TestGatherRange: an index out of range is an error, not a wrong row.
func TestGatherRange(t *testing.T) {
	table := opTable(t)
	g, feeds, err := nodeGraph(table, onnxOp("Gather", 13), nil, []*tensor.Tensor{random(1, tensor.Float32, 5, 8), tensor.Ints(1, 5)}, 1, never)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := open(t, g, backends.Target{})
	if _, err := session_(t, e).Run(context.Background(), feeds, nil); err == nil || !strings.Contains(err.Error(), "out of range") {
		t.Errorf("index 5 of 5 rows: %v", err)
	}
}

// TestChainLifetime: what a chain reads lives until its launch, which comes after nodes between its first and its last.
func TestChainLifetime(t *testing.T) {
	g := graph.New("chain")
	x := g.AddInput("x", graph.T(tensor.Float32, graph.D(64)))
	y := g.AddInput("y", graph.T(tensor.Float32, graph.D(64)))
	one := func(op string, in ...*graph.Value) *graph.Value { return g.Add(onnxOp(op, 13), nil, in, 1, "").Out[0] }
	a := one("Neg", x)
	b := one("Exp", a) // runs with the last Add
	c := one("ReduceSum", one("Tanh", y))
	d := one("Softmax", y)
	g.AddOutput(one("Add", b, one("Softmax", one("Add", d, c))))
	table := opTable(t)
	if err := ops.InferGraph(table, g); err != nil {
		t.Fatal(err)
	}
	in := map[string]*tensor.Tensor{"x": random(1, tensor.Float32, 64), "y": random(2, tensor.Float32, 64)}
	want, err := ops.Run(context.Background(), table, g, []*tensor.Tensor{in["x"], in["y"]})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := open(t, g, backends.Target{})
	got, err := session_(t, e).Run(context.Background(), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := distance(got[g.Outputs[0].Name], want[0]); err != nil || d > 1e-6 {
		t.Errorf("distance %.2e %v", d, err)
	}
}

// TestReshaped: strided views under other shapes.
func TestReshaped(t *testing.T) {
	base := denseMem(tensor.Float32, []int{4, 6, 8})
	base.root = &root{}
	cut := base.view([]int{4, 6, 3}, base.Strides, 2)
	if v := cut.reshaped([]int{24, 3}); v == nil || v.Strides[0] != 8 || v.Strides[1] != 1 {
		t.Errorf("rows of a slice: %+v", v)
	}
	if v := cut.reshaped([]int{4, 18}); v != nil {
		t.Errorf("a slice flattened: %+v", v)
	}
	if v := cut.reshaped([]int{2, 2, 6, 1, 3}); v == nil || v.Strides[0] != 96 || v.Strides[1] != 48 || v.Strides[4] != 1 {
		t.Errorf("an axis cut in two: %+v", v)
	}
	swapped := base.view([]int{6, 4, 8}, []int{8, 48, 1}, 0)
	if v := swapped.reshaped([]int{24, 8}); v != nil {
		t.Errorf("exchanged axes joined: %+v", v)
	}
}

// TestSplitFronts: few long sequences are cut, many or short ones are not.
func TestSplitFronts(t *testing.T) {
	for _, c := range []struct{ length, sequences, want int }{
		{4096, 320, 1}, {64000, 133, 1}, {64000, 132, 1}, {64000, 100, 1}, {32768, 80, 1}, // enough to keep all busy
		{1 << 20, 40, 4}, {65536, 40, 4}, {65536, 12, 11}, {1 << 20, 1, 132},
		{1024, 40, 1}, {64, 1, 1}, {640, 1, 1}, // too short
	} {
		if got := splitFronts(c.length, c.sequences, 132); got != c.want {
			t.Errorf("%d sequences of %d: %d fronts, want %d", c.sequences, c.length, got, c.want)
		}
	}
}

// TestMemoryFromThreads: sessions that nobody holds are freed by another thread, beside what others take.
func TestMemoryFromThreads(t *testing.T) {
	g, states := stepGraph(t)
	e, _ := open(t, g, backends.Target{States: states})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for range 20000 {
				p, err := e.dev.Alloc(4096)
				if err != nil {
					t.Error(err)
					return
				}
				e.dev.Free(p)
			}
		})
	}
	all.Wait()
}
