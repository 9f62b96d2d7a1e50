package ssdc_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// A model is compiled once, written, and opened wherever it is needed.
func Example() {
	ctx := context.Background()
	c, err := ssdc.Build(ctx, "testdata/models/mamba2_dynamo_dyn_prefill_g1/model.onnx", ssdc.Options{
		RequireFusion: map[string]int{"ssm.SSD": 2}, // fail rather than run slowly
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "ssdc")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "model.ssda")
	if err := c.Write(path); err != nil {
		fmt.Println(err)
		return
	}

	m, err := ssdc.Open(path) // the weights are mapped, not read
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	s, err := m.NewSession()
	if err != nil {
		fmt.Println(err)
		return
	}
	ids := tensor.From([]int64{3, 1, 4, 1, 5}, 1, 5) // [batch, sequence]
	out, err := s.Run(ctx, map[string]*tensor.Tensor{"input_ids": ids})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Fused()["ssm.SSD"], "scans; logits", out["logits"].TypeString())
	// Output: 2 scans; logits float[1,5,32]
}

// A session keeps the recurrent state between runs, so that a decode loop gives
// one token at a time. States are saved and restored, and sessions cloned to
// continue in several ways.
func ExampleSession() {
	ctx := context.Background()
	m, err := ssdc.Compile(ctx, "testdata/models/mamba2_dynamo_dyn_decode_g2/model.onnx", ssdc.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	s, err := m.NewSession()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("states:", m.States())
	step := func(s *ssdc.Session, token int64) float64 {
		out, err := s.Run(ctx, map[string]*tensor.Tensor{"input_ids": tensor.From([]int64{token}, 1, 1)})
		if err != nil {
			fmt.Println(err)
			return 0
		}
		return out["logits"].At(0)
	}
	step(s, 7)
	var saved bytes.Buffer
	if err := s.Save(&saved); err != nil {
		fmt.Println(err)
		return
	}
	other, err := s.Clone()
	if err != nil {
		fmt.Println(err)
		return
	}
	next := step(s, 8)
	fmt.Println("a clone continues alike:", step(other, 8) == next)
	s.Reset()
	fmt.Println("from zero it differs:", step(s, 8) != next)
	if err := s.Restore(&saved); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("restored, it is the same:", step(s, 8) == next)
	// Output:
	// states: [past_conv_0 past_conv_1 past_ssm_0 past_ssm_1]
	// a clone continues alike: true
	// from zero it differs: true
	// restored, it is the same: true
}
