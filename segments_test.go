package ssdc_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// TestSegments: in pieces of any size a prompt gives the logits, the states and the
// rest that it gives at once; and a model for prompts goes on token by token.
func TestSegments(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 2))
	for _, dir := range []string{"mamba2_dynamo_dyn_prefill_cache_g1", "mamba2_ts_dyn_prefill_cache_g1", "mamba2_dynamo_dyn_continue_g2"} {
		m, err := ssdc.Compile(ctx, "testdata/models/"+dir+"/model.onnx", ssdc.Options{CarryState: true})
		if err != nil {
			t.Fatal(err)
		}
		in := map[string]*tensor.Tensor{}
		fixture, _, err := tensor.ReadNpz("testdata/models/" + dir + "/inputs.npz")
		if err != nil {
			t.Fatal(err)
		}
		batch, length := fixture["input_ids"].Shape[0], 61
		ids := tensor.New(tensor.Int64, batch, length)
		for i := range ids.Len() {
			ids.SetIntAt(i, int64(r.IntN(32)))
		}
		in["input_ids"] = ids
		for name, v := range fixture {
			if strings.HasPrefix(name, "past") {
				in[name] = v // a state to start from
			}
		}
		run := func(most int) map[string]*tensor.Tensor {
			s, err := m.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.RunSegments(ctx, in, most)
			if err != nil {
				t.Fatalf("%s in pieces of %d: %v", dir, most, err)
			}
			copies := map[string]*tensor.Tensor{}
			for k, v := range out {
				copies[k] = v.Clone()
			}
			return copies
		}
		whole := run(length)
		for _, most := range []int{60, 32, 9} {
			for name, got := range run(most) {
				if got.TypeString() != whole[name].TypeString() {
					t.Fatalf("%s in pieces of %d: %s is %s, at once %s", dir, most, name, got.TypeString(), whole[name].TypeString())
				}
				if e := distance(got, whole[name]); !(e < 2e-5) {
					t.Errorf("%s in pieces of %d: %s is off by %.2g", dir, most, name, e)
				}
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNoSegments: what must not be cut says why.
func TestNoSegments(t *testing.T) {
	ctx := context.Background()
	for text, want := range map[string]string{
		// no state
		"": "its state is not carried from run to run: compile with --carry-state",
		"graph sum (float[B,L,2] x) => (float[B,L,2] y)\n<\n  int64[1] axis = {1}\n> {\n  float[B,L,2] y = CumSum-14 (x, axis)\n}\n":               "it may mix positions",
		"graph plain (float[B,L,2] x) => (float[B,L,2] y) {\n  float[B,L,2] y = Neg-13 (x)\n}\n":                                                   "nothing carries a state",
		"graph attend (float[B,L,2] x, float[B,2,L] k) => (float[B,L,L] y) {\n  float[B,L,L] y = MatMul-13 (x, k)\n}\n":                            "it may mix positions",
		"graph whole (float[B,L,2] x) => (float[B,L,2] y, int64[3] n) {\n  float[B,L,2] y = Neg-13 (x)\n  int64[3] n = Shape-15 (x)\n}\n":          "nothing carries a state",
		"graph static (float[3,2] x) => (float[3,2] y) {\n  float[3,2] y = Neg-13 (x)\n}\n":                                                        "no input has a symbolic length",
		"graph first (float[B,L,2] x) => (float[B,1,2] y)\n<\n  int64[1] at = {0}\n> {\n  float[B,1,2] y = Gather-13 <axis: int = 1> (x, at)\n}\n": "it takes other positions than the last",
	} {
		path := prefill + "/model.onnx"
		if text != "" {
			path = textModel(t, text)
		}
		m, err := ssdc.Compile(ctx, path, ssdc.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.RunSegments(ctx, nil, 8); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", text, err, want)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
