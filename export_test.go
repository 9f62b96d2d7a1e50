package ssdc_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/exporters/onnx"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/legalize"
	"github.com/ssdc-go/ssdc/plugin"
	"github.com/ssdc-go/ssdc/std"
)

// TestExport writes every fixture as ONNX in every dialect, and compiles what
// it wrote: the same scans are found again (where a dialect can tell them), and
// the results are PyTorch's.
// (testdata/scripts/check_exports.py holds the same files against ONNX's
// checker and ONNX Runtime.)
func TestExport(t *testing.T) {
	n := 0
	fixtures(t, func(t *testing.T, dir string, expect map[string]int) {
		if n++; testing.Short() && n%9 != 0 {
			t.Skip("one fixture in nine with -short")
		}
		for _, d := range legalize.Dialects {
			t.Run(d.Name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "fused.onnx")
				export(t, filepath.Join(dir, "model.onnx"), path, d)
				untold := readMeta(t, dir).Export[d.Name]
				c, err := ssdc.Build(context.Background(), path, ssdc.Options{NoStates: true})
				if err != nil {
					t.Fatal(err)
				}
				var lost []string
				for op, n := range expect {
					have := c.Fused[op]
					if op == "ssm.SSD" { // a step in LinearAttention keeps that kernel, and its state as it lies
						have += c.Fused["LinearAttention"]
					}
					if have < n {
						lost = append(lost, fmt.Sprintf("%d of %d %s", have, n, op))
					}
				}
				switch {
				case len(lost) > 0 && untold == "":
					t.Errorf("found again: %s", strings.Join(lost, ", "))
				case len(lost) == 0 && untold != "":
					t.Errorf("everything was found again: meta.json's export_untold no longer holds (%s)", untold)
				}
				m, err := c.Open()
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				s, err := m.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				sets, _ := filepath.Glob(filepath.Join(numbers(t, dir), "inputs*.npz"))
				for _, set := range sets {
					in, _, err := tensor.ReadNpz(set)
					if err != nil {
						t.Fatal(err)
					}
					want, _, err := tensor.ReadNpz(filepath.Join(filepath.Dir(set), "expected"+filepath.Base(set)[len("inputs"):]))
					if err != nil {
						t.Fatal(err)
					}
					got, err := s.Run(context.Background(), in)
					if err != nil {
						t.Fatalf("%s: %v", filepath.Base(set), err)
					}
					for name, w := range want {
						if got[name] == nil {
							t.Fatalf("no output %q", name)
						}
						if e, most := relError(t, got[name], w), readMeta(t, dir).Limit; !(e <= most) {
							t.Errorf("%s %s: relative error %.2e, at most %.0e", filepath.Base(set), name, e, most)
						}
					}
				}
			})
		}
	})
}

func export(t *testing.T, from, to string, d *legalize.Dialect) {
	t.Helper()
	set, err := plugin.Join(std.Plugin)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ssdc.OptimiseWith(context.Background(), set, from, ssdc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opsets, err := legalize.Run(passes.NewContext(context.Background(), set.Registry.Table), c.Source.Graph, legalize.Options{Dialect: d, Source: c.Source.Opsets[""]})
	if err != nil {
		t.Fatal(err)
	}
	if err := onnx.Write(to, c.Source.Graph, onnx.Options{Opsets: opsets}); err != nil {
		t.Fatal(err)
	}
}
