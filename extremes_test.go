package ssdc_test

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// mixer is one Mamba-2 layer on hidden states [B,L,64]: chunk 16.
const mixer = "mamba2_dynamo_dyn_mixer_g1"

// TestEveryLength: each length around a few chunk borders, and batches up to 5,
// against the definition of the exported graph.
func TestEveryLength(t *testing.T) {
	m, set := compile(t, mixer), standard(t)
	src, err := ssdc.Import(context.Background(), set, filepath.Join("testdata/models", mixer, "model.onnx"), nil)
	if err != nil {
		t.Fatal(err)
	}
	in, out := src.Graph.Inputs[0].Name, src.Graph.Outputs[0].Name
	s, r := session(t, m), rand.New(rand.NewPCG(1, 1))
	for L := 1; L <= 130; L++ {
		if L > 34 && L%16 > 1 && L%16 < 15 {
			continue
		}
		x := normal(r, 1+L%5, L, 64)
		want, err := ops.Run(context.Background(), set.Registry.Table, src.Graph, []*tensor.Tensor{x})
		if err != nil {
			t.Fatal(err)
		}
		if e := relError(t, run(t, s, map[string]*tensor.Tensor{in: x})[out], want[0]); !(e <= 1e-5) {
			t.Errorf("B=%d, L=%d: relative error %.1e", 1+L%5, L, e)
		}
	}
}

func normal(r *rand.Rand, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, shape...)
	for i := range t.Len() {
		t.SetAt(i, r.NormFloat64())
	}
	return t
}

// TestNoLeak: whatever a token holds, outputs before it and those of the other
// row of the batch keep every bit.
func TestNoLeak(t *testing.T) {
	m := compile(t, mixer)
	in, out := m.Inputs()[0].Name, m.Outputs()[0].Name
	s, r := session(t, m), rand.New(rand.NewPCG(2, 2))
	const L = 70
	x := normal(r, 2, L, 64)
	clean := run(t, s, map[string]*tensor.Tensor{in: x})[out].Clone()
	row := len(clean.Data) / 2
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e30, -1e30} {
		for _, at := range []int{0, 1, 3, 15, 16, 17, 40, L - 1} {
			y := x.Clone()
			for d := range 64 {
				y.SetAt(at*64+d, bad)
			}
			got := run(t, s, map[string]*tensor.Tensor{in: y})[out]
			if n := row / L * at; !bytes.Equal(got.Data[:n], clean.Data[:n]) {
				t.Errorf("%g at %d changes earlier outputs", bad, at)
			}
			if !bytes.Equal(got.Data[row:], clean.Data[row:]) {
				t.Errorf("%g at %d changes the other row", bad, at)
			}
		}
	}
}

// TestRefusedRuns: a run that is refused leaves the state as it was; one that
// fails half-way makes the session say so until it is reset.
func TestRefusedRuns(t *testing.T) {
	m := compile(t, "mamba2_dynamo_dyn_decode_g1")
	ids := func(v ...int64) map[string]*tensor.Tensor {
		return map[string]*tensor.Tensor{"input_ids": tensor.From(v, len(v), 1)}
	}
	s := session(t, m)
	run(t, s, ids(3, 4))
	var saved bytes.Buffer
	if err := s.Save(&saved); err != nil {
		t.Fatal(err)
	}
	refused := func(s *ssdc.Session, in map[string]*tensor.Tensor, why string) {
		t.Helper()
		if _, err := s.Run(context.Background(), in); err == nil {
			t.Error("no error: " + why)
		}
	}
	refused(s, ids(3), "batch 1 on a state of batch 2")
	c, err := s.Clone()
	if err != nil {
		t.Fatal(err)
	}
	r := session(t, m)
	if err := r.Restore(bytes.NewReader(saved.Bytes())); err != nil {
		t.Fatal(err)
	}
	want := run(t, r, ids(5, 6))["logits"]
	for name, s := range map[string]*ssdc.Session{"itself": s, "its clone": c} {
		if !bytes.Equal(run(t, s, ids(5, 6))["logits"].Data, want.Data) {
			t.Errorf("%s: the refused run changed the state", name)
		}
	}
	other := session(t, compile(t, "mamba2_dynamo_dyn_decode_g2"))
	if err := other.Restore(bytes.NewReader(saved.Bytes())); err == nil {
		t.Error("the state of a model of other sizes is accepted")
	}
	refused(s, ids(1<<40, 0), "an id outside the table")
	refused(s, ids(1, 2), "a state that is undefined")
	if err := s.Save(&bytes.Buffer{}); err == nil {
		t.Error("an undefined state is saved")
	}
	s.Reset()
	run(t, s, ids(1))
}
