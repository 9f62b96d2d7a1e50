package canon

import (
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
)

// merge replaces nodes that compute what an earlier node of the same graph
// computes. Small constants are compared by contents, large ones by identity.
func merge(c *passes.Context, g *graph.Graph) bool {
	m := merger{c: c, ids: map[*graph.Value]int{}, consts: map[string]int{}}
	m.graph(g)
	return m.changed
}

type merger struct {
	c       *passes.Context
	ids     map[*graph.Value]int
	consts  map[string]int
	changed bool
}

func (m *merger) id(v *graph.Value) int {
	if v == nil {
		return -1
	}
	if id, ok := m.ids[v]; ok {
		return id
	}
	id := len(m.ids)
	if v.Const != nil && v.Const.Len() <= graph.InlineLimit && !v.Const.DType.IsContainer() {
		key := v.Const.TypeString() + graph.Digest(v.Const)
		if old, ok := m.consts[key]; ok {
			id = old
		} else {
			m.consts[key] = id
		}
	}
	m.ids[v] = id
	return id
}

func (m *merger) graph(g *graph.Graph) {
	seen := map[string]*graph.Node{}
	for _, n := range g.Nodes {
		if len(n.Bodies) > 0 {
			for _, b := range n.Bodies {
				m.graph(b.Graph)
			}
			continue
		}
		if op := m.c.Table.Lookup(n.Op); op == nil || op.Traits&ops.Random != 0 {
			continue
		}
		key, ok := m.key(n)
		if !ok {
			continue
		}
		first := seen[key]
		if first == nil {
			seen[key] = n
			continue
		}
		for i, v := range n.Out {
			if v == nil || v.IsOutput() || v.Unused() {
				continue // outputs keep their own node and name
			}
			if w := first.Out[i]; w != nil {
				m.ids[v] = m.id(w)
				v.ReplaceWith(w)
				m.changed = true
			}
		}
	}
}

func (m *merger) key(n *graph.Node) (string, bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d", n.Op, len(n.Out))
	for _, v := range n.In {
		fmt.Fprintf(&b, " %d", m.id(v))
	}
	for _, k := range n.Attrs.Names() {
		switch a := n.Attrs[k].(type) {
		case *tensor.Tensor:
			fmt.Fprintf(&b, " %s=%s%s", k, a.TypeString(), graph.Digest(a))
		case []*tensor.Tensor:
			return "", false
		default:
			fmt.Fprintf(&b, " %s=%#v", k, a)
		}
	}
	return b.String(), true
}
