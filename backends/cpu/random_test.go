package cpu

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// randomGraph makes a graph of views, moves, element-wise operators, reductions
// and products: the places where memory is shared.
func randomGraph(t *testing.T, table *ops.Table, r *rand.Rand, nodes int) *graph.Graph {
	t.Helper()
	g := graph.New("random")
	b := ops.NewBuilder(table, g)
	B := graph.Sym("B")
	vals := []*graph.Value{
		g.AddInput("x", graph.T(tensor.Float32, B, graph.D(6), graph.D(8))),
		g.AddInput("y", graph.T(tensor.Float32, B, graph.D(6), graph.D(8))),
		b.Const(randn(r, 1, 6, 8)),
	}
	pick := func() *graph.Value { return vals[len(vals)-1-r.IntN(min(len(vals), 6))] }
	keep := func(v *graph.Value) {
		if v != nil {
			vals = append(vals, v)
		}
	}
	unary := []string{"Neg", "Sigmoid", "Relu", "Tanh", "Abs", "Softplus"}
	same := func(v *graph.Value) *graph.Value { // a value of the same shape, if there is one
		for range 10 {
			if w := vals[r.IntN(len(vals))]; w.Type.Equal(v.Type) {
				return w
			}
		}
		return v
	}
	for len(g.Nodes) < nodes && b.Err == nil {
		v := pick()
		rank := v.Type.Rank()
		last, lastOK := int64(0), false
		if rank > 0 {
			last, lastOK = v.Type.Shape[rank-1].Const()
		}
		switch r.IntN(13) {
		case 0, 1:
			keep(b.Op(unary[r.IntN(len(unary))], nil, v))
		case 2, 3:
			keep(b.Op([]string{"Add", "Sub", "Mul"}[r.IntN(3)], nil, v, same(v)))
		case 4:
			keep(b.Op("Mul", nil, v, b.Const(randn(r, 1, 1))))
		case 5:
			if lastOK && last >= 4 && last%2 == 0 {
				half := last / 2
				n := b.Node("", "Split", graph.Attrs{"axis": int64(rank - 1)}, 2, v, b.Ints(half, half))
				if b.Err == nil {
					keep(n.Out[0])
					keep(n.Out[1])
				}
			}
		case 6:
			if lastOK && last >= 3 {
				lo := int64(r.IntN(2))
				keep(b.Op("Slice", nil, v, b.Ints(lo), b.Ints(last-1), b.Ints(-1)))
			}
		case 7:
			if rank == 3 && lastOK && last%2 == 0 {
				keep(b.Op("Reshape", nil, v, b.Ints(0, 0, 2, last/2)))
			} else if rank == 4 {
				if m, ok := v.Type.Shape[2].Const(); ok && lastOK {
					keep(b.Op("Reshape", nil, v, b.Ints(0, 0, m*last)))
				}
			}
		case 8:
			if rank >= 2 {
				perm := make([]int64, rank)
				for i, p := range r.Perm(rank) {
					perm[i] = int64(p)
				}
				keep(b.Op("Transpose", graph.Attrs{"perm": perm}, v))
			}
		case 9:
			if rank >= 2 {
				keep(b.Op([]string{"ReduceSum", "ReduceMean", "ReduceMax"}[r.IntN(3)], graph.Attrs{"keepdims": int64(r.IntN(2))}, v, b.Ints(int64(r.IntN(rank)))))
			}
		case 10:
			if rank >= 2 && lastOK {
				keep(b.Op("MatMul", nil, v, b.Const(randn(r, 0.5, int(last), 5))))
			}
		case 11:
			if w := same(v); rank > 0 {
				keep(b.Op("Concat", graph.Attrs{"axis": int64(r.IntN(rank))}, v, w))
			}
		case 12:
			if rank >= 1 && lastOK && last > 0 {
				keep(b.Op("Gather", graph.Attrs{"axis": int64(rank - 1)}, v, b.Const(tensor.Scalar(last-1))))
			}
		}
	}
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	for i := range 3 {
		v := vals[len(vals)-1-i*2]
		if v.Const == nil && !v.IsOutput() {
			g.AddOutput(v)
		}
	}
	g.Sweep()
	return g
}

func TestRandomGraphs(t *testing.T) {
	smallTiles(t)
	table := opTable(t)
	n := 200
	if testing.Short() {
		n = 60
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(uint64(seed), 5))
		g := randomGraph(t, table, r, 4+r.IntN(25))
		if len(g.Outputs) == 0 {
			continue
		}
		s := newSession(t, open(t, table, g, backends.Target{Threads: 1 + seed%2}))
		for _, batch := range []int{1, 3, 2, 1} {
			full := map[string]*tensor.Tensor{"x": randn(r, 1, batch, 6, 8), "y": randn(r, 1, batch, 6, 8)}
			args := []*tensor.Tensor{full["x"], full["y"]}
			want, err := ops.Run(context.Background(), table, g, args)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Run(context.Background(), full, nil)
			if err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, g)
			}
			for i, v := range g.Outputs {
				if err := closeTo(got[v.Name], want[i], 1e-4, 1e-4); err != nil {
					t.Fatalf("seed %d, batch %d, output %s: %v\n%s", seed, batch, v.Name, err, g)
				}
			}
		}
	}
}

// TestScans compares the scan kernels with their definitions over odd shapes
// and all combinations of optional operands.
func TestScans(t *testing.T) {
	table := opTable(t)
	r := rand.New(rand.NewPCG(9, 9))
	maybe := func(x *tensor.Tensor) *tensor.Tensor {
		if r.IntN(2) == 0 {
			return nil
		}
		return x
	}
	neg := func(x *tensor.Tensor) *tensor.Tensor {
		for i := range x.Len() {
			v := tensor.Of[float32](x)
			v[i] = -v[i]*v[i] - 0.1
		}
		return x
	}
	type try struct {
		op    string
		attrs graph.Attrs
		in    []*tensor.Tensor
		nOut  int
	}
	var tries []try
	for range 40 {
		B, L, G, N, P := 1+r.IntN(3), []int{1, 2, 3, 31, 32, 33, 70}[r.IntN(7)], 1+r.IntN(2), 1+r.IntN(20), 1+r.IntN(20)
		H := G * (1 + r.IntN(3))
		in := []*tensor.Tensor{
			randn(r, 1, B, L, H, P), randn(r, 0.5, B, L, H), neg(randn(r, 1, H)), randn(r, 1, B, L, G, N), randn(r, 1, B, L, G, N),
			maybe(randn(r, 1, H)), maybe(randn(r, 1, B, L, H, P)), maybe(randn(r, 1, H)), maybe(randn(r, 1, B, H, P, N)),
		}
		if r.IntN(3) == 0 {
			in[2] = neg(randn(r, 1, B, L, H))
			in[1] = maybe(in[1])
		}
		attrs := graph.Attrs{"dt_softplus": int64(r.IntN(2))}
		if attrs["dt_softplus"] == int64(0) && in[1] != nil {
			// Negative steps would make the state grow without bound.
			for i, v := range tensor.Of[float32](in[1]) {
				tensor.Of[float32](in[1])[i] = max(v, -v)
			}
			in[7] = nil
		}
		if r.IntN(2) == 0 {
			attrs["dt_min"], attrs["dt_max"] = float32(0.01), float32(0.8)
		}
		tries = append(tries, try{"SSD", attrs, in, 1 + r.IntN(2)})

		D := 1 + r.IntN(80)
		tries = append(tries, try{"SelectiveScan", graph.Attrs{"dt_softplus": int64(1)}, []*tensor.Tensor{
			randn(r, 1, B, L, D), randn(r, 0.5, B, L, D), neg(randn(r, 1, D, N)), randn(r, 1, B, L, N), randn(r, 1, B, L, N),
			maybe(randn(r, 1, D)), maybe(randn(r, 1, B, L, D)), maybe(randn(r, 1, D)), maybe(randn(r, 1, B, D, N)),
		}, 1 + r.IntN(2)})

		decay := randn(r, 0.5, B, L, D, 2)
		tries = append(tries, try{"LinearScan", nil, []*tensor.Tensor{decay, randn(r, 1, B, L, D, 2), maybe(randn(r, 1, B, D, 2))}, 1 + r.IntN(2)})

		K := 1 + r.IntN(5)
		W := K - 1 + r.IntN(2)
		attrs = graph.Attrs{"activation": []string{"none", "silu"}[r.IntN(2)]}
		if W > 0 {
			attrs["state_width"] = int64(W)
		}
		conv := []*tensor.Tensor{randn(r, 1, B, L, D), randn(r, 1, D, K), maybe(randn(r, 1, D)), nil}
		if W > 0 {
			conv[3] = maybe(randn(r, 1, B, D, W))
		}
		tries = append(tries, try{"CausalConv", attrs, conv, 1 + r.IntN(2)})

		tries = append(tries, try{"Linear", graph.Attrs{"activation": []string{"none", "silu", "gelu", "gelu_tanh", "relu", "sigmoid", "softplus"}[r.IntN(7)]},
			[]*tensor.Tensor{randn(r, 1, B, L, D), randn(r, 0.3, D, P), maybe(randn(r, 1, P)), maybe(randn(r, 1, B, L, P))}, 1})
		tries = append(tries, try{"GatedRMSNorm", graph.Attrs{"norm_before_gate": int64(r.IntN(2)), "group_size": int64(D * r.IntN(2))},
			[]*tensor.Tensor{randn(r, 1, B, L, 3*D), randn(r, 1, B, L, 3*D), randn(r, 1, 3*D)}, 1})
	}
	for i, c := range tries {
		t.Run(fmt.Sprintf("%s/%d", c.op, i), func(t *testing.T) {
			id := graph.OpID{Domain: "ssm", Name: c.op, Since: 1}
			for _, consts := range []bool{false, true} {
				g, feeds, err := nodeGraph(t, table, id, c.attrs, c.in, c.nOut, func(i int, _ *tensor.Tensor) bool {
					return consts && i == 1 && c.op != "SSD" && c.op != "SelectiveScan"
				}, !consts)
				if c.op == "CausalConv" && !consts {
					// The number of taps must be a number.
					g, feeds, err = nodeGraph(t, table, id, c.attrs, c.in, c.nOut, func(int, *tensor.Tensor) bool { return false }, false)
				}
				if err != nil {
					t.Fatal(err)
				}
				want, err := ops.Eval(context.Background(), table, g.Nodes[0], c.in)
				if err != nil {
					t.Fatal(err)
				}
				e := open(t, table, g, backends.Target{Threads: 2})
				if e.Plan().Kernels[0] == "" && (c.op != "Linear" || consts) {
					t.Error("no kernel")
				}
				s := newSession(t, e)
				for range 2 {
					got, err := s.Run(context.Background(), feeds, nil)
					if err != nil {
						t.Fatal(err)
					}
					for j, v := range g.Outputs {
						if err := closeTo(got[v.Name], want[j], 1e-4, 1e-4); err != nil {
							t.Errorf("output %d (%v): %v", j, c.attrs, err)
						}
					}
				}
			}
		})
	}
}

// TestMatMulForms covers batches, broadcasting, odd sizes and row views.
func TestMatMulForms(t *testing.T) {
	table := opTable(t)
	r := rand.New(rand.NewPCG(4, 4))
	for _, c := range [][2][]int{
		{{3, 5}, {5, 7}}, {{1, 64}, {64, 33}}, {{2, 3, 5}, {5, 7}}, {{2, 3, 5}, {2, 5, 7}}, {{2, 1, 3, 5}, {4, 5, 7}},
		{{4, 3, 5}, {1, 5, 7}}, {{1, 3, 5}, {6, 5, 1}}, {{3, 0, 5}, {5, 2}}, {{2, 3, 0}, {0, 2}}, {{100, 300}, {300, 130}},
		{{6, 3, 50, 20}, {6, 3, 20, 40}}, {{5}, {5, 3}}, {{3, 5}, {5}}, {{5}, {5}},
	} {
		in := []*tensor.Tensor{randn(r, 1, c[0]...), randn(r, 1, c[1]...)}
		for _, konst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v x %v const %v", c[0], c[1], konst), func(t *testing.T) {
				g, feeds, err := nodeGraph(t, table, graph.OpID{Name: "MatMul", Since: 13}, nil, in, 1, func(i int, _ *tensor.Tensor) bool { return konst && i == 1 }, false)
				if err != nil {
					t.Fatal(err)
				}
				want, err := ops.Eval(context.Background(), table, g.Nodes[0], in)
				if err != nil {
					t.Fatal(err)
				}
				s := newSession(t, open(t, table, g, backends.Target{Threads: 2}))
				got := must(t, s, feeds, nil)
				if err := closeTo(got[g.Outputs[0].Name], want[0], 1e-4, 1e-4); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
