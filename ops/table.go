package ops

import (
	"fmt"
	"sort"

	"github.com/ssdc-go/ssdc/graph"
)

// Table finds rows. The zero Table is empty and ready to use.
type Table struct {
	rows   map[opName][]*Op // by descending Since
	source map[graph.OpID]string
	named  map[string]*Op // rows that stand for their name in any domain
}

type opName struct{ domain, name string }

// Add puts rows in the table; source says where they come from ("ops/onnx",
// "plugin softcap"). Two rows for one operator version are an error that
// names both sources.
func (t *Table) Add(source string, rows ...*Op) error {
	if t.rows == nil {
		t.rows, t.source, t.named = map[opName][]*Op{}, map[graph.OpID]string{}, map[string]*Op{}
	}
	for _, r := range rows {
		if old, dup := t.source[r.ID]; dup {
			return fmt.Errorf("operator %s is defined by %s and by %s", r.ID, old, source)
		}
		if r.Infer == nil {
			return fmt.Errorf("operator %s from %s has no Infer function", r.ID, source)
		}
		if r.Traits&AnyDomain != 0 {
			if old := t.named[r.ID.Name]; old != nil {
				return fmt.Errorf("operators named %s, in any domain, are defined by %s and by %s", r.ID.Name, t.source[old.ID], source)
			}
			t.named[r.ID.Name] = r
		}
		t.source[r.ID] = source
		k := opName{r.ID.Domain, r.ID.Name}
		l := append(t.rows[k], r)
		sort.Slice(l, func(i, j int) bool { return l[i].ID.Since > l[j].ID.Since })
		t.rows[k] = l
	}
	return nil
}

// Resolve returns the version of domain.name in force at an opset, or nil.
// Opset 0 asks for the newest.
func (t *Table) Resolve(domain, name string, opset int) *Op {
	for _, r := range t.rows[opName{domain, name}] {
		if opset == 0 || r.ID.Since <= opset {
			if r.Until != 0 && opset > r.Until {
				return nil
			}
			return r
		}
	}
	return nil
}

// Named returns the row that stands for operators of this name in domains of
// which the table has none of that name, or nil.
func (t *Table) Named(name string) *Op { return t.named[name] }

// Lookup returns the row of exactly this operator version, or nil.
func (t *Table) Lookup(id graph.OpID) *Op {
	for _, r := range t.rows[opName{id.Domain, id.Name}] {
		if r.ID.Since == id.Since {
			return r
		}
	}
	return nil
}

// Of returns the row of a node's operator, or an error naming the node.
func (t *Table) Of(n *graph.Node) (*Op, error) {
	if r := t.Lookup(n.Op); r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("%s: unknown operator; add a plugin that defines it", n)
}

// Source says who defined an operator.
func (t *Table) Source(id graph.OpID) string { return t.source[id] }

// All lists the rows by domain, name and version.
func (t *Table) All() []*Op {
	var out []*Op
	for _, l := range t.rows {
		out = append(out, l...)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i].ID, out[j].ID
		if a.Domain != b.Domain {
			return a.Domain < b.Domain
		}
		if a.Name != b.Name {
			return a.Name < b.Name
		}
		return a.Since < b.Since
	})
	return out
}
