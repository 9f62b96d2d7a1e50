package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

func TestServe(t *testing.T) {
	const fixture = "../../testdata/models/mamba2_dynamo_static_mixer_g2"
	dir := t.TempDir()
	artifact, results := filepath.Join(dir, "m.ssda"), filepath.Join(dir, "out.npz")
	c, err := ssdc.Build(context.Background(), fixture+"/model.onnx", ssdc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(artifact); err != nil {
		t.Fatal(err)
	}
	var w bytes.Buffer
	if err := serve(artifact, fixture+"/inputs.npz", strings.NewReader("run\nrun\nmemory\nsave "+results+"\n"), &w); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(&w)
	for _, want := range []string{"open_ms", "ms", "ms", "peak_kb", "saved"} {
		var got map[string]any
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got[want] == nil {
			t.Errorf("answer %v lacks %q", got, want)
		}
	}
	out, _, err := tensor.ReadNpz(results)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := tensor.ReadNpz(fixture + "/expected.npz")
	if err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if out[name] == nil || out[name].Len() != want[name].Len() {
			t.Errorf("output %q was not saved", name)
		}
	}
	if err := serve(artifact, fixture+"/inputs.npz", strings.NewReader("fly\n"), &w); err == nil || !strings.Contains(err.Error(), "fly") {
		t.Errorf("an unknown request gave %v", err)
	}
}
