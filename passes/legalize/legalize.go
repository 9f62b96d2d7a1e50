// Package legalize writes a graph in the operators of an ONNX dialect: ssdc's
// own operators become the dialect's, and every operator gets the version that
// is in force at one opset, so that the graph can be written to an ONNX file.
//
// Dialects:
//
//   - ONNX: opset 27 with LinearAttention and CausalConvWithState, which say
//     what a scan is; a runtime without kernels for them runs their function bodies.
//   - Microsoft: the contrib operators that ONNX Runtime 1.30 and later runs fast.
//   - Plain: operators of opset 18 alone, which any runtime of 2023 or later runs.
//
// A scan with one decay per head is LinearAttention(gated) where the dialect
// has it, and the chunked form in products of matrices where it has not.
// Mamba-1's scan is an ONNX Scan in all dialects: as LinearAttention with a
// head per channel it takes ONNX Runtime twice as long.
package legalize

import (
	"fmt"
	"sort"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes"
)

// Dialect says which operators may result.
type Dialect struct {
	Name, Doc string
	// Opset is the least opset of ai.onnx that the dialect's operators need;
	// a graph that uses newer versions raises it.
	Opset int
	// own rules, by operator; an operator without one is decomposed.
	rules map[graph.OpID]rule
	// keeps says whether operators of a domain stay.
	keeps func(domain string) bool
}

// rule rewrites a node and returns what stands for its outputs; nil, nil when
// it does not apply.
type rule func(l *legalizer, n *graph.Node) ([]*graph.Value, error)

// Dialects lists what there is; the first is the default.
var Dialects = []*Dialect{
	{
		Name: "onnx", Doc: "standard ONNX, opset 27: LinearAttention and CausalConvWithState", Opset: 27,
		rules: map[graph.OpID]rule{ssm.SSD.ID: linearAttention, ssm.CausalConv.ID: convWithState},
		keeps: func(d string) bool { return d == "" },
	},
	{
		Name: "microsoft", Doc: "contrib operators for ONNX Runtime 1.30 and later", Opset: 23,
		rules: map[graph.OpID]rule{
			ssm.SSD.ID: contribAttention, ssm.CausalConv.ID: contribConv, ssm.GatedRMSNorm.ID: contribGatedNorm,
			{Name: "LinearAttention", Since: 27}: asContrib,
		},
		keeps: func(d string) bool { return d == "" || d == Contrib },
	},
	{
		Name: "plain", Doc: "opset 18 or what the model needs, no operator for scans: runs anywhere", Opset: 18,
		keeps: func(d string) bool { return d == "" },
	},
}

// Contrib is the domain of ONNX Runtime's contrib operators.
const Contrib = "com.microsoft"

// MinOpset is the oldest opset that can be written.
const MinOpset = 18

// Find returns a dialect by name.
func Find(name string) (*Dialect, error) {
	var have []string
	for _, d := range Dialects {
		if d.Name == name {
			return d, nil
		}
		have = append(have, d.Name)
	}
	return nil, fmt.Errorf("no dialect %q; there are %s", name, strings.Join(have, ", "))
}

// Options say what to write.
type Options struct {
	Dialect *Dialect
	// Opset of ai.onnx; 0 takes the least that the dialect and the graph need.
	Opset int
	// Source is the opset of the model that the graph was read from, 0 when
	// unknown: results are never older by default.
	Source int
}

// Run rewrites g. It returns the version of each domain that g then uses.
func Run(c *passes.Context, g *graph.Graph, o Options) (map[string]int, error) {
	l := &legalizer{c: c, g: g, d: o.Dialect, opset: o.Opset}
	if l.opset == 0 {
		l.opset = max(o.Dialect.Opset, o.Source)
	}
	if l.opset < o.Dialect.Opset {
		return nil, fmt.Errorf("opset %d: the dialect %q needs %d or newer", l.opset, o.Dialect.Name, o.Dialect.Opset)
	}
	if newest := newestOpset(c.Table); l.opset > newest {
		return nil, fmt.Errorf("opset %d is newer than %d, the newest that ssdc knows", l.opset, newest)
	}
	for _, step := range []func() error{l.lower, l.versions} {
		if err := step(); err != nil {
			return nil, err
		}
		if err := passes.Tidy(g); err != nil {
			return nil, err
		}
	}
	// Lengths that only a run tells are named after values, whose names moved.
	if err := ops.InferGraph(c.Table, g); err != nil {
		return nil, fmt.Errorf("legalize left a broken graph: %w", err)
	}
	if err := ops.Verify(c.Table, g); err != nil {
		return nil, fmt.Errorf("legalize left a broken graph: %w", err)
	}
	return l.domains(), nil
}

// Pass is Run as a pass, at the dialect's own opset.
func Pass(d *Dialect) *passes.Pass {
	return &passes.Pass{
		Name: "legalize-" + d.Name,
		Doc:  "write every operator in the dialect " + d.Name + ": " + d.Doc,
		Run: func(c *passes.Context, g *graph.Graph) error {
			_, err := Run(c, g, Options{Dialect: d})
			return err
		},
	}
}

func newestOpset(t *ops.Table) int {
	n := 0
	for _, r := range t.All() {
		if r.ID.Domain == "" {
			n = max(n, r.ID.Since)
		}
	}
	return n
}

type legalizer struct {
	c     *passes.Context
	g     *graph.Graph
	d     *Dialect
	opset int
}

// builder appends to the graph that holds n.
func (l *legalizer) builder(n *graph.Node) *graph.Builder {
	from := n.From
	if from == "" && len(n.Out) > 0 && n.Out[0] != nil {
		from = n.Out[0].Name
	}
	return l.c.Builder(n.Graph, from)
}

// nodes lists all nodes, those of bodies included.
func (l *legalizer) nodes() []*graph.Node {
	var out []*graph.Node
	l.g.Walk(func(n *graph.Node) { out = append(out, n) })
	return out
}

// maxRounds bounds how often operators are written in others.
const maxRounds = 16

// lower removes operators that are not the dialect's.
func (l *legalizer) lower() error { return l.rewrite(l.lowerNode) }

// rewrite applies f to every node until it changes none. What f writes takes
// the place of the node, so that a graph stays in the order of its model.
func (l *legalizer) rewrite(f func(*graph.Node) (bool, error)) error {
	for range maxRounds {
		changed := false
		length := map[*graph.Graph]int{l.g: len(l.g.Nodes)}
		l.g.Walk(func(n *graph.Node) {
			for _, b := range n.Bodies {
				length[b.Graph] = len(b.Nodes)
			}
		})
		made := map[*graph.Node][2]int{}
		for _, n := range l.nodes() {
			before := len(n.Graph.Nodes)
			done, err := f(n)
			if err != nil {
				return err
			}
			changed = changed || done
			made[n] = [2]int{before, len(n.Graph.Nodes)}
		}
		if !changed {
			return nil
		}
		for g, k := range length {
			nodes := make([]*graph.Node, 0, len(g.Nodes))
			for _, n := range g.Nodes[:k] {
				m := made[n]
				nodes = append(append(nodes, g.Nodes[m[0]:m[1]]...), n)
			}
			g.Nodes = nodes
		}
		if err := passes.Tidy(l.g); err != nil {
			return err
		}
	}
	return fmt.Errorf("operators that are written in others lead in a circle after %d rounds", maxRounds)
}

func (l *legalizer) lowerNode(n *graph.Node) (bool, error) {
	if n.Op.Is("", "Reshape") {
		return l.simpleShape(n), nil
	}
	if r := l.d.rules[n.Op]; r != nil {
		out, err := r(l, n)
		if err != nil || out != nil {
			return true, l.replace(n, out, err)
		}
	}
	row, err := l.c.Table.Of(n)
	if err != nil {
		return false, err
	}
	if n.Op.Is("", "Swish") { // ONNX Runtime 1.32 has no kernel at some places of a graph, and fuses x*Sigmoid(x)
		return true, l.decompose(n, row)
	}
	if l.d.keeps(n.Op.Domain) && (n.Op.Domain != "" || row.Traits&ops.Composite == 0) {
		return false, nil
	}
	if row.Decompose == nil {
		if n.Op.Domain == ssm.Domain {
			return false, fmt.Errorf("%s: cannot be written in ONNX's operators", n)
		}
		return false, nil // an operator of the user's own stays
	}
	return true, l.decompose(n, row)
}

func (l *legalizer) decompose(n *graph.Node, row *ops.Op) error {
	b := l.builder(n)
	out, err := row.Decompose(b, n)
	if err == nil {
		err = b.Err
	}
	return l.replace(n, out, err)
}

// replace lets out stand for the outputs of n. Outputs of a graph keep a node
// and a name of their own.
func (l *legalizer) replace(n *graph.Node, out []*graph.Value, err error) error {
	if err != nil {
		return fmt.Errorf("%s cannot be written in the dialect %q: %w", n, l.d.Name, err)
	}
	for i, v := range n.Out {
		if v == nil || v.Unused() {
			continue
		}
		w := out[i]
		if w.Type.DType != v.Type.DType {
			return fmt.Errorf("%s: output %d became %s, was %s", n, i, w.Type, v.Type)
		}
		if w.Def == nil || w.IsOutput() && v.IsOutput() {
			b := l.builder(n)
			if w = b.Op("Identity", nil, w); b.Err != nil {
				return b.Err
			}
		}
		v.Name, w.Name = w.Name, v.Name
		v.ReplaceWith(w)
	}
	return nil
}

// simpleShape gives a Reshape to computed lengths a constant target where 0
// and -1 can say the same; it reports whether it did.
func (l *legalizer) simpleShape(n *graph.Node) bool {
	shape := n.Input(1)
	if shape == nil || shape.Def == nil || !shape.Def.Op.Is(ssm.Domain, "Dims") {
		return false
	}
	to, ok := ops.KnownOf(shape)
	in := n.In[0].Type
	if !ok || !in.Ranked() {
		return false
	}
	target := make([]int64, len(to))
	rest := -1
	for i, d := range to {
		k, number := d.Const()
		switch {
		case number && k == 0:
			return false
		case number && k > 0:
			target[i] = k
		case !number && i < in.Rank() && in.Shape[i] == d:
			target[i] = 0
		case rest < 0:
			target[i], rest = -1, i
		default:
			return false
		}
	}
	b := l.builder(n)
	n.SetIn(1, b.Ints(target...))
	delete(n.Attrs, "allowzero")
	return true
}

// domains lists the versions in use.
func (l *legalizer) domains() map[string]int {
	v := map[string]int{"": l.opset}
	for _, n := range l.nodes() {
		if d := n.Op.Domain; d != "" {
			v[d] = max(v[d], n.Op.Since)
		}
	}
	return v
}

// Describe lists the dialects for a help text.
func Describe() string {
	var s []string
	for _, d := range Dialects {
		s = append(s, fmt.Sprintf("  %-10s %s", d.Name, d.Doc))
	}
	return strings.Join(s, "\n")
}

// Count says how many nodes of each operator a graph holds, the most first.
func Count(g *graph.Graph) string {
	n := map[string]int{}
	g.Walk(func(m *graph.Node) {
		name := m.Op.Name
		if m.Op.Domain != "" {
			name = m.Op.Domain + "." + name
		}
		n[name]++
	})
	names := make([]string, 0, len(n))
	for k := range n {
		names = append(names, k)
	}
	sort.Slice(names, func(i, j int) bool {
		if n[names[i]] != n[names[j]] {
			return n[names[i]] > n[names[j]]
		}
		return names[i] < names[j]
	})
	for i, k := range names {
		names[i] = fmt.Sprintf("%d %s", n[k], k)
	}
	return strings.Join(names, ", ")
}
