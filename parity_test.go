package ssdc_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// fixtures lists the exported models, with what should be fused in each.
func fixtures(t *testing.T, f func(t *testing.T, dir string, expect map[string]int)) {
	metas, err := filepath.Glob("testdata/models/*/meta.json")
	if err != nil || len(metas) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	only := regexp.MustCompile(os.Getenv("FIXTURE"))
	for _, meta := range metas {
		dir := filepath.Dir(meta)
		if !only.MatchString(filepath.Base(dir)) {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data, err := os.ReadFile(meta)
			if err != nil {
				t.Fatal(err)
			}
			var m struct {
				Expect map[string]int `json:"expect_fused"`
			}
			if err := json.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
			f(t, dir, m.Expect)
		})
	}
}

// numbers is the folder where the inputs and outputs of a fixture lie: its own,
// or that of a fixture of the same model.
func numbers(t *testing.T, dir string) string {
	if of := readMeta(t, dir).NumbersOf; of != "" {
		return filepath.Join(filepath.Dir(dir), of)
	}
	return dir
}

// relError is ||got-want|| / ||want||.
func relError(t *testing.T, got, want *tensor.Tensor) float64 {
	t.Helper()
	if !slices.Equal(got.Shape, want.Shape) {
		t.Fatalf("got %s, want %s", got.TypeString(), want.TypeString())
	}
	var diff, norm float64
	for i := range want.Len() {
		d := got.At(i) - want.At(i)
		diff += d * d
		norm += want.At(i) * want.At(i)
	}
	if norm == 0 {
		return math.Sqrt(diff)
	}
	return math.Sqrt(diff / norm)
}

// TestParity: the reference backend, the CPU backend with and without fusion
// all agree with PyTorch in float64, to 1e-5 by norm (float16 models to 5e-3,
// which their own rounding is worth), states included.
func TestParity(t *testing.T) {
	fixtures(t, func(t *testing.T, dir string, expect map[string]int) {
		for _, way := range []struct {
			name string
			o    ssdc.Options
		}{
			{"ref", ssdc.Options{Target: "ref", NoOpt: true, NoStates: true}},
			{"cpu-O0", ssdc.Options{NoOpt: true, NoStates: true}},
			{"cpu", ssdc.Options{RequireFusion: expect, NoStates: true}},
		} {
			t.Run(way.name, func(t *testing.T) {
				m, err := ssdc.Compile(context.Background(), filepath.Join(dir, "model.onnx"), way.o)
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				s, err := m.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				sets, _ := filepath.Glob(filepath.Join(numbers(t, dir), "inputs*.npz"))
				if len(sets) == 0 {
					t.Fatal("no inputs")
				}
				for _, path := range sets {
					in, _, err := tensor.ReadNpz(path)
					if err != nil {
						t.Fatal(err)
					}
					want, _, err := tensor.ReadNpz(filepath.Join(filepath.Dir(path), "expected"+filepath.Base(path)[len("inputs"):]))
					if err != nil {
						t.Fatal(err)
					}
					got, err := s.Run(context.Background(), in)
					if err != nil {
						t.Fatalf("%s: %v", filepath.Base(path), err)
					}
					for name, w := range want {
						if got[name] == nil {
							t.Fatalf("no output %q", name)
						}
						if e, most := relError(t, got[name], w), readMeta(t, dir).Limit; !(e <= most) {
							t.Errorf("%s %s: relative error %.2e, at most %.0e", filepath.Base(path), name, e, most)
						}
					}
				}
			})
		}
	})
}
