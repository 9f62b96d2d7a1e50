package onnx

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// TestHostileInference gives every row random inputs and attributes, of wrong
// kinds and extreme values too: inference may refuse them but must not panic.
func TestHostileInference(t *testing.T) {
	tab := table(t)
	r := rand.New(rand.NewPCG(1, 2))
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for _, row := range tab.All() {
		failed := false
		for i := 0; i < rounds && !failed; i++ {
			g := graph.New("g")
			n := hostileNode(r, g, row)
			func() {
				defer func() {
					if p := recover(); p != nil {
						failed = true
						t.Errorf("%s %v on %s panics: %v", row.ID, n.Attrs, inputTypes(n), p)
					}
				}()
				_ = ops.InferNode(tab, n)
			}()
		}
	}
}

func inputTypes(n *graph.Node) string {
	var s []string
	for _, v := range n.In {
		switch {
		case v == nil:
			s = append(s, "-")
		case v.Const != nil:
			s = append(s, "const "+v.Const.TypeString())
		default:
			s = append(s, describeValue(v))
		}
	}
	return strings.Join(s, " ")
}

func hostileNode(r *rand.Rand, g *graph.Graph, row *ops.Op) *graph.Node {
	var in []*graph.Value
	for _, p := range row.In {
		count := 1
		if p.Variadic {
			count = r.IntN(4)
		}
		for range count {
			in = append(in, hostileValue(r, g, p.Optional))
		}
	}
	attrs := graph.Attrs{}
	for _, a := range row.Attrs {
		if r.IntN(3) > 0 {
			attrs[a.Name] = hostileAttr(r, a.Default)
		}
	}
	n := g.Add(row.ID, attrs, in, 1+r.IntN(3), "n")
	for i := range n.Out {
		if r.IntN(5) == 0 {
			n.Out[i] = nil
		}
	}
	for _, name := range []string{"body", "then_branch", "else_branch"} {
		if r.IntN(3) > 0 && attrs.Has(name) {
			delete(attrs, name)
			b := n.AddBody(name, name)
			for i := range r.IntN(5) {
				v := b.AddInput(fmt.Sprint("b", i), graph.Type{})
				b.AddOutput(v)
			}
		}
	}
	return n
}

var hostileInts = []int64{0, 1, 2, 3, -1, -2, 5, 64, 1 << 31, -1 << 31, math.MaxInt64, math.MinInt64}

func hostileInt(r *rand.Rand) int64 { return hostileInts[r.IntN(len(hostileInts))] }

func hostileDim(r *rand.Rand) graph.Dim {
	switch r.IntN(4) {
	case 0:
		return graph.Sym("T")
	case 1:
		return graph.Sym("T").Add(graph.D(int64(r.IntN(5) - 2)))
	}
	return graph.D(int64(r.IntN(5)))
}

func hostileValue(r *rand.Rand, g *graph.Graph, optional bool) *graph.Value {
	if optional && r.IntN(3) == 0 {
		return nil
	}
	d := tensor.DType(1 + r.IntN(26))
	if r.IntN(2) == 0 {
		d = []tensor.DType{tensor.Int64, tensor.Float32, tensor.Bool}[r.IntN(3)]
	}
	switch r.IntN(10) {
	case 0:
		return g.AddInput("in", unranked(d))
	case 1:
		return g.AddInput("in", sequenceOf(unranked(d)))
	case 2:
		elem := graph.T(d, hostileDim(r))
		return g.AddInput("in", graph.Type{DType: tensor.Optional, Elem: &elem})
	case 3, 4, 5:
		v := tensor.New(tensor.Int64, r.IntN(4))
		if r.IntN(4) == 0 {
			v = tensor.New(tensor.Int64)
		}
		for i := range v.Len() {
			v.SetIntAt(i, hostileInt(r))
		}
		if r.IntN(2) == 0 {
			return g.AddConst("c", v)
		}
		in := g.AddInput("in", graph.TypeOf(v))
		in.Known = []graph.Dim{}
		for range v.Len() {
			in.Known = append(in.Known, hostileDim(r))
		}
		return in
	}
	shape := []graph.Dim{}
	for range r.IntN(5) {
		shape = append(shape, hostileDim(r))
	}
	return g.AddInput("in", graph.T(d, shape...))
}

func hostileAttr(r *rand.Rand, like any) any {
	if r.IntN(4) > 0 {
		switch like.(type) {
		case int64:
			return hostileInt(r)
		case string:
			return "no such mode"
		}
	}
	switch r.IntN(6) {
	case 0:
		return "s"
	case 1:
		return float32(math.NaN())
	case 2:
		return tensor.New(tensor.DType(1+r.IntN(26)), r.IntN(3))
	case 3:
		return hostileInt(r)
	}
	list := make([]int64, r.IntN(4))
	for i := range list {
		list[i] = hostileInt(r)
	}
	return list
}
