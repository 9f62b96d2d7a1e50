package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// DecodeSequence turns a SequenceProto of tensors, sequences, maps or optionals into a tensor.
func DecodeSequence(p *proto.SequenceProto) (*tensor.Tensor, error) { return decodeSequence(p, 0) }

// DecodeOptional turns an OptionalProto into a tensor with zero or one member.
func DecodeOptional(p *proto.OptionalProto) (*tensor.Tensor, error) { return decodeOptional(p, 0) }

// Kinds of members in SequenceProto.elem_type and OptionalProto.elem_type.
const (
	ofTensor   = 1
	ofSequence = 3
	ofMap      = 4
	ofOptional = 5
)

func decodeSequence(p *proto.SequenceProto, depth int) (*tensor.Tensor, error) {
	t := tensor.Seq()
	add := func(e *tensor.Tensor, err error) error {
		t.Elems = append(t.Elems, e)
		return err
	}
	if depth > maxBodies {
		return nil, fmt.Errorf("sequence %q is nested too deeply", p.Name)
	}
	if k := p.ElemType; k != ofTensor && k != ofSequence && k != ofMap && k != ofOptional && k != 0 {
		return nil, &UnsupportedError{What: fmt.Sprintf("sequences of kind %d", k)}
	}
	for _, e := range p.TensorValues {
		if err := add(DecodeTensor(e)); err != nil {
			return nil, err
		}
	}
	for _, e := range p.SequenceValues {
		if err := add(decodeSequence(e, depth+1)); err != nil {
			return nil, err
		}
	}
	for _, e := range p.MapValues {
		if err := add(DecodeMap(e)); err != nil {
			return nil, err
		}
	}
	for _, e := range p.OptionalValues {
		if err := add(decodeOptional(e, depth+1)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func decodeOptional(p *proto.OptionalProto, depth int) (*tensor.Tensor, error) {
	t := &tensor.Tensor{DType: tensor.Optional}
	var e *tensor.Tensor
	var err error
	switch {
	case depth > maxBodies:
		return nil, fmt.Errorf("optional %q is nested too deeply", p.Name)
	case p.TensorValue != nil:
		e, err = DecodeTensor(p.TensorValue)
	case p.SequenceValue != nil:
		e, err = decodeSequence(p.SequenceValue, depth+1)
	case p.OptionalValue != nil:
		e, err = decodeOptional(p.OptionalValue, depth+1)
	default:
		return t, nil
	}
	t.Elems = []*tensor.Tensor{e}
	return t, err
}

// DecodeMap turns a MapProto into a map of single elements.
func DecodeMap(p *proto.MapProto) (*tensor.Tensor, error) {
	d, err := dtype(p.KeyType)
	if err != nil {
		return nil, fmt.Errorf("the keys of map %q: %w", p.Name, err)
	}
	values, n := p.GetValues().GetTensorValues(), len(p.Keys)
	if d == tensor.String {
		n = len(p.StringKeys)
	}
	if len(values) != n {
		return nil, fmt.Errorf("map %q has %d keys and %d values", p.Name, n, len(values))
	}
	keys := tensor.New(d, n)
	for i := range n {
		switch {
		case d == tensor.String:
			keys.Strings[i] = string(p.StringKeys[i])
		case d.IsInt():
			keys.SetIntAt(i, p.Keys[i])
		}
	}
	all := tensor.New(tensor.Float32, 0)
	for i, v := range values {
		e, err := DecodeTensor(v)
		if err != nil {
			return nil, fmt.Errorf("map %q: %w", p.Name, err)
		}
		if i == 0 {
			all = tensor.New(e.DType, n)
		}
		switch {
		case e.DType != all.DType || e.Len() != 1:
			return nil, fmt.Errorf("map %q: value %d is %s, want one element of type %s", p.Name, i, e.TypeString(), all.DType)
		case e.DType == tensor.String:
			all.Strings[i] = e.Strings[0]
		case e.DType.Size() == 0:
			return nil, &UnsupportedError{What: fmt.Sprintf("map %q: values of type %s", p.Name, e.DType)}
		default:
			copy(all.Data[i*e.DType.Size():], e.Data)
		}
	}
	m, err := tensor.NewMap(keys, all)
	if err != nil {
		return nil, fmt.Errorf("map %q: %w", p.Name, err)
	}
	return m, nil
}
