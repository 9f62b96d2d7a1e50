// Package segment decides whether a model may run a long input in pieces: along
// one length, every position must depend on others through carried states alone.
//
// The graph is read from its inputs on. A value is free (the same for every
// piece), along (it has the positions on one axis), size (integers that only say
// how long a piece is) or tail (from the last positions, so that of the last piece
// counts). An operator that would mix positions ends the analysis, with its name.
package segment

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// Cut says how to run a model in pieces.
type Cut struct {
	Symbol string // the length
	// In and Out give the axis of the length, for the inputs that are cut and the
	// outputs that are joined; of other outputs the last piece's counts.
	In, Out map[string]int
	// Least is the shortest piece: what is taken from the end must fit in it.
	Least int
}

type kind uint8

const (
	free kind = iota
	along
	size
	tail
)

type class struct {
	kind kind
	axis int
}

// Find finds the length along which g may be cut, or says why there is none.
func Find(t *ops.Table, g *graph.Graph, states []backends.StatePair) (*Cut, error) {
	err := fmt.Errorf("no input has a symbolic length")
	seen := map[string]bool{}
	for _, v := range g.Inputs {
		for _, d := range v.Type.Shape {
			for _, s := range d.Symbols() {
				if seen[s] {
					continue
				}
				seen[s] = true
				c, e := along1(t, g, states, s)
				if e == nil {
					return c, nil
				}
				err = fmt.Errorf("along %s: %w", s, e)
			}
		}
	}
	return nil, err
}

type analysis struct {
	table  *ops.Table
	cut    *Cut
	class  map[*graph.Value]class
	paired map[string]string // state input to state output
}

// along1 tries one symbol.
func along1(t *ops.Table, g *graph.Graph, states []backends.StatePair, symbol string) (*Cut, error) {
	a := &analysis{t, &Cut{Symbol: symbol, In: map[string]int{}, Out: map[string]int{}, Least: 1}, map[*graph.Value]class{}, map[string]string{}}
	for _, p := range states {
		a.paired[p.In] = p.Out
	}
	length := graph.Sym(symbol)
	for _, v := range g.Inputs {
		for i, d := range v.Type.Shape {
			switch {
			case d == length && a.class[v].kind == free:
				a.class[v] = class{along, i}
				a.cut.In[v.Name] = i
			case mentions(d, symbol):
				return nil, fmt.Errorf("input %q is %s", v.Name, v.Type)
			}
		}
		if _, state := a.paired[v.Name]; state && a.class[v].kind != free {
			return nil, fmt.Errorf("state %q has that length", v.Name)
		}
	}
	scans := 0
	for _, n := range g.Nodes {
		if ops.StateInput(n) >= 0 {
			scans++
		}
		if err := a.node(n); err != nil {
			return nil, fmt.Errorf("%s: %w", n, err)
		}
	}
	if scans == 0 {
		return nil, fmt.Errorf("nothing carries a state")
	}
	for _, v := range g.Outputs {
		switch c := a.class[v]; c.kind {
		case along:
			a.cut.Out[v.Name] = c.axis
		case size:
			return nil, fmt.Errorf("output %q tells the length", v.Name)
		}
	}
	return a.cut, nil
}

func mentions(d graph.Dim, symbol string) bool {
	for _, s := range d.Symbols() {
		if s == symbol {
			return true
		}
	}
	return false
}

// of is the class of input i; an omitted one is free.
func (a *analysis) of(n *graph.Node, i int) class {
	if v := n.Input(i); v != nil {
		return a.class[v]
	}
	return class{}
}

func (a *analysis) set(n *graph.Node, c class) {
	for _, v := range n.Out {
		if v != nil {
			a.class[v] = c
		}
	}
}

var errMixes = fmt.Errorf("it may mix positions")

// node derives the classes of n's outputs.
func (a *analysis) node(n *graph.Node) error {
	if len(n.Bodies) > 0 {
		return a.bodies(n)
	}
	kinds := map[kind]bool{}
	for i := range n.In {
		kinds[a.of(n, i).kind] = true
	}
	if n.Op.Is("", "Shape") || n.Op.Is("", "Size") || n.Op.Is("ssm", "Dims") {
		if kinds[along] || kinds[size] {
			a.set(n, class{kind: size})
		}
		return nil
	}
	if !kinds[along] && !kinds[size] && !kinds[tail] {
		return nil
	}
	if !kinds[along] && !kinds[tail] { // arithmetic on lengths, as long as it stays that
		for _, v := range n.Out {
			if v != nil && (!v.Type.DType.IsInt() || v.Known == nil) {
				return fmt.Errorf("it makes values of the length")
			}
		}
		a.set(n, class{kind: size})
		return nil
	}
	if kinds[along] && kinds[tail] {
		return errMixes
	}
	if kinds[tail] {
		a.set(n, class{kind: tail})
		return nil
	}
	return a.positions(n)
}

// bodies accepts control flow that has nothing to do with positions.
func (a *analysis) bodies(n *graph.Node) error {
	touches := func(vs []*graph.Value) bool {
		for _, v := range vs {
			if v != nil && a.class[v].kind != free {
				return true
			}
		}
		return false
	}
	found := touches(n.In)
	for _, b := range n.Bodies {
		found = found || touches(b.Outputs)
		b.Walk(func(m *graph.Node) { found = found || touches(m.In) })
	}
	if found {
		return errMixes
	}
	return nil
}
