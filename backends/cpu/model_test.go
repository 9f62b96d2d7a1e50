package cpu

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/ref"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// mamba2 is the size of a small model of Mamba-2's shape.
type mamba2 struct {
	layers, vocab, dim, heads, headDim, groups, state, taps int
}

var small = mamba2{layers: 2, vocab: 50, dim: 24, heads: 4, headDim: 12, groups: 2, state: 10, taps: 4}

func randn(r *rand.Rand, scale float32, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, shape...)
	v := tensor.Of[float32](t)
	for i := range v {
		v[i] = float32(r.NormFloat64()) * scale
	}
	return t
}

// build makes the model with fused operators, symbolic batch B and length L,
// and the convolution and scan states as inputs and outputs.
func (m mamba2) build(t testing.TB, table *ops.Table) (*graph.Graph, []backends.StatePair) {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 7))
	g := graph.New("mamba2")
	b := ops.NewBuilder(table, g)
	B, L := graph.Sym("B"), graph.Sym("L")
	ids := g.AddInput("ids", graph.T(tensor.Int64, B, L))
	inner, bc := m.heads*m.headDim, m.groups*m.state
	convDim := inner + 2*bc
	weight := func(shape ...int) *graph.Value {
		return b.Const(randn(r, 0.7/float32(shape[0]), shape...))
	}
	ones := func(n int) *graph.Value {
		w := tensor.New(tensor.Float32, n)
		for i := range n {
			tensor.Of[float32](w)[i] = 1 + 0.1*float32(r.NormFloat64())
		}
		return b.Const(w)
	}
	h := b.Op("Gather", nil, b.Const(randn(r, 1, m.vocab, m.dim)), ids)
	var pairs []backends.StatePair
	out := map[string]*graph.Value{}
	for l := range m.layers {
		conv0 := g.AddInput(fmt.Sprintf("past_conv_%d", l), graph.T(tensor.Float32, B, graph.D(int64(convDim)), graph.D(int64(m.taps))))
		ssm0 := g.AddInput(fmt.Sprintf("past_ssm_%d", l), graph.T(tensor.Float32, B, graph.D(int64(m.heads)), graph.D(int64(m.headDim)), graph.D(int64(m.state))))
		x := b.Op("RMSNormalization", nil, h, ones(m.dim))
		zxbcdt := b.SSM("Linear", nil, x, weight(m.dim, 2*inner+2*bc+m.heads))
		parts := b.Node("", "Split", graph.Attrs{"axis": int64(-1)}, 3, zxbcdt, b.Ints(int64(inner), int64(convDim), int64(m.heads)))
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		z, xbc, dt := parts.Out[0], parts.Out[1], parts.Out[2]
		conv := b.Node("ssm", "CausalConv", graph.Attrs{"activation": "silu", "state_width": int64(m.taps)}, 2,
			xbc, weight(convDim, m.taps), b.Const(randn(r, 0.1, convDim)), conv0)
		split := b.Node("", "Split", graph.Attrs{"axis": int64(-1)}, 3, conv.Out[0], b.Ints(int64(inner), int64(bc), int64(bc)))
		reshape := func(v *graph.Value, a, c int) *graph.Value {
			return b.Op("Reshape", nil, v, b.Ints(0, 0, int64(a), int64(c)))
		}
		a := tensor.New(tensor.Float32, m.heads)
		for i := range m.heads {
			tensor.Of[float32](a)[i] = -0.5 - float32(i)
		}
		scan := b.Node("ssm", "SSD", graph.Attrs{"dt_softplus": int64(1)}, 2,
			reshape(split.Out[0], m.heads, m.headDim), dt, b.Const(a), reshape(split.Out[1], m.groups, m.state), reshape(split.Out[2], m.groups, m.state),
			ones(m.heads), nil, b.Const(randn(r, 0.5, m.heads)), ssm0)
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		y := b.Op("Reshape", nil, scan.Out[0], b.Ints(0, 0, int64(inner)))
		y = b.SSM("GatedRMSNorm", nil, y, z, ones(inner))
		h = b.SSM("Linear", nil, y, weight(inner, m.dim), nil, h)
		for _, s := range []struct {
			in  *graph.Value
			out *graph.Value
		}{{conv0, conv.Out[1]}, {ssm0, scan.Out[1]}} {
			s.out.Name = strings.Replace(s.in.Name, "past", "present", 1)
			pairs = append(pairs, backends.StatePair{In: s.in.Name, Out: s.out.Name})
			out[s.out.Name] = s.out
		}
	}
	logits := b.SSM("Linear", nil, b.Op("RMSNormalization", nil, h, ones(m.dim)), weight(m.dim, m.vocab))
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	logits.Name = "logits"
	g.AddOutput(logits)
	for _, p := range pairs {
		g.AddOutput(out[p.Out])
	}
	if err := ops.Verify(table, g); err != nil {
		t.Fatal(err)
	}
	return g, pairs
}

func tokens(r *rand.Rand, vocab, b, l int) *tensor.Tensor {
	t := tensor.New(tensor.Int64, b, l)
	for i := range t.Len() {
		t.SetIntAt(i, int64(r.IntN(vocab)))
	}
	return t
}

func must(t testing.TB, s backends.Session, in, out map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	t.Helper()
	got, err := s.Run(context.Background(), in, out)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func feed(name string, x *tensor.Tensor) map[string]*tensor.Tensor {
	return map[string]*tensor.Tensor{name: x}
}

func TestModelMatchesReference(t *testing.T) {
	table := opTable(t)
	g, pairs := small.build(t, table)
	e := open(t, table, g, backends.Target{Threads: 2, States: pairs})
	for i, k := range e.Plan().Kernels {
		if k == "" {
			t.Errorf("%s runs by definition", g.Nodes[i])
		}
	}
	rb := ref.New(table)
	rp, err := rb.Compile(g, backends.Target{States: pairs})
	if err != nil {
		t.Fatal(err)
	}
	re, err := rb.Open(rp, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for _, shape := range [][2]int{{1, 1}, {1, 7}, {3, 33}, {2, 1}, {1, 130}} {
		s, rs := newSession(t, e), newSession(t, re)
		for step := range 3 { // the state carries over
			x := tokens(r, small.vocab, shape[0], max(1, shape[1]-step))
			got, want := must(t, s, feed("ids", x), nil), must(t, rs, feed("ids", x), nil)
			for name, w := range want {
				if err := closeTo(got[name], w, 2e-4, 2e-4); err != nil {
					t.Errorf("%v step %d: %s: %v", shape, step, name, err)
				}
			}
		}
	}
}

func TestRunDoesNotAllocate(t *testing.T) {
	table := opTable(t)
	g, pairs := small.build(t, table)
	for _, threads := range []int{1, 2} {
		e := open(t, table, g, backends.Target{Threads: threads, States: pairs})
		s := newSession(t, e)
		r := rand.New(rand.NewPCG(1, 1))
		for _, l := range []int{1, 40} {
			s.Reset()
			in := feed("ids", tokens(r, small.vocab, 1, l))
			ctx := context.Background()
			must(t, s, in, nil)
			if n := testing.AllocsPerRun(20, func() {
				if _, err := s.Run(ctx, in, nil); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%d threads, L=%d: %v allocations per run", threads, l, n)
			}
		}
	}
}

func TestThreadsDoNotMatter(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16)) // more than there are processors
	table := opTable(t)
	m := small
	m.dim, m.heads, m.headDim = 96, 6, 32
	g, pairs := m.build(t, table)
	x := tokens(rand.New(rand.NewPCG(1, 1)), m.vocab, 2, 200)
	var first map[string][]byte
	for _, threads := range []int{1, 2, 3, 5, 16} {
		s := newSession(t, open(t, table, g, backends.Target{Threads: threads, States: pairs}))
		got := map[string][]byte{}
		for name, v := range must(t, s, feed("ids", x), nil) {
			got[name] = v.Data
		}
		if first == nil {
			first = got
		}
		for name := range got {
			if !bytes.Equal(got[name], first[name]) {
				t.Errorf("%s differs between 1 and %d threads", name, threads)
			}
		}
	}
}

// TestStateCarries: a prompt at once, in two pieces and token by token give the
// same state and logits.
func TestStateCarries(t *testing.T) {
	table := opTable(t)
	g, pairs := small.build(t, table)
	e := open(t, table, g, backends.Target{Threads: 2, States: pairs})
	const l = 37
	x := tokens(rand.New(rand.NewPCG(3, 1)), small.vocab, 1, l)
	slice := func(lo, hi int) *tensor.Tensor {
		return tensor.From(tensor.Of[int64](x)[lo:hi], 1, hi-lo)
	}
	clone := func(m map[string]*tensor.Tensor) map[string]*tensor.Tensor {
		c := map[string]*tensor.Tensor{}
		for k, v := range m {
			c[k] = v.Clone()
		}
		return c
	}
	whole := clone(must(t, newSession(t, e), feed("ids", x), nil))
	last := func(m map[string]*tensor.Tensor) *tensor.Tensor {
		v := m["logits"]
		n := v.Shape[2]
		return tensor.From(tensor.Of[float32](v)[v.Len()-n:], n)
	}
	check := func(what string, got map[string]*tensor.Tensor) {
		t.Helper()
		if err := closeTo(last(got), last(whole), 1e-4, 1e-4); err != nil {
			t.Errorf("%s: logits: %v", what, err)
		}
		for _, p := range pairs {
			if err := closeTo(got[p.Out], whole[p.Out], 1e-4, 1e-4); err != nil {
				t.Errorf("%s: %s: %v", what, p.Out, err)
			}
		}
	}

	s := newSession(t, e)
	must(t, s, feed("ids", slice(0, 20)), nil)
	check("two pieces", must(t, s, feed("ids", slice(20, l)), nil))

	s.Reset()
	var got map[string]*tensor.Tensor
	for i := range l {
		got = must(t, s, feed("ids", slice(i, i+1)), nil)
	}
	check("token by token", got)

	// A clone goes on independently.
	s.Reset()
	must(t, s, feed("ids", slice(0, 20)), nil)
	c, err := s.Clone()
	if err != nil {
		t.Fatal(err)
	}
	var saved bytes.Buffer
	if err := s.Save(&saved); err != nil {
		t.Fatal(err)
	}
	must(t, s, feed("ids", slice(0, 5)), nil)
	check("clone", must(t, c, feed("ids", slice(20, l)), nil))

	// A restored session too.
	s2 := newSession(t, e)
	if err := s2.Restore(bytes.NewReader(saved.Bytes())); err != nil {
		t.Fatal(err)
	}
	check("restored", must(t, s2, feed("ids", slice(20, l)), nil))

	// The caller may carry the state itself, in the tensors the session returns.
	s3 := newSession(t, e)
	got = must(t, s3, feed("ids", slice(0, 20)), nil)
	in := feed("ids", slice(20, l))
	for _, p := range pairs {
		in[p.In] = got[p.Out]
	}
	check("fed back", must(t, s3, in, nil))

	// Without pairs everything is the caller's.
	s4 := newSession(t, open(t, table, g, backends.Target{Threads: 1}))
	in = feed("ids", slice(0, 20))
	for _, p := range pairs {
		in[p.In] = tensor.New(tensor.Float32, whole[p.Out].Shape...)
	}
	got = must(t, s4, in, nil)
	in = feed("ids", slice(20, l))
	for _, p := range pairs {
		in[p.In] = got[p.Out]
	}
	check("no pairs, results fed back", must(t, s4, in, nil))
	out := map[string]*tensor.Tensor{}
	in = feed("ids", slice(0, 20))
	for _, p := range pairs {
		v := tensor.New(tensor.Float32, whole[p.Out].Shape...)
		in[p.In], out[p.Out] = v, v // in place, as the caller sees it
	}
	must(t, s4, in, out)
	in["ids"] = slice(20, l)
	got = must(t, s4, in, out)
	check("no pairs, in place", got)
	for _, p := range pairs {
		if got[p.Out] != out[p.Out] {
			t.Errorf("%s is not in the tensor given for it", p.Out)
		}
	}
}

func TestStateDamaged(t *testing.T) {
	table := opTable(t)
	g, pairs := small.build(t, table)
	s := newSession(t, open(t, table, g, backends.Target{Threads: 1, States: pairs}))
	must(t, s, feed("ids", tensor.From([]int64{1, 2}, 1, 2)), nil)
	var buf bytes.Buffer
	if err := s.Save(&buf); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 5, 11, 40, buf.Len() / 2, buf.Len() - 1} {
		if err := s.Restore(bytes.NewReader(buf.Bytes()[:n])); err == nil {
			t.Errorf("restored from the first %d of %d bytes", n, buf.Len())
		}
	}
	bad := bytes.Clone(buf.Bytes())
	bad[len(bad)-100] ^= 1
	if err := s.Restore(bytes.NewReader(bad)); err == nil {
		t.Error("restored from a damaged file")
	}
}

func TestErrors(t *testing.T) {
	table := opTable(t)
	g, pairs := small.build(t, table)
	s := newSession(t, open(t, table, g, backends.Target{Threads: 1, States: pairs}))
	ids := tensor.From([]int64{1, 2}, 1, 2)
	ctx, cancel := context.WithCancel(context.Background())
	for _, c := range []struct {
		name    string
		in, out map[string]*tensor.Tensor
		want    string
	}{
		{"missing", nil, nil, `input "ids" (int64[B,L]) is missing`},
		{"misspelled", feed("id", ids), nil, `the model has no input "id" (did you mean "ids"?)`},
		{"extra", map[string]*tensor.Tensor{"ids": ids, "mask": ids}, nil, `the model has no input "mask"`},
		{"dtype", feed("ids", tensor.From([]int32{1}, 1, 1)), nil, `input "ids": expected int64[B,L], got int32[1,1]`},
		{"rank", feed("ids", tensor.From([]int64{1}, 1)), nil, `input "ids": expected int64[B,L], got int64[1]`},
		{"symbol", map[string]*tensor.Tensor{"ids": ids, "past_conv_0": tensor.New(tensor.Float32, 3, 88, 4)}, nil, `B is 3 here but 1 at axis 0 of input "ids"`},
		{"constant", map[string]*tensor.Tensor{"ids": ids, "past_conv_0": tensor.New(tensor.Float32, 1, 87, 4)}, nil, `axis 1 must be 88`},
		{"output name", feed("ids", ids), feed("logit", nil), `the model has no output "logit" (did you mean "logits"?)`},
		{"output shape", feed("ids", ids), feed("logits", tensor.New(tensor.Float32, 1)), `output "logits": the tensor given for it is float[1], the result float[1,2,50]`},
		{"index", feed("ids", tensor.From([]int64{1, 99}, 1, 2)), nil, `index 99 at position 1 is outside [-50,50)`},
	} {
		s.Reset()
		_, err := s.Run(ctx, c.in, c.out)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	// The last run failed half-way.
	if _, err := s.Run(ctx, feed("ids", ids), nil); err == nil || !strings.Contains(err.Error(), "Reset") {
		t.Errorf("a session with undefined state ran: %v", err)
	}
	s.Reset()
	must(t, s, feed("ids", ids), nil)
	_, err := s.Run(ctx, feed("ids", tensor.From([]int64{1, 2}, 2, 1)), nil)
	if err == nil || !strings.Contains(err.Error(), "Reset") {
		t.Errorf("the batch changed under the state: %v", err)
	}
	cancel()
	if _, err := s.Run(ctx, feed("ids", ids), nil); err != context.Canceled {
		t.Errorf("cancelled run: %v", err)
	}
}

// TestNoCopies: in the fused model the splits and reshapes are views and the
// states are updated in place.
func TestNoCopies(t *testing.T) {
	table := opTable(t)
	g, pairs := small.build(t, table)
	s := newSession(t, open(t, table, g, backends.Target{Threads: 1, States: pairs}))
	for _, l := range []int{1, 9} {
		for _, b := range []int{1, 2} {
			s.Reset()
			must(t, s, feed("ids", tokens(rand.New(rand.NewPCG(1, 1)), small.vocab, b, l)), nil)
			s.Trace(func(st backends.StepTime) {
				if st.Node == nil || st.Node.Op.Name == "Split" || st.Node.Op.Name == "Reshape" {
					t.Errorf("B=%d L=%d: step %d copies: %v", b, l, st.Step, st.Node)
				}
			})
			must(t, s, feed("ids", tokens(rand.New(rand.NewPCG(1, 1)), small.vocab, b, l)), nil)
			s.Trace(nil)
		}
	}
	for _, p := range s.(*session).programs {
		for j, m := range p.next {
			if m.root.kind != inState {
				t.Errorf("%v: state %s is not updated in place", p.shapes, pairs[j].In)
			}
		}
	}
}
