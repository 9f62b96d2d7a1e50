package artifact

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	format "github.com/ssdc-go/ssdc/backends/artifact"
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// TestTable: rows of a large constant are read from the file, wherever in it the
// artifact begins. With another use of the constant they come from the map.
func TestTable(t *testing.T) {
	const rows, width = 1200, 1024
	table := opTable(t)
	r := rand.New(rand.NewPCG(3, 4))
	embedding := randn(r, rows, width)
	ids := tensor.From([]int64{0, 1199, -1, -1200, 77, 77, 600}, 1, 7)
	for _, twice := range []bool{false, true} {
		g := graph.New("table")
		b := ops.NewBuilder(table, g)
		in := g.AddInput("ids", graph.T(tensor.Int64, graph.D(1), graph.Sym("L")))
		e := b.Const(embedding)
		y := b.Op("Gather", nil, e, in)
		y.Name = "y"
		g.AddOutput(y)
		if twice {
			z := b.Op("Neg", nil, e)
			z.Name = "z"
			g.AddOutput(z)
		}
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		backend := cpu.New(table)
		p, err := backend.Compile(g, backends.Target{Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "m.ssda")
		if err := Write(path, &Contents{Meta: format.Meta{Producer: "ssdc test"}, Plans: []*backends.Plan{p}}); err != nil {
			t.Fatal(err)
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, offset := range []int{0, format.PageSize} {
			path := filepath.Join(t.TempDir(), "at.ssda")
			if err := os.WriteFile(path, append(make([]byte, offset), whole...), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := format.OpenAt(path, int64(offset), int64(len(whole)))
			if err != nil {
				t.Fatal(err)
			}
			stored, err := f.Plan("cpu", table)
			if err != nil {
				t.Fatal(err)
			}
			x, err := backend.Open(stored, f.For("cpu"))
			if err != nil {
				t.Fatal(err)
			}
			s, err := x.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			in := map[string]*tensor.Tensor{"ids": ids}
			run := func() (map[string]*tensor.Tensor, error) { return s.Run(context.Background(), in, nil) }
			out, err := run()
			if err != nil {
				t.Fatal(err)
			}
			for i := range ids.Len() {
				row := (ids.IntAt(i) + rows) % rows
				if !bytes.Equal(out["y"].Data[4*width*i:][:4*width], embedding.Data[4*width*row:][:4*width]) {
					t.Errorf("twice %v, at %d: row %d is another", twice, offset, row)
				}
			}
			if n := testing.AllocsPerRun(5, func() { _, _ = run() }); n != 0 {
				t.Errorf("twice %v: %v allocations per run", twice, n)
			}
			// A file that has become shorter is an error, and shows who reads it.
			if !twice {
				if err := os.Truncate(path, int64(offset)+format.PageSize); err != nil {
					t.Fatal(err)
				}
				if _, err := run(); err == nil || !strings.Contains(err.Error(), "reading one of 1200 rows: EOF") {
					t.Errorf("a file cut short: %v", err)
				}
			}
			if err := x.Close(); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
