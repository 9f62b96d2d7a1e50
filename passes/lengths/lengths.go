// Package lengths finds what a graph demands of its symbolic lengths without
// saying so. An exporter that traces with batch 1, or with a length that is a
// multiple of the chunk size, may declare the axis dynamic and still leave out
// the branches for other lengths; the graph then only runs for some. Saying so
// in the signature makes shapes simple enough to recognise what is there, and
// turns a failure deep in the graph into a clear error at the input.
package lengths

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
)

// MaxNodes bounds the graphs that are probed: each probe infers all types anew.
const MaxNodes = 30_000

// Pass narrows symbolic lengths to those that the graph can run with.
var Pass = &passes.Pass{
	Name: "lengths",
	Doc:  "find lengths that the graph silently demands (batch = 1, a multiple of the chunk) and state them",
	Run: func(c *passes.Context, g *graph.Graph) error {
		if len(g.Nodes) > MaxNodes {
			return nil
		}
		p := &prober{t: c.Table, g: g}
		p.symbols()
		if err := p.forced(c); err != nil {
			return err
		}
		if len(p.syms) == 0 || p.runs(p.ones(2)) == nil && p.runs(p.odd()) == nil {
			return nil // general lengths work
		}
		for _, s := range p.syms {
			if err := p.narrow(c, s); err != nil {
				return err
			}
		}
		return nil
	},
}

type prober struct {
	t        *ops.Table
	g        *graph.Graph
	syms     []string
	divisors []int64
	// constants are the lengths above 1 that occur in types: a symbol that fits
	// none but 1 by probing may still be meant to equal one of them.
	constants []int64
}

func (p *prober) symbols() {
	seen := map[string]bool{}
	for _, v := range p.g.Inputs {
		for _, d := range v.Type.Shape {
			if s, ok := d.AsSym(); ok && !seen[s] {
				seen[s] = true
				p.syms = append(p.syms, s)
			}
		}
	}
	div, constants := map[int64]bool{}, map[int64]bool{}
	p.g.Walk(func(n *graph.Node) {
		for i, v := range slices.Concat(n.In, n.Out) {
			if v == nil {
				continue
			}
			for _, d := range v.Type.Shape {
				if k, ok := d.Const(); ok && k > 1 {
					constants[k] = true
				}
				for _, k := range d.Divisors() {
					if k > 1 && i >= len(n.In) {
						div[k] = true
					}
				}
			}
		}
	})
	p.divisors = slices.Sorted(maps.Keys(div))
	p.constants = slices.Sorted(maps.Keys(constants))
}

// ones gives every symbol a value of its own, from n on.
func (p *prober) ones(n int64) map[string]graph.Dim {
	b := map[string]graph.Dim{}
	for i, s := range p.syms {
		b[s] = graph.D(n + int64(i))
	}
	return b
}

// odd gives larger values that divide nothing in common.
func (p *prober) odd() map[string]graph.Dim {
	b := map[string]graph.Dim{}
	for i, s := range p.syms {
		b[s] = graph.D(int64(611 + 36*i))
	}
	return b
}

// runs infers the graph with symbols replaced and returns what contradicts itself.
func (p *prober) runs(with map[string]graph.Dim) error {
	c, _ := p.g.Clone()
	substitute(c, with)
	return ops.InferGraph(p.t, c)
}

func substitute(g *graph.Graph, with map[string]graph.Dim) {
	for _, v := range g.Inputs {
		shape := append([]graph.Dim{}, v.Type.Shape...)
		for i, d := range shape {
			shape[i] = d.Subst(with)
		}
		if v.Type.Shape != nil {
			v.Type.Shape = shape
		}
	}
}

// holds reports whether the graph runs for each value of the symbol, whatever
// (of a few) the others are.
func (p *prober) holds(s string, base map[string]graph.Dim, values ...int64) bool {
	for _, v := range values {
		b := map[string]graph.Dim{}
		for k, d := range base {
			b[k] = d
		}
		b[s] = graph.D(v)
		if p.runs(b) != nil {
			return false
		}
	}
	return true
}

// fails reports whether it runs for none of the values.
func (p *prober) fails(s string, base map[string]graph.Dim, values ...int64) bool {
	for _, v := range values {
		if p.holds(s, base, v) {
			return false
		}
	}
	return true
}

// narrow tries symbol = 1, then symbol = k*blocks, each with the other symbols
// at 1, at a common multiple of the divisors and at ordinary values.
func (p *prober) narrow(c *passes.Context, s string) error {
	lcm := int64(1)
	for _, k := range p.divisors {
		if lcm < 1<<20 {
			lcm = lcm / gcd(lcm, k) * k
		}
	}
	others := []map[string]graph.Dim{p.all(1), p.all(lcm), p.all(2 * lcm), p.ones(2)}
	never := func(values ...int64) bool { // whatever the others are: they may only clash with each other
		for _, base := range others {
			if !p.fails(s, base, values...) {
				return false
			}
		}
		return true
	}
	more := []int64{2, 3, 5}
	if lcm > 1 {
		more = append(more, lcm, 2*lcm)
	}
	for _, base := range others {
		if p.holds(s, base, 1) && never(more...) && p.fails(s, base, p.constants...) {
			return p.state(c, s, graph.D(1), "1")
		}
		for _, k := range p.divisors {
			if p.holds(s, base, k, 2*k, 3*k, 8*k) && never(append(between(k), 3, k-1, k+1, 2*k-1, 2*k+k/2+1)...) {
				return p.state(c, s, graph.D(k).Mul(graph.Sym(s+"_blocks")), fmt.Sprintf("a multiple of %d", k))
			}
		}
	}
	return nil
}

// between lists lengths that share a divisor with k, and are no multiples of it:
// 6*B elements in rows of 4 ask for an even B, no more.
func between(k int64) (out []int64) {
	rest := k
	for q := int64(2); rest > 1; q++ {
		if rest%q == 0 {
			out = append(out, k/q, k+k/q)
		}
		for rest%q == 0 {
			rest /= q
		}
	}
	return out
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (p *prober) all(n int64) map[string]graph.Dim {
	b := map[string]graph.Dim{}
	for _, s := range p.syms {
		b[s] = graph.D(n)
	}
	return b
}

// state writes the demand into the signature and infers the graph again.
func (p *prober) state(c *passes.Context, s string, d graph.Dim, words string) error {
	with := map[string]graph.Dim{s: d}
	if p.runs(with) != nil {
		return nil // true of the probes, but not shown in general: leave it
	}
	substitute(p.g, with)
	for i, t := range p.syms {
		if t == s {
			p.syms = append(p.syms[:i:i], p.syms[i+1:]...)
			break
		}
	}
	c.Remark(passes.Remark{Rule: "length", At: s, Done: true, Why: fmt.Sprintf("the graph runs only when %s is %s", s, words)})
	return ops.InferGraph(p.t, p.g)
}
