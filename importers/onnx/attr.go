package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// attrIn is an attribute and the scope in which it was written: a graph passed
// to a function captures the caller's values.
type attrIn struct {
	p *proto.AttributeProto
	s *scope
}

// resolve follows a reference to a parameter of the function being inlined.
// It reports false when neither the caller nor the function gives a value.
func (im *importer) resolve(s *scope, a *proto.AttributeProto) (attrIn, bool) {
	if a.RefAttrName == "" {
		return attrIn{a, s}, true
	}
	if s.call == nil {
		return attrIn{}, false
	}
	in, ok := s.call.attrs[a.RefAttrName]
	return in, ok
}

// attrValue converts to the Go types that graph.Attrs lists. Values are shared
// between the copies that inlining makes.
func (im *importer) attrValue(in attrIn) (any, error) {
	if v, ok := im.attrs[in.p]; ok {
		return v, nil
	}
	v, err := im.attrDecode(in.p)
	if err == nil {
		im.attrs[in.p] = v
	}
	return v, err
}

func (im *importer) attrDecode(a *proto.AttributeProto) (any, error) {
	switch attrKind(a) {
	case proto.AttributeProto_FLOAT:
		return a.F, nil
	case proto.AttributeProto_INT:
		return a.I, nil
	case proto.AttributeProto_STRING:
		return string(a.S), nil
	case proto.AttributeProto_FLOATS:
		return append([]float32{}, a.Floats...), nil
	case proto.AttributeProto_INTS:
		return append([]int64{}, a.Ints...), nil
	case proto.AttributeProto_STRINGS:
		ss := make([]string, len(a.Strings))
		for i, s := range a.Strings {
			ss[i] = string(s)
		}
		return ss, nil
	case proto.AttributeProto_TENSOR:
		return im.tensor(a.T)
	case proto.AttributeProto_TENSORS:
		ts := make([]*tensor.Tensor, len(a.Tensors))
		for i, t := range a.Tensors {
			var err error
			if ts[i], err = im.tensor(t); err != nil {
				return nil, err
			}
		}
		return ts, nil
	case proto.AttributeProto_SPARSE_TENSOR:
		return im.sparse(a.SparseTensor)
	case proto.AttributeProto_TYPE_PROTO:
		return im.attrType(a.Tp)
	case proto.AttributeProto_UNDEFINED:
		return nil, fmt.Errorf("has neither a type nor a value")
	}
	return nil, &UnsupportedError{What: fmt.Sprintf("attribute %q of type %s", a.Name, a.Type)}
}

// attrKind is the declared type, or, in files from before types were written,
// that of the field in use.
func attrKind(a *proto.AttributeProto) proto.AttributeProto_AttributeType {
	switch {
	case a.Type != proto.AttributeProto_UNDEFINED:
		return a.Type
	case len(a.Ints) > 0:
		return proto.AttributeProto_INTS
	case len(a.Floats) > 0:
		return proto.AttributeProto_FLOATS
	case len(a.Strings) > 0:
		return proto.AttributeProto_STRINGS
	case a.T != nil:
		return proto.AttributeProto_TENSOR
	case a.S != nil:
		return proto.AttributeProto_STRING
	case a.F != 0:
		return proto.AttributeProto_FLOAT
	case a.I != 0:
		return proto.AttributeProto_INT
	}
	return proto.AttributeProto_UNDEFINED
}

// checkKinds compares attributes with the defaults in the operator's row: an
// attribute of another kind would read as absent.
func (im *importer) checkKinds(n *graph.Node) error {
	row := im.table.Lookup(n.Op)
	if row == nil {
		return nil
	}
	for _, a := range row.Attrs {
		v, given := n.Attrs[a.Name]
		if given && a.Default != nil && fmt.Sprintf("%T", v) != fmt.Sprintf("%T", a.Default) {
			return fmt.Errorf("%s: attribute %q is %T, want %T", n, a.Name, v, a.Default)
		}
	}
	return nil
}

// declareConstant enters the value of a Constant node.
func (im *importer) declareConstant(s *scope, p *proto.NodeProto) error {
	if len(p.Output) != 1 || p.Output[0] == "" || len(p.Input) > 0 {
		return fmt.Errorf("%s: has %d inputs and %d outputs, want 0 and 1", describe(s, p), len(p.Input), len(p.Output))
	}
	var value *attrIn
	for _, a := range p.Attribute {
		in, ok := im.resolve(s, a)
		if !ok {
			continue
		}
		if value != nil {
			return fmt.Errorf("%s: has two values", describe(s, p))
		}
		value = &in
	}
	if value == nil {
		return fmt.Errorf("%s: has no value", describe(s, p))
	}
	return s.define(p.Output[0], &entry{node: p, at: s, attr: value})
}

// constTensor makes the tensor that a Constant node's attribute stands for.
func constTensor(v any) (*tensor.Tensor, error) {
	switch v := v.(type) {
	case *tensor.Tensor:
		return v, nil
	case int64:
		return tensor.Scalar(v), nil
	case float32:
		return tensor.Scalar(v), nil
	case string:
		return tensor.FromStrings([]string{v}), nil
	case []int64:
		return tensor.From(v, len(v)), nil
	case []float32:
		return tensor.From(v, len(v)), nil
	case []string:
		return tensor.FromStrings(v, len(v)), nil
	}
	return nil, fmt.Errorf("its value is neither a tensor nor a list of numbers or strings")
}
