package onnx

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
	"github.com/ssdc-go/ssdc/ops"
)

func run(t *testing.T, m *Model, in ...*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	out, err := ops.Run(context.Background(), rows(t), m.Graph, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantFloats(t *testing.T, got *tensor.Tensor, want ...float64) {
	t.Helper()
	if !slices.Equal(got.AsFloats(), want) {
		t.Errorf("got %v, want %v", got.AsFloats(), want)
	}
}

func TestSmallModel(t *testing.T) {
	m := must(t, model(small()), nil)
	if m.Producer != "test 1" || m.Opsets[""] != 20 || m.IRVersion != 10 || len(m.Digest) != 64 {
		t.Errorf("model: %+v", m)
	}
	n := m.Graph.Nodes[0]
	if n.Op.String() != "Add-14" || n.From != "y" || m.Graph.Outputs[0].Type.String() != "float[batch,3]" {
		t.Errorf("%s from %q computes %s", n.Op, n.From, m.Graph.Outputs[0].Type)
	}
	wantFloats(t, run(t, m, tensor.From([]float32{10, 20, 30}, 1, 3))[0], 11, 22, 33)
}

func TestSymbols(t *testing.T) {
	read := func(o *Options, dims ...any) (*Model, error) {
		g := &proto.GraphProto{Name: "g", Input: []*proto.ValueInfoProto{info("x", dims...), info("z", "T")},
			Output: []*proto.ValueInfoProto{bare("y")}, Node: []*proto.NodeProto{node("y = Neg(x)")}}
		return Read(bytesOf(t, model(g)), "", rows(t), o)
	}
	for _, c := range []struct {
		dims []any
		want string
	}{
		{[]any{"batch", "", -1, "?", 0}, "float[batch,?x.1,?x.2,?x.3,0]"},
		{[]any{"batch size", "batch_size"}, "float[batch_size_2,batch_size]"},
		{[]any{"64*C", "T + 1"}, "float[64*C,T+1]"},
		{[]any{"seq-len"}, "float[seq_len]"}, // a name: nothing gives seq and len
		{[]any{"T//C"}, "float[T__C]"},       // not solvable for C
		{[]any{strings.Repeat("(a+b+c+d)*", 40) + "a"}, ""},
		{[]any{"7"}, "float[7]"},
	} {
		m, err := read(nil, c.dims...)
		if err != nil {
			t.Errorf("%v: %v", c.dims, err)
		} else if got := m.Graph.Inputs[0].Type.String(); got != c.want && c.want != "" {
			t.Errorf("%v: read as %s, want %s", c.dims, got, c.want)
		}
	}
	m, err := read(&Options{Symbols: map[string]int64{"T": 5, "batch size": 2, "?x.1": 9}}, "batch size", "", "T + 1")
	if err != nil || m.Graph.Inputs[0].Type.String() != "float[2,9,6]" {
		t.Errorf("bound: %v %v", m, err)
	}
	if _, err = read(&Options{Symbols: map[string]int64{"seq": 5}}, "batch"); err == nil || !strings.Contains(err.Error(), `"seq"`) || !strings.Contains(err.Error(), "batch") {
		t.Errorf("binding a name that is not there: %v", err)
	}
}

func TestUnsortedAndUnused(t *testing.T) {
	g := small()
	g.Node = []*proto.NodeProto{node("y = Add(b, b)"), node("b = Add(a, w)"), node("dead = nowhere::Op(a)"), node("a = Neg(x)")}
	m := must(t, model(g), nil)
	if len(m.Graph.Nodes) != 3 || m.Graph.Nodes[0].Op.Name != "Neg" {
		t.Errorf("nodes: %v", m.Graph.Nodes)
	}
	wantFloats(t, run(t, m, tensor.From([]float32{1, 1, 1}, 1, 3))[0], 0, 2, 4)
	_, err := Read(bytesOf(t, model(g)), "", rows(t), &Options{KeepUnused: true})
	if err == nil || !strings.Contains(err.Error(), "nowhere.Op") {
		t.Errorf("keeping the unused node: %v", err)
	}
}

func TestUnknownOperators(t *testing.T) {
	g := small()
	g.Node = []*proto.NodeProto{node("a = x::Foo(x)"), node("b = x::Foo(a)"), node("c = x::Foo(b)"), node("d = x::Foo(c)"), node("e = Bar(d)"), node("y = Add(e, w)")}
	g.Node[0].Name = "first"
	_, err := Read(bytesOf(t, model(g)), "", rows(t), nil)
	u, ok := err.(*UnsupportedError)
	want := `model: unknown operators: Bar (opset 20; 1 node: "e"); x.Foo (opset 0; 4 nodes: "first", "b", "c", ...); add a plugin that defines them`
	if !ok || err.Error() != want || len(u.Ops) != 2 || u.Ops[1].Count != 4 {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	m := model(small())
	m.OpsetImport[0].Version = 5
	fails(t, m, "Add (opset 5; 1 node: \"y\"; known from opset 6 on")
	m.OpsetImport[0].Version = MaxOpset + 1
	fails(t, m, "newer than")
	m.OpsetImport = m.OpsetImport[1:]
	fails(t, m, "no version of ai.onnx")
}

func TestBodiesCaptureOuterValues(t *testing.T) {
	body := func(op string) *proto.GraphProto {
		return &proto.GraphProto{Name: op, Output: []*proto.ValueInfoProto{bare("r")},
			Initializer: []*proto.TensorProto{floats("k", 10)},
			Node:        []*proto.NodeProto{node("r = Add(q, w)"), node("q = " + op + "(h, k)")}}
	}
	g := small()
	g.Input = append(g.Input, &proto.ValueInfoProto{Name: "c", Type: &proto.TypeProto{Value: &proto.TypeProto_TensorType{
		TensorType: &proto.TypeProto_Tensor{ElemType: 9, Shape: &proto.TensorShapeProto{}}}}})
	// Both branches use the names r, q and k; h is defined after the If.
	g.Node = []*proto.NodeProto{node("y = If(c)", aGraph("then_branch", body("Mul")), aGraph("else_branch", body("Sub"))), node("h = Neg(x)")}
	m := must(t, model(g), nil)
	x := tensor.From([]float32{1, 2, 3}, 1, 3)
	wantFloats(t, run(t, m, x, tensor.Scalar(true))[0], -9, -18, -27)
	wantFloats(t, run(t, m, x, tensor.Scalar(false))[0], -10, -10, -10)
	if n := m.Graph.Nodes[1]; len(n.Bodies) != 2 || n.Body("else_branch") == nil {
		t.Errorf("bodies of %s: %d", n, len(n.Bodies))
	}
	g.Node[0].Attribute[0].G.Node[0] = node("r = Add(q, y)") // its own result
	fails(t, model(g), "cycle")
}

func TestFunctions(t *testing.T) {
	// twice(x; alpha=3) = LeakyRelu(x, alpha) + LeakyRelu(x, alpha), through an inner function.
	inner := &proto.FunctionProto{Domain: "local", Name: "leaky", Input: []string{"x"}, Output: []string{"y"}, Attribute: []string{"alpha"},
		OpsetImport: []*proto.OperatorSetIdProto{{Version: 16}},
		Node:        []*proto.NodeProto{node("y = LeakyRelu(x)", aRef("alpha", "alpha", proto.AttributeProto_FLOAT))}}
	outer := &proto.FunctionProto{Domain: "local", Name: "twice", Input: []string{"x", "bias"}, Output: []string{"y", "x"},
		AttributeProto: []*proto.AttributeProto{{Name: "slope", Type: proto.AttributeProto_FLOAT, F: 3}},
		OpsetImport:    []*proto.OperatorSetIdProto{{Version: 18}},
		Node: []*proto.NodeProto{node("h = local::leaky(x)", aRef("alpha", "slope", proto.AttributeProto_FLOAT)),
			node("k = Constant()", aRef("value_float", "slope", proto.AttributeProto_FLOAT)), node("s = Add(h, h)"), node("y = Add(s, k)")}}
	g := small()
	g.Output = []*proto.ValueInfoProto{info("y", "batch", 3), info("z", "batch", 3), info("same", "batch", 3)}
	g.Node = []*proto.NodeProto{node("y, same = local::twice(x)"), node("z = local::twice(y, x)", &proto.AttributeProto{Name: "slope", Type: proto.AttributeProto_FLOAT, F: 0.5})}
	g.Node[0].Name = "call"
	m := must(t, model(g, outer, inner), nil)
	out := run(t, m, tensor.From([]float32{-1, 2, -3}, 1, 3))
	wantFloats(t, out[0], -3, 7, -15)
	wantFloats(t, out[1], -2.5, 14.5, -14.5)
	wantFloats(t, out[2], -1, 2, -3)
	var got []string
	for _, n := range m.Graph.Nodes {
		got = append(got, fmt.Sprintf("%s %s %s", n.Op, n.From, n.Out[0].Name))
	}
	want := []string{"LeakyRelu-16 call/h/y call/h", "Add-14 call/s call/s", "Add-14 call/y y", "LeakyRelu-16 z/h/y z/h", "Add-14 z/s z/s", "Add-14 z/y z", "Identity-19 same same"}
	if !slices.Equal(got, want) {
		t.Errorf("nodes\n%q, want\n%q", got, want)
	}
	inner.Node[0] = node("y = local::twice(x)")
	fails(t, model(g, outer, inner), "calls itself")
	fails(t, model(g, outer, outer), "defined twice")
	fails(t, model(g, outer), "local.leaky")
	outer.Node = outer.Node[1:]
	fails(t, model(g, outer), `"h" is not defined`)
}

// A graph passed to a function as an attribute sees the caller's values.
func TestGraphParameter(t *testing.T) {
	branch := &proto.GraphProto{Name: "b", Output: []*proto.ValueInfoProto{bare("r")}, Node: []*proto.NodeProto{node("r = Add(x, w)")}}
	f := &proto.FunctionProto{Domain: "local", Name: "either", Input: []string{"c"}, Output: []string{"o"}, Attribute: []string{"body"},
		OpsetImport: []*proto.OperatorSetIdProto{{Version: 20}},
		Node:        []*proto.NodeProto{node("o = If(c)", aRef("then_branch", "body", proto.AttributeProto_GRAPH), aRef("else_branch", "body", proto.AttributeProto_GRAPH))}}
	g := small()
	g.Initializer = append(g.Initializer, raw("yes", 9, []byte{1}))
	g.Node = []*proto.NodeProto{node("y = local::either(yes)", aGraph("body", branch))}
	m := must(t, model(g, f), nil)
	wantFloats(t, run(t, m, tensor.From([]float32{1, 1, 1}, 1, 3))[0], 2, 3, 4)
}

func TestInlineBomb(t *testing.T) {
	var funcs []*proto.FunctionProto
	for i := range 60 {
		callee := fmt.Sprintf("local::f%d", i+1)
		if i == 59 {
			callee = "Neg"
		}
		funcs = append(funcs, &proto.FunctionProto{Domain: "local", Name: fmt.Sprintf("f%d", i), Input: []string{"x"}, Output: []string{"y"},
			OpsetImport: []*proto.OperatorSetIdProto{{Version: 20}},
			Node:        []*proto.NodeProto{node("h = " + callee + "(x)"), node("y = " + callee + "(h)")}})
	}
	g := small()
	g.Node = []*proto.NodeProto{node("y = local::f0(x)")}
	fails(t, model(g, funcs...), "too large")
}

func TestModelErrors(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(g *proto.GraphProto)
	}{
		{"input 1: \"q\" is not defined", func(g *proto.GraphProto) { g.Node[0].Input[1] = "q" }},
		{"defined twice, by input \"x\" and by node", func(g *proto.GraphProto) { g.Node[0].Output[0] = "x" }},
		{"defined twice", func(g *proto.GraphProto) { g.Node = append(g.Node, node("y = Neg(x)")) }},
		{"defined twice", func(g *proto.GraphProto) { g.Input = append(g.Input, info("x", 1)) }},
		{"cycle", func(g *proto.GraphProto) { g.Node[0].Input[1] = "y" }},
		{"no outputs", func(g *proto.GraphProto) { g.Output = nil }},
		{"\"nope\" is not defined", func(g *proto.GraphProto) { g.Output[0].Name = "nope" }},
		{"no element type", func(g *proto.GraphProto) { g.Input[0].Type = nil }},
		{`value "y" is declared int64[batch,3], but node "y" (Add-14) computes float[batch,3]; the model contradicts itself`, func(g *proto.GraphProto) {
			g.Output[0] = info("y", "batch", 3)
			g.Output[0].Type.GetTensorType().ElemType = 7
		}},
		{"broadcast", func(g *proto.GraphProto) { g.Initializer[0] = floats("w", 1, 2) }},
		{"needs 12 bytes, raw_data has 3", func(g *proto.GraphProto) { g.Initializer[0] = raw("w", 1, []byte{1, 2, 3}, 3) }},
		{"has 1 values, want 3", func(g *proto.GraphProto) { g.Initializer[0].FloatData = []float32{1} }},
		{"out of range", func(g *proto.GraphProto) { g.Initializer[0].Dims[0] = -3 }},
		{"too large", func(g *proto.GraphProto) { g.Initializer[0].Dims = []int64{1 << 40, 1 << 40, 0} }},
		{"element type 77", func(g *proto.GraphProto) { g.Initializer[0].DataType = 77 }},
		{"folder", func(g *proto.GraphProto) { g.Initializer[0].DataLocation = proto.TensorProto_EXTERNAL }},
		{"given twice", func(g *proto.GraphProto) {
			g.Node[0] = node("y = Softmax(x)", aInt("axis", 0), aInt("axis", 1))
		}},
		{"attribute \"axis\" is float32, want int64", func(g *proto.GraphProto) {
			g.Node[0] = node("y = Softmax(x)", &proto.AttributeProto{Name: "axis", Type: proto.AttributeProto_FLOAT, F: 1})
		}},
		{`model: node "y" (Softmax-13): unknown attribute "axes"; Softmax-13 has axis: remove it`, func(g *proto.GraphProto) {
			g.Node[0] = node("y = Softmax(x)", aInt("axes", 0))
		}},
		{`unknown attribute "alpha"; Relu-14 has none: remove it`, func(g *proto.GraphProto) { g.Node[0] = node("y = Relu(x)", aInt("alpha", 0)) }},
		{`unknown attribute "body"; Relu-14 has none`, func(g *proto.GraphProto) { g.Node[0] = node("y = Relu(x)", aGraph("body", small())) }},
		{`attribute "to" is missing`, func(g *proto.GraphProto) { g.Node[0] = node("y = Cast(x)") }},
		{"UTF-8", func(g *proto.GraphProto) { g.Node[0].Output[0], g.Output[0].Name = "\xff", "\xff" }},
		{"has no element type", func(g *proto.GraphProto) { g.Input[0].Type = mapOf(0, nil) }},
		{"keys of a map are strings or integers, not float", func(g *proto.GraphProto) { g.Input[0].Type = mapOf(1, tensorType(1)) }},
		{"maps to anything but single elements", func(g *proto.GraphProto) { g.Input[0].Type = mapOf(7, mapOf(7, tensorType(1))) }},
		{"maps to anything but single elements", func(g *proto.GraphProto) { g.Input[0].Type = mapOf(7, nil) }},
		{"maps to tensors of 3 elements", func(g *proto.GraphProto) { g.Input[0].Type = mapOf(8, tensorType(1, 3)) }},
		{"inputs, want", func(g *proto.GraphProto) { g.Node[0].Input = g.Node[0].Input[:1] }},
	} {
		g := small()
		c.change(g)
		fails(t, model(g), c.want)
	}
	g := small()
	g.Output[0].Type.GetTensorType().ElemType = 7
	if _, err := Read(bytesOf(t, model(g)), "", rows(t), &Options{IgnoreValueInfo: true}); err != nil {
		t.Error(err)
	}
	unused := small() // of nodes that nothing reads nothing is asked
	unused.Node = append(unused.Node, node("unused = Relu(x)", aInt("alpha", 0)))
	must(t, model(unused), nil)
	deep := small()
	for range 200 {
		deep = &proto.GraphProto{Name: "d", Output: []*proto.ValueInfoProto{bare("y")}, Node: []*proto.NodeProto{node("y = If(x)", aGraph("then_branch", deep))}}
	}
	fails(t, model(deep), "cut short") // deeper than the wire format is read
}

// TestWrongShapes: what a file declares of shapes is not computed with; where it
// contradicts the operators a warning says so, and the rest is as without it.
func TestWrongShapes(t *testing.T) {
	for _, c := range []struct {
		declared *proto.ValueInfoProto
		want     string // "" for no warning
	}{
		{info("y", "batch", 4), `value "y" is declared float[batch,4], but node "y" (Add-14) computes float[batch,3]; what is declared is ignored: correct or clear`},
		{info("y", "batch", 3, 1), "declared float[batch,3,1]"},
		{info("y"), "declared float[], but"},
		{info("y", 7, 3), ""}, // the batch may be 7
		{info("y", "other", 3), ""},
		{bare("y"), ""},
	} {
		for _, output := range []bool{true, false} {
			g := small()
			if output {
				g.Output[0] = c.declared
			} else {
				g.ValueInfo = append(g.ValueInfo, c.declared)
			}
			m := must(t, model(g), nil)
			got := strings.Join(m.Warnings, "\n")
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("%v: warnings %q, want one about %q", c.declared, got, c.want)
			}
			if y := m.Graph.Outputs[0].Type.String(); y != "float[batch,3]" {
				t.Errorf("%v: the output is %s", c.declared, y)
			}
		}
	}
}

func TestDefaultsOfInputs(t *testing.T) {
	g := small()
	g.Input = append(g.Input, info("w", 3)) // IR version 3 lists weights as inputs
	m := must(t, model(g), nil)
	if len(m.Graph.Inputs) != 1 {
		t.Errorf("inputs: %v", m.Graph.Inputs)
	}
}

func TestNotONNX(t *testing.T) {
	npz, err := os.ReadFile("../../graph/tensor/testdata/npy/st.npz")
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"":                            "empty",
		"\x1f\x8b\x08rest":            "gunzip",
		string(npz):                   ".npz",
		"PK\x03\x04 archive/data.pkl": "torch.onnx.export",
		"PK\x03\x04 m/archive_format": ".pt2",
		"\x10\x00\x00\x00\x00\x00\x00\x00{\"a\":{\"dtype\":1}}": "safetensors",
		"\x80\x02}q\x00.":                      "pickle",
		"version https://git-lfs.github.com/":  "git lfs pull",
		"<!DOCTYPE html><html>":                "web page",
		"{\"ir\": 1}":                          "text",
		"GGUF\x03":                             "GGUF",
		"\x08\x07\x12\x04abc":                  "cut short",
		"\x08\x07":                             "no graph",
		"hello world, this is no model at all": "not an ONNX model",
	} {
		_, err := Read([]byte(in), "", rows(t), nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "not an ONNX model") {
			t.Errorf("%.40q: error %v, want one about %q", in, err, want)
		}
	}
	if _, err := Load(t.TempDir(), rows(t), nil); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "no.onnx"), rows(t), nil); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}

func mapOf(key int32, value *proto.TypeProto) *proto.TypeProto {
	return &proto.TypeProto{Value: &proto.TypeProto_MapType{MapType: &proto.TypeProto_Map{KeyType: key, ValueType: value}}}
}

func tensorType(d int32, dims ...int64) *proto.TypeProto {
	s := &proto.TensorShapeProto{}
	for _, n := range dims {
		s.Dim = append(s.Dim, &proto.TensorShapeProto_Dimension{Value: &proto.TensorShapeProto_Dimension_DimValue{DimValue: n}})
	}
	return &proto.TypeProto{Value: &proto.TypeProto_TensorType{TensorType: &proto.TypeProto_Tensor{ElemType: d, Shape: s}}}
}

// TestOnlyTensors: maps and sequences reach no operator that would take them for scalars.
func TestOnlyTensors(t *testing.T) {
	for _, op := range []string{"Transpose", "Shape", "Concat", "Expand"} {
		g := small()
		g.Input[0].Type = mapOf(8, tensorType(1))
		g.Node = []*proto.NodeProto{node("y = " + op + "(x)")}
		if op == "Concat" {
			g.Node[0].Attribute = []*proto.AttributeProto{aInt("axis", 0)}
		}
		if op == "Expand" {
			g.Node[0].Input = []string{"x", "x"}
		}
		fails(t, model(g), "is map(string,float[]), want a tensor")
	}
}
