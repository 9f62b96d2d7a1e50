package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExport(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "fused.onnx")
	m := keys(t, must(t, "export", decode+"/model.onnx", "-o", out, "--json"), "source", "output", "dialect", "opsets", "fused", "nodes", "bytes", "seconds", "remarks")
	if v := m["opsets"].(map[string]any)[""]; v != 27.0 || m["dialect"] != "onnx" {
		t.Errorf("opset %v, dialect %v", v, m["dialect"])
	}
	if f := m["fused"].(map[string]any); f["ssm.SSD"] != 2.0 {
		t.Errorf("fused %v", f)
	}
	text := must(t, "export", prefill+"/model.onnx", "-o", out, "--dialect", "microsoft", "--require-fusion", "ssd=2")
	for _, want := range []string{"dialect microsoft, opset 23", "2 com.microsoft.LinearAttention", "2 ssm.SSD"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// The scans are found again in what was written.
	must(t, "explain", out, "--require-fusion", "ssd=2", "--require-fusion", "GatedRMSNorm=2")
	must(t, "export", out, "-o", filepath.Join(dir, "plain.onnx"), "--dialect", "plain", "--opset", "24", "--external-data")
	if info, err := os.Stat(filepath.Join(dir, "plain.onnx.data")); err != nil || info.Size() < 1000 {
		t.Errorf("data file: %v %v", info, err)
	}
	must(t, "explain", filepath.Join(dir, "plain.onnx"), "--require-fusion", "ssd=2")
}

func TestExportErrors(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "x.onnx")
	fails(t, 2, []string{"-o FILE.onnx is missing"}, "export", decode+"/model.onnx")
	fails(t, 2, []string{"x.ssda", "end in .onnx"}, "export", decode+"/model.onnx", "-o", filepath.Join(dir, "x.ssda"))
	fails(t, 2, []string{"tflite", "onnx, microsoft, plain"}, "export", decode+"/model.onnx", "-o", out, "--dialect", "tflite")
	fails(t, 2, []string{"--opset 17", "18 or newer"}, "export", decode+"/model.onnx", "-o", out, "--opset", "17")
	fails(t, 1, []string{"model.onnx", "opset 26", "needs 27"}, "export", decode+"/model.onnx", "-o", out, "--opset", "26")
	fails(t, 1, []string{"required fusions are missing"}, "export", decode+"/model.onnx", "-o", out, "--require-fusion", "ssd=3")
	fails(t, 1, []string{"there is no folder"}, "export", decode+"/model.onnx", "-o", filepath.Join(dir, "no", "x.onnx"))
	model := filepath.Join(dir, "m.onnx")
	data, err := os.ReadFile(decode + "/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	write(t, model, data)
	fails(t, 1, []string{"is the model itself"}, "export", model, "-o", model)
	empty(t, dir, "m.onnx")
}
