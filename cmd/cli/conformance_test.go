package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "google.golang.org/protobuf/proto"

	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// nodeTest writes an ONNX node test: y = op(x), x and y float[2].
func nodeTest(t *testing.T, dir, name, op string, x, y []float32) {
	t.Helper()
	put := func(path string, m pb.Message) {
		data, err := pb.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(dir, name, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		write(t, path, data)
	}
	two := &proto.TensorShapeProto{Dim: []*proto.TensorShapeProto_Dimension{{Value: &proto.TensorShapeProto_Dimension_DimValue{DimValue: 2}}}}
	port := func(name string) *proto.ValueInfoProto {
		return &proto.ValueInfoProto{Name: name, Type: &proto.TypeProto{Value: &proto.TypeProto_TensorType{
			TensorType: &proto.TypeProto_Tensor{ElemType: 1, Shape: two}}}}
	}
	put("model.onnx", &proto.ModelProto{
		IrVersion: 8, OpsetImport: []*proto.OperatorSetIdProto{{Version: 17}},
		Graph: &proto.GraphProto{
			Name: name, Input: []*proto.ValueInfoProto{port("x")}, Output: []*proto.ValueInfoProto{port("y")},
			Node: []*proto.NodeProto{{Name: "n", OpType: op, Input: []string{"x"}, Output: []string{"y"}}},
		},
	})
	put("test_data_set_0/input_0.pb", &proto.TensorProto{Name: "x", DataType: 1, Dims: []int64{2}, FloatData: x})
	put("test_data_set_0/output_0.pb", &proto.TensorProto{Name: "y", DataType: 1, Dims: []int64{2}, FloatData: y})
}

// TestConformance: passes, failures and missing operators are told apart, and
// only a failure fails the command.
func TestConformance(t *testing.T) {
	dir := t.TempDir()
	nodeTest(t, dir, "test_neg", "Neg", []float32{1, -2}, []float32{-1, 2})
	nodeTest(t, dir, "test_frob", "Frobnicate", []float32{1, 2}, []float32{1, 2})
	for _, target := range []string{"cpu", "ref"} {
		m := keys(t, must(t, "conformance", dir, "--target", target, "--json"), "backend", "total", "passed", "failed", "unsupported")
		if m["total"] != 2.0 || m["passed"] != 1.0 || len(m["failed"].([]any)) != 0 || len(m["unsupported"].([]any)) != 1 {
			t.Errorf("%s: %v", target, m)
		}
	}
	nodeTest(t, dir, "test_abs_wrong", "Abs", []float32{1, -2}, []float32{1, 7})
	r := call(t, "conformance", dir, "--json")
	m := keys(t, r.out, "total", "passed", "failed")
	f := m["failed"].([]any)[0].(map[string]any)
	if r.code != 1 || m["total"] != 3.0 || m["passed"] != 1.0 || f["case"] != "test_abs_wrong" || !strings.Contains(f["reason"].(string), "7") {
		t.Errorf("exit code %d, %v", r.code, m)
	}
	if !strings.Contains(r.err, "1 of 3 cases failed") {
		t.Errorf("stderr %q", r.err)
	}
	r = call(t, "conformance", dir)
	for _, want := range []string{"FAIL", "test_abs_wrong", "unsupported", "Frobnicate", "cpu: 1 passed, 1 failed, 1 unsupported of 3"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, []byte("# known\ntest_abs_wrong wrong on purpose\ntest_frob no such operator\n"))
	if out := must(t, "conformance", dir, "--except", list); !strings.Contains(out, "33.33% passed, 2 listed") || !strings.Contains(out, "wrong on purpose") {
		t.Errorf("--except prints %s", out)
	}
	write(t, list, []byte("test_abs_wrong wrong on purpose\n"))
	if r := call(t, "conformance", dir, "--except", list); r.code != 1 || !strings.Contains(r.err, "not listed") || !strings.Contains(r.err, "test_frob") {
		t.Errorf("a case that is not listed: exit code %d, %s", r.code, r.err)
	}
	write(t, list, []byte("test_abs_wrong x\ntest_frob x\ntest_neg x\n"))
	if r := call(t, "conformance", dir, "--except", list); r.code != 1 || !strings.Contains(r.err, "test_neg: remove") {
		t.Errorf("a listed case that passes: exit code %d, %s", r.code, r.err)
	}
	if out := must(t, "conformance", dir, "--match", "neg$"); !strings.Contains(out, "1 passed, 0 failed, 0 unsupported of 1") {
		t.Errorf("--match prints %s", out)
	}
}
