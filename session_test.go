package ssdc_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// compile opens a fixture with its recurrent states paired.
func compile(t testing.TB, name string) *ssdc.Model {
	t.Helper()
	m, err := ssdc.Compile(context.Background(), filepath.Join("testdata/models", name, "model.onnx"), ssdc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func session(t testing.TB, m *ssdc.Model) *ssdc.Session {
	t.Helper()
	s, err := m.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func run(t testing.TB, s *ssdc.Session, in map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	t.Helper()
	out, err := s.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tokens is columns [from, to) of ids [B,L].
func tokens(ids *tensor.Tensor, from, to int) *tensor.Tensor {
	B, L := ids.Shape[0], ids.Shape[1]
	out := tensor.New(tensor.Int64, B, to-from)
	for b := range B {
		for i := from; i < to; i++ {
			out.SetIntAt(b*(to-from)+i-from, ids.IntAt(b*L+i))
		}
	}
	return out
}

// logits takes the logits [B,L,V] of columns [from, to) as float64 rows.
func logits(t *tensor.Tensor, from, to int) *tensor.Tensor {
	B, L, V := t.Shape[0], t.Shape[1], t.Shape[2]
	out := tensor.New(tensor.Float64, B, to-from, V)
	for b := range B {
		for i := from; i < to; i++ {
			for v := range V {
				out.SetAt((b*(to-from)+i-from)*V+v, t.At((b*L+i)*V+v))
			}
		}
	}
	return out
}

// TestPromptThenDecode: a prompt of any length followed by decode steps that
// carry the state gives the logits of the whole prompt, and the final states.
func TestPromptThenDecode(t *testing.T) {
	for _, pair := range [][2]string{
		{"mamba2_dynamo_dyn_prefill_cache_g1", "mamba2_dynamo_dyn_decode_g1"},
		{"mamba2_ts_dyn_prefill_cache_g1", "mamba2_ts_dyn_decode_g1"},
		{"mamba2_ts_dyn_prefill_cache_g8", "mamba2_ts_dyn_decode_g8"},
	} {
		t.Run(pair[0], func(t *testing.T) {
			prefill, decode := compile(t, pair[0]), compile(t, pair[1])
			in, _, err := tensor.ReadNpz(filepath.Join("testdata/models", pair[0], "inputs.npz"))
			if err != nil {
				t.Fatal(err)
			}
			ids := in["input_ids"]
			L := ids.Shape[1]
			whole := map[string]*tensor.Tensor{}
			for k, v := range run(t, session(t, prefill), map[string]*tensor.Tensor{"input_ids": ids}) {
				whole[k] = v.Clone()
			}
			for _, cut := range []int{4, 5, 15, 16, 17, L - 1} {
				p, s := session(t, prefill), session(t, decode)
				head := run(t, p, map[string]*tensor.Tensor{"input_ids": tokens(ids, 0, cut)})
				if e := relError(t, head["logits"], logits(whole["logits"], 0, cut)); e > 1e-5 {
					t.Errorf("cut at %d: prompt logits differ by %.1e", cut, e)
				}
				step := map[string]*tensor.Tensor{}
				for _, pair := range decode.Plan.States {
					step[pair.In] = head[pair.Out]
				}
				var out map[string]*tensor.Tensor
				for i := cut; i < L; i++ {
					step["input_ids"] = tokens(ids, i, i+1)
					out = run(t, s, step)
					if e := relError(t, out["logits"], logits(whole["logits"], i, i+1)); e > 1e-5 {
						t.Fatalf("cut at %d, token %d: logits differ by %.1e", cut, i, e)
					}
					step = map[string]*tensor.Tensor{} // from now on the session carries the state
				}
				for _, pair := range decode.Plan.States {
					if e := relError(t, out[pair.Out], whole[pair.Out]); e > 1e-5 {
						t.Errorf("cut at %d: state %s differs by %.1e", cut, pair.Out, e)
					}
				}
			}
		})
	}
}

// TestSessionState: reset, clone, save and restore.
func TestSessionState(t *testing.T) {
	m := compile(t, "mamba2_dynamo_dyn_decode_g1")
	if len(m.Plan.States) != 4 {
		t.Fatalf("found %d states, want 4: %v", len(m.Plan.States), m.Plan.States)
	}
	tok := func(id int64) map[string]*tensor.Tensor {
		return map[string]*tensor.Tensor{"input_ids": tensor.From([]int64{id}, 1, 1)}
	}
	s := session(t, m)
	first := run(t, s, tok(3))["logits"].Clone()
	second := run(t, s, tok(4))["logits"].Clone()
	c, err := s.Clone()
	if err != nil {
		t.Fatal(err)
	}
	var saved bytes.Buffer
	if err := s.Save(&saved); err != nil {
		t.Fatal(err)
	}
	third := run(t, s, tok(5))["logits"].Clone()
	same := func(what string, got, want *tensor.Tensor) {
		t.Helper()
		if !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s: logits differ", what)
		}
	}
	same("clone", run(t, c, tok(5))["logits"], third)
	r := session(t, m)
	if err := r.Restore(&saved); err != nil {
		t.Fatal(err)
	}
	same("restored", run(t, r, tok(5))["logits"], third)
	s.Reset()
	same("after reset", run(t, s, tok(3))["logits"], first)
	if bytes.Equal(first.Data, second.Data) {
		t.Error("the second token gave the first one's logits: no state is carried")
	}
}

// TestRunAllocatesNothing: the second run with the same shapes is free of allocations.
func TestRunAllocatesNothing(t *testing.T) {
	for _, name := range []string{"mamba2_dynamo_dyn_decode_g1", "mamba2_dynamo_dyn_prefill_g1", "mamba1_dynamo_dynbatch_prefill", "mamba1_ts_dyn_decode"} {
		m := compile(t, name)
		in, _, err := tensor.ReadNpz(filepath.Join("testdata/models", name, "inputs.npz"))
		if err != nil {
			t.Fatal(err)
		}
		s := session(t, m)
		ctx := context.Background()
		if _, err := s.Run(ctx, in); err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(20, func() {
			if _, err := s.Run(ctx, in); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %.0f allocations per run, want 0", name, n)
		}
	}
}

// TestSameBytes: compiling twice gives the same artifact, whatever the number of threads
// that ran the passes or the order of maps.
func TestSameBytes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"mamba2_ts_dyn_prefill_cache_g2", "mamba1_ts_static_prefill", "loop_block_mamba2", "ssd_minimal_ts_dyn_init"} {
		var prev []byte
		for i := range 3 {
			c, err := ssdc.Build(context.Background(), filepath.Join("testdata/models", name, "model.onnx"), ssdc.Options{})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "m.ssda")
			if err := c.Write(path); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 && !bytes.Equal(data, prev) {
				t.Errorf("%s: compilation %d gave other bytes", name, i+1)
			}
			prev = data
		}
	}
}

// TestThreads: results do not depend on the number of threads.
func TestThreads(t *testing.T) {
	const name = "mamba2_dynamo_dyn_prefill_cache_g8"
	in, _, err := tensor.ReadNpz(filepath.Join("testdata/models", name, "inputs.npz"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]*tensor.Tensor
	for _, threads := range []int{1, 2, 3, 16} {
		m, err := ssdc.Compile(context.Background(), filepath.Join("testdata/models", name, "model.onnx"), ssdc.Options{Threads: threads})
		if err != nil {
			t.Fatal(err)
		}
		out := run(t, session(t, m), in)
		if want == nil {
			want = map[string]*tensor.Tensor{}
			for k, v := range out {
				want[k] = v.Clone()
			}
		}
		for k := range want {
			if !bytes.Equal(out[k].Data, want[k].Data) {
				t.Errorf("%d threads: output %s differs from one thread's", threads, k)
			}
		}
		m.Close()
	}
}

// TestManyThreadsLoseNothing: more threads than processors take no longer. What
// else runs here disturbs times, so they are taken in turn and compared in pairs,
// and one good attempt of several is enough.
func TestManyThreadsLoseNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("compares times")
	}
	const name = "mamba2_dynamo_dyn_prefill_g1"
	ids := tensor.New(tensor.Int64, 1, 2048)
	for i := range tensor.Of[int64](ids) {
		tensor.Of[int64](ids)[i] = int64(i % 32)
	}
	in := map[string]*tensor.Tensor{"input_ids": ids}
	var sides [2]*ssdc.Session
	for i, threads := range []int{runtime.GOMAXPROCS(0), 8 * runtime.GOMAXPROCS(0)} {
		m, err := ssdc.Compile(context.Background(), filepath.Join("testdata/models", name, "model.onnx"), ssdc.Options{Threads: threads})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		sides[i] = session(t, m)
		run(t, sides[i], in)
	}
	const bar = 1.1
	var got float64
	for range 6 {
		var ratios []float64
		for range 25 {
			var took [2]time.Duration
			for i, s := range sides {
				start := time.Now()
				run(t, s, in)
				took[i] = time.Since(start)
			}
			ratios = append(ratios, took[1].Seconds()/took[0].Seconds())
		}
		slices.Sort(ratios)
		if got = ratios[len(ratios)/2]; got <= bar {
			t.Logf("eight times as many threads as processors take %.2f times as long", got)
			return
		}
	}
	t.Errorf("eight times as many threads as processors take %.2f times as long, at most %.2f allowed", got, bar)
}
