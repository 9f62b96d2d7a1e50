package cpu

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/library"
)

func opTable(t testing.TB) *ops.Table {
	t.Helper()
	table := &ops.Table{}
	if err := library.Register(table); err != nil {
		t.Fatal(err)
	}
	return table
}

// close reports the first element of got that is too far from want.
func closeTo(got, want *tensor.Tensor, rtol, atol float64) error {
	if got.DType != want.DType || fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) {
		return fmt.Errorf("got %s, want %s", got.TypeString(), want.TypeString())
	}
	if got.DType.IsContainer() {
		if len(got.Elems) != len(want.Elems) {
			return fmt.Errorf("got %d members, want %d", len(got.Elems), len(want.Elems))
		}
		for i := range got.Elems {
			if err := closeTo(got.Elems[i], want.Elems[i], rtol, atol); err != nil {
				return err
			}
		}
		return nil
	}
	if got.DType == tensor.String {
		for i := range got.Strings {
			if got.Strings[i] != want.Strings[i] {
				return fmt.Errorf("element %d is %q, want %q", i, got.Strings[i], want.Strings[i])
			}
		}
		return nil
	}
	if !got.DType.IsFloat() {
		if string(got.Data) != string(want.Data) {
			return fmt.Errorf("got %v, want %v", got.Data, want.Data)
		}
		return nil
	}
	for i := range got.Len() {
		g, w := got.At(i), want.At(i)
		if math.IsNaN(g) != math.IsNaN(w) || !math.IsNaN(g) && g != w && !(math.Abs(g-w) <= atol+rtol*math.Abs(w)) {
			return fmt.Errorf("element %d of %s is %v, want %v", i, got.TypeString(), g, w)
		}
	}
	return nil
}

// asConst says which inputs of a test graph are constants.
type asConst func(i int, t *tensor.Tensor) bool

// nodeGraph wraps one node. Inputs that are not constants get symbolic axes
// when symbolic is set.
func nodeGraph(t *testing.T, table *ops.Table, id graph.OpID, attrs graph.Attrs, in []*tensor.Tensor, nOut int, konst asConst, symbolic bool) (*graph.Graph, map[string]*tensor.Tensor, error) {
	t.Helper()
	g := graph.New("case")
	feeds := map[string]*tensor.Tensor{}
	var vals []*graph.Value
	for i, x := range in {
		switch {
		case x == nil:
			vals = append(vals, nil)
		case konst(i, x):
			vals = append(vals, g.AddConst(fmt.Sprintf("c%d", i), x))
		default:
			name := fmt.Sprintf("x%d", i)
			ty := graph.TypeOf(x)
			if symbolic {
				for a := range ty.Shape {
					ty.Shape[a] = graph.Sym(fmt.Sprintf("s%d_%d", i, a))
				}
			}
			vals = append(vals, g.AddInput(name, ty))
			feeds[name] = x
		}
	}
	n := g.Add(id, attrs, vals, nOut, "y")
	n.TrimIn()
	if err := ops.InferNode(table, n); err != nil {
		return nil, nil, err
	}
	for _, v := range n.Out {
		g.AddOutput(v)
	}
	return g, feeds, nil
}

func open(t testing.TB, table *ops.Table, g *graph.Graph, target backends.Target) backends.Executable {
	t.Helper()
	b := New(table)
	p, err := b.Compile(g, target)
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Open(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func newSession(t testing.TB, e backends.Executable) backends.Session {
	t.Helper()
	s, err := e.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCases runs the cases of every operator through compiled plans: as they
// are, with constant right operands, with symbolic shapes.
func TestCases(t *testing.T) {
	table := opTable(t)
	forms := []struct {
		name     string
		konst    asConst
		symbolic bool
	}{
		{"inputs", func(i int, x *tensor.Tensor) bool { return false }, false},
		{"constants", func(i int, x *tensor.Tensor) bool { return i > 0 }, false},
		{"symbolic", func(i int, x *tensor.Tensor) bool { return x.DType == tensor.Int64 && x.Rank() < 2 && i > 0 }, true},
	}
	ran, fast := 0, 0
	for _, row := range table.All() {
		if row.Traits&ops.Random != 0 || row.Eval == nil {
			continue
		}
		for _, c := range row.Cases {
			for _, form := range forms {
				t.Run(fmt.Sprintf("%s/%s/%s", row.ID, c.Name, form.name), func(t *testing.T) {
					nOut := max(c.NOut, 1)
					g, feeds, err := nodeGraph(t, table, row.ID, c.Attrs, c.In, nOut, func(i int, x *tensor.Tensor) bool { return form.konst(i, x) || slices.Contains(c.Consts, i) }, form.symbolic && !c.Static)
					if err != nil {
						t.Fatal(err)
					}
					want, err := ops.Eval(context.Background(), table, g.Nodes[0], c.In)
					if err != nil {
						t.Fatal(err)
					}
					e := open(t, table, g, backends.Target{Threads: 2})
					if e.Plan().Kernels[0] != "" {
						fast++
					}
					ran++
					s := newSession(t, e)
					for range 2 {
						got, err := s.Run(context.Background(), feeds, nil)
						if err != nil {
							t.Fatal(err)
						}
						for i, v := range g.Outputs {
							rtol, atol := c.Rtol, c.Atol
							if rtol == 0 {
								rtol = 1e-5
							}
							if atol == 0 {
								atol = 1e-6
							}
							if err := closeTo(got[v.Name], want[i], rtol, atol); err != nil {
								t.Errorf("kernel %q, output %d: %v", e.Plan().Kernels[0], i, err)
							}
						}
					}
				})
			}
		}
	}
	t.Logf("%d runs, %d on kernels", ran, fast)
	if fast < 200 {
		t.Errorf("only %d of %d runs met a kernel", fast, ran)
	}
}
