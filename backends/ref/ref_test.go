package ref

import (
	"bytes"
	"context"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

func TestStates(t *testing.T) {
	table := &ops.Table{}
	if err := ssm.Register(table); err != nil {
		t.Fatal(err)
	}
	g, err := graph.ParseString(`graph sum (float[1,L,1] decay, float[1,L,1] x, float[1,1] past) => (float[1,L,1] y, float[1,1] next) {
		float[1,L,1] y, float[1,1] next = ssm.LinearScan-1(decay, x, past)
	}`)
	if err != nil {
		t.Fatal(err)
	}
	b := New(table)
	p, err := b.Compile(g, backends.Target{States: []backends.StatePair{{In: "past", Out: "next"}}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Open(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	run := func(s backends.Session, want float64) {
		t.Helper()
		in := map[string]*tensor.Tensor{"decay": tensor.From([]float32{1, 1}, 1, 2, 1), "x": tensor.From([]float32{1, 2}, 1, 2, 1)}
		y := tensor.New(tensor.Float32, 1, 2, 1)
		out, err := s.Run(context.Background(), in, map[string]*tensor.Tensor{"y": y})
		if err != nil {
			t.Fatal(err)
		}
		if out["y"] != y || y.At(1) != want || out["next"].At(0) != want {
			t.Errorf("y %v, next %v, want %v", y.AsFloats(), out["next"].AsFloats(), want)
		}
	}
	run(s, 3)
	run(s, 6)
	c, err := s.Clone()
	if err != nil {
		t.Fatal(err)
	}
	var saved bytes.Buffer
	if err := s.Save(&saved); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	run(s, 3)
	run(c, 9)
	if err := s.Restore(&saved); err != nil {
		t.Fatal(err)
	}
	run(s, 9)
}
