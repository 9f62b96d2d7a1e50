package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx"
	"github.com/ssdc-go/ssdc/ops"
)

// maxFixtureError bounds max|got-want| / max|want| per output. PyTorch in
// float32 is within 5e-7 of the recorded float64 results (meta.json of each model);
// float16 models, whose own rounding is larger, name their bound there.
const maxFixtureError = 1e-5

// TestFixtures imports the models that PyTorch exported, evaluates them with
// the reference and compares with PyTorch's own float64 results.
func TestFixtures(t *testing.T) {
	models, _ := filepath.Glob("../testdata/models/*/model.onnx")
	tab := table(t)
	for _, path := range models {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			m, err := onnx.Load(path, tab, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := ops.Verify(tab, m.Graph); err != nil {
				t.Fatal(err)
			}
			meta := fixtureMeta(t, dir)
			limit := max(maxFixtureError, meta.Limit)
			if meta.NumbersOf != "" { // fixtures of one model share their inputs and outputs
				dir = filepath.Join(filepath.Dir(dir), meta.NumbersOf)
			}
			for set := 1; ; set++ {
				suffix := ""
				if set > 1 {
					suffix = fmt.Sprintf("_%d", set)
				}
				given, _, err := tensor.ReadNpz(filepath.Join(dir, "inputs"+suffix+".npz"))
				if err != nil && set > 1 || testing.Short() && set > 1 {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				want, _, err := tensor.ReadNpz(filepath.Join(dir, "expected"+suffix+".npz"))
				if err != nil {
					t.Fatal(err)
				}
				in := make([]*tensor.Tensor, len(m.Graph.Inputs))
				for i, v := range m.Graph.Inputs {
					if in[i] = given[v.Name]; in[i] == nil {
						t.Fatalf("set %d has no input %q", set, v.Name)
					}
				}
				got, err := ops.Run(context.Background(), tab, m.Graph, in)
				if err != nil {
					t.Fatal(err)
				}
				for i, v := range m.Graph.Outputs {
					if err := within(got[i], want[v.Name], limit); err != nil {
						t.Errorf("set %d output %q %v", set, v.Name, err)
					}
				}
			}
		})
	}
}

type fixtureFacts struct {
	Limit     float64 `json:"rel_err_limit"`
	NumbersOf string  `json:"numbers_of"`
}

func fixtureMeta(t *testing.T, dir string) (meta fixtureFacts) {
	b, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		t.Fatal(err)
	}
	return meta
}

func within(got, want *tensor.Tensor, limit float64) error {
	if want == nil {
		return fmt.Errorf("is not recorded")
	}
	if g, w := got.TypeString(), want.TypeString(); g[strings.Index(g, "["):] != w[strings.Index(w, "["):] {
		return fmt.Errorf("is %s, want %s", g, w)
	}
	worst, scale := 0.0, 0.0
	for i := range want.Len() {
		g, w := got.At(i), want.At(i)
		if d := math.Abs(g - w); d > worst || d != d {
			worst = d
		}
		scale = max(scale, math.Abs(w))
	}
	if !(worst <= limit*scale) {
		return fmt.Errorf("differs by %.3g of %.3g", worst, scale)
	}
	return nil
}
