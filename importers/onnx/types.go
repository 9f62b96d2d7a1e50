package onnx

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// maxDimText bounds the expressions that are parsed: products of long sums
// have exponentially many terms.
const maxDimText = 128

// symbols gives the file's dimension names their meaning. Different names
// become different symbols, whatever characters they are made of.
type symbols struct {
	bind  map[string]int64
	used  map[string]bool // bindings that found their symbol
	plain map[string]bool // names that some graph input uses alone
	byRaw map[string]graph.Dim
	owner map[string]string // symbol -> the name in the file that it stands for
	known map[string]bool   // symbols in use
}

func newSymbols(bind map[string]int64, inputs []*proto.ValueInfoProto) *symbols {
	s := &symbols{bind: bind, used: map[string]bool{}, plain: map[string]bool{}, byRaw: map[string]graph.Dim{}, owner: map[string]string{}, known: map[string]bool{}}
	for _, v := range inputs {
		for _, d := range v.GetType().GetTensorType().GetShape().GetDim() {
			name := strings.TrimSpace(d.GetDimParam())
			if sym, ok := graph.Sym(name).AsSym(); ok && sym == name {
				s.plain[name] = true
				s.owner[name] = name
			}
		}
	}
	return s
}

// dim is the length that d declares for an axis of the value called owner.
func (s *symbols) dim(d *proto.TensorShapeProto_Dimension, owner string, axis int) graph.Dim {
	unknown := fmt.Sprintf("?%s.%d", owner, axis)
	if _, ok := d.GetValue().(*proto.TensorShapeProto_Dimension_DimValue); ok {
		if n := d.GetDimValue(); n >= 0 {
			return graph.D(n)
		}
		return s.symbol(unknown) // -1 is how some exporters spell it
	}
	name := strings.TrimSpace(d.GetDimParam())
	switch name {
	case "", "?", "None", "unk": // placeholders: two of them need not be equal
		return s.symbol(unknown)
	}
	if old, ok := s.byRaw[name]; ok {
		return old
	}
	if len(name) <= maxDimText && !s.plain[name] {
		if e, err := graph.ParseDim(name); err == nil && s.solvable(e) {
			if n, ok := e.Const(); ok && n < 0 {
				return s.symbol(unknown)
			}
			s.byRaw[name] = s.bound(e)
			return s.byRaw[name]
		}
	}
	return s.symbol(name)
}

// solvable accepts an expression when the shapes of the inputs determine it:
// all of its symbols but one are inputs' axes by themselves, and it is affine
// in that one ("64*C"). Others ("seq-len") are names, not expressions.
func (s *symbols) solvable(e graph.Dim) bool {
	free := ""
	for _, sym := range e.Symbols() {
		if s.plain[sym] {
			continue
		}
		if free != "" {
			return false
		}
		free = sym
	}
	if owner, taken := s.owner[free]; free == "" || taken && owner != free {
		return free == ""
	}
	at := func(n int64) graph.Dim { return e.Subst(map[string]graph.Dim{free: graph.D(n)}) }
	slope, ok := at(1).Sub(at(0)).Const()
	if !ok || slope <= 0 || e != at(0).Add(graph.Sym(free).Mul(graph.D(slope))) {
		return false
	}
	s.owner[free] = free
	return true
}

// symbol makes a name of the file a symbol of its own, or its binding.
func (s *symbols) symbol(raw string) graph.Dim {
	if d, ok := s.byRaw[raw]; ok {
		return d
	}
	d := graph.Sym(raw)
	sym := d.String()
	for i := 2; s.owner[sym] != "" && s.owner[sym] != raw; i++ {
		d = graph.Sym(fmt.Sprintf("%s_%d", raw, i))
		sym = d.String()
	}
	s.owner[sym] = raw
	if n, ok := s.bind[raw]; ok {
		s.used[raw] = true
		d = graph.D(n)
	} else {
		d = s.bound(d)
	}
	s.byRaw[raw] = d
	return d
}

// bound replaces the symbols that Options.Symbols binds.
func (s *symbols) bound(d graph.Dim) graph.Dim {
	with := map[string]graph.Dim{}
	for _, sym := range d.Symbols() {
		if n, ok := s.bind[sym]; ok {
			s.used[sym] = true
			with[sym] = graph.D(n)
		} else {
			s.known[sym] = true
		}
	}
	return d.Subst(with)
}

// unused names a binding that no dimension has.
func (s *symbols) unused() error {
	for name := range s.bind {
		if !s.used[name] {
			have := "no symbolic dimensions"
			if len(s.known) > 0 {
				names := slices.Sorted(maps.Keys(s.known))
				have = strings.Join(names[:min(len(names), 20)], ", ")
			}
			return fmt.Errorf("no input has a dimension named %q; the model has %s", name, have)
		}
	}
	return nil
}

// typeOf converts a declared type. A missing TypeProto gives the zero Type.
func (im *importer) typeOf(p *proto.TypeProto, owner string, depth int) (graph.Type, error) {
	if depth > maxBodies {
		return graph.Type{}, fmt.Errorf("value %q: its type is nested too deeply", owner)
	}
	container := func(d tensor.DType, of *proto.TypeProto) (graph.Type, error) {
		elem, err := im.typeOf(of, owner, depth+1)
		return graph.Type{DType: d, Elem: &elem}, err
	}
	unsupported := func(what string) (graph.Type, error) {
		return graph.Type{}, &UnsupportedError{What: fmt.Sprintf("value %q: %s", owner, what)}
	}
	switch v := p.GetValue().(type) {
	case nil:
		return graph.Type{}, nil
	case *proto.TypeProto_TensorType:
		return im.tensorType(v.TensorType, owner)
	case *proto.TypeProto_SequenceType:
		return container(tensor.Sequence, v.SequenceType.GetElemType())
	case *proto.TypeProto_OptionalType:
		return container(tensor.Optional, v.OptionalType.GetElemType())
	case *proto.TypeProto_MapType:
		return im.mapType(v.MapType, owner)
	case *proto.TypeProto_SparseTensorType:
		return unsupported("sparse tensors that are not constant")
	}
	return unsupported("opaque types")
}

// mapType: ONNX Runtime, and so every exporter, has maps of single elements only;
// the shape that a file declares for them says nothing.
func (im *importer) mapType(p *proto.TypeProto_Map, owner string) (graph.Type, error) {
	key, err := dtype(p.KeyType)
	if err == nil && key != tensor.String && !key.IsInt() {
		err = fmt.Errorf("value %q: the keys of a map are strings or integers, not %s", owner, key)
	}
	if err != nil {
		return graph.Type{}, err
	}
	elem := p.GetValueType().GetTensorType()
	if elem == nil {
		return graph.Type{}, &UnsupportedError{What: fmt.Sprintf("value %q: maps to anything but single elements", owner)}
	}
	value, err := dtype(elem.ElemType)
	if err != nil {
		return graph.Type{}, err
	}
	for _, d := range elem.GetShape().GetDim() {
		if _, ok := d.GetValue().(*proto.TensorShapeProto_Dimension_DimValue); ok && d.GetDimValue() != 1 {
			return graph.Type{}, &UnsupportedError{What: fmt.Sprintf("value %q: maps to tensors of %d elements", owner, d.GetDimValue())}
		}
	}
	return graph.MapOf(key, value), nil
}

func (im *importer) tensorType(p *proto.TypeProto_Tensor, owner string) (graph.Type, error) {
	var t graph.Type
	if p.GetElemType() != 0 {
		d, err := dtype(p.ElemType)
		if err != nil {
			return t, err
		}
		t.DType = d
	}
	if p.GetShape() == nil {
		return t, nil
	}
	t.Shape = make([]graph.Dim, len(p.Shape.Dim))
	for i, d := range p.Shape.Dim {
		t.Shape[i] = im.sym.dim(d, owner, i)
	}
	return t, nil
}

// attrType converts a type attribute (Optional, SequenceEmpty and the like).
func (im *importer) attrType(p *proto.TypeProto) (graph.Type, error) {
	return im.typeOf(p, "attribute", 0)
}
