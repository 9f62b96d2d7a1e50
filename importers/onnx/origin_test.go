package onnx

import (
	"os"
	"path/filepath"
	"testing"

	pb "google.golang.org/protobuf/proto"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

func TestOrigins(t *testing.T) {
	meta := func(kv ...string) (out []*proto.StringStringEntryProto) {
		for i := 0; i < len(kv); i += 2 {
			out = append(out, &proto.StringStringEntryProto{Key: kv[i], Value: kv[i+1]})
		}
		return out
	}
	trace := "File \"/home/me/model.py\", line 30, in forward\n    y = self.mixer(x)\n" +
		"  File \"/lib/transformers/modeling_mamba2.py\", line 512, in torch_forward\n    y = torch.cumsum(a, -1)\n" +
		"  File \"/lib/torch/nn/functional.py\", line 9, in pad\n    return pad(x)"
	body := &proto.GraphProto{Node: []*proto.NodeProto{{Name: "inner", OpType: "Exp", Output: []string{"e"}, DocString: "/lib/torch/f.py(3): exp\n/home/me/model.py(8): step\n/home/me/run.py(1): <module>"}}}
	m := &proto.ModelProto{Graph: &proto.GraphProto{Node: []*proto.NodeProto{
		{Name: "node_cumsum", OpType: "CumSum", Output: []string{"c"}, MetadataProps: meta("pkg.torch.onnx.stack_trace", trace, "pkg.torch.onnx.name_scopes", "['', 'layers.0.mixer', 'cumsum']")},
		{Name: "/layers.1/mixer/Mul_7", OpType: "Mul", Output: []string{"m"}},
		{OpType: "Loop", Output: []string{"loop"}, Attribute: []*proto.AttributeProto{{Name: "body", Type: proto.AttributeProto_GRAPH, G: body}}},
		{Name: "call", OpType: "F", Output: []string{"f"}, DocString: "/home/me/model.py(77): norm"},
	}}}
	data, err := pb.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Origins(path, []string{"node_cumsum", "/layers.1/mixer/Mul_7", "inner", "call/Mul_3", "nosuch"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]graph.Origin{
		"node_cumsum":           {Module: "layers.0.mixer", File: "/lib/transformers/modeling_mamba2.py", Line: 512, Func: "torch_forward", Code: "y = torch.cumsum(a, -1)"},
		"/layers.1/mixer/Mul_7": {Module: "layers.1.mixer"},
		"inner":                 {File: "/home/me/run.py", Line: 1, Func: "<module>"},
		"call/Mul_3":            {File: "/home/me/model.py", Line: 77, Func: "norm"},
	}
	want["inner"] = graph.Origin{File: "/home/me/model.py", Line: 8, Func: "step"}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for n, w := range want {
		if got[n] != w {
			t.Errorf("%s: got %+v, want %+v", n, got[n], w)
		}
	}
	// Cut anywhere, the scan ends without a panic.
	for i := range data {
		if err := os.WriteFile(path, data[:i], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Origins(path, []string{"inner"}); err != nil && i > 0 {
			t.Fatal(err)
		}
	}
}
