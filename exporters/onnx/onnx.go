// Package onnx writes graphs as ONNX models. It writes what the graph holds and
// changes nothing in it: every operator must already have the version that the
// opset of its domain calls for, as passes/legalize leaves it.
//
// Names of inputs, outputs, values and symbolic lengths are those of the graph.
// The same graph gives the same bytes. Files are complete or absent; weights go
// to a second file beside the model when they would not fit in one, or on request.
package onnx

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	pb "google.golang.org/protobuf/proto"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
	"github.com/ssdc-go/ssdc/internal/wholefile"
)

// Options say what the file tells about itself, and how weights are stored.
type Options struct {
	// Opsets gives the version of every domain in use; "" is ai.onnx.
	Opsets          map[string]int
	Producer        string
	ProducerVersion string
	Doc             string
	Metadata        map[string]string
	// External stores weights in a file beside the model, named after it with
	// ".data". Models too large for one file are stored so in any case.
	External bool
}

// Limits of storing.
const (
	maxInline = 1 << 31 // bytes of a protobuf message
	slack     = 1 << 26 // left for everything but weights
	// Small tensors, shapes among them, stay in the model even when weights do not.
	minExternal = 1024
	pageSize    = 4096 // weights of a page or more start on one, so that they can be mapped
)

// Write writes g to path.
func Write(path string, g *graph.Graph, o Options) error {
	return write(path, g, o, maxInline-slack)
}

func write(path string, g *graph.Graph, o Options, limit int64) error {
	w := &writer{names: map[*graph.Value]string{}, taken: map[string]bool{}, nodes: map[string]bool{}}
	var total int64
	for _, v := range g.Constants() {
		total += int64(len(v.Const.Data))
	}
	if o.External || total > limit {
		w.data = &external{name: filepath.Base(path) + ".data"}
	}
	m, err := w.model(g, o)
	if err != nil {
		return err
	}
	// The model names the weights, so it is put in place after them.
	if w.data != nil && w.data.size > 0 {
		if err := w.data.write(filepath.Join(filepath.Dir(path), w.data.name)); err != nil {
			return err
		}
	}
	data, err := pb.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if int64(len(data)) >= maxInline {
		return fmt.Errorf("%s: the graph alone takes %d bytes, more than the %d that an ONNX file may have", path, len(data), int64(maxInline))
	}
	return wholefile.Write(path, func(f io.Writer) error { _, err := f.Write(data); return err })
}

// Bytes is the model as one message, weights included.
func Bytes(g *graph.Graph, o Options) ([]byte, error) {
	w := &writer{names: map[*graph.Value]string{}, taken: map[string]bool{}, nodes: map[string]bool{}}
	m, err := w.model(g, o)
	if err != nil {
		return nil, err
	}
	return pb.MarshalOptions{Deterministic: true}.Marshal(m)
}

// irVersion is the oldest IR version that may hold an opset of ai.onnx.
func irVersion(opset int) int64 {
	for _, r := range []struct {
		opset int
		ir    int64
	}{{28, 14}, {25, 13}, {24, 12}, {23, 11}, {21, 10}, {19, 9}, {15, 8}} {
		if opset >= r.opset {
			return r.ir
		}
	}
	return 7
}

type writer struct {
	names map[*graph.Value]string
	taken map[string]bool
	nodes map[string]bool // names of nodes
	data  *external
}

func (w *writer) model(g *graph.Graph, o Options) (*proto.ModelProto, error) {
	m := &proto.ModelProto{
		IrVersion: irVersion(o.Opsets[""]), ProducerName: o.Producer, ProducerVersion: o.ProducerVersion, DocString: o.Doc,
		MetadataProps: entries(o.Metadata),
	}
	for _, d := range sorted(o.Opsets) {
		m.OpsetImport = append(m.OpsetImport, &proto.OperatorSetIdProto{Domain: d, Version: int64(o.Opsets[d])})
	}
	var err error
	g.Walk(func(n *graph.Node) {
		if _, ok := o.Opsets[n.Op.Domain]; !ok && err == nil {
			err = fmt.Errorf("%s: no opset is given for the domain %q", n, n.Op.Domain)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, v := range append(append([]*graph.Value{}, g.Inputs...), g.Outputs...) { // these keep their names
		if v.Name == "" {
			return nil, fmt.Errorf("an input or output of graph %q has no name", g.Name)
		}
		w.name(v)
	}
	if m.Graph, err = w.graph(g); err != nil {
		return nil, err
	}
	for _, v := range g.Constants() {
		t, err := w.tensor(v.Const, w.name(v))
		if err != nil {
			return nil, err
		}
		m.Graph.Initializer = append(m.Graph.Initializer, t)
	}
	return m, nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func entries(m map[string]string) []*proto.StringStringEntryProto {
	var out []*proto.StringStringEntryProto
	for _, k := range sorted(m) {
		out = append(out, &proto.StringStringEntryProto{Key: k, Value: m[k]})
	}
	return out
}

// name is the value's name, made unique over all graphs and bodies: a body
// must not define a name that the graphs around it use.
func (w *writer) name(v *graph.Value) string {
	if v == nil {
		return ""
	}
	if n, ok := w.names[v]; ok {
		return n
	}
	n := unique(w.taken, v.Name)
	w.names[v] = n
	return n
}

func unique(taken map[string]bool, name string) string {
	if name == "" {
		name = "v"
	}
	n := name
	for i := 1; taken[n]; i++ {
		n = fmt.Sprintf("%s_%d", name, i)
	}
	taken[n] = true
	return n
}

// external collects the weights of the second file.
type external struct {
	name    string
	tensors []*tensor.Tensor
	offsets []int64
	size    int64
}

// add gives a tensor its place.
func (e *external) add(t *tensor.Tensor) int64 {
	if len(t.Data) >= pageSize {
		e.size = (e.size + pageSize - 1) / pageSize * pageSize
	} else {
		e.size = (e.size + 63) / 64 * 64
	}
	at := e.size
	e.tensors, e.offsets = append(e.tensors, t), append(e.offsets, at)
	e.size += int64(len(t.Data))
	return at
}

func (e *external) write(path string) error {
	return wholefile.WriteFile(path, func(f *os.File) error {
		for i, t := range e.tensors {
			if _, err := f.WriteAt(t.Data, e.offsets[i]); err != nil {
				return err
			}
		}
		return nil
	})
}
