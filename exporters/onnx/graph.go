package onnx

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// graph writes a graph or a body; constants become initializers of the
// outermost graph, which bodies see.
func (w *writer) graph(g *graph.Graph) (*proto.GraphProto, error) {
	p := &proto.GraphProto{Name: g.Name}
	if p.Name == "" {
		p.Name = "graph"
	}
	for _, v := range g.Inputs {
		info, err := w.info(v, w.name(v))
		if err != nil {
			return nil, err
		}
		p.Input = append(p.Input, info)
	}
	for _, n := range g.Nodes {
		np, err := w.node(n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n, err)
		}
		p.Node = append(p.Node, np)
		for _, v := range n.Out {
			if v == nil || v.IsOutput() && g.Parent == nil || v.Type.DType == 0 {
				continue
			}
			info, err := w.info(v, w.name(v))
			if err != nil {
				return nil, err
			}
			p.ValueInfo = append(p.ValueInfo, info)
		}
	}
	seen := map[*graph.Value]bool{}
	for _, v := range g.Outputs {
		name := w.name(v)
		// A body's output has a node of its own in the body; the model may give
		// out an input or a weight as it is, but nothing twice.
		if seen[v] || g.Parent != nil && (v.Def == nil || v.Def.Graph != g) {
			from := name
			name = unique(w.taken, name+"_out")
			p.Node = append(p.Node, &proto.NodeProto{OpType: "Identity", Name: unique(w.nodes, name), Input: []string{from}, Output: []string{name}})
		}
		seen[v] = true
		info, err := w.info(v, name)
		if err != nil {
			return nil, err
		}
		p.Output = append(p.Output, info)
	}
	return p, nil
}

func (w *writer) node(n *graph.Node) (*proto.NodeProto, error) {
	p := &proto.NodeProto{OpType: n.Op.Name, Domain: n.Op.Domain}
	for _, v := range n.In {
		p.Input = append(p.Input, w.name(v))
	}
	for _, v := range n.Out {
		p.Output = append(p.Output, w.name(v))
	}
	for len(p.Output) > 1 && p.Output[len(p.Output)-1] == "" {
		p.Output = p.Output[:len(p.Output)-1]
	}
	label := n.From
	if label == "" && len(p.Output) > 0 {
		label = p.Output[0]
	}
	p.Name = unique(w.nodes, label)
	for _, k := range n.Attrs.Names() {
		a, err := w.attr(k, n.Attrs[k])
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", k, err)
		}
		p.Attribute = append(p.Attribute, a)
	}
	for _, b := range n.Bodies {
		gp, err := w.graph(b.Graph)
		if err != nil {
			return nil, err
		}
		p.Attribute = append(p.Attribute, &proto.AttributeProto{Name: b.Attr, Type: proto.AttributeProto_GRAPH, G: gp})
	}
	return p, nil
}

func (w *writer) attr(name string, v any) (*proto.AttributeProto, error) {
	a := &proto.AttributeProto{Name: name}
	var err error
	switch v := v.(type) {
	case int64:
		a.Type, a.I = proto.AttributeProto_INT, v
	case float32:
		a.Type, a.F = proto.AttributeProto_FLOAT, v
	case string:
		a.Type, a.S = proto.AttributeProto_STRING, []byte(v)
	case []int64:
		a.Type, a.Ints = proto.AttributeProto_INTS, v
	case []float32:
		a.Type, a.Floats = proto.AttributeProto_FLOATS, v
	case []string:
		a.Type = proto.AttributeProto_STRINGS
		for _, s := range v {
			a.Strings = append(a.Strings, []byte(s))
		}
	case *tensor.Tensor:
		a.Type = proto.AttributeProto_TENSOR
		a.T, err = inline(v, name)
	case []*tensor.Tensor:
		a.Type = proto.AttributeProto_TENSORS
		for _, t := range v {
			p, e := inline(t, "")
			if e != nil {
				err = e
			}
			a.Tensors = append(a.Tensors, p)
		}
	case graph.Type:
		a.Type = proto.AttributeProto_TYPE_PROTO
		a.Tp, err = typeOf(v)
	default:
		err = fmt.Errorf("a %T has no form in ONNX", v)
	}
	return a, err
}

// info declares a value with what is known of its type.
func (w *writer) info(v *graph.Value, name string) (*proto.ValueInfoProto, error) {
	t, err := typeOf(v.Type)
	if err != nil {
		return nil, fmt.Errorf("value %q: %w", v.Name, err)
	}
	return &proto.ValueInfoProto{Name: name, Type: t}, nil
}

func typeOf(t graph.Type) (*proto.TypeProto, error) {
	switch {
	case t.DType == 0:
		return &proto.TypeProto{}, nil
	case t.DType == tensor.Map && t.Elem != nil:
		elem, err := typeOf(graph.Type{DType: t.Elem.DType}) // as exporters write it
		return &proto.TypeProto{Value: &proto.TypeProto_MapType{MapType: &proto.TypeProto_Map{KeyType: int32(t.Key), ValueType: elem}}}, err
	case t.Elem != nil:
		elem, err := typeOf(*t.Elem)
		if err != nil {
			return nil, err
		}
		if t.DType == tensor.Optional {
			return &proto.TypeProto{Value: &proto.TypeProto_OptionalType{OptionalType: &proto.TypeProto_Optional{ElemType: elem}}}, nil
		}
		return &proto.TypeProto{Value: &proto.TypeProto_SequenceType{SequenceType: &proto.TypeProto_Sequence{ElemType: elem}}}, nil
	case t.DType.IsContainer():
		return nil, fmt.Errorf("the type of the members of %s is not known", t)
	}
	p := &proto.TypeProto_Tensor{ElemType: int32(t.DType)}
	if t.Ranked() {
		p.Shape = &proto.TensorShapeProto{}
		for _, d := range t.Shape {
			p.Shape.Dim = append(p.Shape.Dim, dimOf(d))
		}
	}
	return &proto.TypeProto{Value: &proto.TypeProto_TensorType{TensorType: p}}, nil
}

// dimOf writes symbols and expressions by name. Lengths that only a run knows
// have symbols of ssdc's own making, which start with '?': they stay open.
func dimOf(d graph.Dim) *proto.TensorShapeProto_Dimension {
	if n, ok := d.Const(); ok {
		return &proto.TensorShapeProto_Dimension{Value: &proto.TensorShapeProto_Dimension_DimValue{DimValue: n}}
	}
	for _, s := range d.Symbols() {
		if strings.HasPrefix(s, "?") {
			return &proto.TensorShapeProto_Dimension{}
		}
	}
	return &proto.TensorShapeProto_Dimension{Value: &proto.TensorShapeProto_Dimension_DimParam{DimParam: d.String()}}
}

// tensor writes an initializer, outside of the message when there is a second file.
func (w *writer) tensor(t *tensor.Tensor, name string) (*proto.TensorProto, error) {
	if w.data == nil || t.DType == tensor.String || t.DType.IsContainer() || len(t.Data) < minExternal {
		return inline(t, name)
	}
	p := header(t, name)
	p.DataLocation = proto.TensorProto_EXTERNAL
	p.ExternalData = []*proto.StringStringEntryProto{
		{Key: "location", Value: w.data.name},
		{Key: "offset", Value: strconv.FormatInt(w.data.add(t), 10)},
		{Key: "length", Value: strconv.Itoa(len(t.Data))},
	}
	return p, nil
}

func header(t *tensor.Tensor, name string) *proto.TensorProto {
	p := &proto.TensorProto{Name: name, DataType: int32(t.DType)}
	for _, n := range t.Shape {
		p.Dims = append(p.Dims, int64(n))
	}
	return p
}

func inline(t *tensor.Tensor, name string) (*proto.TensorProto, error) {
	if t.DType.IsContainer() {
		return nil, fmt.Errorf("%q: a constant sequence has no form in ONNX", name)
	}
	p := header(t, name)
	if t.DType == tensor.String {
		for _, s := range t.Strings {
			p.StringData = append(p.StringData, []byte(s))
		}
		return p, nil
	}
	if p.RawData = t.Data; p.RawData == nil {
		p.RawData = []byte{}
	}
	return p, nil
}
