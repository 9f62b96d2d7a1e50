package mamba

import (
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// TestRows: every row says what it is, and how its parameters are given.
func TestRows(t *testing.T) {
	for _, r := range Rows() {
		if r.Doc == "" || r.Traits&ops.AnyDomain == 0 || r.Traits&ops.Composite == 0 || len(r.Out) == 0 {
			t.Errorf("%s: %+v", r.ID, r)
		}
		for _, p := range r.In {
			if p.Doc == "" {
				t.Errorf("%s: input %s has no description", r.ID, p.Name)
			}
		}
	}
}

// TestNamed: a row serves every domain, under its own name alone.
func TestNamed(t *testing.T) {
	var tab ops.Table
	if err := Register(&tab); err != nil {
		t.Fatal(err)
	}
	if r := tab.Named("causal_conv1d_fn"); r == nil || r.ID.Domain != ConvDomain {
		t.Errorf("a known name: %v", r)
	}
	if r := tab.Named("causal_conv1d"); r != nil {
		t.Errorf("an unknown name: %v", r)
	}
}

// TestErrors: calls that no function takes, and calls that ssdc has no form for,
// are one error that says what and what to do.
func TestErrors(t *testing.T) {
	f := func(shape ...int) *tensor.Tensor { return tensor.New(tensor.Float32, shape...) }
	scan := []*tensor.Tensor{f(2, 5, 4, 8), f(2, 5, 4), f(4), f(2, 5, 2, 16), f(2, 5, 2, 16)}
	with := func(more ...*tensor.Tensor) []*tensor.Tensor { return append(scan[:5:5], more...) }
	chunk := graph.Attrs{"chunk_size": int64(8)}
	for _, c := range []struct {
		name  string
		f     *function
		attrs graph.Attrs
		in    []*tensor.Tensor
		want  string
	}{
		{"no chunk_size", chunkScan, nil, scan, "chunk_size is missing"},
		{"no C", chunkScan, chunk, scan[:4], "4 inputs, want 5 to 17"},
		{"rank", chunkScan, chunk, []*tensor.Tensor{scan[0], scan[1], f(4, 1), scan[3], scan[4]}, "A is float[4,1], want [H]"},
		{"lengths", chunkScan, chunk, []*tensor.Tensor{scan[0], f(2, 6, 4), scan[2], scan[3], scan[4]}, "dt"},
		{"attribute", chunkScan, graph.Attrs{"chunk_size": int64(8), "chunks": int64(1)}, scan, `attribute "chunks" is no parameter of mamba_chunk_scan_combined(x, dt,`},
		{"attribute's type", chunkScan, graph.Attrs{"chunk_size": "big"}, scan, `attribute "chunk_size": is string, want an integer`},
		{"twice", chunkScan, chunk, with(tensor.Scalar(int64(8))), "chunk_size is given twice"},
		{"limits", chunkScan, graph.Attrs{"chunk_size": int64(8), "dt_limit": []float32{2, 1}}, scan, "the lower limit must come first"},
		{"chunk of 0", chunkScan, graph.Attrs{"chunk_size": int64(0)}, scan, "chunk_size is 0, want 1 or more"},
		{"packed lengths", chunkScan, chunk, with(nil, nil, nil, nil, nil, tensor.New(tensor.Int32, 3)), "cu_seqlens is not supported"},
		{"activation", causalConv, graph.Attrs{"activation": "gelu"}, []*tensor.Tensor{f(2, 4, 5), f(4, 3)}, `activation is "gelu", want silu, swish or none`},
		{"narrow state", convUpdate, nil, []*tensor.Tensor{f(2, 4), f(2, 4, 2), f(4, 4)}, "wants 3 columns or more"},
		{"sequences in a convolution", causalConv, nil, []*tensor.Tensor{f(2, 4, 5), f(4, 3), nil, tensor.New(tensor.Int32, 2, 5)}, "seq_idx is not supported"},
		{"groups", splitConvScan, graph.Attrs{"chunk_size": int64(8), "headdim": int64(8), "ngroups": int64(3)},
			[]*tensor.Tensor{f(2, 5, 100), f(64, 4), nil, f(4), f(4), f(4)}, "ngroups is 3, which does not divide 4 heads"},
		{"channels", splitConvScan, graph.Attrs{"chunk_size": int64(8), "headdim": int64(8)},
			[]*tensor.Tensor{f(2, 5, 101), f(64, 4), nil, f(4), f(4), f(4)}, "want 2*M + 2*H*P + 2*G*N + H"},
		{"complex decays", selectiveScanFn, nil, []*tensor.Tensor{f(2, 4, 5), f(2, 4, 5), tensor.New(tensor.Int64, 4, 8), f(2, 8, 5), f(2, 8, 5)}, "only real decays"},
		{"a pool of states", stateUpdate, nil, []*tensor.Tensor{f(2, 4, 8), f(2, 4), f(2, 4), f(4, 8), f(2, 8), f(2, 8), nil, nil, nil, tensor.New(tensor.Int32, 2)},
			"state_batch_indices is not supported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := graph.New("g")
			in := make([]*graph.Value, len(c.in))
			for i, x := range c.in {
				switch {
				case x == nil:
				case x.Rank() == 0:
					in[i] = g.AddConst("c", x)
				default:
					in[i] = g.AddInput("x", graph.TypeOf(x))
				}
			}
			n := g.Add(graph.OpID{Domain: c.f.domain, Name: c.f.name, Since: 1}, c.attrs, in, 1, "y")
			var tab ops.Table
			if err := Register(&tab); err != nil {
				t.Fatal(err)
			}
			err := ops.InferNode(&tab, n)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant %q", err, c.want)
			}
		})
	}
}
