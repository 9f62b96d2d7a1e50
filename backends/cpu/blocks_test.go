package cpu

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// imageGraph makes a graph of convolutions and of what may stand between them, some of
// it such that channels cannot stay in blocks.
func imageGraph(t *testing.T, table *ops.Table, r *rand.Rand, nodes int) *graph.Graph {
	t.Helper()
	g := graph.New("image")
	b := ops.NewBuilder(table, g)
	type image struct {
		v    *graph.Value
		c, h int
	}
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("B"), graph.D(3), graph.D(9), graph.D(7)))
	all := []image{{x, 3, 9}}
	for len(g.Nodes) < nodes && b.Err == nil {
		i := all[len(all)-1-r.IntN(min(len(all), 4))]
		alike := []image{}
		for _, o := range all {
			if o.c == i.c && o.h == i.h && o.v != i.v && o.v.Type.Equal(i.v.Type) {
				alike = append(alike, o)
			}
		}
		add := func(v *graph.Value, c, h int) {
			if b.Err == nil {
				all = append(all, image{v, c, h})
			}
		}
		switch op := r.IntN(11); {
		case op < 4:
			c, k := []int{16, 32, 48, 20, 70}[r.IntN(5)], 1+2*r.IntN(2)
			w := b.Const(randn(r, 0.3, c, i.c, k, k))
			attrs := graph.Attrs{"pads": []int64{int64(k / 2), int64(k / 2), int64(k / 2), int64(k / 2)}}
			var residual []image
			for _, o := range all {
				if o.c == c && o.h == i.h && o.v != i.v {
					residual = append(residual, o)
				}
			}
			in := []*graph.Value{i.v, w, b.Const(randn(r, 1, c))}
			if len(residual) > 0 && r.IntN(2) == 0 {
				in = append(in, residual[r.IntN(len(residual))].v)
			}
			if act := r.IntN(3); act > 0 {
				attrs["activation"] = []string{"", "Relu", "Swish"}[act]
			}
			if n := b.Node("com.microsoft", "FusedConv", attrs, 1, in...); n != nil && b.Err == nil {
				add(n.Out[0], c, i.h)
			}
		case op == 4:
			attrs := graph.Attrs{"pads": []int64{1, 1, 1, 1}, "group": int64(i.c)}
			add(b.Op("Conv", attrs, i.v, b.Const(randn(r, 0.5, i.c, 1, 3, 3)), b.Const(randn(r, 1, i.c))), i.c, i.h)
		case op == 5 && len(alike) > 0:
			add(b.Op([]string{"Add", "Mul"}[r.IntN(2)], nil, i.v, alike[r.IntN(len(alike))].v), i.c, i.h)
		case op == 6:
			add(b.Op([]string{"Sigmoid", "Relu"}[r.IntN(2)], nil, i.v), i.c, i.h)
		case op == 7 && len(alike) > 0:
			o := alike[r.IntN(len(alike))]
			add(b.Op("Concat", graph.Attrs{"axis": int64(1)}, i.v, o.v), i.c+o.c, i.h)
		case op == 8:
			add(b.Op("MaxPool", graph.Attrs{"kernel_shape": []int64{3, 3}, "pads": []int64{1, 1, 1, 1}}, i.v), i.c, i.h)
		case op == 9 && i.h == 9:
			attrs := graph.Attrs{"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
			add(b.Op("Resize", attrs, i.v, nil, b.Const(tensor.From([]float32{1, 1, 2, 2}, 4))), i.c, 18)
		case op == 10 && i.c%2 == 0: // reads no blocks
			add(b.Op("Mul", nil, i.v, b.Const(randn(r, 1, i.c, 1, 1))), i.c, i.h)
		}
	}
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	last := all[len(all)-1].v
	if r.IntN(2) == 0 {
		last = b.Op("ReduceMean", graph.Attrs{"keepdims": int64(0)}, last, b.Ints(2, 3))
	} else {
		last = b.Op("GlobalAveragePool", nil, last)
	}
	g.AddOutput(last)
	if v := all[len(all)/2].v; v != x && !v.IsOutput() {
		g.AddOutput(v)
	}
	g.Sweep()
	return g
}

// TestImagesInBlocks: random graphs of images agree with the definition, and most of
// them keep values in blocks.
func TestImagesInBlocks(t *testing.T) {
	smallTiles(t)
	table := opTable(t)
	n := 150
	if testing.Short() {
		n = 40
	}
	graphs, values := 0, 0
	for seed := range n {
		r := rand.New(rand.NewPCG(uint64(seed), 11))
		g := imageGraph(t, table, r, 3+r.IntN(18))
		s := newSession(t, open(t, table, g, backends.Target{Threads: 1 + seed%2}))
		for _, batch := range []int{1, 2} {
			x := randn(r, 1, batch, 3, 9, 7)
			want, err := ops.Run(context.Background(), table, g, []*tensor.Tensor{x})
			if err != nil {
				t.Fatal(err)
			}
			got := must(t, s, map[string]*tensor.Tensor{"x": x}, nil)
			for i, v := range g.Outputs {
				y, z := got[v.Name], want[i]
				if y.TypeString() != z.TypeString() {
					t.Fatalf("seed %d: %s is %s, want %s", seed, v.Name, y.TypeString(), z.TypeString())
				}
				var off, size float64
				for j := range z.Len() {
					off, size = math.Hypot(off, y.At(j)-z.At(j)), math.Hypot(size, z.At(j))
				}
				if !(off <= 2e-5*size) {
					t.Errorf("seed %d: %s is off by %g of %g\n%s", seed, v.Name, off, size, g)
				}
			}
		}
		count := 0
		for _, root := range s.(*session).programs[0].arena {
			for _, m := range root.mems {
				if m.Blocks {
					count++
				}
			}
		}
		values += count
		if count > 0 {
			graphs++
		}
	}
	if graphs < n/3 {
		t.Errorf("%d of %d graphs keep values in blocks, %d values", graphs, n, values)
	}
	t.Logf("%d of %d graphs keep values in blocks, %d values", graphs, n, values)
}

// TestBlocksDeclined: a kernel that turns out not to take what is in blocks runs by
// definition, on an image that is not.
func TestBlocksDeclined(t *testing.T) {
	table := opTable(t)
	r := rand.New(rand.NewPCG(12, 12))
	g := graph.New("clip")
	b := ops.NewBuilder(table, g)
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("B"), graph.D(16), graph.D(5), graph.D(5)))
	most := g.AddInput("most", graph.T(tensor.Float32))
	attrs := graph.Attrs{"pads": []int64{1, 1, 1, 1}}
	y := b.Op("Relu", nil, b.Op("Conv", attrs, x, b.Const(randn(r, 0.02, 32, 16, 3, 3))))
	y = b.Op("Conv", attrs, b.Op("Clip", nil, y, nil, most), b.Const(randn(r, 0.02, 16, 32, 3, 3)))
	y = b.Op("Conv", attrs, b.Op("Tanh", nil, y), b.Const(randn(r, 0.02, 16, 16, 3, 3)))
	g.AddOutput(y)
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	s := newSession(t, open(t, table, g, backends.Target{Threads: 2}))
	agree(t, table, g, s, map[string]*tensor.Tensor{"x": randn(r, 1, 2, 16, 5, 5), "most": tensor.Scalar[float32](0.25)})
}
