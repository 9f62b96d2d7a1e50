package ssdc_test

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// TestZooSteps: every piece of a quantised model, given the exact bytes before
// it, makes the bytes nearest to what float64 gives. A whole quantised model
// proves less: where a number lies between two bytes its last bit decides, and
// what follows is another computation. bench/steps.py makes the pieces and
// shows the same for the large models.
func TestZooSteps(t *testing.T) {
	models, err := filepath.Glob("testdata/zoo/*/steps.onnx")
	if err != nil || len(models) == 0 {
		t.Fatalf("no models: %v", err)
	}
	for _, path := range models {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Run("cpu", func(t *testing.T) { checkSteps(t, dir, ssdc.Options{NoStates: true, Threads: 2}) })
			t.Run("cpu-O0", func(t *testing.T) { checkSteps(t, dir, ssdc.Options{NoStates: true, NoOpt: true}) })
			t.Run("ref", func(t *testing.T) { checkSteps(t, dir, ssdc.Options{NoStates: true, Target: "ref"}) })
		})
	}
}

// halfByte is how far a byte may be from the number it stands for: half a unit,
// and what the last bits of float32 are worth where that number lies on the edge.
const halfByte = 0.5 + 1e-4

func checkSteps(t *testing.T, dir string, o ssdc.Options) {
	in, _, err := tensor.ReadNpz(filepath.Join(dir, "steps_inputs.npz"))
	if err != nil {
		t.Fatal(err)
	}
	exact, _, err := tensor.ReadNpz(filepath.Join(dir, "steps_exact.npz"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := ssdc.Compile(context.Background(), filepath.Join(dir, "steps.onnx"), o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := m.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	if len(exact) == 0 {
		t.Fatal("nothing to compare")
	}
	for name, want := range exact {
		y := got[name]
		if y == nil || y.Len() != want.Len() {
			t.Fatalf("output %q is %v, want %d elements", name, y, want.Len())
		}
		if !y.DType.IsInt() { // a scale
			if e := relError(t, y, want); !(e <= 1e-6) {
				t.Errorf("%s: relative error %.1e", name, e)
			}
			continue
		}
		lo, hi := 0., 255.
		if y.DType == tensor.Int8 {
			lo, hi = -128, 127
		}
		for i := range y.Len() {
			x := min(max(want.At(i), lo), hi)
			if d := math.Abs(y.At(i) - x); !(d <= halfByte) {
				t.Errorf("%s: element %d is %g, and the number before rounding %g", name, i, y.At(i), x)
				break
			}
		}
	}
}
