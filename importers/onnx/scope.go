package onnx

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// scope maps the names of one GraphProto or FunctionProto to values. Bodies
// see the scopes around them, functions see only their parameters.
type scope struct {
	parent  *scope
	call    *call // the function being inlined; nil in the main graph and its bodies
	g       *graph.Graph
	what    string           // for messages: what kind of graph, and its name
	node    *proto.NodeProto // that owns the body or calls the function, named in the outer scope
	outer   *scope
	prefix  string            // of the names made by inlining
	outside map[string]string // a function's output -> the caller's name for it
	entries map[string]*entry
	depth   int // graphs and calls around this one
}

// entry is one name. Constants are decoded, and aliases followed, when first
// used, so that nodes may come in any order and unused weights cost nothing.
type entry struct {
	kind    string // "input", "initializer", ... for messages; "" when a node defines the name
	node    *proto.NodeProto
	at      *scope // of node
	v       *graph.Value
	omitted bool // a function's parameter that the caller left out
	tensor  *proto.TensorProto
	sparse  *proto.SparseTensorProto
	attr    *attrIn // the value of a Constant node
	alias   *alias
	busy    bool
}

// by says what defines the name. It is put into words only when needed: models
// have hundreds of thousands of names and few errors.
func (e *entry) by(name string) string {
	if e.node != nil {
		return describe(e.at, e.node)
	}
	return fmt.Sprintf("%s %q", e.kind, name)
}

type alias struct {
	s    *scope
	name string
}

// title names the scope in messages.
func (s *scope) title() string {
	if s.node == nil {
		return s.what
	}
	return describe(s.outer, s.node) + ": " + s.what
}

// define adds a name, which must be new in this scope.
func (s *scope) define(name string, e *entry) error {
	if old := s.entries[name]; old != nil {
		return fmt.Errorf("%s: the name %q is defined twice, by %s and by %s", s.title(), name, old.by(name), e.by(name))
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("%s: the name %q, defined by %s, is not valid UTF-8", s.title(), name, e.by(name))
	}
	s.entries[name] = e
	return nil
}

// lookup finds a value; nil, nil when it is an omitted parameter.
func (im *importer) lookup(s *scope, name string) (*graph.Value, error) {
	var via []*entry // aliases followed; a loop, because chains can be as long as the file
	defer func() {
		for _, e := range via {
			e.busy = false
		}
	}()
	for {
		var e *entry
		at := s
		for ; at != nil; at = at.parent {
			if e = at.entries[name]; e != nil {
				break
			}
		}
		switch {
		case e == nil:
			return nil, fmt.Errorf("%q is not defined: no input, initializer or node output has this name", name)
		case e.busy:
			return nil, fmt.Errorf("%q is defined by itself, through function calls", name)
		case e.alias != nil && e.v == nil && !e.omitted:
			e.busy = true
			via = append(via, e)
			s, name = e.alias.s, e.alias.name
			continue
		case e.v == nil && !e.omitted:
			var err error
			if e.v, err = im.constant(at, name, e); err != nil {
				return nil, err
			}
		}
		for _, a := range via {
			a.v, a.omitted = e.v, e.v == nil
		}
		return e.v, nil
	}
}

// constant decodes the tensor of an initializer or Constant node.
func (im *importer) constant(s *scope, name string, e *entry) (*graph.Value, error) {
	var v any
	var err error
	switch {
	case e.sparse != nil:
		v, err = im.sparse(e.sparse)
	case e.attr != nil:
		v, err = im.attrValue(*e.attr)
	default:
		v, err = im.tensor(e.tensor)
	}
	if err != nil {
		return nil, asIs(err, "%s: %w", e.by(name), err)
	}
	t, err := constTensor(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.by(name), err)
	}
	c := s.g.AddConst(im.valueName(s, name), t)
	return c, nil
}

// asIs wraps an error, unless it lists something unsupported: that one is for the caller of Load.
func asIs(err error, format string, a ...any) error {
	if _, ok := err.(*UnsupportedError); ok {
		return err
	}
	return fmt.Errorf(format, a...)
}

// valueName is the name of a value in the graph. Names of the outermost graph
// stay as they are; those of inlined functions get the call's name in front,
// except that a function's result is called what the caller calls it.
func (im *importer) valueName(s *scope, name string) string {
	for out, ok := s.outside[name]; ok; out, ok = s.outside[name] {
		s, name = s.call.from, out
	}
	if s.parent == nil && s.call == nil {
		im.names[name] = max(im.names[name], 1)
		return name
	}
	return im.fresh(shorten(s.prefix + name))
}

// fresh returns a name that neither the file's outermost graph nor another
// inlined value has.
func (im *importer) fresh(name string) string {
	unique := name
	for im.names[unique] > 0 {
		unique = fmt.Sprintf("%s_%d", name, im.names[name])
		im.names[name]++
	}
	im.names[unique] = 1
	return unique
}

func shorten(name string) string {
	if len(name) > maxInlineName {
		return strings.ToValidUTF8(name[len(name)-maxInlineName:], "")
	}
	return name
}

// reserve keeps the names of the outermost graph for their owners.
func (im *importer) reserve(g *proto.GraphProto) {
	for _, t := range g.Initializer {
		im.names[t.Name] = 1
	}
	for _, v := range g.Input {
		im.names[v.Name] = 1
	}
	for _, n := range g.Node {
		for _, o := range n.Output {
			im.names[o] = 1
		}
	}
}
