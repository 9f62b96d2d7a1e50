package softcap

import (
	"bytes"
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/cmd/cli"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/plugin"
	"github.com/ssdc-go/ssdc/std"
)

// model caps at 30 what a product gives, as some language models do with logits.
const model = `graph head (float[B,3] x) => (float[B,2] logits)
< float[3,2] w = {1, -2, 30, 4, 5, 60}
  float[] cap = {30} > {
  ["/lm_head"] float[B,2] raw = MatMul-13 (x, w)
  ["/cap/div"] float[B,2] small = Div-14 (raw, cap)
  ["/cap/tanh"] float[B,2] bent = Tanh-13 (small)
  ["/cap/mul"] float[B,2] logits = Mul-14 (cap, bent)
}
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "head.ssd")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func build(t *testing.T, text string, o ssdc.Options) *ssdc.Compiled {
	t.Helper()
	c, err := ssdc.Build(context.Background(), write(t, text), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run gives the logits of a model on one fixed input.
func run(t *testing.T, m *ssdc.Model) []float64 {
	t.Helper()
	defer m.Close()
	s, err := m.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Run(context.Background(), map[string]*tensor.Tensor{"x": tensor.From([]float32{1, 2, 3, -1, 0.5, -0.25}, 2, 3)})
	if err != nil {
		t.Fatal(err)
	}
	return append([]float64{}, out["logits"].AsFloats()...)
}

// want is 30*tanh(raw/30) by hand, raw being x times w.
func want() []float64 {
	raw := []float64{1 + 60 + 15, -2 + 8 + 180, -1 + 15 - 1.25, 2 + 2 - 15}
	for i, v := range raw {
		raw[i] = 30 * math.Tanh(v/30)
	}
	return raw
}

func check(t *testing.T, what string, got []float64) {
	t.Helper()
	for i, w := range want() {
		if math.Abs(got[i]-w) > 1e-5*math.Abs(w) {
			t.Errorf("%s: element %d is %g, want %g", what, i, got[i], w)
		}
	}
}

// TestCompile: the pass finds the operator, the kernel runs it, and the result
// is that of the compiler without the plugin.
func TestCompile(t *testing.T) {
	c := build(t, model, ssdc.Options{Plugins: []plugin.Plugin{Plugin}, RequireFusion: map[string]int{"example.Softcap": 1}})
	for i, n := range c.Plan.Graph.Nodes {
		if n.Op.Is("example", "Softcap") && c.Plan.Kernels[i] != "softcap" {
			t.Errorf("Softcap runs on kernel %q", c.Plan.Kernels[i])
		}
	}
	m, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "with the plugin", run(t, m))
	plain := build(t, model, ssdc.Options{})
	if plain.Fused["example.Softcap"] != 0 {
		t.Error("found without the plugin")
	}
	if m, err = plain.Open(); err != nil {
		t.Fatal(err)
	}
	check(t, "without the plugin", run(t, m))
}

// TestOther: what only looks like a soft cap is left alone.
func TestOther(t *testing.T) {
	for name, text := range map[string]string{
		"another factor":  strings.NewReplacer("} > {", "}\n  float[] gain = {29} > {", "(cap, bent)", "(gain, bent)").Replace(model),
		"negative":        strings.Replace(model, "{30} >", "{-30} >", 1),
		"other operator":  strings.Replace(model, "Tanh-13", "Sigmoid-13", 1),
		"divided by half": strings.NewReplacer("} > {", "}\n  float[] half = {15} > {", "(raw, cap)", "(raw, half)").Replace(model),
	} {
		if c := build(t, text, ssdc.Options{Plugins: []plugin.Plugin{Plugin}}); c.Fused["example.Softcap"] != 0 {
			t.Errorf("%s: fused", name)
		}
	}
}

// TestArtifact: the artifact says which plugin it needs. A program that lacks
// the plugin refuses with that sentence; one that has it runs the file.
func TestArtifact(t *testing.T) {
	c := build(t, model, ssdc.Options{Plugins: []plugin.Plugin{Plugin}})
	path := filepath.Join(t.TempDir(), "head.ssda")
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	const sentence = `the artifact needs plugin "softcap", which this program lacks`
	if _, err := ssdc.Open(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), sentence) {
		t.Errorf("ssdc.Open without the plugin: %v", err)
	}
	out, err := exec.Command("go", "run", "github.com/ssdc-go/ssdc/cmd/ssdc-run", "run", path, "--random").CombinedOutput()
	if err == nil || !strings.Contains(string(out), sentence) {
		t.Errorf("ssdc-run: %v\n%s", err, out)
	}
	m, err := ssdc.Open(path, Plugin)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Meta.Plugins; len(got) != 1 || got[0] != "softcap" {
		t.Errorf("the artifact records plugins %v", got)
	}
	check(t, "from the artifact", run(t, m))
}

// TestCommand: the command line of ssdc-softcap.
func TestCommand(t *testing.T) {
	call := func(args ...string) string {
		t.Helper()
		root, err := cli.New(std.Plugin, Plugin)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs(args)
		if code := cli.Execute(context.Background(), root); code != 0 {
			t.Fatalf("%v: exit code %d\n%s", args, code, out.String())
		}
		return out.String()
	}
	path := filepath.Join(t.TempDir(), "head.ssda")
	if out := call("compile", write(t, model), "-o", path, "--require-fusion", "softcap=1"); !strings.Contains(out, "1 example.Softcap") {
		t.Errorf("compile prints\n%s", out)
	}
	if out := call("inspect", path); !strings.Contains(out, "softcap") {
		t.Errorf("inspect prints\n%s", out)
	}
	if out := call("ops", "softcap"); !strings.Contains(out, "plugin softcap") {
		t.Errorf("ops prints\n%s", out)
	}
	call("run", path, "--random", "--shape", "B=4")
}

// TestOp holds the operator's definition to its cases, and its decomposition
// to its definition.
func TestOp(t *testing.T) {
	set, err := plugin.Join(std.Plugin, Plugin)
	if err != nil {
		t.Fatal(err)
	}
	ctx, table := context.Background(), set.Registry.Table
	for _, c := range Op.Cases {
		g := graph.New(c.Name)
		x := g.AddInput("x", graph.TypeOf(c.In[0]))
		b := ops.NewBuilder(table, g)
		n := b.Node(Op.ID.Domain, Op.ID.Name, c.Attrs, 1, x)
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		parts, err := Op.Decompose(b, n)
		if err != nil {
			t.Fatal(err)
		}
		g.AddOutput(n.Out[0])
		g.AddOutput(parts[0])
		out, err := ops.Run(ctx, table, g, c.In)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range c.Want[0].AsFloats() {
			for k, what := range []string{"definition", "decomposition"} {
				if got := out[k].At(i); math.Abs(got-w) > 1e-6 {
					t.Errorf("%s, %s: element %d is %g, want %g", c.Name, what, i, got, w)
				}
			}
		}
	}
	for _, text := range []string{
		"graph g (float[2] x) => (float[2] y) {\n float[2] y = example.Softcap-1 <cap: float = -1> (x)\n}",
		"graph g (int64[2] x) => (int64[2] y) {\n int64[2] y = example.Softcap-1 <cap: float = 1> (x)\n}",
	} {
		if _, err := ssdc.Build(ctx, write(t, text), ssdc.Options{Plugins: []plugin.Plugin{Plugin}}); err == nil || !strings.Contains(err.Error(), "want a") {
			t.Errorf("%s\nerror %v", text, err)
		}
	}
}
