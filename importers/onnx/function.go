package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// funcKey identifies a model-local function.
type funcKey struct{ domain, name, overload string }

func (k funcKey) String() string {
	s := k.name
	if k.domain != "" {
		s = k.domain + "." + s
	}
	if k.overload != "" {
		s += " (overload " + k.overload + ")"
	}
	return s
}

// call is one expansion of a function.
type call struct {
	f       *proto.FunctionProto
	from    *scope // the caller
	opsets  map[string]int
	attrs   map[string]attrIn // parameters given or with a default
	callers int
}

// domain gives the two spellings of ONNX's own domain one form.
func domain(d string) string {
	if d == "ai.onnx" {
		return ""
	}
	return d
}

func opsets(list []*proto.OperatorSetIdProto) (map[string]int, error) {
	m := map[string]int{}
	for _, o := range list {
		d := domain(o.Domain)
		if old, dup := m[d]; dup && int64(old) != o.Version {
			return nil, fmt.Errorf("opset_import lists versions %d and %d of domain %q", old, o.Version, o.Domain)
		}
		if o.Version < 0 || o.Version > 1<<20 {
			return nil, fmt.Errorf("opset_import has version %d of domain %q", o.Version, o.Domain)
		}
		m[d] = int(o.Version)
	}
	return m, nil
}

func (im *importer) checkOpset(m map[string]int) error {
	if v := m[""]; v > MaxOpset && !im.opt.AnyOpset {
		return fmt.Errorf("opset %d is newer than %d, the newest this version of ssdc knows; export with an older opset", v, MaxOpset)
	}
	return nil
}

// opsets are the operator versions in force in s.
func (im *importer) opsets(s *scope) map[string]int {
	if s.call != nil {
		return s.call.opsets
	}
	return im.model.Opsets
}

// inline declares the nodes of a function in place of the node p that calls it.
func (im *importer) inline(s *scope, p *proto.NodeProto, f *proto.FunctionProto) error {
	key := funcKey{domain(f.Domain), f.Name, f.Overload}
	fail := func(format string, a ...any) error {
		return fmt.Errorf("%s: function %s: %w", describe(s, p), key, fmt.Errorf(format, a...))
	}
	c := &call{f: f, from: s, attrs: map[string]attrIn{}}
	if s.call != nil {
		c.callers = s.call.callers + 1
	}
	for up := s.call; up != nil; up = up.from.call {
		if up.f == f {
			return fail("calls itself")
		}
	}
	if c.callers > maxCalls {
		return fail("calls are nested more than %d deep", maxCalls)
	}
	if len(p.Input) > len(f.Input) {
		return fail("takes %d inputs, got %d", len(f.Input), len(p.Input))
	}
	if len(p.Output) > len(f.Output) {
		return fail("has %d outputs, the caller asks for %d", len(f.Output), len(p.Output))
	}
	var err error
	if c.opsets, err = opsets(f.OpsetImport); err != nil {
		return fail("%w", err)
	}
	if err := im.checkOpset(c.opsets); err != nil {
		return fail("%w", err)
	}
	for d, v := range im.model.Opsets { // a function may rely on the model for other functions' domains
		if _, listed := c.opsets[d]; !listed && d != "" {
			c.opsets[d] = v
		}
	}
	fs := &scope{
		call: c, g: s.g, prefix: label(s, p) + "/", depth: s.depth + 1, what: "function " + key.String(), node: p, outer: s,
		entries: map[string]*entry{}, outside: map[string]string{},
	}
	if fs.depth > maxBodies+maxCalls {
		return fail("is nested too deeply")
	}
	for _, a := range f.AttributeProto {
		c.attrs[a.Name] = attrIn{a, fs}
	}
	for _, a := range p.Attribute {
		if in, ok := im.resolve(s, a); ok {
			c.attrs[a.Name] = in
		}
	}
	for i, name := range f.Input {
		e := &entry{kind: "function input", omitted: true}
		if i < len(p.Input) && p.Input[i] != "" {
			e.omitted, e.alias = false, &alias{s, p.Input[i]}
		}
		if err := fs.define(name, e); err != nil {
			return err
		}
	}
	for i, name := range f.Output {
		if i < len(p.Output) && p.Output[i] != "" && fs.outside[name] == "" {
			fs.outside[name] = p.Output[i]
		}
	}
	if err := im.spend(s, len(f.Input)+len(f.Output)); err != nil {
		return err
	}
	for _, n := range f.Node {
		if err := im.declareNode(fs, n); err != nil {
			return err
		}
	}
	for i, name := range p.Output {
		if name == "" {
			continue
		}
		if err := s.define(name, &entry{node: p, at: s, alias: &alias{fs, f.Output[i]}}); err != nil {
			return err
		}
	}
	return nil
}

// nodeSize counts what a node makes: itself, its names and its attributes.
func nodeSize(p *proto.NodeProto) int {
	return 1 + len(p.Input) + len(p.Output) + len(p.Attribute)
}

// size counts what the text of a model holds, before any inlining.
func size(m *proto.ModelProto) int {
	var graph func(*proto.GraphProto) int
	nodes := func(list []*proto.NodeProto) (n int) {
		for _, p := range list {
			n += nodeSize(p)
			for _, a := range p.Attribute {
				n += graph(a.G)
			}
		}
		return n
	}
	graph = func(g *proto.GraphProto) int {
		return len(g.GetInitializer()) + len(g.GetSparseInitializer()) + len(g.GetInput()) + len(g.GetOutput()) + nodes(g.GetNode())
	}
	n := graph(m.Graph)
	for _, f := range m.Functions {
		n += len(f.Input) + len(f.Output) + nodes(f.Node)
	}
	return n
}

// spend stops files whose functions multiply: a few calling each other twice
// would fill any memory.
func (im *importer) spend(s *scope, n int) error {
	if im.budget -= n; im.budget < 0 {
		return fmt.Errorf("%s: inlining functions makes the graph too large (more than %d times the file)", s.title(), maxGrowth)
	}
	return nil
}
