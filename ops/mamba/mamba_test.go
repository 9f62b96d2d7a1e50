package mamba

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
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

// tiedStep is a decode step as the mixers of Mamba-2 write it: A, dt, dt_bias and D repeated over the channels of a head.
const tiedStep = `graph g (float[3,4,8,16] state, float[3,4,8] x, float[3,4,1] dt, float[4,1,1] a, float[3,2,16] B, float[3,2,16] C, float[4,1] d, float[4,1] bias) => (float[3,4,8] y, float[3,4,8,16] new)
<
  int64[3] s3 = {3, 4, 8}
  int64[3] sa = {4, 8, 16}
  int64[2] s2 = {4, 8}
> {
  float[3,4,8] dtw = Expand-13 (dt, s3)
  float[4,8,16] aw = Expand-13 (a, sa)
  float[4,8] dw = Expand-13 (d, s2)
  float[4,8] bw = Expand-13 (bias, s2)
  float[3,4,8] y, float[3,4,8,16] new = mamba_ssm.selective_state_update-1 <dt_softplus: int = 1> (state, x, dtw, aw, B, C, dw, _, bw)
}`

// wideStep is the same, but the graph does not show what is repeated.
const wideStep = `graph g (float[3,4,8,16] state, float[3,4,8] x, float[3,4,8] dtw, float[4,8,16] aw, float[3,2,16] B, float[3,2,16] C, float[4,8] dw, float[4,8] bw) => (float[3,4,8] y, float[3,4,8,16] new)
{
  float[3,4,8] y, float[3,4,8,16] new = mamba_ssm.selective_state_update-1 <dt_softplus: int = 1> (state, x, dtw, aw, B, C, dw, _, bw)
}`

// TestTiedStep: a step whose parameters are seen to be repeated is one of ssm.SSD, and gives what the step gives that does not see it.
func TestTiedStep(t *testing.T) {
	var tab ops.Table
	for _, add := range []func(*ops.Table) error{onnx.Register, ssm.Register, Register} {
		if err := add(&tab); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(seed int, shape ...int) *tensor.Tensor {
		x := tensor.New(tensor.Float32, shape...)
		for i := range x.Len() {
			x.SetAt(i, -math.Abs(math.Sin(float64(7*i+seed))))
		}
		return x
	}
	repeat := func(x *tensor.Tensor, shape ...int) *tensor.Tensor { // every element, behind itself
		y := tensor.New(tensor.Float32, shape...)
		for i := range y.Len() {
			y.SetAt(i, x.At(i*x.Len()/y.Len()))
		}
		return y
	}
	in := []*tensor.Tensor{fill(1, 3, 4, 8, 16), fill(2, 3, 4, 8), fill(3, 3, 4, 1), fill(4, 4, 1, 1), fill(5, 3, 2, 16), fill(6, 3, 2, 16), fill(7, 4, 1), fill(8, 4, 1)}
	wide := []*tensor.Tensor{in[0], in[1], repeat(in[2], 3, 4, 8), repeat(in[3], 4, 8, 16), in[4], in[5], repeat(in[6], 4, 8), repeat(in[7], 4, 8)}
	run := func(text, made, not string, in []*tensor.Tensor) []*tensor.Tensor {
		g, err := graph.ParseString(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := ops.InferGraph(&tab, g); err != nil {
			t.Fatal(err)
		}
		n := g.Nodes[len(g.Nodes)-1]
		row, _ := tab.Of(n)
		if _, err := ops.Expand(&tab, row, n); err != nil {
			t.Fatal(err)
		}
		if err := g.Sort(); err != nil {
			t.Fatal(err)
		}
		if err := ops.InferGraph(&tab, g); err != nil {
			t.Fatal(err)
		}
		if s := g.String(); !strings.Contains(s, "ssm."+made) || strings.Contains(s, "ssm."+not) {
			t.Errorf("no %s in\n%s", made, s)
		}
		out, err := ops.Run(context.Background(), &tab, g, in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	got, want := run(tiedStep, "SSD", "SelectiveScan", in), run(wideStep, "SelectiveScan", "SSD", wide)
	for o := range got {
		for i := range got[o].Len() {
			if x, y := got[o].At(i), want[o].At(i); !(math.Abs(x-y) <= 1e-5*(1+math.Abs(y))) {
				t.Fatalf("output %d, element %d: %v, want %v", o, i, x, y)
			}
		}
	}
}
