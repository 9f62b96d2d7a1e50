package gorgonia_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gg "gorgonia.org/gorgonia"
	gt "gorgonia.org/tensor"

	"github.com/ssdc-go/ssdc/backends/gorgonia"
	"github.com/ssdc-go/ssdc/backends/gorgonia/dense"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// random is seeded: the same numbers in every run.
type random struct{ *rand.Rand }

func seeded(n uint64) random { return random{rand.New(rand.NewPCG(n, 1))} }

// floats makes values in [lo,hi).
func (r random) floats(lo, hi float64, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, shape...)
	for i := range t.Len() {
		t.SetAt(i, lo+(hi-lo)*r.Float64())
	}
	return t
}

// node enters t into g with its value.
func node(t testing.TB, g *gg.ExprGraph, name string, v *tensor.Tensor) *gg.Node {
	t.Helper()
	d, err := dense.To(v)
	if err != nil {
		t.Fatal(err)
	}
	return gg.NodeFromAny(g, d, gg.WithName(name))
}

// definition evaluates an operator of ops/ssm by its Eval, in float64.
func definition(t *testing.T, name string, attrs graph.Attrs, in ...*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	table := &ops.Table{}
	if err := ssm.Register(table); err != nil {
		t.Fatal(err)
	}
	g := graph.New(name)
	var vs []*graph.Value
	for _, x := range in {
		if x == nil {
			vs = append(vs, nil)
			continue
		}
		vs = append(vs, g.AddInput("in", graph.TypeOf(x)))
	}
	n := g.Add(graph.OpID{Domain: "ssm", Name: name, Since: 1}, attrs, vs, 2, "out")
	out, err := ops.Eval(context.Background(), table, n, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// near wants ||got-want|| <= 1e-5 ||want||, the bound of the parity tests.
func near(t *testing.T, what string, got, want *tensor.Tensor) {
	t.Helper()
	if got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) {
		t.Fatalf("%s is %s, want %s", what, got.TypeString(), want.TypeString())
	}
	var diff, norm float64
	for i := range want.Len() {
		d := got.At(i) - want.At(i)
		diff += d * d
		norm += want.At(i) * want.At(i)
	}
	if e := math.Sqrt(diff); !(e <= 1e-5*math.Sqrt(norm)) {
		t.Errorf("%s: relative error %.2e, at most 1e-5", what, e/math.Sqrt(norm))
	}
}

func value(t *testing.T, n *gg.Node) *tensor.Tensor {
	t.Helper()
	d, ok := n.Value().(gt.Tensor)
	if !ok {
		t.Fatalf("%v holds %T", n, n.Value())
	}
	x, err := dense.From(d)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestSSD(t *testing.T) {
	const B, H, P, G, N = 2, 4, 16, 2, 8
	for _, L := range []int{1, 5, 70} {
		t.Run(fmt.Sprintf("L=%d", L), func(t *testing.T) {
			r := seeded(uint64(L))
			x, dt, A := r.floats(-1, 1, B, L, H, P), r.floats(-2, 1, B, L, H), r.floats(-2, -0.1, H)
			bm, cm := r.floats(-1, 1, B, L, G, N), r.floats(-1, 1, B, L, G, N)
			d, z, bias, h0 := r.floats(-1, 1, H), r.floats(-1, 1, B, L, H, P), r.floats(-1, 1, H), r.floats(-1, 1, B, H, P, N)
			seq := tensor.New(tensor.Int32, B, L)
			for i := range seq.Len() {
				seq.SetIntAt(i, int64(i%L/3))
			}
			g := gg.NewGraph()
			in := func(name string, v *tensor.Tensor) *gg.Node { return node(t, g, name, v) }
			xn, dtn, an, bn, cn := in("x", x), in("dt", dt), in("A", A), in("B", bm), in("C", cm)
			y, hT, err := gorgonia.SSD(xn, dtn, an, bn, cn, gorgonia.Softplus())
			if err != nil {
				t.Fatal(err)
			}
			y2, hT2, err := gorgonia.SSD(xn, dtn, an, bn, cn, gorgonia.Softplus(), gorgonia.Clamp(0.01, 0.5), gorgonia.D(in("D", d)),
				gorgonia.Gate(in("z", z)), gorgonia.Bias(in("bias", bias)), gorgonia.Initial(in("h0", h0)), gorgonia.Sequences(in("seq", seq)))
			if err != nil {
				t.Fatal(err)
			}
			// What follows may compute in place; it must not reach y itself.
			var kept gg.Value
			gg.Read(y, &kept)
			twice, err := gg.Add(y, y)
			if err != nil {
				t.Fatal(err)
			}
			m := gg.NewTapeMachine(g)
			defer m.Close()
			for range 2 { // a machine runs again after Reset
				if err := m.RunAll(); err != nil {
					t.Fatal(err)
				}
				want := definition(t, "SSD", graph.Attrs{"dt_softplus": int64(1)}, x, dt, A, bm, cm)
				first, err := dense.From(kept.(gt.Tensor))
				if err != nil {
					t.Fatal(err)
				}
				near(t, "y", first, want[0])
				near(t, "hT", value(t, hT), want[1])
				for i := range want[0].Len() {
					want[0].SetAt(i, 2*want[0].At(i))
				}
				near(t, "y+y", value(t, twice), want[0])
				want = definition(t, "SSD", graph.Attrs{"dt_softplus": int64(1), "dt_min": float32(0.01), "dt_max": float32(0.5)},
					x, dt, A, bm, cm, d, z, bias, h0, seq)
				near(t, "y with all inputs", value(t, y2), want[0])
				near(t, "hT with all inputs", value(t, hT2), want[1])
				m.Reset()
			}
		})
	}
}

func TestSelectiveScan(t *testing.T) {
	const B, L, D, N = 2, 9, 24, 16
	r := seeded(7)
	u, dt, A := r.floats(-1, 1, B, L, D), r.floats(-2, 1, B, L, D), r.floats(-2, -0.1, D, N)
	bm, cm := r.floats(-1, 1, B, L, N), r.floats(-1, 1, B, L, N)
	d, z, bias, h0 := r.floats(-1, 1, D), r.floats(-1, 1, B, L, D), r.floats(-1, 1, D), r.floats(-1, 1, B, D, N)
	g := gg.NewGraph()
	in := func(name string, v *tensor.Tensor) *gg.Node { return node(t, g, name, v) }
	y, hT, err := gorgonia.SelectiveScan(in("u", u), in("dt", dt), in("A", A), in("B", bm), in("C", cm), gorgonia.Softplus(),
		gorgonia.D(in("D", d)), gorgonia.Gate(in("z", z)), gorgonia.Bias(in("bias", bias)), gorgonia.Initial(in("h0", h0)), gorgonia.Threads(1))
	if err != nil {
		t.Fatal(err)
	}
	m := gg.NewTapeMachine(g)
	defer m.Close()
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	want := definition(t, "SelectiveScan", graph.Attrs{"dt_softplus": int64(1)}, u, dt, A, bm, cm, d, z, bias, h0)
	near(t, "y", value(t, y), want[0])
	near(t, "hT", value(t, hT), want[1])
}

// A lazy transposition upstream hands over memory in another order.
func TestScanOfTransposed(t *testing.T) {
	const B, L, H, P, N = 1, 6, 2, 4, 8
	r := seeded(11)
	x, dt, A := r.floats(-1, 1, B, L, H, P), r.floats(0, 1, B, L, H), r.floats(-2, -0.1, H)
	bm, cm := r.floats(-1, 1, B, L, 1, N), r.floats(-1, 1, B, L, 1, N)
	turned := tensor.New(tensor.Float32, B, H, L, P)
	for l := range L {
		for h := range H {
			for p := range P {
				turned.SetAt((h*L+l)*P+p, x.At((l*H+h)*P+p))
			}
		}
	}
	g := gg.NewGraph()
	in := func(name string, v *tensor.Tensor) *gg.Node { return node(t, g, name, v) }
	back, err := gg.Transpose(in("xT", turned), 0, 2, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	y, _, err := gorgonia.SSD(back, in("dt", dt), in("A", A), in("B", bm), in("C", cm))
	if err != nil {
		t.Fatal(err)
	}
	m := gg.NewTapeMachine(g)
	defer m.Close()
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	near(t, "y", value(t, y), definition(t, "SSD", nil, x, dt, A, bm, cm)[0])
}

func TestScanErrors(t *testing.T) {
	r := seeded(3)
	g := gg.NewGraph()
	in := func(name string, shape ...int) *gg.Node { return node(t, g, name, r.floats(0, 1, shape...)) }
	x, dt, A, bm, cm := in("x", 1, 3, 4, 8), in("dt", 1, 3, 4), in("A", 4), in("B", 1, 3, 2, 8), in("C", 1, 3, 2, 8)
	for want, f := range map[string]func() error{
		"axis H is 4 in x but 5": func() error { _, _, err := gorgonia.SSD(x, in("dt5", 1, 3, 5), A, bm, cm); return err },
		"among G = 3 groups": func() error {
			_, _, err := gorgonia.SSD(x, dt, A, in("B3", 1, 3, 3, 8), in("C3", 1, 3, 3, 8))
			return err
		},
		"input 1 is nil": func() error { _, _, err := gorgonia.SSD(x, nil, A, bm, cm); return err },
		`"h0" is nil`:    func() error { _, _, err := gorgonia.SSD(x, dt, A, bm, cm, gorgonia.Initial(nil)); return err },
		"no clamp":       func() error { _, _, err := gorgonia.SelectiveScan(x, dt, A, bm, cm, gorgonia.Clamp(0, 1)); return err },
		`no input "seq_idx"`: func() error {
			_, _, err := gorgonia.SelectiveScan(x, dt, A, bm, cm, gorgonia.Sequences(A))
			return err
		},
		"shape is not known": func() error {
			_, _, err := gorgonia.SSD(gg.NewTensor(g, gt.Float32, 4, gg.WithName("bare")), dt, A, bm, cm)
			return err
		},
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
	y, _, err := gorgonia.SSD(x, dt, A, bm, cm)
	if err != nil {
		t.Fatal(err)
	}
	cost, err := gg.Sum(y)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gg.Grad(cost, x); err == nil {
		t.Error("a gradient through SSD, which has none, is no error")
	}
}
