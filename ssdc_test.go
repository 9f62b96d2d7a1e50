package ssdc_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
	"github.com/ssdc-go/ssdc/std"
)

const negate = "graph negate (float[B] x) => (float[B] y) {\n  float[B] y = Neg-13 (x)\n}\n"

func textModel(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.ssd")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKernelPlugin: a plugin that only brings a kernel is recorded too, when
// the plan chose the kernel.
func TestKernelPlugin(t *testing.T) {
	fast := plugin.Plugin{Name: "fastneg", Kernels: []*cpu.Kernel{{
		Op: graph.OpID{Name: "Neg", Since: 13}, Name: "fastneg",
		Lower: func(b *cpu.Bind, _ *graph.Node) (cpu.Step, error) {
			x, y := b.In(0), b.Out(0)
			return func() error {
				for i, v := range x.F32 {
					y.F32[i] = -v
				}
				return nil
			}, nil
		},
	}}}
	c, err := ssdc.Build(context.Background(), textModel(t, negate), ssdc.Options{Plugins: []plugin.Plugin{fast}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.ssda")
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := ssdc.Open(path); err == nil || !strings.Contains(err.Error(), `needs plugin "fastneg"`) {
		t.Errorf("without the plugin: %v", err)
	}
	m, err := ssdc.Open(path, fast)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// TestDeterministic: compiled many times, a model gives the same bytes.
func TestDeterministic(t *testing.T) {
	var first []byte
	for i := range 4 {
		c, err := ssdc.Build(context.Background(), "testdata/models/mamba1_dynamo_dynbatch_prefill_cache/model.onnx", ssdc.Options{})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "model.ssda")
		if err := c.Write(path); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = data
		} else if !bytes.Equal(data, first) {
			t.Fatalf("compilation %d differs", i+1)
		}
	}
}

// TestRequireFusion: the error counts what is missing and shows the first
// few reasons, not all of a large model's.
func TestRequireFusion(t *testing.T) {
	chatty := plugin.Plugin{Name: "chatty", Passes: []*passes.Pass{{
		Name: "chatty",
		Run: func(c *passes.Context, g *graph.Graph) error {
			for i := range 8 {
				c.Miss("ssm.SSD", g.Outputs[0], i, 9, "reason %d", i)
			}
			return nil
		},
	}}}
	path := textModel(t, negate)
	_, err := ssdc.Build(context.Background(), path, ssdc.Options{Plugins: []plugin.Plugin{chatty}, RequireFusion: map[string]int{"ssm.SSD": 24}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{path, "0 of 24 ssm.SSD", "reason 4", "and 3 more: ssdc explain " + path} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "reason 5") {
		t.Errorf("too many reasons:\n%v", err)
	}
}

func TestJoinErrors(t *testing.T) {
	same := &ops.Op{ID: graph.OpID{Domain: "example", Name: "Same", Since: 1}, Infer: func(*ops.Infer) error { return nil }}
	pass := func(name string, after ...passes.Order) *passes.Pass {
		return &passes.Pass{Name: name, After: after, Run: func(*passes.Context, *graph.Graph) error { return nil }}
	}
	for want, extra := range map[string][]plugin.Plugin{
		"a plugin has no name":        {{}},
		`two plugins are named "std"`: {{Name: "std"}},
		"operator example.Same-1 is defined by plugin a and by plugin b": {{Name: "a", Ops: []*ops.Op{same}}, {Name: "b", Ops: []*ops.Op{same}}},
		`pass "canon" is listed twice`:                                   {{Name: "a", Passes: []*passes.Pass{pass("canon")}}},
		"has no Infer function":                                          {{Name: "a", Ops: []*ops.Op{{ID: same.ID}}}},
		"has no name or no Lower":                                        {{Name: "a", Kernels: []*cpu.Kernel{{Name: "k"}}}},
	} {
		if _, err := plugin.Join(append([]plugin.Plugin{std.Plugin}, extra...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// TestCancelled: a compilation ends when its context does.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := ssdc.Build(ctx, textModel(t, negate), ssdc.Options{}); err == nil || !strings.Contains(fmt.Sprint(err), "canceled") {
		t.Errorf("error %v", err)
	}
}
