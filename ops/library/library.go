// Package library lists every operator that ssdc defines, so that programs,
// backends and tests agree on what a model may use.
package library

import (
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/mamba"
	"github.com/ssdc-go/ssdc/ops/microsoft"
	"github.com/ssdc-go/ssdc/ops/ml"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// Register adds them all to t.
func Register(t *ops.Table) error {
	for _, add := range []func(*ops.Table) error{onnx.Register, ml.Register, ssm.Register, microsoft.Register, mamba.Register} {
		if err := add(t); err != nil {
			return err
		}
	}
	return nil
}

// Rows lists them by domain, name and version.
func Rows() []*ops.Op {
	var t ops.Table
	if err := Register(&t); err != nil {
		panic(err) // two rows of one name: a mistake in these packages
	}
	return t.All()
}
