// Package std is the standard plugin: ONNX's operators and ssdc's own, the
// passes that recover and fuse scans, and the importers of ONNX files and of
// ssdc's text form.
package std

import (
	"context"
	"fmt"
	"io"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/importers/onnx"
	"github.com/ssdc-go/ssdc/importers/text"
	"github.com/ssdc-go/ssdc/internal/wholefile"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/library"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/canon"
	"github.com/ssdc-go/ssdc/passes/expand"
	"github.com/ssdc-go/ssdc/passes/fuse"
	"github.com/ssdc-go/ssdc/passes/half"
	"github.com/ssdc-go/ssdc/passes/lengths"
	"github.com/ssdc-go/ssdc/passes/narrow"
	"github.com/ssdc-go/ssdc/passes/quant"
	"github.com/ssdc-go/ssdc/passes/recur"
	"github.com/ssdc-go/ssdc/plugin"
)

// Plugin is the standard set. The CPU's kernels are the backend's own: see
// backends/cpu.
var Plugin = plugin.Plugin{
	Name:      "std",
	Ops:       Ops,
	Passes:    Passes,
	Importers: []*plugin.Importer{ONNX, Text},
	Exporters: []*plugin.Exporter{WriteText},
}

// Ops is ONNX's operators and ssdc's own, domain ssm.
var Ops = library.Rows()

// Passes is the pipeline of optimisation level 1; level 0 runs none of it.
var Passes = []*passes.Pass{
	expand.Pass,
	lengths.Pass,
	half.Pass,
	quant.Pass,
	canon.Pass,
	recur.Named,
	recur.Pass,
	recur.Absorb,
	fuse.Conv,
	fuse.Norm,
	fuse.Rotary,
	fuse.Attention,
	fuse.Gelu,
	fuse.Projection,
	fuse.Image,
	narrow.Pass,
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
		return &plugin.Source{Graph: m.Graph, Producer: m.Producer, Digest: m.Digest, Doc: m.Doc, Metadata: m.Metadata, Opsets: m.Opsets, Warnings: m.Warnings,
			Origins: func(names []string) (map[string]graph.Origin, error) { return onnx.Origins(path, names) }}, nil
	},
}

// WriteText writes the text form. Large constants are printed by their digest.
var WriteText = &plugin.Exporter{
	Name: "text",
	Doc:  "ssdc's text form (.ssd)",
	Ext:  ".ssd",
	Write: func(_ context.Context, path string, _ *ops.Table, g *graph.Graph) error {
		return wholefile.Write(path, func(w io.Writer) error { return graph.Print(w, g) })
	},
}

// Text reads ssdc's text form, with all constants written inline.
var Text = &plugin.Importer{
	Name: "text",
	Doc:  "ssdc's text form (.ssd), as ssdc opt prints it",
	Ext:  []string{".ssd"},
	Load: func(_ context.Context, path string, t *ops.Table, symbols map[string]int64) (*plugin.Source, error) {
		if len(symbols) > 0 {
			return nil, fmt.Errorf("%s: lengths of a text model cannot be bound; write them into its types", path)
		}
		g, digest, err := text.Load(path, t)
		if err != nil {
			return nil, err
		}
		return &plugin.Source{Graph: g, Producer: "ssdc text", Digest: digest}, nil
	},
}
