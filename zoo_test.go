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
			half := strings.HasSuffix(dir, "_fp16")
			t.Run("cpu", func(t *testing.T) { checkZoo(t, dir, half, ssdc.Options{NoStates: true, Threads: 2}) })
			// Unoptimised, float16 is rounded after every operator; passes/half does not.
			if !half {
				t.Run("cpu-O0", func(t *testing.T) { checkZoo(t, dir, half, ssdc.Options{NoOpt: true, NoStates: true}) })
			}
		})
	}
}

// checkZoo holds results to ONNX Runtime's. Those of float16 models, which it
// rounds here and there, are held to the graph in float64 (bench/exact.py), and
// to be no farther from it than ONNX Runtime's are.
func checkZoo(t *testing.T, dir string, half bool, o ssdc.Options) {
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
		exact := want
		if half {
			if exact, _, err = tensor.ReadNpz(filepath.Join(dir, "exact"+set[len("inputs"):])); err != nil {
				t.Fatal(err)
			}
		}
		for name, w := range exact {
			if got[name] == nil {
				t.Fatalf("no output %q", name)
			}
			bar := 1e-4
			if w.DType.IsInt() {
				bar = 0
			}
			if e := relError(t, got[name], w); !(e <= bar) || math.IsNaN(e) {
				t.Errorf("%s %s: relative error %.2e, at most %.0e", set, name, e, bar)
			} else if half && e > relError(t, want[name], w) && e > 1e-6 {
				t.Errorf("%s %s: relative error %.2e, and ONNX Runtime's is %.2e", set, name, e, relError(t, want[name], w))
			}
		}
	}
}
