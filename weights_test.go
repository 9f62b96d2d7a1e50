package ssdc_test

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

const prefill = "testdata/models/mamba2_dynamo_dyn_prefill_cache_g1"

// runFixture runs a model on its inputs.npz.
func runFixture(t *testing.T, m *ssdc.Model, dir string) map[string]*tensor.Tensor {
	t.Helper()
	defer m.Close()
	in, _, err := tensor.ReadNpz(filepath.Join(dir, "inputs.npz"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range out {
		out[k] = v.Clone()
	}
	return out
}

// distance is |got-want|/|want| by norm.
func distance(got, want *tensor.Tensor) float64 {
	var diff, size float64
	for i := range want.Len() {
		diff += (got.At(i) - want.At(i)) * (got.At(i) - want.At(i))
		size += want.At(i) * want.At(i)
	}
	return math.Sqrt(diff / size)
}

func lastPosition(t *tensor.Tensor) *tensor.Tensor {
	b, l, v := t.Shape[0], t.Shape[1], t.Shape[2]
	out := tensor.New(t.DType, b, 1, v)
	for i := range b {
		for j := range v {
			out.SetAt(i*v+j, t.At((i*l+l-1)*v+j))
		}
	}
	return out
}

// TestLastLogits: the last position has the bits it has among all, the states too,
// and only one row is projected; with and without optimisation.
func TestLastLogits(t *testing.T) {
	ctx := context.Background()
	for _, noOpt := range []bool{false, true} {
		m, err := ssdc.Compile(ctx, prefill+"/model.onnx", ssdc.Options{NoOpt: noOpt})
		if err != nil {
			t.Fatal(err)
		}
		all := runFixture(t, m, prefill)
		c, err := ssdc.Build(ctx, prefill+"/model.onnx", ssdc.Options{NoOpt: noOpt, LastLogits: true})
		if err != nil {
			t.Fatal(err)
		}
		if m, err = c.Open(); err != nil {
			t.Fatal(err)
		}
		last := runFixture(t, m, prefill)
		for name, want := range all {
			if name == "logits" {
				want = lastPosition(want)
			}
			got := last[name]
			if got == nil || !slices.Equal(got.Shape, want.Shape) || string(got.Data) != string(want.Data) {
				t.Errorf("NoOpt %v: %s differs", noOpt, name)
			}
		}
		head := c.Plan.Graph.Outputs[0]
		if one, _ := head.Def.In[0].Type.Shape[1].Const(); !noOpt && (head.Def.Op.Name != "Linear" || one != 1) {
			t.Errorf("the head is %s of %s: more than one position is projected", head.Def, head.Def.In[0].Type)
		}
	}
	if _, err := ssdc.Build(ctx, textModel(t, negate), ssdc.Options{LastLogits: true}); err == nil || !strings.Contains(err.Error(), "no output is a float tensor [batch, position, vocabulary]") {
		t.Errorf("without logits: %v", err)
	}
}

// TestWeights: written, read again and run, an artifact in each format stays near
// PyTorch's float64 logits, and smaller formats make smaller files.
func TestWeights(t *testing.T) {
	want, _, err := tensor.ReadNpz(prefill + "/expected.npz")
	if err != nil {
		t.Fatal(err)
	}
	size := math.MaxInt
	for _, f := range []struct {
		name  string
		limit float64
	}{{"f32", 1e-5}, {"bf16", 0.02}, {"int8", 0.05}, {"int4", 0.4}} {
		c, err := ssdc.Build(context.Background(), prefill+"/model.onnx", ssdc.Options{Weights: f.name})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), f.name+".ssda")
		if err := c.Write(path); err != nil {
			t.Fatal(err)
		}
		m, err := ssdc.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Artifact().Verify(); err != nil {
			t.Error(err)
		}
		if n := m.Artifact().Size(); n >= size {
			t.Errorf("%s: %d bytes, the format before took %d", f.name, n, size)
		} else {
			size = n
		}
		if e := distance(runFixture(t, m, prefill)["logits"], want["logits"]); !(e <= f.limit) {
			t.Errorf("%s: relative error %.4f of the logits, expected at most %g", f.name, e, f.limit)
		} else {
			t.Logf("%s: relative error %.2g", f.name, e)
		}
	}
	if _, err := ssdc.Build(context.Background(), prefill+"/model.onnx", ssdc.Options{Weights: "int8", Target: "ref"}); err == nil || !strings.Contains(err.Error(), `backend "ref" stores them as they are`) {
		t.Errorf("int8 for ref: %v", err)
	}
}
