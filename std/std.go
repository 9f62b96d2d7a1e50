// Package std is the standard plugin: ONNX's operators and ssdc's own, the
// passes that recover and fuse scans, and the importers of ONNX files and of
// ssdc's text form.
package std

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/importers/onnx"
	"github.com/ssdc-go/ssdc/ops"
	opsonnx "github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/canon"
	"github.com/ssdc-go/ssdc/passes/fuse"
	"github.com/ssdc-go/ssdc/passes/recur"
	"github.com/ssdc-go/ssdc/plugin"
)

// Plugin is the standard set.
var Plugin = plugin.Plugin{
	Name:      "std",
	Ops:       append(opsonnx.Rows(), ssm.Rows()...),
	Passes:    Passes,
	Importers: []*plugin.Importer{ONNX, Text},
}

// Passes is the pipeline of optimisation level 1; level 0 runs none of it.
var Passes = []*passes.Pass{
	canon.Pass,
	recur.Pass,
	recur.Absorb,
	fuse.Conv,
	fuse.Norm,
	fuse.Projection,
	canon.Cleanup,
}

// ONNX reads .onnx files.
var ONNX = &plugin.Importer{
	Name: "onnx",
	Doc:  "ONNX models, opset 7 to the newest, with external data and local functions",
	Ext:  []string{".onnx"},
	Load: func(_ context.Context, path string, t *ops.Table, symbols map[string]int64) (*plugin.Source, error) {
		m, err := onnx.Load(path, t, &onnx.Options{Symbols: symbols})
		if err != nil {
			return nil, err
		}
		return &plugin.Source{Graph: m.Graph, Producer: m.Producer, Digest: m.Digest}, nil
	},
}

// Text reads ssdc's text form, with all constants written inline.
var Text = &plugin.Importer{
	Name: "text",
	Doc:  "ssdc's text form (.ssd), as --print-ir-after writes it",
	Ext:  []string{".ssd"},
	Load: func(_ context.Context, path string, t *ops.Table, _ map[string]int64) (*plugin.Source, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		g, err := graph.Parse(strings.NewReader(string(text)), nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if err := ops.Verify(t, g); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if err := ops.InferGraph(t, g); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		sum := sha256.Sum256(text)
		return &plugin.Source{Graph: g, Producer: "ssdc text", Digest: hex.EncodeToString(sum[:])}, nil
	},
}
