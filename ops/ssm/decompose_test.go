package ssm_test

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// more are cases that the operators' own do not have: lengths around the chunk
// of the decomposed SSD, several chunks, no token, batches.
func more() []struct {
	op *ops.Op
	c  ops.Case
} {
	type row = struct {
		op *ops.Op
		c  ops.Case
	}
	var out []row
	wave := func(seed float64, shape ...int) *tensor.Tensor {
		t := tensor.New(tensor.Float32, shape...)
		for i := range t.Len() {
			t.SetAt(i, math.Sin(seed+1.7*float64(i)+0.3*float64(i%7)))
		}
		return t
	}
	positive := func(t *tensor.Tensor, scale float64) *tensor.Tensor {
		for i := range t.Len() {
			t.SetAt(i, scale*math.Abs(t.At(i)))
		}
		return t
	}
	for _, L := range []int{2, 63, 64, 65, 128, 200} {
		for _, G := range []int{1, 2, 4} {
			in := []*tensor.Tensor{
				wave(1, 2, L, 4, 3), positive(wave(2, 2, L, 4), 0.5), positive(wave(3, 4), -2), wave(4, 2, L, G, 5), wave(5, 2, L, G, 5),
				nil, nil, nil, wave(6, 2, 4, 3, 5), nil,
			}
			if L%2 == 0 {
				in[8] = nil
			}
			out = append(out, row{ssm.SSD, ops.Case{Name: fmt.Sprintf("L=%d G=%d", L, G), In: in, NOut: 2}})
		}
	}
	// A huge decay in the middle loses nothing of the tokens behind it.
	in := []*tensor.Tensor{wave(1, 1, 90, 2, 3), nil, positive(wave(3, 1, 90, 2), -1), wave(4, 1, 90, 1, 4), wave(5, 1, 90, 1, 4), nil, nil, nil, nil, nil}
	in[2].SetAt(40, -1e30)
	out = append(out, row{ssm.SSD, ops.Case{Name: "huge decay", In: in, NOut: 2}})
	out = append(out, row{ssm.Dims, ops.Case{Name: "arithmetic", In: []*tensor.Tensor{wave(1, 5, 7), wave(2, 3)}, Attrs: graph.Attrs{
		"dims": []string{"4", "x0.0", "2*x0.1-x1.0", "ceil(x0.1/4)", "floor((3-x0.1)/2)", "max(x0.0,x1.0)*min(x0.0,x0.1)", "0"}}}})
	out = append(out, row{ssm.Dims, ops.Case{Name: "none", Attrs: graph.Attrs{"dims": []string{}}}})
	return out
}

// TestDecompositions evaluates every decomposition, down to operators of ONNX
// alone, on the operators' cases, with lengths as numbers and as symbols, in
// three element types.
func TestDecompositions(t *testing.T) {
	tab := &ops.Table{}
	if err := onnx.Register(tab); err != nil {
		t.Fatal(err)
	}
	if err := ssm.Register(tab); err != nil {
		t.Fatal(err)
	}
	rows := more()
	for _, r := range ssm.Rows() {
		if r.Decompose == nil {
			t.Errorf("%s has no decomposition", r.ID)
		}
		for _, c := range r.Cases {
			rows = append(rows, struct {
				op *ops.Op
				c  ops.Case
			}{r, c})
		}
	}
	for _, r := range rows {
		for _, d := range []tensor.DType{tensor.Float32, tensor.Float64, tensor.Float16} {
			for _, symbolic := range []bool{false, true} {
				name := fmt.Sprintf("%s/%s/%v/symbolic=%v", r.op.ID.Name, r.c.Name, d, symbolic)
				t.Run(name, func(t *testing.T) { checkDecomposed(t, tab, r.op, r.c, d, symbolic) })
			}
		}
	}
}

func checkDecomposed(t *testing.T, tab *ops.Table, op *ops.Op, c ops.Case, d tensor.DType, symbolic bool) {
	g := graph.New("g")
	var in []*tensor.Tensor
	args := make([]*graph.Value, len(c.In))
	var like *tensor.Tensor // has the batch and the length
	for i, x := range c.In {
		if i == 0 || i == 1 && op == ssm.LinearScan {
			like = x
		}
	}
	for i, x := range c.In {
		if x == nil {
			continue
		}
		y := x
		if x.DType == tensor.Float32 {
			y = tensor.New(d, x.Shape...)
			for j := range x.Len() {
				y.SetAt(j, x.At(j))
			}
		}
		typ := graph.TypeOf(y)
		if symbolic && x.Rank() >= 2 { // batch and length, where there is one
			typ.Shape[0] = graph.Sym("batch")
			if op == ssm.Linear || op == ssm.GatedRMSNorm || op == ssm.Dims {
				typ.Shape[0] = graph.Sym(fmt.Sprintf("rows%d", i))
			} else if x.Shape[0] == like.Shape[0] && x.Rank() >= 3 && x.Shape[1] == like.Shape[1] {
				typ.Shape[1] = graph.Sym("length")
			}
			if x.Shape[0] != like.Shape[0] || x.Rank() == 2 && i != 9 {
				typ = graph.TypeOf(y) // a parameter
			}
			if op == ssm.GatedRMSNorm && x.Rank() >= 2 {
				typ.Shape[0] = graph.Sym("rows")
			}
		}
		args[i] = g.AddInput(fmt.Sprintf("x%d", i), typ)
		in = append(in, y)
	}
	n := g.Add(op.ID, c.Attrs, args, max(c.NOut, 1), "n")
	n.TrimIn()
	if err := ops.InferNode(tab, n); err != nil {
		t.Fatal(err)
	}
	for _, v := range n.Out {
		g.AddOutput(v)
	}
	want, err := ops.Run(context.Background(), tab, g, in)
	if err != nil {
		t.Fatal(err)
	}
	for work := []*graph.Node{n}; len(work) > 0; work = work[1:] {
		m := work[0]
		row := tab.Lookup(m.Op)
		before := len(g.Nodes)
		b := ops.NewBuilder(tab, g)
		out, err := row.Decompose(b, m)
		if err == nil {
			err = b.Err
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range out {
			if v == nil {
				continue
			}
			if v.Type.DType != m.Out[i].Type.DType || v.Type.Rank() != m.Out[i].Type.Rank() {
				t.Fatalf("output %d is %s, was %s", i, v.Type, m.Out[i].Type)
			}
			m.Out[i].ReplaceWith(v)
		}
		for _, k := range g.Nodes[before:] {
			if k.Op.Domain == ssm.Domain {
				work = append(work, k)
			}
		}
	}
	if err := g.Sort(); err != nil {
		t.Fatal(err)
	}
	g.Sweep()
	g.Walk(func(n *graph.Node) {
		if n.Op.Domain != "" {
			t.Errorf("%s is left", n)
		}
	})
	if err := ops.Verify(tab, g); err != nil {
		t.Fatal(err)
	}
	got, err := ops.Run(context.Background(), tab, g, in)
	if err != nil {
		t.Fatal(err)
	}
	tol := map[tensor.DType]float64{tensor.Float32: 1e-5, tensor.Float64: 1e-10, tensor.Float16: 2e-3}[d]
	for i, w := range want {
		if got[i].TypeString() != w.TypeString() {
			t.Fatalf("output %d is %s, want %s", i, got[i].TypeString(), w.TypeString())
		}
		var diff, norm float64
		for j := range w.Len() {
			e := got[i].At(j) - w.At(j)
			diff, norm = diff+e*e, norm+w.At(j)*w.At(j)
		}
		if e := math.Sqrt(diff); !(e <= tol*math.Max(math.Sqrt(norm), 1e-30)) {
			t.Errorf("output %d differs by %.2g of %.2g", i, e, math.Sqrt(norm))
		}
	}
}
