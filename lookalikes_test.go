package ssdc_test

import (
	"bytes"
	"context"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
	"github.com/ssdc-go/ssdc/std"
)

// minLookAlikes is how many look-alikes of recurrences there are at least.
const minLookAlikes = 60

// TestLookAlikes: what only looks like a recurrence, or like a scan's neighbour
// (testdata/passes/{recur,absorb}/not_*.txtar), goes through the whole pipeline
// without becoming one, gives the same bits with the passes as without, and leaves
// a remark. The look-alikes of every other pass go through it as well; they keep
// their results to rounding, since what stands beside them may be fused, and
// TestGoldens says that the pass they are meant for leaves them unchanged.
func TestLookAlikes(t *testing.T) {
	set, err := plugin.Join(std.Plugin)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/passes/*/not_*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	recurrences := 0
	for _, file := range files {
		pass := filepath.Base(filepath.Dir(file))
		recurrence := pass == "recur" || pass == "absorb"
		if recurrence {
			recurrences++
		}
		t.Run(pass+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			lookAlike(t, set.Registry.Table, set.Pipeline, file, recurrence)
		})
	}
	if recurrences < minLookAlikes {
		t.Errorf("%d look-alikes of recurrences, want at least %d", recurrences, minLookAlikes)
	}
}

// noCandidate lists what no door takes for a candidate, so that nothing is said.
var noCandidate = map[string]bool{
	"not_step_residual": true, "not_step_cache": true, "not_step_shift": true, "not_step_residual_named": true, "not_step_running_mean": true, "not_step_blend": true, "not_step_affine": true, "not_step_layer": true,
}

func lookAlike(t *testing.T, table *ops.Table, pipeline passes.Pipeline, file string, recurrence bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a := txtar.Parse(data)
	var in, remarks string
	for _, f := range a.Files {
		switch f.Name {
		case "in":
			in = string(f.Data)
		case "remarks":
			remarks = string(f.Data)
		}
	}
	if recurrence && !strings.Contains(remarks, "missed") && !noCandidate[strings.TrimSuffix(filepath.Base(file), ".txtar")] {
		t.Error("no remark says why it is left alone")
	}
	parse := func() *graph.Graph {
		g, err := graph.ParseString(in)
		if err == nil {
			err = ops.InferGraph(table, g)
		}
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	before, after := parse(), parse()
	c := passes.NewContext(context.Background(), table)
	if err := pipeline.Run(c, after); err != nil {
		t.Fatal(err)
	}
	count := func(g *graph.Graph) (n int) {
		g.Walk(func(m *graph.Node) {
			if m.Op.Domain == "ssm" && (m.Op.Name == "SSD" || m.Op.Name == "SelectiveScan" || m.Op.Name == "LinearScan") || m.Op.Is("", "LinearAttention") {
				n++
			}
		})
		return n
	}
	if n, was := count(after), count(before); n != was {
		t.Errorf("%d scans where there were %d", n, was)
	}
	want, got := evaluate(t, table, before, file, string(a.Comment)), evaluate(t, table, after, file, string(a.Comment))
	for i, w := range want {
		if recurrence && !bytes.Equal(w.Data, got[i].Data) {
			t.Errorf("output %d is not the same to the bit", i)
		}
		if e := relError(t, got[i], w); !(e <= 1e-5) {
			t.Errorf("output %d: relative error %.2e", i, e)
		}
	}
}

// evaluate runs g on random inputs that depend on the file alone.
func evaluate(t *testing.T, table *ops.Table, g *graph.Graph, file, comment string) []*tensor.Tensor {
	t.Helper()
	h := fnv.New64a()
	_, _ = h.Write([]byte(file))
	rng := rand.New(rand.NewPCG(h.Sum64(), 1))
	sizes := goldenLengths(t, comment)
	var in []*tensor.Tensor
	for _, v := range g.Inputs {
		var shape []int
		for _, d := range v.Type.Shape {
			for _, s := range d.Symbols() {
				if sizes[s] == 0 {
					sizes[s] = int64(2 + len(sizes))
				}
			}
			n, err := d.Eval(sizes)
			if err != nil {
				t.Fatal(err)
			}
			shape = append(shape, int(n))
		}
		x := tensor.New(v.Type.DType, shape...)
		for i := range x.Len() {
			if x.DType.IsFloat() {
				x.SetAt(i, -rng.Float64())
			} else {
				x.SetIntAt(i, rng.Int64N(2))
			}
		}
		in = append(in, x)
	}
	out, err := ops.Run(context.Background(), table, g, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// goldenLengths reads "lengths: L=12" in a comment.
func goldenLengths(t *testing.T, comment string) graph.Bindings {
	t.Helper()
	sizes := graph.Bindings{}
	_, list, _ := strings.Cut(comment, "lengths:")
	for _, f := range strings.Fields(list) {
		name, n, _ := strings.Cut(f, "=")
		k, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			t.Fatalf("lengths: %q", f)
		}
		sizes[name] = k
	}
	return sizes
}
