package passes_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/library"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/canon"
	"github.com/ssdc-go/ssdc/passes/expand"
	"github.com/ssdc-go/ssdc/passes/fuse"
	"github.com/ssdc-go/ssdc/passes/half"
	"github.com/ssdc-go/ssdc/passes/legalize"
	"github.com/ssdc-go/ssdc/passes/lengths"
	"github.com/ssdc-go/ssdc/passes/narrow"
	"github.com/ssdc-go/ssdc/passes/quant"
	"github.com/ssdc-go/ssdc/passes/recur"
)

var update = flag.Bool("update", false, "rewrite the goldens in testdata/passes")

// chains gives, per folder of testdata/passes, the passes to run; the last is
// the one under test.
var chains = map[string]passes.Pipeline{
	"expand":         {expand.Pass},
	"lengths":        {lengths.Pass},
	"half":           {half.Pass},
	"quant":          {quant.Pass},
	"canon":          {canon.Pass},
	"recur":          {canon.Pass, recur.Pass},
	"absorb":         {canon.Pass, recur.Absorb},
	"fuse-conv":      {canon.Pass, fuse.Conv},
	"fuse-norm":      {canon.Pass, fuse.Norm},
	"fuse-attention": {canon.Pass, fuse.Attention},
	"fuse-rotary":    {canon.Pass, fuse.Rotary},
	"fuse-gelu":      {canon.Pass, fuse.Gelu},
	"fuse-linear":    {canon.Pass, fuse.Projection},
	"fuse-conv2d":    {canon.Pass, fuse.Image},
	"narrow":         {canon.Pass, narrow.Pass},
	"named":          {canon.Pass, recur.Named},

	"legalize-onnx":      {legalize.Pass(legalize.Dialects[0])},
	"legalize-microsoft": {legalize.Pass(legalize.Dialects[1])},
	"legalize-plain":     {legalize.Pass(legalize.Dialects[2])},
}

// TestGoldens runs each graph of testdata/passes/<pass>/*.txtar. An archive
// holds the graph in, the remarks and the graph out, which is "unchanged" in
// the look-alikes (not_*.txtar) that must be left alone. Before and after, the
// graph computes the same on random inputs; the comment of the archive may set
// lengths for that, a set per line ("lengths: L=12").
func TestGoldens(t *testing.T) {
	files, err := filepath.Glob("../testdata/passes/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		dir := filepath.Base(filepath.Dir(file))
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(dir+"/"+name, func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			g := &golden{t: t, archive: a, table: table(t)}
			got := g.run(chains[dir])
			if strings.HasPrefix(name, "not_") && got["out"] != unchanged {
				t.Errorf("a look-alike was rewritten:\n%s%s", got["remarks"], got["out"])
			}
			if *update {
				for i, f := range a.Files {
					a.Files[i].Data = []byte(got[f.Name])
				}
				if err := os.WriteFile(file, txtar.Format(a), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, f := range a.Files {
				if got[f.Name] != string(f.Data) {
					t.Errorf("%s: got\n%s\nwant (go test ./passes -update accepts the new text)\n%s", f.Name, got[f.Name], f.Data)
				}
			}
		})
	}
}

const unchanged = "unchanged\n"

func table(t testing.TB) *ops.Table {
	tab := &ops.Table{}
	if err := library.Register(tab); err != nil {
		t.Fatal(err)
	}
	return tab
}

type golden struct {
	t       *testing.T
	archive *txtar.Archive
	table   *ops.Table
}

// graph parses the input; types of results may be abridged in it.
func (g *golden) graph() *graph.Graph {
	for _, f := range g.archive.Files {
		if f.Name != "in" {
			continue
		}
		in, err := graph.ParseString(string(f.Data))
		if err != nil {
			g.t.Fatal(err)
		}
		if err := ops.InferGraph(g.table, in); err != nil {
			g.t.Fatal(err)
		}
		return in
	}
	g.t.Fatal("no file \"in\"")
	return nil
}

func (g *golden) run(chain passes.Pipeline) map[string]string {
	g.t.Helper()
	out := g.graph()
	got := map[string]string{"in": out.String() + "\n"}
	c := passes.NewContext(context.Background(), g.table)
	var before string
	for _, p := range chain {
		before = out.String()
		c.Remarks = nil
		if err := passes.RunOne(c, p, out); err != nil {
			g.t.Fatal(err)
		}
	}
	for _, r := range c.Remarks {
		got["remarks"] += r.String() + "\n"
	}
	if got["out"] = out.String() + "\n"; out.String() == before {
		got["out"] = unchanged
	}
	sets := strings.Split(string(g.archive.Comment), "lengths:")[1:]
	for _, set := range append(sets, "")[:max(1, len(sets))] {
		sizes := graph.Bindings{}
		for _, f := range strings.Fields(set) {
			name, n, _ := strings.Cut(f, "=")
			var k int64
			if _, err := fmt.Sscan(n, &k); err != nil {
				g.t.Fatalf("lengths: %q", f)
			}
			sizes[name] = k
		}
		g.equal(g.graph(), out, sizes)
	}
	return got
}

// equal evaluates both graphs on the same random inputs; sizes has the lengths
// that are not to be drawn.
func (g *golden) equal(a, b *graph.Graph, sizes graph.Bindings) {
	g.t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	var in []*tensor.Tensor
	for _, v := range a.Inputs {
		shape := make([]int, v.Type.Rank())
		for i, d := range v.Type.Shape {
			for _, s := range d.Symbols() {
				if _, given := sizes[s]; !given {
					sizes[s] = int64(2 + len(sizes))
				}
			}
			n, err := d.Eval(sizes)
			if err != nil {
				g.t.Fatal(err)
			}
			shape[i] = int(n)
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
	want, err := ops.Run(context.Background(), g.table, a, in)
	if err != nil {
		g.t.Fatalf("the input graph does not run: %v", err)
	}
	got, err := ops.Run(context.Background(), g.table, b, in)
	if err != nil {
		g.t.Fatalf("the output graph does not run: %v", err)
	}
	tol := 1e-5
	a.Walk(func(n *graph.Node) {
		for _, v := range n.Out {
			if v != nil && v.Type.DType == tensor.Float16 {
				tol = 1.0 / 1024 // the rounding of float16, which passes/half moves
			}
		}
	})
	for i, w := range want {
		var diff, norm float64
		if got[i].TypeString() != w.TypeString() {
			g.t.Fatalf("output %d is %s, was %s", i, got[i].TypeString(), w.TypeString())
		}
		for j := range w.Len() {
			d := got[i].At(j) - w.At(j)
			diff, norm = diff+d*d, norm+w.At(j)*w.At(j)
		}
		if e := math.Sqrt(diff / math.Max(norm, 1e-30)); !(e <= tol) {
			g.t.Errorf("output %d changed: relative error %.2e", i, e)
		}
	}
}
