package gorgonia

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Gorgonia's own operators mean what ONNX's do, at the ends of the range too.
func TestNatives(t *testing.T) {
	table, err := standard()
	if err != nil {
		t.Fatal(err)
	}
	inf, nan := math.Inf(1), math.NaN()
	edges := []float64{0, math.Copysign(0, -1), 1, -1, 0.5, -0.5, 1e-8, -1e-8, 15.5, -15.5, 25, -25, 40, -40, 87, -87, 90, -90, 110, -110, 1e10, -1e10, inf, -inf, nan}
	for name := range natives {
		for _, d := range []tensor.DType{tensor.Float32, tensor.Float64} {
			t.Run(name+"/"+d.String(), func(t *testing.T) {
				x := tensor.New(d, len(edges), len(edges))
				y := tensor.New(d, len(edges), len(edges))
				for i := range x.Len() {
					x.SetAt(i, edges[i/len(edges)])
					y.SetAt(i, edges[i%len(edges)])
				}
				if name == "MatMul" || name == "ReduceSum" { // rounding differs where terms are huge
					for i := range x.Len() {
						x.SetAt(i, float64(i%7)-3)
						y.SetAt(i, float64(i%5)-2)
					}
				}
				in := []*tensor.Tensor{x, y}
				r := natives[name]
				g := graph.New(name)
				var vs []*graph.Value
				var types []graph.Type
				feeds := map[string]*tensor.Tensor{}
				for i := range r.arity {
					v := g.AddInput("x", graph.TypeOf(in[i]))
					vs, types, feeds[v.Name] = append(vs, v), append(types, v.Type), in[i]
				}
				n := g.Add(table.Resolve("", name, 0).ID, nil, vs, 1, "y")
				if err := ops.InferNode(table, n); err != nil {
					t.Fatal(err)
				}
				g.AddOutput(n.Out[0])
				if nativeOf(n, types) == nil {
					t.Fatal("the case does not reach Gorgonia's operator")
				}
				want, err := ops.Eval(context.Background(), table, n, in[:r.arity])
				if err != nil {
					t.Fatal(err)
				}
				b := New(table)
				p, err := b.Compile(g, backends.Target{})
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
				got, err := s.Run(context.Background(), feeds, nil)
				if err != nil {
					t.Fatal(err)
				}
				y0 := got[n.Out[0].Name]
				if !slices.Equal(y0.Shape, want[0].Shape) {
					t.Fatalf("got %s, want %s", y0.TypeString(), want[0].TypeString())
				}
				for i := range y0.Len() {
					a, b := y0.At(i), want[0].At(i)
					if math.IsNaN(a) != math.IsNaN(b) || !math.IsNaN(a) && a != b && !(math.Abs(a-b) <= 1e-6+1e-5*math.Abs(b)) {
						t.Errorf("%s(%v, %v) = %v, want %v", name, x.At(i%x.Len()), y.At(i%y.Len()), a, b)
						return
					}
				}
			})
		}
	}
}
