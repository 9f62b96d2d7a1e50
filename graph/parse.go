package graph

import (
	"encoding/hex"
	"io"
	"strconv"
	"strings"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Parse reads what Print writes. A constant that is not written inline is
// asked for by name from consts, with its declared type and digest. Lines that
// start with # are comments.
func Parse(r io.Reader, consts func(name string, t Type, digest string) (*tensor.Tensor, error)) (*Graph, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	p := &parser{lexer: lexer{s: string(text), line: 1}, consts: consts, values: map[string]*Value{}, names: map[string]bool{}}
	p.next()
	g := p.graph(nil)
	if p.err == nil && p.tok != "" {
		p.fail("unexpected %q after the graph", p.tok)
	}
	if p.err != nil {
		return nil, p.err
	}
	g.names = p.names
	if err := g.Verify(); err != nil {
		return nil, err
	}
	return g, nil
}

// ParseString is Parse of a string whose constants are all inline.
func ParseString(s string) (*Graph, error) { return Parse(strings.NewReader(s), nil) }

type parser struct {
	lexer
	consts func(string, Type, string) (*tensor.Tensor, error)
	values map[string]*Value // in scope
	names  map[string]bool   // ever defined
	depth  int
}

func (p *parser) graph(parent *Node) *Graph {
	if p.depth++; p.depth > 100 {
		p.fail("bodies nested too deeply")
		return nil
	}
	defer func() { p.depth-- }()
	p.want("graph")
	g := &Graph{Name: p.name(), Parent: parent}
	p.want("(")
	for p.err == nil && !p.eat(")") {
		t := p.typ()
		v := &Value{Name: p.name(), Type: t}
		p.define(v)
		g.Inputs = append(g.Inputs, v)
		if !p.eat(",") && p.tok != ")" {
			p.fail("expected ',' or ')', got %q", p.tok)
		}
	}
	p.want("=>")
	p.want("(")
	type decl struct {
		t    Type
		name string
	}
	var outs []decl
	for p.err == nil && !p.eat(")") {
		t := p.typ()
		outs = append(outs, decl{t, p.name()})
		if !p.eat(",") && p.tok != ")" {
			p.fail("expected ',' or ')', got %q", p.tok)
		}
	}
	if p.eat("<") {
		for p.err == nil && !p.eat(">") {
			p.constant()
		}
	}
	p.want("{")
	for p.err == nil && !p.eat("}") {
		p.node(g)
	}
	for _, o := range outs {
		v := p.values[o.name]
		if p.err == nil && v == nil {
			p.fail("output %q is not defined", o.name)
		}
		if p.err == nil && !v.Type.Equal(o.t) {
			p.fail("output %q is declared %s but defined as %s", o.name, o.t, v.Type)
		}
		if p.err != nil {
			return g
		}
		g.AddOutput(v)
	}
	return g
}

func (p *parser) define(v *Value) {
	if p.err == nil && p.names[v.Name] {
		p.fail("%q is defined twice", v.Name)
	}
	p.names[v.Name] = true
	p.values[v.Name] = v
}

func (p *parser) constant() {
	t := p.typ()
	v := &Value{Name: p.name(), Type: t}
	p.want("=")
	if p.tok == "{" {
		v.Const = p.contents(t)
	} else {
		p.want("@")
		name := p.name()
		digest := p.name()
		if p.err != nil {
			return
		}
		if p.consts == nil {
			p.fail("constant %q is stored elsewhere, and there is nowhere to read it from", name)
			return
		}
		c, err := p.consts(name, t, digest)
		if err != nil {
			p.fail("constant %q: %v", name, err)
			return
		}
		v.Const = c
	}
	if p.err == nil && v.Const != nil && !t.DType.IsContainer() && !TypeOf(v.Const).Equal(t) {
		p.fail("constant %q is declared %s but holds %s", v.Name, t, v.Const.TypeString())
	}
	p.define(v)
}

func (p *parser) node(g *Graph) {
	n := &Node{Graph: g, Attrs: Attrs{}}
	if p.eat("[") {
		n.From = p.quoted()
		p.want("]")
	}
	for p.err == nil && !p.eat("=") {
		if p.eat("_") {
			n.Out = append(n.Out, nil)
		} else {
			t := p.typ()
			n.Out = append(n.Out, &Value{Name: p.name(), Type: t, Def: n})
		}
		if !p.eat(",") && p.tok != "=" {
			p.fail("expected ',' or '=', got %q", p.tok)
		}
	}
	n.Op = p.op()
	if p.eat("<") {
		for p.err == nil && !p.eat(">") {
			p.attr(n)
			if !p.eat(",") && p.tok != ">" {
				p.fail("expected ',' or '>', got %q", p.tok)
			}
		}
	}
	p.want("(")
	for p.err == nil && !p.eat(")") {
		if p.eat("_") {
			n.In = append(n.In, nil)
		} else {
			name := p.name()
			v := p.values[name]
			if p.err == nil && v == nil {
				p.fail("%q is not defined", name)
			}
			n.In = append(n.In, nil)
			if v != nil {
				n.SetIn(len(n.In)-1, v)
			}
		}
		if !p.eat(",") && p.tok != ")" {
			p.fail("expected ',' or ')', got %q", p.tok)
		}
	}
	for _, v := range n.Out {
		if v != nil {
			p.define(v)
		}
	}
	g.Nodes = append(g.Nodes, n)
}

// op reads domain.Name-version; the domain may contain dots.
func (p *parser) op() OpID {
	name := p.name()
	p.want("-")
	v, err := strconv.Atoi(p.tok)
	if p.err == nil && err != nil {
		p.fail("expected the operator's version, got %q", p.tok)
	}
	p.next()
	o := OpID{Name: name, Since: v}
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		o.Domain, o.Name = name[:i], name[i+1:]
	}
	return o
}

func (p *parser) attr(n *Node) {
	name := p.name()
	p.want(":")
	kind := p.name()
	p.want("=")
	if p.err != nil {
		return
	}
	if n.Attrs.Has(name) || n.Body(name) != nil {
		p.fail("attribute %q is given twice", name)
		return
	}
	switch kind {
	case "int":
		n.Attrs[name] = p.int()
	case "float":
		n.Attrs[name] = float32(p.float())
	case "string":
		n.Attrs[name] = p.quoted()
	case "ints":
		n.Attrs[name] = parseList(p, p.int)
	case "floats":
		n.Attrs[name] = parseList(p, func() float32 { return float32(p.float()) })
	case "strings":
		n.Attrs[name] = parseList(p, p.quoted)
	case "tensor":
		n.Attrs[name] = p.tensor()
	case "tensors":
		n.Attrs[name] = parseList(p, p.tensor)
	case "type":
		n.Attrs[name] = p.typ()
	case "graph":
		n.Bodies = append(n.Bodies, Body{name, p.graph(n)})
	default:
		p.fail("unknown attribute kind %q", kind)
	}
}

func parseList[T any](p *parser, f func() T) []T {
	out := []T{}
	p.want("[")
	for p.err == nil && !p.eat("]") {
		out = append(out, f())
		if !p.eat(",") && p.tok != "]" {
			p.fail("expected ',' or ']', got %q", p.tok)
		}
	}
	return out
}

func (p *parser) tensor() *tensor.Tensor {
	t := p.typ()
	return p.contents(t)
}

func (p *parser) typ() Type {
	word := p.name()
	d, ok := tensor.ParseDType(word)
	if !ok && word != "undefined" {
		p.fail("unknown element type %q", word)
		return Type{}
	}
	t := Type{DType: d}
	if d.IsContainer() {
		p.want("(")
		if p.depth++; p.depth > 100 {
			p.fail("types nested too deeply")
			return t
		}
		if d == tensor.Map {
			key := p.name()
			if t.Key, ok = tensor.ParseDType(key); p.err == nil && (!ok || t.Key != tensor.String && !t.Key.IsInt()) {
				p.fail("the keys of a map are strings or integers, not %q", key)
			}
			p.want(",")
		}
		e := p.typ()
		p.depth--
		p.want(")")
		t.Elem = &e
		return t
	}
	if p.tok != "[" || p.spaced { // a type's '[' is written without a space
		return t
	}
	t.Shape = []Dim{}
	for _, s := range p.dims() {
		dim, err := ParseDim(s)
		if err != nil {
			p.fail("%v", err)
			return t
		}
		t.Shape = append(t.Shape, dim)
	}
	return t
}

// contents reads {elements} of a declared type.
func (p *parser) contents(t Type) *tensor.Tensor {
	p.want("{")
	if t.DType.IsContainer() {
		out := &tensor.Tensor{DType: t.DType}
		for p.err == nil && !p.eat("}") {
			out.Elems = append(out.Elems, p.tensor())
			if !p.eat(",") && p.tok != "}" {
				p.fail("expected ',' or '}', got %q", p.tok)
			}
		}
		if t.DType == tensor.Map && p.err == nil {
			if len(out.Elems) != 2 {
				p.fail("%s is written as its keys and its values", t)
				return nil
			}
			m, err := tensor.NewMap(out.Entries())
			if err != nil {
				p.fail("%v", err)
			}
			return m
		}
		return out
	}
	shape, ok := t.Static()
	if !ok {
		p.fail("a constant needs a static shape, not %s", t)
		return nil
	}
	n := 1
	for _, d := range shape {
		if d < 0 || d > 1<<40 || n > 1<<40 {
			p.fail("bad constant shape in %s", t)
			return nil
		}
		n *= d
	}
	if n > len(p.s) { // each element takes at least one character of text
		p.fail("%s cannot be written in the text that is left", t)
		return nil
	}
	out := tensor.New(t.DType, shape...)
	if t.DType == tensor.Complex64 || t.DType == tensor.Complex128 {
		if p.name() != "x" {
			p.fail("complex constants are written as bytes")
		}
		b, err := hex.DecodeString(p.quoted())
		if p.err == nil && (err != nil || len(b) != len(out.Data)) {
			p.fail("bad bytes for %s", t)
		}
		copy(out.Data, b)
		p.want("}")
		return out
	}
	for i := 0; i < n && p.err == nil; i++ {
		if i > 0 {
			p.want(",")
		}
		switch {
		case t.DType == tensor.String:
			out.Strings[i] = p.quoted()
		case t.DType == tensor.Uint64:
			v, err := strconv.ParseUint(p.tok, 10, 64)
			if err != nil {
				p.fail("expected a number, got %q", p.tok)
			}
			out.SetIntAt(i, int64(v))
			p.next()
		case t.DType.IsFloat():
			out.SetAt(i, p.float())
		default:
			out.SetIntAt(i, p.int())
		}
	}
	p.want("}")
	return out
}

func (p *parser) number() string {
	s := ""
	if p.eat("-") {
		s = "-"
	}
	s += p.tok
	p.next()
	if p.err == nil && (strings.HasSuffix(s, "e") || strings.HasSuffix(s, "E")) && (p.tok == "-" || p.tok == "+") {
		s += p.tok
		p.next()
		s += p.tok
		p.next()
	}
	return s
}

func (p *parser) int() int64 {
	s := p.number()
	v, err := strconv.ParseInt(s, 10, 64)
	if p.err == nil && err != nil {
		p.fail("expected an integer, got %q", s)
	}
	return v
}

func (p *parser) float() float64 {
	s := p.number()
	v, err := strconv.ParseFloat(s, 64)
	if p.err == nil && err != nil {
		p.fail("expected a number, got %q", s)
	}
	return v
}

// name reads a bare or quoted name.
func (p *parser) name() string {
	if p.err == nil && !p.isName {
		p.fail("expected a name, got %q", p.tok)
		return ""
	}
	s := p.text
	p.next()
	return s
}

func (p *parser) quoted() string {
	if p.err == nil && !p.isQuoted {
		p.fail("expected a quoted string, got %q", p.tok)
		return ""
	}
	s := p.text
	p.next()
	return s
}
