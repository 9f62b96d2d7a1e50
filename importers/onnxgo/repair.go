package onnxgo

import (
	"fmt"
	"slices"

	pb "google.golang.org/protobuf/proto"

	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// Repair rewrites an ONNX file so that onnx-go v0.5.0 reads it right; what it
// computes stays the same. Pass the result to Model.UnmarshalBinary.
//
//   - Bool constants stored as raw bytes, as PyTorch writes masks, make onnx-go
//     panic or fail: they are stored as numbers.
//   - Weights that are also listed as inputs, as IR version 3 wants, shift the
//     numbers that Model.SetInput takes: they are inputs no longer.
func Repair(model []byte) ([]byte, error) {
	var m proto.ModelProto
	if err := pb.Unmarshal(model, &m); err != nil {
		return nil, fmt.Errorf("not an ONNX model, or cut short: %w", err)
	}
	g := m.Graph
	if g == nil {
		return nil, fmt.Errorf("not an ONNX model: it has no graph")
	}
	weight := map[string]bool{}
	for _, t := range g.Initializer {
		weight[t.Name] = true
		spellBools(t)
	}
	for _, n := range g.Node {
		for _, a := range n.Attribute {
			if a.T != nil {
				spellBools(a.T)
			}
		}
	}
	g.Input = slices.DeleteFunc(g.Input, func(v *proto.ValueInfoProto) bool { return weight[v.Name] })
	m.IrVersion = max(m.IrVersion, 4)
	return pb.Marshal(&m)
}

// spellBools moves the elements of a bool tensor from raw_data, a byte each, to
// int32_data.
func spellBools(t *proto.TensorProto) {
	const boolType = 9 // TensorProto.BOOL
	if t.DataType != boolType || len(t.RawData) == 0 {
		return
	}
	for _, b := range t.RawData {
		t.Int32Data = append(t.Int32Data, int32(min(b, 1)))
	}
	t.RawData = nil
}
