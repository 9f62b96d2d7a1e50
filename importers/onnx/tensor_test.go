package onnx

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

func TestDecodeTensor(t *testing.T) {
	vec := func(d tensor.DType, p *proto.TensorProto, n int64) *proto.TensorProto {
		p.DataType, p.Dims = int32(d), []int64{n}
		return p
	}
	for _, c := range []struct {
		p    *proto.TensorProto
		want []float64
	}{
		{vec(tensor.Float32, &proto.TensorProto{FloatData: []float32{1, -2}}, 2), []float64{1, -2}},
		{vec(tensor.Float64, &proto.TensorProto{DoubleData: []float64{1, -2}}, 2), []float64{1, -2}},
		{vec(tensor.Int64, &proto.TensorProto{Int64Data: []int64{1, -2}}, 2), []float64{1, -2}},
		{vec(tensor.Int32, &proto.TensorProto{Int32Data: []int32{1, -2}}, 2), []float64{1, -2}},
		{vec(tensor.Int16, &proto.TensorProto{Int32Data: []int32{1, -2}}, 2), []float64{1, -2}},
		{vec(tensor.Int8, &proto.TensorProto{Int32Data: []int32{1, -2}}, 2), []float64{1, -2}},
		{vec(tensor.Uint8, &proto.TensorProto{Int32Data: []int32{1, 255}}, 2), []float64{1, 255}},
		{vec(tensor.Uint16, &proto.TensorProto{Int32Data: []int32{1, 65535}}, 2), []float64{1, 65535}},
		{vec(tensor.Uint32, &proto.TensorProto{Uint64Data: []uint64{1, 1<<32 - 1}}, 2), []float64{1, 1<<32 - 1}},
		{vec(tensor.Uint64, &proto.TensorProto{Uint64Data: []uint64{1, 1 << 63}}, 2), []float64{1, 1 << 63}},
		{vec(tensor.Bool, &proto.TensorProto{Int32Data: []int32{0, 1}}, 2), []float64{0, 1}},
		{vec(tensor.Bool, &proto.TensorProto{RawData: []byte{0, 7, 1}}, 3), []float64{0, 1, 1}},
		{vec(tensor.Float16, &proto.TensorProto{Int32Data: []int32{0x3c00, 0xc000}}, 2), []float64{1, -2}},
		{vec(tensor.BFloat16, &proto.TensorProto{Int32Data: []int32{0x3f80, 0xc000}}, 2), []float64{1, -2}},
		{vec(tensor.BFloat16, &proto.TensorProto{RawData: []byte{0x80, 0x3f, 0, 0xc0}}, 2), []float64{1, -2}},
		{vec(tensor.Float8E4M3, &proto.TensorProto{Int32Data: []int32{0x38, 0xc0}}, 2), []float64{1, -2}},
		{vec(tensor.Int4, &proto.TensorProto{Int32Data: []int32{0xe1, 3}}, 3), []float64{1, -2, 3}}, // two to an entry
		{vec(tensor.Uint4, &proto.TensorProto{RawData: []byte{0xe1, 3}}, 3), []float64{1, 14, 3}},
		{vec(tensor.Float32, &proto.TensorProto{}, 0), []float64{}},
	} {
		got, err := DecodeTensor(c.p)
		if err != nil || !slices.Equal(got.AsFloats(), c.want) {
			t.Errorf("%v: %v %v, want %v", tensor.DType(c.p.DataType), got, err, c.want)
		}
	}
	s, err := DecodeTensor(vec(tensor.String, &proto.TensorProto{StringData: [][]byte{[]byte("a"), nil}}, 2))
	if err != nil || !slices.Equal(s.Strings, []string{"a", ""}) {
		t.Errorf("strings: %v %v", s, err)
	}
	z, err := DecodeTensor(vec(tensor.Complex64, &proto.TensorProto{FloatData: []float32{1, 2}}, 1))
	if err != nil || tensor.Of[complex64](z)[0] != 1+2i {
		t.Errorf("complex: %v %v", z, err)
	}
}

func TestSparse(t *testing.T) {
	vals := floats("s", 5, 7)
	linear := &proto.TensorProto{DataType: 7, Dims: []int64{2}, Int64Data: []int64{1, 5}}
	pairs := &proto.TensorProto{DataType: 7, Dims: []int64{2, 2}, Int64Data: []int64{0, 1, 1, 2}}
	for _, idx := range []*proto.TensorProto{linear, pairs} {
		g := small()
		g.Initializer, g.SparseInitializer = nil, []*proto.SparseTensorProto{{Values: vals, Indices: idx, Dims: []int64{2, 3}}}
		g.Node[0].Input[1] = "s"
		g.Input[0] = info("x", 2, 3)
		m := must(t, model(g), nil)
		wantFloats(t, run(t, m, tensor.New(tensor.Float32, 2, 3))[0], 0, 5, 0, 0, 0, 7)
		idx.Int64Data[0] = 6
		fails(t, model(g), "outside")
		idx.Int64Data[0] = 0
	}
	if _, err := decodeSparse(&proto.SparseTensorProto{Values: vals, Indices: linear, Dims: []int64{1 << 40}}, nil); err == nil {
		t.Error("a tebibyte was made dense")
	}
}

func TestConstantNodes(t *testing.T) {
	for _, c := range []struct {
		a    *proto.AttributeProto
		want string
	}{
		{&proto.AttributeProto{Name: "value", Type: proto.AttributeProto_TENSOR, T: floats("", 1, 2)}, "float[2]"},
		{&proto.AttributeProto{Name: "value_int", Type: proto.AttributeProto_INT}, "int64[]"},
		{&proto.AttributeProto{Name: "value_ints", Type: proto.AttributeProto_INTS}, "int64[0]"},
		{&proto.AttributeProto{Name: "value_float", Type: proto.AttributeProto_FLOAT, F: 2}, "float[]"},
		{&proto.AttributeProto{Name: "value_floats", Type: proto.AttributeProto_FLOATS, Floats: []float32{1}}, "float[1]"},
		{&proto.AttributeProto{Name: "value_string", Type: proto.AttributeProto_STRING, S: []byte("s")}, "string[]"},
		{&proto.AttributeProto{Name: "value_strings", Type: proto.AttributeProto_STRINGS, Strings: [][]byte{{65}}}, "string[1]"},
	} {
		g := &proto.GraphProto{Name: "g", Output: []*proto.ValueInfoProto{bare("c")}, Node: []*proto.NodeProto{node("c = Constant()", c.a)}}
		m := must(t, model(g), nil)
		if v := m.Graph.Outputs[0]; v.Const == nil || v.Type.String() != c.want || v.Name != "c" {
			t.Errorf("%s: %q is %s, want %s", c.a.Name, v.Name, v.Type, c.want)
		}
	}
}

// external is small() with w in a file.
func externalModel(location string, kv ...string) *proto.ModelProto {
	g := small()
	w := g.Initializer[0]
	w.FloatData, w.DataLocation = nil, proto.TensorProto_EXTERNAL
	w.ExternalData = []*proto.StringStringEntryProto{{Key: "location", Value: location}}
	for i := 0; i < len(kv); i += 2 {
		w.ExternalData = append(w.ExternalData, &proto.StringStringEntryProto{Key: kv[i], Value: kv[i+1]})
	}
	return model(g)
}

func TestExternalData(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "model")
	for _, d := range []string{dir, filepath.Join(dir, "sub")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data := append(make([]byte, 61), f32(1, 2, 3)...)
	for _, f := range []string{filepath.Join(top, "secret"), filepath.Join(dir, "w.data"), filepath.Join(dir, "sub", "w.data")} {
		if err := os.WriteFile(f, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": "../secret", "in": "w.data", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "m.onnx")
	load := func(m *proto.ModelProto, o *Options) error {
		if err := os.WriteFile(path, bytesOf(t, m), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path, rows(t), o)
		if err == nil {
			wantFloats(t, run(t, got, tensor.New(tensor.Float32, 1, 3))[0], 1, 2, 3)
		}
		return err
	}
	for _, loc := range []string{"w.data", "./w.data", "sub/w.data", "sub/../w.data", "in"} {
		if err := load(externalModel(loc, "offset", "61", "length", "12"), nil); err != nil {
			t.Errorf("%s: %v", loc, err)
		}
	}
	if err := load(externalModel("out", "offset", "61"), &Options{ExternalRoot: top}); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		m    *proto.ModelProto
		want string
	}{
		{externalModel("../secret", "offset", "61"), "stay inside"},
		{externalModel("sub/../../secret", "offset", "61"), "stay inside"},
		{externalModel(filepath.Join(top, "secret"), "offset", "61"), "stay inside"},
		{externalModel(""), "stay inside"},
		{externalModel("out", "offset", "61"), "links"},
		{externalModel("up/secret", "offset", "61"), "links"},
		{externalModel("none"), "missing"},
		{externalModel("sub"), "regular"},
		{externalModel("w.data", "offset", "62"), "past the end"},
		{externalModel("w.data", "offset", "-1"), "bad offset"},
		{externalModel("w.data", "offset", "9223372036854775807"), "past the end"},
		{externalModel("w.data", "offset", "61", "length", "13"), "length 13"},
	} {
		if err := load(c.m, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want one about %q", c.m.Graph.Initializer[0].ExternalData, err, c.want)
		}
	}
	if err := load(externalModel("w.data", "offset", "61"), &Options{ExternalRoot: filepath.Join(dir, "sub")}); err == nil || !strings.Contains(err.Error(), "does not contain") {
		t.Errorf("a root beside the model: %v", err)
	}
	var many []*proto.TensorProto
	for i := range 3 {
		w := externalModel("w.data", "offset", "61").Graph.Initializer[0]
		w.Name = fmt.Sprintf("w%d", i)
		many = append(many, w)
	}
	e := newExternal(dir, "")
	defer e.close()
	a, err := decodeTensor(many[0], e)
	b, err2 := decodeTensor(many[1], e)
	if err != nil || err2 != nil || &a.Data[0] != &b.Data[0] {
		t.Errorf("tied weights are copied twice: %v %v", err, err2)
	}
}
