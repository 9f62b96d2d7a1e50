package cpu

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// relative is |got-want| / |want| by norm.
func relative(got, want *tensor.Tensor) float64 {
	var diff, size float64
	for i := range want.Len() {
		d := got.At(i) - want.At(i)
		diff += d * d
		size += want.At(i) * want.At(i)
	}
	return math.Sqrt(diff / size)
}

// TestWeightFormats: a model with narrow weights computes nearly the same, the
// same on any number of threads, and without allocating.
func TestWeightFormats(t *testing.T) {
	table := opTable(t)
	m := small
	m.dim, m.heads, m.headDim = 96, 6, 32
	g, pairs := m.build(t, table)
	x := feed("ids", tokens(rand.New(rand.NewPCG(1, 1)), m.vocab, 2, 50))
	exact := must(t, newSession(t, open(t, table, g, backends.Target{Threads: 1, States: pairs})), x, nil)
	for f, limit := range map[string]float64{"f32": 0, "bf16": 0.01, "int8": 0.03, "int4": 0.25} {
		var first []byte
		for _, threads := range []int{1, 2, 16} {
			s := newSession(t, open(t, table, g, backends.Target{Threads: threads, States: pairs, Weights: f}))
			got := must(t, s, x, nil)["logits"]
			if e := relative(got, exact["logits"]); !(e <= limit) || f != "f32" && e == 0 {
				t.Errorf("%s: relative error %.4f, expected at most %g", f, e, limit)
			}
			if first == nil {
				first = bytes.Clone(got.Data)
			}
			if !bytes.Equal(first, got.Data) {
				t.Errorf("%s: %d threads give other bits", f, threads)
			}
			if n := testing.AllocsPerRun(5, func() {
				if _, err := s.Run(context.Background(), x, nil); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%s: %v allocations per run", f, n)
			}
		}
	}
	if _, err := New(table).Compile(g, backends.Target{Weights: "int3"}); err == nil || !strings.Contains(err.Error(), `"int3": expected f32, bf16`) {
		t.Errorf("weights in int3: %v", err)
	}
}

// TestTied: a table whose transpose is multiplied by is stored in that form alone.
func TestTied(t *testing.T) {
	const vocab, dim = 70, 48
	table := opTable(t)
	r := rand.New(rand.NewPCG(2, 2))
	e := randn(r, 1, vocab, dim)
	across := tensor.New(tensor.Float32, dim, vocab)
	for i := range vocab {
		for j := range dim {
			tensor.Of[float32](across)[j*vocab+i] = tensor.Of[float32](e)[i*dim+j]
		}
	}
	ids := tensor.From([]int64{0, 69, -1, -70, 33, 32}, 2, 3)
	for _, same := range []bool{true, false} {
		if !same {
			tensor.Of[float32](across)[dim*vocab-1] += 1
		}
		g := graph.New("tied")
		b := ops.NewBuilder(table, g)
		in := g.AddInput("ids", graph.T(tensor.Int64, graph.Sym("B"), graph.Sym("L")))
		h := b.Op("Gather", nil, b.Const(e), in)
		h.Name = "h"
		y := b.Op("MatMul", nil, h, b.Const(across))
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		y.Name = "y"
		g.AddOutput(h)
		g.AddOutput(y)
		for f, limit := range map[string]float64{"": 0, "bf16": 0.003, "int8": 0.01, "int4": 0.1} {
			x := open(t, table, g, backends.Target{Weights: f})
			if got := x.Plan().Kernels[0] == "panels"; got != same {
				t.Fatalf("tied %v: the embedding runs on kernel %q", same, x.Plan().Kernels[0])
			}
			s := newSession(t, x)
			h := must(t, s, feed("ids", ids), nil)["h"]
			want := tensor.New(tensor.Float32, 2, 3, dim)
			for i := range ids.Len() {
				copy(tensor.Of[float32](want)[i*dim:][:dim], tensor.Of[float32](e)[wrap(ids.IntAt(i), vocab)*dim:])
			}
			if e := relative(h, want); e > limit || same && f != "" && e == 0 {
				t.Errorf("tied %v, %q: relative error %g", same, f, e)
			}
			if _, err := s.Run(context.Background(), feed("ids", tensor.From([]int64{3, vocab}, 1, 2)), nil); err == nil || !strings.Contains(err.Error(), "index 70 at position 1 is outside [-70,70)") {
				t.Errorf("index out of range: %v", err)
			}
		}
	}
}
