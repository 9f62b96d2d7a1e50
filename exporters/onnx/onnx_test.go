package onnx

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	importer "github.com/ssdc-go/ssdc/importers/onnx"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
)

func table(t *testing.T) *ops.Table {
	tab := &ops.Table{}
	if err := onnx.Register(tab); err != nil {
		t.Fatal(err)
	}
	return tab
}

func parse(t *testing.T, tab *ops.Table, text string) *graph.Graph {
	t.Helper()
	g, err := graph.ParseString(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := ops.InferGraph(tab, g); err != nil {
		t.Fatal(err)
	}
	return g
}

func reread(t *testing.T, tab *ops.Table, g *graph.Graph, opset int) *importer.Model {
	t.Helper()
	data, err := Bytes(g, Options{Opsets: map[string]int{"": opset}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := importer.Read(data, "", tab, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestOperators writes every version of every operator on its cases, reads it
// back and evaluates both: no attribute, type, body or constant is lost.
func TestOperators(t *testing.T) {
	tab := table(t)
	n := 0
	for _, r := range tab.All() {
		if r.Eval == nil || r.ID.Name == "Constant" || tab.Resolve("", r.ID.Name, r.ID.Since) != r {
			continue
		}
		if strings.HasPrefix(r.ID.Name, "Random") || r.ID.Name == "Bernoulli" || r.ID.Name == "Multinomial" {
			continue
		}
		for _, c := range r.Cases {
			g := graph.New("g")
			args := make([]*graph.Value, len(c.In))
			var in []*tensor.Tensor
			containers := false
			for i, x := range c.In {
				switch {
				case x == nil:
				case x.DType.IsContainer():
					containers = true
				case i%2 == 0:
					args[i] = g.AddInput(fmt.Sprintf("x%d", i), graph.TypeOf(x))
					in = append(in, x)
				default:
					args[i] = g.AddConst(fmt.Sprintf("c%d", i), x)
				}
			}
			if containers {
				continue
			}
			node := g.Add(r.ID, c.Attrs.Clone(), args, max(c.NOut, 1), "y")
			node.TrimIn()
			if ops.InferNode(tab, node) != nil {
				continue
			}
			for _, v := range node.Out {
				g.AddOutput(v)
			}
			want, err := ops.Run(context.Background(), tab, g, in)
			if err != nil {
				continue
			}
			opset := r.ID.Since
			if tab.Resolve("", r.ID.Name, 7) == r {
				opset = 7
			}
			m := reread(t, tab, g, opset)
			got, err := ops.Run(context.Background(), tab, m.Graph, in)
			if err != nil {
				t.Errorf("%s %s: %v", r.ID, c.Name, err)
				continue
			}
			for i, w := range want {
				if got[i].TypeString() != w.TypeString() || !bytes.Equal(got[i].Data, w.Data) {
					t.Errorf("%s %s: output %d changed", r.ID, c.Name, i)
				}
			}
			n++
		}
	}
	if n < 700 {
		t.Errorf("only %d cases", n)
	}
	t.Logf("%d cases", n)
}

const control = `graph main (float[batch,4] x, int64[] n, bool[] flag) => (float[batch,4] y, float[batch,4] z, float[3] w)
<
  float[4] one = {1, 1, 1, 1}
  bool[] yes = {1}
  float[3] w = {1, 2, 3}
> {
  ["loop"] float[batch,4] y = Loop-16 <body: graph = graph body (int64[] i, bool[] cond, float[batch,4] h) => (bool[] cond, float[batch,4] next) {
      float[batch,4] next = Add-14 (h, one)
    }> (n, yes, x)
  ["if"] float[batch,4] z = If-16 <else_branch: graph = graph no () => (float[batch,4] x) {
    }, then_branch: graph = graph yes () => (float[batch,4] a) {
      float[batch,4] a = Mul-14 (x, x)
    }> (flag)
}`

// TestControlFlow: bodies see constants and values around them, and give out
// values that are not theirs through a node of their own.
func TestControlFlow(t *testing.T) {
	tab := table(t)
	g := parse(t, tab, control)
	m := reread(t, tab, g, 16)
	for _, flag := range []bool{true, false} {
		in := []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4}, 1, 4), tensor.Scalar(int64(3)), tensor.Scalar(flag)}
		want, err := ops.Run(context.Background(), tab, g, in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ops.Run(context.Background(), tab, m.Graph, in)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if fmt.Sprint(got[i].AsFloats()) != fmt.Sprint(want[i].AsFloats()) {
				t.Errorf("output %d is %v, want %v", i, got[i].AsFloats(), want[i].AsFloats())
			}
		}
	}
	for i, name := range []string{"y", "z", "w"} {
		if m.Graph.Outputs[i].Name != name {
			t.Errorf("output %d is %q, want %q", i, m.Graph.Outputs[i].Name, name)
		}
	}
	if s := m.Graph.Inputs[0].Type.String(); s != "float[batch,4]" {
		t.Errorf("x is %s", s)
	}
	if m.Graph.Nodes[0].From != "loop" && m.Graph.Nodes[1].From != "loop" {
		t.Errorf("the Loop is called %q", m.Graph.Nodes[0].From)
	}
}

// TestElementTypes: constants of every element type keep their bits.
func TestElementTypes(t *testing.T) {
	tab := table(t)
	for d := tensor.Float32; d <= tensor.Int2; d++ {
		c := tensor.New(d, 3, 5)
		if d == tensor.String {
			c.Strings[2] = "a\x00b"
		}
		for i := range c.Data {
			c.Data[i] = byte(i * 37)
		}
		if d == tensor.Bool {
			for i := range c.Data {
				c.Data[i] &= 1
			}
		}
		if last := d.Bits() * 15 % 8; last != 0 { // what is left of the last byte is not part of the tensor
			c.Data[len(c.Data)-1] &= 1<<last - 1
		}
		g := graph.New("g")
		v := g.AddConst("c", c)
		n := g.Add(tab.Resolve("", "Identity", 25).ID, nil, []*graph.Value{v}, 1, "y")
		n.Out[0].Type = v.Type
		g.AddOutput(n.Out[0])
		m := reread(t, tab, g, 25)
		got := m.Graph.Constants()[0].Const
		if got.TypeString() != c.TypeString() || !bytes.Equal(got.Data, c.Data) || fmt.Sprint(got.Strings) != fmt.Sprint(c.Strings) {
			t.Errorf("%s: %v became %v", d, c.Data, got.Data)
		}
	}
}

func TestSymbols(t *testing.T) {
	tab := table(t)
	g := parse(t, tab, `graph g (float[batch,past+seq,64*chunks] x) => (float[batch,2*past+2*seq,64*chunks] y) {
  float[batch,2*past+2*seq,64*chunks] y = Concat-13 <axis: int = 1> (x, x)
}`)
	g.Inputs[0].Type.Shape[1] = graph.Sym("past").Add(graph.Sym("seq"))
	m := reread(t, tab, g, 20)
	if s := m.Graph.Inputs[0].Type.String(); !strings.HasPrefix(s, "float[batch,") || !strings.HasSuffix(s, "64*chunks]") {
		t.Errorf("x is %s", s)
	}
}

// TestFiles: external data, metadata, determinism, and files left whole.
func TestFiles(t *testing.T) {
	tab := table(t)
	big := tensor.New(tensor.Float32, 100, 100)
	for i := range big.Len() {
		big.SetAt(i, math.Sin(float64(i)))
	}
	g := graph.New("named")
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("n"), graph.D(100)))
	n := g.Add(tab.Resolve("", "MatMul", 20).ID, nil, []*graph.Value{x, g.AddConst("w", big)}, 1, "h")
	k := g.Add(tab.Resolve("", "Add", 20).ID, nil, []*graph.Value{n.Out[0], g.AddConst("small", tensor.New(tensor.Float32, 100))}, 1, "y")
	for _, n := range g.Nodes {
		if err := ops.InferNode(tab, n); err != nil {
			t.Fatal(err)
		}
	}
	g.AddOutput(k.Out[0])
	o := Options{Opsets: map[string]int{"": 20}, Producer: "ssdc", ProducerVersion: "1", Doc: "a model", Metadata: map[string]string{"b": "2", "a": "1"}}
	dir := t.TempDir()
	for _, way := range []struct {
		name     string
		external bool
		limit    int64
	}{{"inline", false, 1 << 30}, {"flag", true, 1 << 30}, {"size", false, 1000}} {
		path := filepath.Join(dir, way.name+".onnx")
		o.External = way.external
		for range 2 {
			if err := write(path, g, o, way.limit); err != nil {
				t.Fatal(err)
			}
		}
		info, err := os.Stat(path + ".data")
		if (err == nil) != (way.name != "inline") {
			t.Errorf("%s: data file: %v %v", way.name, info, err)
		}
		m, err := importer.Load(path, tab, nil)
		if err != nil {
			t.Fatal(err)
		}
		if m.Doc != "a model" || m.Metadata["a"] != "1" || m.Producer != "ssdc 1" || m.Graph.Name != "named" || m.IRVersion != 9 {
			t.Errorf("%s: %+v", way.name, m)
		}
		for _, v := range m.Graph.Constants() {
			if v.Name == "w" && !bytes.Equal(v.Const.Data, big.Data) {
				t.Errorf("%s: the weights changed", way.name)
			}
		}
	}
	one, _ := Bytes(g, o)
	two, _ := Bytes(g, o)
	if !bytes.Equal(one, two) {
		t.Error("two writings of one graph differ")
	}
	if err := Write(filepath.Join(dir, "no", "x.onnx"), g, o); err == nil || !strings.Contains(err.Error(), "there is no folder") {
		t.Errorf("error %v", err)
	}
	delete(o.Opsets, "")
	if err := Write(filepath.Join(dir, "x.onnx"), g, o); err == nil || !strings.Contains(err.Error(), "no opset") {
		t.Errorf("error %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".ssdc-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
