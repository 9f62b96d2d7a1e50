package model

import (
	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/backends/cuda"
	"github.com/ssdc-go/ssdc/backends/ref"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/library"
)

// Standard is the registry of a program without plugins: ONNX's operators,
// ssdc's own, and the CPU, reference and CUDA backends.
func Standard() (*Registry, error) {
	t := &ops.Table{}
	if err := library.Register(t); err != nil {
		return nil, err
	}
	return &Registry{Table: t, Backends: []backends.Backend{cpu.New(t), ref.New(t), cuda.New(t)}, Plugins: []string{"std"}}, nil
}
