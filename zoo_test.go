package ssdc_test

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// TestZoo: small exports of well-known architectures give ONNX Runtime's recorded
// results on every input set, optimised and not. testdata/scripts/make_zoo.py
// --small makes them; bench/zoo.py compares the large ones.
func TestZoo(t *testing.T) {
	models, err := filepath.Glob("testdata/zoo/*/model.onnx")
	if err != nil || len(models) == 0 {
		t.Fatalf("no models: %v", err)
	}
	for _, path := range models {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Run("cpu", func(t *testing.T) { checkZoo(t, dir, ssdc.Options{NoStates: true, Threads: 2}) })
			// Unoptimised, float16 is rounded after every operator; ONNX Runtime
			// does not, and nor does passes/half.
			if !strings.HasSuffix(dir, "_fp16") {
				t.Run("cpu-O0", func(t *testing.T) { checkZoo(t, dir, ssdc.Options{NoOpt: true, NoStates: true}) })
			}
		})
	}
}

func checkZoo(t *testing.T, dir string, o ssdc.Options) {
	m, err := ssdc.Compile(context.Background(), filepath.Join(dir, "model.onnx"), o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := m.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	sets, _ := filepath.Glob(filepath.Join(dir, "inputs*.npz"))
	if len(sets) == 0 {
		t.Fatal("no inputs")
	}
	for _, path := range sets {
		set := filepath.Base(path)
		in, _, err := tensor.ReadNpz(path)
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := tensor.ReadNpz(filepath.Join(dir, "expected"+set[len("inputs"):]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Run(context.Background(), in)
		if err != nil {
			t.Fatalf("%s: %v", set, err)
		}
		for name, w := range want {
			if got[name] == nil {
				t.Fatalf("no output %q", name)
			}
			bar := 1e-4
			if w.DType.IsInt() {
				bar = 0
			}
			if e := relError(t, got[name], w); !(e <= bar) || math.IsNaN(e) {
				t.Errorf("%s %s: relative error %.2e, at most %.0e", set, name, e, bar)
			}
		}
	}
}
