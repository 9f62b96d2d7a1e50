package onnx

import (
	"math"
	"strings"
	"testing"

	pb "google.golang.org/protobuf/proto"

	"github.com/ssdc-go/ssdc/importers/onnx/proto"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/library"
)

// Small models for tests, written in a line each.

func rows(t testing.TB) *ops.Table {
	t.Helper()
	var tab ops.Table
	if err := library.Register(&tab); err != nil {
		t.Fatal(err)
	}
	return &tab
}

// node parses "y, z = Op(a, b)" or "y = domain::Op(a)"; "_" is an omitted name.
func node(text string, attrs ...*proto.AttributeProto) *proto.NodeProto {
	names := func(s string) []string {
		var out []string
		for _, n := range strings.Split(s, ",") {
			if n = strings.TrimSpace(n); n == "_" {
				n = ""
			} else if n == "" {
				continue
			}
			out = append(out, n)
		}
		return out
	}
	left, right, _ := strings.Cut(text, "=")
	op, args, _ := strings.Cut(strings.TrimSpace(right), "(")
	n := &proto.NodeProto{Output: names(left), OpType: op, Input: names(strings.TrimSuffix(args, ")")), Attribute: attrs}
	if dom, name, ok := strings.Cut(op, "::"); ok {
		n.Domain, n.OpType = dom, name
	}
	return n
}

func aInt(name string, v int64) *proto.AttributeProto {
	return &proto.AttributeProto{Name: name, Type: proto.AttributeProto_INT, I: v}
}

func aRef(name, to string, kind proto.AttributeProto_AttributeType) *proto.AttributeProto {
	return &proto.AttributeProto{Name: name, RefAttrName: to, Type: kind}
}

func aGraph(name string, g *proto.GraphProto) *proto.AttributeProto {
	return &proto.AttributeProto{Name: name, Type: proto.AttributeProto_GRAPH, G: g}
}

// info declares float name[dims]; numbers are constants, "" is unknown.
func info(name string, dims ...any) *proto.ValueInfoProto {
	s := &proto.TensorShapeProto{}
	for _, d := range dims {
		p := &proto.TensorShapeProto_Dimension{}
		switch d := d.(type) {
		case int:
			p.Value = &proto.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}
		case string:
			if d != "" {
				p.Value = &proto.TensorShapeProto_Dimension_DimParam{DimParam: d}
			}
		}
		s.Dim = append(s.Dim, p)
	}
	return &proto.ValueInfoProto{Name: name, Type: &proto.TypeProto{Value: &proto.TypeProto_TensorType{
		TensorType: &proto.TypeProto_Tensor{ElemType: 1, Shape: s}}}}
}

// bare declares a name alone.
func bare(name string) *proto.ValueInfoProto { return &proto.ValueInfoProto{Name: name} }

func floats(name string, v ...float32) *proto.TensorProto {
	return &proto.TensorProto{Name: name, DataType: 1, Dims: []int64{int64(len(v))}, FloatData: v}
}

func raw(name string, dtype int32, data []byte, dims ...int64) *proto.TensorProto {
	return &proto.TensorProto{Name: name, DataType: dtype, Dims: dims, RawData: data}
}

func f32(v ...float32) (b []byte) {
	for _, x := range v {
		u := math.Float32bits(x)
		b = append(b, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
	}
	return b
}

func model(g *proto.GraphProto, funcs ...*proto.FunctionProto) *proto.ModelProto {
	return &proto.ModelProto{
		IrVersion: 10, ProducerName: "test", ProducerVersion: "1", Graph: g, Functions: funcs,
		OpsetImport: []*proto.OperatorSetIdProto{{Version: 20}, {Domain: "local", Version: 1}},
	}
}

// small is y = x + w with x: float[batch,3].
func small() *proto.GraphProto {
	return &proto.GraphProto{
		Name: "g", Input: []*proto.ValueInfoProto{info("x", "batch", 3)}, Output: []*proto.ValueInfoProto{info("y", "batch", 3)},
		Initializer: []*proto.TensorProto{floats("w", 1, 2, 3)}, Node: []*proto.NodeProto{node("y = Add(x, w)")},
	}
}

func bytesOf(t testing.TB, m *proto.ModelProto) []byte {
	t.Helper()
	b, err := pb.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// must reads a model that is expected to be fine, and verifies the graph.
func must(t testing.TB, m *proto.ModelProto, o *Options) *Model {
	t.Helper()
	tab := rows(t)
	got, err := Read(bytesOf(t, m), "", tab, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := ops.Verify(tab, got.Graph); err != nil {
		t.Fatal(err)
	}
	return got
}

// fails reads a model and wants an error about something.
func fails(t testing.TB, m *proto.ModelProto, want string) {
	t.Helper()
	_, err := Read(bytesOf(t, m), "", rows(t), nil)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one about %q", err, want)
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %v", err)
	}
}
