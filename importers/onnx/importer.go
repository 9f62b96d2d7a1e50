package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
	"github.com/ssdc-go/ssdc/ops"
)

// importer holds one import. Nodes are first declared (all their outputs get
// values), then connected, so that files may list them in any order.
type importer struct {
	table   *ops.Table
	opt     *Options
	proto   *proto.ModelProto
	model   *Model
	sym     *symbols
	ext     *external
	funcs   map[funcKey]*proto.FunctionProto
	names   map[string]int // names taken; the value numbers the next variant
	pending []pending
	results []results
	unknown map[*graph.Node]*proto.NodeProto
	opsetOf map[*graph.Node]int // of unknown operators, for the message
	budget  int                 // what may still be made, see spend
	// Decoded values: a function that is called often shares them.
	attrs   map[*proto.AttributeProto]any
	tensors map[*proto.TensorProto]*tensor.Tensor
	dense   int64 // bytes of sparse tensors made dense
}

// pending is a node to connect.
type pending struct {
	n *graph.Node
	p *proto.NodeProto
	s *scope
}

// results are a graph's outputs to connect.
type results struct {
	s     *scope
	names []*proto.ValueInfoProto
}

func (im *importer) run() error {
	gp := im.proto.Graph
	var err error
	if im.model.Opsets, err = opsets(im.proto.OpsetImport); err != nil {
		return err
	}
	if err := im.checkOpset(im.model.Opsets); err != nil {
		return err
	}
	for _, f := range im.proto.Functions {
		k := funcKey{domain(f.Domain), f.Name, f.Overload}
		if im.funcs[k] != nil {
			return fmt.Errorf("function %s is defined twice", k)
		}
		im.funcs[k] = f
	}
	im.budget = minBudget + maxGrowth*size(im.proto)
	im.sym = newSymbols(im.opt.Symbols, gp.Input)
	im.reserve(gp)
	g := graph.New(gp.Name)
	im.model.Graph = g
	top := &scope{g: g, what: fmt.Sprintf("graph %q", gp.Name), entries: map[string]*entry{}}
	if err := im.declare(top, gp); err != nil {
		return err
	}
	for i := 0; i < len(im.pending); i++ { // connecting a node may declare its bodies
		if err := im.connect(im.pending[i]); err != nil {
			return err
		}
	}
	if len(gp.Output) == 0 {
		return fmt.Errorf("graph %q has no outputs", gp.Name)
	}
	for _, r := range im.results {
		if err := im.connectOutputs(r); err != nil {
			return err
		}
	}
	if err := im.sym.unused(); err != nil {
		return err
	}
	if err := g.Sort(); err != nil {
		return err
	}
	if !im.opt.KeepUnused {
		g.Sweep()
	}
	if err := im.missing(g); err != nil {
		return err
	}
	if err := im.checkAttrs(g); err != nil {
		return err
	}
	return im.infer(top, gp)
}

// declare enters the inputs, initializers and nodes of a graph into s.
func (im *importer) declare(s *scope, gp *proto.GraphProto) error {
	if s.depth > maxBodies {
		return fmt.Errorf("%s: graphs are nested more than %d deep", s.title(), maxBodies)
	}
	if err := im.spend(s, len(gp.Initializer)+len(gp.SparseInitializer)+len(gp.Input)+len(gp.Output)); err != nil {
		return err
	}
	for _, t := range gp.Initializer {
		if t.Name == "" {
			return fmt.Errorf("%s: an initializer has no name", s.title())
		}
		if err := s.define(t.Name, &entry{kind: "initializer", tensor: t}); err != nil {
			return err
		}
	}
	for _, t := range gp.SparseInitializer {
		name := t.GetValues().GetName()
		if err := s.define(name, &entry{kind: "sparse initializer", sparse: t}); err != nil {
			return err
		}
	}
	for _, v := range gp.Input {
		if v.Name == "" {
			return fmt.Errorf("%s: an input has no name", s.title())
		}
		if e := s.entries[v.Name]; e != nil && (e.tensor != nil || e.sparse != nil) {
			if s.parent != nil {
				return fmt.Errorf("%s: the body's input %q is also an initializer", s.title(), v.Name)
			}
			continue // a weight with a default: before IR version 4 all weights look so
		}
		t, err := im.typeOf(v.Type, v.Name, 0)
		if err != nil {
			return asIs(err, "input %q: %w", v.Name, err)
		}
		if s.parent == nil && t.DType == 0 {
			return fmt.Errorf("input %q has no element type", v.Name)
		}
		e := &entry{kind: "input"}
		if err := s.define(v.Name, e); err != nil {
			return err
		}
		e.v = s.g.AddInput(im.valueName(s, v.Name), t)
	}
	for _, n := range gp.Node {
		if err := im.declareNode(s, n); err != nil {
			return err
		}
	}
	im.results = append(im.results, results{s, gp.Output})
	return nil
}

// label names a node for messages and for Node.From.
func label(s *scope, p *proto.NodeProto) string {
	name := p.Name
	for i := 0; name == "" && i < len(p.Output); i++ {
		name = p.Output[i]
	}
	return shorten(s.prefix + name)
}

func describe(s *scope, p *proto.NodeProto) string {
	op := p.OpType
	if d := domain(p.Domain); d != "" {
		op = d + "." + op
	}
	return fmt.Sprintf("node %q (%s)", label(s, p), op)
}

// declareNode makes the node and the values of its outputs.
func (im *importer) declareNode(s *scope, p *proto.NodeProto) error {
	if err := im.spend(s, nodeSize(p)); err != nil {
		return err
	}
	dom := domain(p.Domain)
	if dom == "" && p.OpType == "Constant" {
		return im.declareConstant(s, p)
	}
	versions := im.opsets(s)
	if _, listed := versions[dom]; dom == "" && !listed {
		return fmt.Errorf("%s: opset_import lists no version of ai.onnx", describe(s, p))
	}
	row := im.table.Resolve(dom, p.OpType, versions[dom])
	// A function's body is what it computes: it goes before what is known of a name alone.
	byName := row == nil || row.Traits&ops.AnyDomain != 0
	if f := im.funcs[funcKey{dom, p.OpType, p.Overload}]; f != nil && (byName || p.Overload != "" || im.opt.InlineFunctions) {
		return im.inline(s, p, f)
	}
	if row == nil && dom != "" {
		row = im.table.Named(p.OpType)
	}
	id := graph.OpID{Domain: dom, Name: p.OpType}
	if row != nil {
		id = row.ID
	}
	n := s.g.Add(id, nil, nil, 0, "")
	n.From = label(s, p)
	if row == nil {
		im.unknown[n], im.opsetOf[n] = p, versions[dom]
	}
	outs := p.Output
	for len(outs) > 0 && outs[len(outs)-1] == "" {
		outs = outs[:len(outs)-1]
	}
	for _, o := range outs {
		if o == "" {
			n.Out = append(n.Out, nil)
			continue
		}
		e := &entry{node: p, at: s}
		if err := s.define(o, e); err != nil {
			return err
		}
		e.v = &graph.Value{Name: s.g.UniqueName(im.valueName(s, o)), Def: n}
		n.Out = append(n.Out, e.v)
	}
	im.pending = append(im.pending, pending{n, p, s})
	return nil
}

// connect sets the inputs, attributes and bodies of a declared node.
func (im *importer) connect(d pending) error {
	n, p, s := d.n, d.p, d.s
	for i, name := range p.Input {
		n.In = append(n.In, nil)
		if name == "" {
			continue
		}
		v, err := im.lookup(s, name)
		if err != nil {
			return asIs(err, "%s: input %d: %w", describe(s, p), i, err)
		}
		n.SetIn(i, v)
	}
	n.TrimIn()
	for _, a := range p.Attribute {
		in, ok := im.resolve(s, a)
		if !ok {
			continue // refers to a parameter that the caller left out
		}
		if n.Attrs.Has(a.Name) || n.Body(a.Name) != nil {
			return fmt.Errorf("%s: attribute %q is given twice", n, a.Name)
		}
		if in.p.Type == proto.AttributeProto_GRAPH || in.p.Type == 0 && in.p.G != nil {
			if err := im.body(d, a.Name, in); err != nil {
				return err
			}
			continue
		}
		v, err := im.attrValue(in)
		if err != nil {
			return asIs(err, "%s: attribute %q: %w", n, a.Name, err)
		}
		n.Attrs[a.Name] = v
	}
	return im.checkKinds(n)
}

// body declares a graph-valued attribute. Its names resolve where the
// attribute was written, which for a function's parameter is the caller.
func (im *importer) body(d pending, attr string, in attrIn) error {
	if in.p.G == nil {
		return fmt.Errorf("%s: attribute %q has no graph", describe(d.s, d.p), attr)
	}
	b := d.n.AddBody(attr, in.p.G.Name)
	s := &scope{
		parent: in.s, call: in.s.call, g: b, prefix: in.s.prefix, depth: in.s.depth + 1,
		what: fmt.Sprintf("%s %q", attr, in.p.G.Name), node: d.p, outer: d.s, entries: map[string]*entry{},
	}
	return im.declare(s, in.p.G)
}

func (im *importer) connectOutputs(r results) error {
	for i, o := range r.names {
		if o.Name == "" {
			return fmt.Errorf("%s: output %d has no name", r.s.title(), i)
		}
		v, err := im.lookup(r.s, o.Name)
		if err == nil && v == nil {
			err = fmt.Errorf("%q is a parameter that the caller left out", o.Name)
		}
		if err != nil {
			return asIs(err, "%s: output %d: %w", r.s.title(), i, err)
		}
		if r.s.parent == nil && v.Name != o.Name {
			v = im.rename(r.s.g, v, o.Name)
		}
		r.s.g.AddOutput(v)
	}
	return nil
}

// rename keeps the name of a model output that an inlined function merely
// passes on, by way of an Identity node.
func (im *importer) rename(g *graph.Graph, v *graph.Value, name string) *graph.Value {
	row := im.table.Resolve("", "Identity", im.model.Opsets[""])
	if row == nil {
		return v
	}
	n := g.Add(row.ID, nil, []*graph.Value{v}, 0, "")
	n.From = name
	out := &graph.Value{Name: g.UniqueName(name), Def: n}
	n.Out = append(n.Out, out)
	return out
}
