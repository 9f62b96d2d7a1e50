// Package onnx reads ONNX models into ssdc's graphs.
//
// Load maps the file, decodes it, resolves every operator in the table, inlines
// the model's own functions, turns initializers and Constant nodes into
// constants, sorts the nodes and infers all types. What it cannot represent is
// an error that says where: the reader never guesses and never panics.
package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	pb "google.golang.org/protobuf/proto"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
	"github.com/ssdc-go/ssdc/ops"
)

// MaxOpset is the newest opset of the domain ai.onnx (ONNX 1.23) whose operators
// package ops/onnx knows; later ones may have changed what an operator means.
// There is no oldest: most operators have rows from opset 7 on, and a model that
// uses an older version of one is told so.
const MaxOpset = 28

// Options change how a model is read. Nil means the defaults.
type Options struct {
	// Symbols binds symbolic dimensions, by the name in the file ("batch").
	Symbols map[string]int64
	// KeepUnused keeps nodes whose outputs nothing uses.
	KeepUnused bool
	// IgnoreValueInfo skips comparing inferred types with those the file
	// declares for intermediate values and outputs.
	IgnoreValueInfo bool
	// InlineFunctions expands model-local functions even when the table has
	// an operator of that domain and name.
	InlineFunctions bool
	// AnyOpset accepts opsets newer than MaxOpset and takes the newest rows.
	AnyOpset bool
	// ExternalRoot is the folder that external data must stay inside, links
	// followed; by default the folder of the model. It must contain that folder.
	ExternalRoot string
}

// Model is a graph with what the file says about itself.
type Model struct {
	Graph     *graph.Graph
	File      string
	IRVersion int64
	Producer  string         // "pytorch 2.9.1"
	Opsets    map[string]int // by domain; "" is ai.onnx
	Digest    string         // SHA-256 of the model file, external data not included
	Doc       string
	Metadata  map[string]string
	// Declared holds, for values of the outermost graph whose types inference
	// leaves partly unknown, what the file claims. Claims are not merged into
	// the graph: nothing proves them, and inference would not repeat them.
	Declared map[*graph.Value]graph.Type
	// Warnings say which declared shapes are not what the operators compute.
	Warnings []string
}

// Load reads a model file. Weights stored in external files are mapped
// read-only and stay mapped as long as the process runs.
func Load(path string, t *ops.Table, o *Options) (*Model, error) {
	data, err := mapFile(path)
	if err != nil {
		return nil, err
	}
	defer unmap(data) // decoding copies
	return read(data, path, filepath.Dir(path), t, o)
}

// Read reads a model from memory. External data is looked for in dir; "" means
// that the model must not have any.
func Read(data []byte, dir string, t *ops.Table, o *Options) (*Model, error) {
	return read(data, "model", dir, t, o)
}

func read(data []byte, file, dir string, t *ops.Table, o *Options) (*Model, error) {
	if o == nil {
		o = &Options{}
	}
	if what := notONNX(data); what != "" {
		return nil, fmt.Errorf("%s is not an ONNX model: %s", file, what)
	}
	mp := &proto.ModelProto{}
	if err := (pb.UnmarshalOptions{RecursionLimit: maxWireDepth}).Unmarshal(data, mp); err != nil {
		return nil, fmt.Errorf("%s is not an ONNX model, or is cut short: %w", file, err)
	}
	if mp.Graph == nil || mp.IrVersion <= 0 {
		return nil, fmt.Errorf("%s is not an ONNX model: it has no graph or no IR version", file)
	}
	sum := sha256.Sum256(data)
	m := &Model{
		File: file, IRVersion: mp.IrVersion, Producer: mp.ProducerName, Digest: hex.EncodeToString(sum[:]),
		Doc: mp.DocString, Metadata: map[string]string{}, Declared: map[*graph.Value]graph.Type{},
	}
	if mp.ProducerVersion != "" {
		m.Producer += " " + mp.ProducerVersion
	}
	for _, e := range mp.MetadataProps {
		m.Metadata[e.Key] = e.Value
	}
	im := &importer{
		table: t, opt: o, proto: mp, model: m, ext: newExternal(dir, o.ExternalRoot),
		names: map[string]int{}, unknown: map[*graph.Node]*proto.NodeProto{}, funcs: map[funcKey]*proto.FunctionProto{},
		opsetOf: map[*graph.Node]int{}, attrs: map[*proto.AttributeProto]any{}, tensors: map[*proto.TensorProto]*tensor.Tensor{},
	}
	defer im.ext.close()
	if err := im.run(); err != nil {
		if u, ok := err.(*UnsupportedError); ok {
			u.File = file
			return nil, u
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

// Limits on hostile files. Real models stay far below.
const (
	maxWireDepth  = 500     // protobuf messages inside each other; a nested graph takes three
	maxBodies     = 100     // graphs inside each other
	maxCalls      = 100     // functions calling each other
	minBudget     = 1 << 20 // what inlining may make of any file, in nodes, names and attributes
	maxGrowth     = 64      // and how much more than the file itself holds
	maxInlineName = 512     // bytes of a name made by inlining
	maxSparse     = 1 << 28 // bytes of sparse tensors made dense
)

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a folder; name the .onnx file in it", path)
	}
	return os.ReadFile(path)
}
