package onnx

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// FuzzRead reads damaged models: an error or a graph that verifies, never a panic.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"ssd_minimal_dynamo_static", "ssd_minimal_ts_dyn", "scan_ssd", "loop_ssd_list"} {
		b, err := os.ReadFile(filepath.Join("../../testdata/models", name, "model.onnx"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, name := range []string{"ai.onnx.ml/tree_regressor_sum", "ai.onnx.ml/svm_classifier_rbf", "com.microsoft/matmul_4_bits_padded", "com.microsoft/gqa_step", "com.microsoft/mha_past", "com.microsoft/causal_conv_dilated", "sklearn/dict_logistic"} {
		b, err := os.ReadFile(filepath.Join("../../testdata/ops", name, "model.onnx"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(bytesOf(f, model(small())))
	f.Add(bytesOf(f, externalModel("w.data", "offset", "0")))
	fn := &proto.FunctionProto{Domain: "local", Name: "f", Input: []string{"a"}, Output: []string{"b", "a"},
		OpsetImport: []*proto.OperatorSetIdProto{{Version: 20}}, AttributeProto: []*proto.AttributeProto{aInt("axis", 1)},
		Node: []*proto.NodeProto{node("b = Softmax(a)", aRef("axis", "axis", proto.AttributeProto_INT))}}
	g := small()
	g.Node = []*proto.NodeProto{node("y, z = local::f(x)")}
	f.Add(bytesOf(f, model(g, fn)))
	tab := rows(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := Read(in, "", tab, nil)
		if err != nil {
			return
		}
		if err := m.Graph.Verify(); err != nil {
			t.Fatal(err)
		}
	})
}

// Every single-byte change of a small model is read without a panic.
func TestFlippedBytes(t *testing.T) {
	tab := rows(t)
	for _, m := range []*proto.ModelProto{model(small()), externalModel("w.data", "offset", "0")} {
		b := bytesOf(t, m)
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				if m, err := Read(b, "", tab, nil); err == nil {
					if err := m.Graph.Verify(); err != nil {
						t.Errorf("byte %d bit %d: %v", i, bit, err)
					}
				}
				b[i] ^= 1 << bit
			}
		}
		for i := range b {
			if m, err := Read(b[:i], "", tab, nil); err == nil {
				if err := m.Graph.Verify(); err != nil {
					t.Errorf("cut at %d: %v", i, err)
				}
			}
		}
	}
}
