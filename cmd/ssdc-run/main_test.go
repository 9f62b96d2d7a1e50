package main

import (
	"bytes"
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

const fixture = "../../testdata/models/mamba2_dynamo_dyn_prefill_g1/"

func call(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	root := newRoot()
	root.SetOut(&o)
	root.SetErr(&e)
	root.SetArgs(args)
	code = runner.Execute(context.Background(), root)
	return code, o.String(), e.String()
}

// TestRun: what the compiler wrote, the runner runs, to PyTorch's result.
func TestRun(t *testing.T) {
	c, err := ssdc.Build(context.Background(), fixture+"model.onnx", ssdc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	art, out := filepath.Join(dir, "model.ssda"), filepath.Join(dir, "out.npz")
	if err := c.Write(art); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := call("run", art, "--input", fixture+"inputs.npz", "--output", out); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	got, _, err := tensor.ReadNpz(out)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := tensor.ReadNpz(fixture + "expected.npz")
	if err != nil {
		t.Fatal(err)
	}
	var diff, norm float64
	for i, w := range want["logits"].AsFloats() {
		d := got["logits"].At(i) - w
		diff, norm = diff+d*d, norm+w*w
	}
	if e := math.Sqrt(diff / norm); !(e <= 1e-5) {
		t.Errorf("relative error %.2g", e)
	}
	if code, text, errs := call("bench", art, "--runs", "1", "--json"); code != 0 || !strings.Contains(text, `"median_ms"`) {
		t.Errorf("bench: exit code %d, %s%s", code, text, errs)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, "is not an artifact; to make one", []string{"run", fixture + "model.onnx"}},
		{1, "nowhere.ssda: no such file", []string{"run", "nowhere.ssda"}},
		{2, "run needs a MODEL", []string{"run"}},
		{2, `no command "compile"`, []string{"compile", "model.onnx"}},
	} {
		code, out, errs := call(c.args...)
		if code != c.code || out != "" || !strings.HasPrefix(errs, "ssdc-run: ") || !strings.Contains(errs, c.want) {
			t.Errorf("%v: exit code %d, %s%s", c.args, code, out, errs)
		}
	}
}
