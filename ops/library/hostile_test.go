package library_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/library"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// TestHostileInference gives every row random inputs and attributes, of wrong
// kinds and extreme values too: inference may refuse them but must not panic.
func TestHostileInference(t *testing.T) {
	tab := &ops.Table{}
	if err := library.Register(tab); err != nil {
		t.Fatal(err)
	}
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
			s = append(s, v.Type.String())
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
	for _, name := range []string{"body", "then_branch", "else_branch", "score_mod", "prob_mod"} {
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
		return g.AddInput("in", sig.Unranked(d))
	case 1:
		elem := sig.Unranked(d)
		return g.AddInput("in", graph.Type{DType: tensor.Sequence, Elem: &elem})
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

// TestHostileEvaluation runs every row's cases with an attribute or an input
// replaced by something else: an error or a result, never a panic that ops.Run
// does not turn into one, and no more memory than the case's size warrants.
func TestHostileEvaluation(t *testing.T) {
	tab := &ops.Table{}
	if err := library.Register(tab); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	for _, row := range tab.All() {
		for _, c := range row.Cases {
			for range rounds {
				damaged := c
				damaged.Attrs, damaged.In = c.Attrs.Clone(), append([]*tensor.Tensor{}, c.In...)
				if k := r.IntN(len(row.Attrs) + len(c.In) + 1); k < len(row.Attrs) {
					damaged.Attrs[row.Attrs[k].Name] = hostileAttr(r, row.Attrs[k].Default)
				} else if i := k - len(row.Attrs); i < len(c.In) {
					damaged.In[i] = hostileTensor(r, c.In[i])
				}
				evaluate(tab, row, damaged)
			}
		}
	}
}

// hostileTensor is another tensor in x's place: of another shape, or with other
// numbers.
func hostileTensor(r *rand.Rand, x *tensor.Tensor) *tensor.Tensor {
	if x == nil || x.DType.IsContainer() || x.DType == tensor.String {
		return nil
	}
	y := x.Clone()
	switch r.IntN(3) {
	case 0:
		var shape []int
		for range r.IntN(5) {
			shape = append(shape, r.IntN(4))
		}
		return tensor.New(x.DType, shape...)
	case 1:
		if x.DType.IsInt() && y.Len() > 0 {
			y.SetIntAt(r.IntN(y.Len()), hostileInt(r))
		}
	}
	return y
}

// evaluate types and computes a node; what it returns does not matter here.
func evaluate(tab *ops.Table, row *ops.Op, c ops.Case) {
	g := graph.New("g")
	var in []*graph.Value
	for _, x := range c.In {
		if x == nil {
			in = append(in, nil)
			continue
		}
		in = append(in, g.AddConst("c", x))
	}
	n := g.Add(row.ID, c.Attrs, in, max(c.NOut, 1), "y")
	n.TrimIn()
	if ops.InferNode(tab, n) != nil {
		return
	}
	for _, v := range n.Out {
		if s, ok := v.Type.Static(); ok {
			size := 1
			for _, d := range s {
				if d > 1<<20 || size > 1<<20 {
					return // the callers' memory check stops it there
				}
				size *= max(d, 1)
			}
			if size > 1<<20 {
				return
			}
		}
	}
	_, _ = ops.Eval(context.Background(), tab, n, c.In[:len(n.In)])
}
