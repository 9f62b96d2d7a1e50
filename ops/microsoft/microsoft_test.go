package microsoft

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// run computes one node. Inputs listed in consts are constants.
func run(t *testing.T, id graph.OpID, attrs graph.Attrs, nOut int, in ...*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	g := graph.New("g")
	var vals []*graph.Value
	for _, x := range in {
		if x == nil {
			vals = append(vals, nil)
			continue
		}
		vals = append(vals, g.AddInput("x", graph.TypeOf(x)))
	}
	n := g.Add(id, attrs, vals, nOut, "y")
	n.TrimIn()
	if err := ops.InferNode(table(), n); err != nil {
		t.Fatal(err)
	}
	out, err := ops.Eval(context.Background(), table(), n, in[:len(n.In)])
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range n.Out {
		if s, ok := v.Type.Static(); ok && !slices.Equal(s, out[i].Shape) {
			t.Errorf("output %d is %s, inferred %s", i, out[i].TypeString(), v.Type)
		}
	}
	return out
}

func contrib(name string) graph.OpID { return graph.OpID{Domain: Domain, Name: name, Since: 1} }

// near compares with what is computed in another way.
func near(t *testing.T, what string, got, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if !(math.Abs(got[i]-w) <= 1e-5*(1+math.Abs(w))) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], w)
		}
	}
}

// cut is x[from:to] along axis 1 of a rank-3 tensor.
func cut(x *tensor.Tensor, from, to int) *tensor.Tensor {
	if x == nil {
		return nil
	}
	b, w := x.Shape[0], x.Shape[2]
	out := tensor.New(tensor.Float32, b, to-from, w)
	for r := range b {
		copy(tensor.Of[float32](out)[r*(to-from)*w:], tensor.Of[float32](x)[(r*x.Shape[1]+from)*w:(r*x.Shape[1]+to)*w])
	}
	return out
}

// TestStateWindow: slot j of a window is the state of the sequence cut after
// token T-W+j, and zeros before the first token.
func TestStateWindow(t *testing.T) {
	const B, W = 2, 4
	for _, T := range []int{1, 3, 7} {
		q, k, v := wave(1, B, T, 8), wave(2, B, T, 4), wave(3, B, T, 3)
		decay, beta := wave(4, B, T, 1), wave(5, B, T, 1)
		window := wave(6, W, B, 1, 4, 3)
		past := tensor.From(tensor.Of[float32](window)[(W-1)*B*12:], B, 1, 4, 3)
		a := graph.Attrs{"q_num_heads": int64(2), "kv_num_heads": int64(1)}
		with := a.Clone()
		with["state_window"] = int64(W)
		got := run(t, contrib("LinearAttention"), with, 2, q, k, v, window, decay, beta)
		whole := run(t, graph.OpID{Name: "LinearAttention", Since: 27}, a, 2, q, k, v, past, decay, beta)
		near(t, "output", got[0].AsFloats(), whole[0].AsFloats())
		for j := range W {
			want := make([]float64, B*12)
			if n := T - W + j + 1; n > 0 {
				part := run(t, graph.OpID{Name: "LinearAttention", Since: 27}, a, 2, cut(q, 0, n), cut(k, 0, n), cut(v, 0, n), past, cut(decay, 0, n), cut(beta, 0, n))
				want = part[1].AsFloats()
			}
			near(t, "state slot", got[1].AsFloats()[j*B*12:(j+1)*B*12], want)
		}
	}
}

// TestConvWindow does the same for the convolution, dilated.
func TestConvWindow(t *testing.T) {
	const B, C, K, W, dilation = 1, 2, 3, 3, 2
	const keep = (K - 1) * dilation
	for _, T := range []int{1, 2, 6} {
		in, weight, window := wave(1, B, C, T), wave(2, C, 1, K), wave(3, W, B, C, keep)
		got := run(t, contrib("CausalConvWithState"), graph.Attrs{"dilation": int64(dilation), "state_window": int64(W)}, 2, in, weight, nil, window)
		past := window.AsFloats()[(W-1)*C*keep:]
		for c := range C {
			h := append(slices.Clone(past[c*keep:(c+1)*keep]), in.AsFloats()[c*T:(c+1)*T]...)
			y := make([]float64, T)
			for i := range y {
				for j := range K {
					y[i] += weight.At(c*K+j) * h[i+j*dilation]
				}
			}
			near(t, "output", got[0].AsFloats()[c*T:(c+1)*T], y)
			for j := range W {
				want := make([]float64, keep)
				if n := T - W + j + 1; n > 0 {
					want = h[n : n+keep]
				}
				near(t, "state slot", got[1].AsFloats()[(j*C+c)*keep:(j*C+c+1)*keep], want)
			}
		}
	}
}

// TestRaggedCache: sequences that have filled their caches to different lengths
// are each computed as if they were alone.
func TestRaggedCache(t *testing.T) {
	a := graph.Attrs{"num_heads": int64(4), "kv_num_heads": int64(2), "do_rotary": int64(1)}
	const S, P, d = 2, 6, 4
	q, k, v, pk, pv := wave(1, 2, S, 16), wave(2, 2, S, 8), wave(3, 2, S, 8), wave(4, 2, 2, P, d), wave(5, 2, 2, P, d)
	cos, sin := wave(6, 12, 2), wave(7, 12, 2)
	filled := []int{6, 3}
	both := run(t, contrib("GroupQueryAttention"), a, 3, q, k, v, pk, pv, tensor.From([]int32{7, 4}, 2), tensor.Scalar(int32(8)), cos, sin)
	row := func(x *tensor.Tensor, b int) *tensor.Tensor {
		n := x.Len() / 2
		return tensor.From(tensor.Of[float32](x)[b*n:(b+1)*n], append([]int{1}, x.Shape[1:]...)...)
	}
	for b, n := range filled {
		short := func(x *tensor.Tensor) *tensor.Tensor { // the filled part of the cache
			out := tensor.New(tensor.Float32, 1, 2, n, d)
			for h := range 2 {
				copy(tensor.Of[float32](out)[h*n*d:(h+1)*n*d], tensor.Of[float32](x)[(b*2+h)*P*d:])
			}
			return out
		}
		alone := run(t, contrib("GroupQueryAttention"), a, 3, row(q, b), row(k, b), row(v, b), short(pk), short(pv),
			tensor.From([]int32{int32(n + S - 1)}, 1), tensor.Scalar(int32(n+S)), cos, sin)
		near(t, "output", row(both[0], b).AsFloats(), alone[0].AsFloats())
		for h := range 2 {
			got := both[1].AsFloats()[(b*2+h)*(P+S)*d:]
			near(t, "present_key", got[:(n+S)*d], alone[1].AsFloats()[h*(n+S)*d:(h+1)*(n+S)*d])
		}
	}
}

// TestRows: every row says what it is and has a case.
func TestRows(t *testing.T) {
	for _, r := range Rows() {
		if r.Doc == "" || len(r.Cases) == 0 || len(r.In) == 0 || r.Attrs == nil {
			t.Errorf("%s lacks its text, cases, inputs or attributes", r.ID)
		}
	}
}

// TestByFormula checks the operators that ONNX Runtime has on CUDA alone, by formula.
func TestByFormula(t *testing.T) {
	x, up := wave(1, 2, 6), wave(4, 2, 6)
	silu := func(v, alpha float64) float64 { return v / (1 + math.Exp(-alpha*v)) }
	var want []float64
	for i := range x.Len() {
		g, l := math.Min(x.At(i), 0.5), math.Max(-0.5, math.Min(up.At(i), 0.5))
		want = append(want, silu(g, 1.5)*(l+1))
	}
	got := run(t, contrib("SwiGLU"), graph.Attrs{"limit": float32(0.5), "activation_alpha": float32(1.5), "activation_beta": float32(1)}, 1, x, up)
	near(t, "SwiGLU", got[0].AsFloats(), want)

	want = nil
	for r := range 2 {
		for c := range 3 {
			want = append(want, silu(x.At(r*6+c), 1)*x.At(r*6+3+c))
		}
	}
	near(t, "SwiGLU of one input", run(t, contrib("SwiGLU"), graph.Attrs{}, 1, x)[0].AsFloats(), want)

	bias, want := wave(2, 6), []float64(nil)
	for r := range 2 {
		for c := range 3 {
			a, g := x.At(r*6+c)+bias.At(c), x.At(r*6+3+c)+bias.At(3+c)
			want = append(want, a*g*(1+math.Erf(g/math.Sqrt2))/2)
		}
	}
	near(t, "BiasSplitGelu", run(t, contrib("BiasSplitGelu"), graph.Attrs{}, 1, x, bias)[0].AsFloats(), want)

	// Packed queries, keys and values are their parts side by side.
	packed := wave(3, 1, 3, 2, 3, 4)
	parts := make([]*tensor.Tensor, 3)
	for i := range parts {
		parts[i] = tensor.New(tensor.Float32, 1, 3, 8)
		for s := range 3 {
			for h := range 2 {
				copy(tensor.Of[float32](parts[i])[s*8+h*4:s*8+h*4+4], tensor.Of[float32](packed)[((s*2+h)*3+i)*4:])
			}
		}
	}
	a := graph.Attrs{"num_heads": int64(2)}
	near(t, "packed MultiHeadAttention", run(t, contrib("MultiHeadAttention"), a, 1, packed)[0].AsFloats(), run(t, contrib("MultiHeadAttention"), a, 1, parts...)[0].AsFloats())
}

func node(t *testing.T, tab *ops.Table, op graph.OpID, a graph.Attrs, nOut int, in []*tensor.Tensor) (*graph.Graph, error) {
	t.Helper()
	g := graph.New("g")
	args := make([]*graph.Value, len(in))
	for i, x := range in {
		if x != nil {
			args[i] = g.AddConst("x", x)
		}
	}
	n := g.Add(op, a, args, max(nOut, 1), "y")
	n.TrimIn()
	for _, v := range n.Out {
		g.AddOutput(v)
	}
	return g, ops.InferNode(tab, n)
}

// admits: t is the type of w, but for lengths that only running tells.
func admits(t graph.Type, w *tensor.Tensor) bool {
	if t.DType != w.DType || t.Ranked() && t.Rank() != w.Rank() {
		return false
	}
	for a, d := range t.Shape {
		if n, known := d.Const(); known && n != int64(w.Shape[a]) {
			return false
		}
	}
	return true
}

// TestCases holds every row's cases to the results written beside them.
func TestCases(t *testing.T) {
	tab := table()
	for _, r := range Rows() {
		for _, c := range r.Cases {
			if c.Want == nil {
				continue
			}
			g, err := node(t, tab, r.ID, c.Attrs, c.NOut, c.In)
			if err != nil {
				t.Fatalf("%s %s: %v", r.ID, c.Name, err)
			}
			got, err := ops.Run(context.Background(), tab, g, nil)
			if err != nil {
				t.Fatalf("%s %s: %v", r.ID, c.Name, err)
			}
			for i, w := range c.Want {
				if got[i].TypeString() != w.TypeString() || !admits(g.Outputs[i].Type, w) {
					t.Fatalf("%s %s: output %d is %s, inferred %s, want %s", r.ID, c.Name, i, got[i].TypeString(), g.Outputs[i].Type, w.TypeString())
				}
				if !slices.Equal(got[i].Strings, w.Strings) {
					t.Errorf("%s %s: output %d: %q, want %q", r.ID, c.Name, i, got[i].Strings, w.Strings)
				}
				for j := range len(w.Data) / max(w.DType.Size(), 1) {
					if math.Abs(got[i].At(j)-w.At(j)) > 1e-5 {
						t.Errorf("%s %s: output %d: %v, want %v", r.ID, c.Name, i, got[i].AsFloats(), w.AsFloats())
						break
					}
				}
			}
		}
	}
}

// TestRefused: what only other programs compute is refused, not ignored.
func TestRefused(t *testing.T) {
	for name, attrs := range map[string][]string{
		"CausalConvWithState": {"ndim", "state_length", "state_update_capacity", "input_channel_offset", "input_channels", "state_channels_last"},
		"GroupQueryAttention": {"qk_output", "sliding_window_cache"},
		"Attention":           {"do_rotary", "past_present_share_buffer"},
		"MatMulNBits":         {"weight_prepacked"},
	} {
		row := table().Lookup(contrib(name))
		for _, a := range attrs {
			c := row.Cases[0]
			with := graph.Attrs{}
			for k, v := range c.Attrs {
				with[k] = v
			}
			with[a] = int64(2)
			if _, err := node(t, table(), row.ID, with, c.NOut, c.In); err == nil || !strings.Contains(err.Error(), a+"=2") {
				t.Errorf("%s with %s=2: error %v", row.ID, a, err)
			}
		}
	}
}
