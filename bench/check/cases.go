package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/bench/internal/cases"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// measured is a case with what its speed is compared with: work is the operations or
// bytes that it cannot do without.
type measured struct {
	name    string
	run     func()
	against string
	work    float64
}

func list() ([]measured, error) {
	m := cases.New(1)
	var all []measured
	add := func(c cases.Case, against string, work float64) {
		all = append(all, measured{c.Name, c.Run, against, work})
	}
	for _, f := range []struct {
		gemm.Format
		against string
		bytes   float64 // of a weight
	}{{gemm.F32, "f32", 4}, {gemm.BF16, "bf16", 2}, {gemm.Int8, "int8", 1}, {gemm.Int4, "int8", 0.5625}} {
		for _, s := range [][3]int{{512, 768, 1536}, {8, 3352, 768}} {
			add(m.Matmul(f.Format, s[0], s[1], s[2]), f.against, 2*float64(s[0]*s[1]*s[2]))
		}
		add(m.Matmul(f.Format, 1, 50288, 768), "read", f.bytes*50288*768)
	}
	// A token's state is read and written; a chunk of 64 does about 2*64*(64+128+2*64) operations per head and step.
	add(m.SSD(1), "read", 2*4*24*64*128)
	add(m.SSD(512), "f32", 512*24*2*(64*64+2*64*128))
	add(m.Conv(2048), "read", 2*4*2048*1792)
	add(m.SelScan(2048), "f32", 2048*1536*16*8)
	for _, name := range []string{"mamba2_dynamo_dyn_decode_g1", "mamba2_dynamo_dyn_prefill_g1", "mamba1_dynamo_dynbatch_prefill"} {
		c, err := model(name)
		if err != nil {
			return nil, err
		}
		add(c, "f32", 1e6) // no count: only its change says something
	}
	return all, nil
}

// model is a run of a small model of the tests, most of which is the way from step
// to step.
func model(name string) (cases.Case, error) {
	none := cases.Case{}
	compiled, err := ssdc.Build(context.Background(), filepath.Join(fixture(name), "model.onnx"), ssdc.Options{Threads: 1})
	if err != nil {
		return none, err
	}
	m, err := compiled.Open()
	if err != nil {
		return none, err
	}
	s, err := m.NewSession()
	if err != nil {
		return none, err
	}
	in, _, err := tensor.ReadNpz(filepath.Join(fixture(name), "inputs.npz"))
	if err != nil {
		return none, err
	}
	if _, err := s.Run(context.Background(), in); err != nil {
		return none, fmt.Errorf("%s: %w", name, err)
	}
	return cases.Case{Name: name, Run: func() {
		if _, err := s.Run(context.Background(), in); err != nil {
			panic(err) // it ran before
		}
	}}, nil
}
