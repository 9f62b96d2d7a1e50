package onnx

import (
	"fmt"
	"sort"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
	"github.com/ssdc-go/ssdc/ops"
)

// UnsupportedError says that a well-formed model uses what ssdc cannot
// represent: operators without a row, or a type.
type UnsupportedError struct {
	File string
	Ops  []MissingOp
	What string // when it is not an operator
}

// MissingOp is an operator that the table does not have at the model's opset.
type MissingOp struct {
	Domain, Name, Overload string
	Opset                  int
	Nodes                  []string // names of the first few nodes
	Count                  int
	Since                  int // the oldest version that the table has, newer than Opset; 0: none
}

// String prints com.example.Foo (opset 1; 3 nodes: "a", "b", "c").
func (m MissingOp) String() string {
	name := funcKey{m.Domain, m.Name, m.Overload}.String()
	nodes := make([]string, len(m.Nodes))
	for i, n := range m.Nodes {
		nodes[i] = fmt.Sprintf("%q", n)
	}
	list, plural := strings.Join(nodes, ", "), "s"
	if m.Count > len(m.Nodes) {
		list += ", ..."
	}
	if m.Count == 1 {
		plural = ""
	}
	if m.Since > 0 {
		list += fmt.Sprintf("; known from opset %d on: convert the model with onnx.version_converter", m.Since)
	}
	return fmt.Sprintf("%s (opset %d; %d node%s: %s)", name, m.Opset, m.Count, plural, list)
}

func (e *UnsupportedError) Error() string {
	prefix := ""
	if e.File != "" {
		prefix = e.File + ": "
	}
	if len(e.Ops) == 0 {
		return prefix + e.What + " are not supported"
	}
	list := make([]string, len(e.Ops))
	for i, m := range e.Ops {
		list[i] = m.String()
	}
	return fmt.Sprintf("%sunknown operators: %s; add a plugin that defines them", prefix, strings.Join(list, "; "))
}

// shownNodes is how many nodes a message names per missing operator.
const shownNodes = 3

// missing collects every operator without a row that is still in use.
func (im *importer) missing(g *graph.Graph) error {
	type key struct {
		funcKey
		opset int
	}
	found := map[key]*MissingOp{}
	g.Walk(func(n *graph.Node) {
		p := im.unknown[n]
		if p == nil {
			return
		}
		k := key{funcKey{n.Op.Domain, n.Op.Name, p.Overload}, im.opsetOf[n]}
		m := found[k]
		if m == nil {
			m = &MissingOp{Domain: k.domain, Name: k.name, Overload: k.overload, Opset: k.opset, Since: im.oldest(k.domain, k.name, k.opset)}
			found[k] = m
		}
		if m.Count++; len(m.Nodes) < shownNodes {
			m.Nodes = append(m.Nodes, n.From)
		}
	})
	if len(found) == 0 {
		return nil
	}
	e := &UnsupportedError{}
	for _, m := range found {
		e.Ops = append(e.Ops, *m)
	}
	sort.Slice(e.Ops, func(i, j int) bool { return e.Ops[i].String() < e.Ops[j].String() })
	return e
}

// oldest is the first version of an operator after an opset, 0 when there is none.
func (im *importer) oldest(domain, name string, after int) int {
	for v := after + 1; v <= MaxOpset; v++ {
		if r := im.table.Resolve(domain, name, v); r != nil {
			return r.ID.Since
		}
	}
	return 0
}

// checkAttrs compares the attributes of every node that is still in use, those
// of bodies included, with what its operator has: an attribute that nothing
// reads would change nothing, whatever the model means by it.
func (im *importer) checkAttrs(g *graph.Graph) error {
	var err error
	g.Walk(func(n *graph.Node) {
		if err == nil {
			err = ops.CheckAttrs(im.table, n)
		}
	})
	return err
}

// infer types the nodes in order and compares with what the file declares.
func (im *importer) infer(top *scope, gp *proto.GraphProto) error {
	for _, n := range im.model.Graph.Nodes {
		if err := im.inferNode(n); err != nil {
			return err
		}
	}
	if im.opt.IgnoreValueInfo {
		return nil
	}
	for _, list := range [][]*proto.ValueInfoProto{gp.ValueInfo, gp.Output} {
		for _, vi := range list {
			e := top.entries[vi.Name]
			if e == nil || e.v == nil || e.v.Unused() {
				continue // of a constant or node that was dropped
			}
			if err := im.compare(e.v, vi); err != nil {
				return err
			}
		}
	}
	return nil
}

// inferNode turns a panic of an Infer function into an error: the shapes in a
// file can be anything.
func (im *importer) inferNode(n *graph.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: cannot infer its type: %s", n, ops.Reason(p))
		}
	}()
	return ops.InferNode(im.table, n)
}

// compare checks a declared type. Only contradictions matter: symbolic lengths
// have many spellings. Another element type is an error. Another shape is a
// warning: exporters write wrong ones (converters of scikit-learn one column for
// outputs of several), nothing computes with them, and where lengths are compared
// as numbers, or ranks, the operators leave no doubt about what is computed.
func (im *importer) compare(v *graph.Value, vi *proto.ValueInfoProto) error {
	want, err := im.typeOf(vi.Type, vi.Name, 0)
	if err != nil {
		return asIs(err, "value %q: %w", vi.Name, err)
	}
	got := v.Type
	otherType := want.DType != 0 && got.DType != 0 && want.DType != got.DType
	conflict := otherType || want.Ranked() && got.Ranked() && want.Rank() != got.Rank()
	more := got.DType == 0 && want.DType != 0 || !got.Ranked() && want.Ranked()
	for i := 0; !conflict && want.Ranked() && i < got.Rank(); i++ {
		w, wok := want.Shape[i].Const()
		g, gok := got.Shape[i].Const()
		conflict = wok && gok && w != g
		more = more || !gok && unproven(got.Shape[i]) && !unproven(want.Shape[i])
	}
	if conflict {
		where := "the graph's inputs"
		if v.Def != nil {
			where = v.Def.String()
		}
		text := fmt.Sprintf("value %q is declared %s, but %s computes %s", vi.Name, want, where, got)
		if otherType {
			return fmt.Errorf("%s; the model contradicts itself: correct what it declares in graph.value_info or graph.output", text)
		}
		im.model.Warnings = append(im.model.Warnings, text+"; what is declared is ignored: correct or clear that shape in graph.value_info or graph.output")
		return nil
	}
	if more {
		im.model.Declared[v] = want
	}
	return nil
}

// unproven reports a length that only running tells.
func unproven(d graph.Dim) bool {
	for _, s := range d.Symbols() {
		if strings.HasPrefix(s, "?") {
			return true
		}
	}
	return false
}
