package cli

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// TestReadme runs the README's ssdc commands, in order, in a folder with
// model.onnx and ids.npy.
func TestReadme(t *testing.T) {
	const fixture = models + "mamba2_dynamo_dyn_prefill_cache_g2"
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	model, err := os.ReadFile(fixture + "/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	ids := readNpz(t, fixture+"/inputs.npz")["input_ids"]
	t.Chdir(t.TempDir())
	write(t, "model.onnx", model)
	if err := tensor.WriteNpyFile("ids.npy", ids); err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^ssdc ([a-z]+ [^#\n]*\.(?:onnx|ssda)[^#\n]*)`).FindAllSubmatch(text, -1)
	if len(lines) < 8 {
		t.Fatalf("%d commands in the README, want 8 or more", len(lines))
	}
	for _, l := range lines {
		must(t, strings.Fields(string(l[1]))...)
	}
	for _, name := range []string{"model.ssda", "out.npy", "all.npz"} {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("the README's commands wrote no %s", name)
		}
	}
}

// TestDemoModel: what the program embeds is the committed export.
func TestDemoModel(t *testing.T) {
	for _, name := range []string{"model.onnx", "inputs.npz", "expected.npz"} {
		want, err := os.ReadFile(prefill + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := demo.ReadFile("demo/" + name); err != nil || string(got) != string(want) {
			t.Errorf("demo/%s differs from %s/%s (%v)", name, prefill, name, err)
		}
	}
}
