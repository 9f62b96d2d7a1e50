package canon

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
)

// An exporter that saw a batch of 1 may write it into a shape while the inputs
// still say "batch". Such a model runs with a batch of 1 only, and its shapes
// make no sense to any pass until they say so.

const ruleSymbol = "fixed length"

// fixSymbols binds symbols to 1 where nothing else can run.
func fixSymbols(c *passes.Context, g *graph.Graph) error {
	for range 8 { // one symbol each
		sym, at := forcedSymbol(g)
		if sym == "" {
			return nil
		}
		with := map[string]graph.Dim{sym: graph.D(1)}
		for _, v := range g.Inputs {
			shape := slices.Clone(v.Type.Shape) // other types may share it
			for i, d := range shape {
				shape[i] = d.Subst(with)
			}
			v.Type.Shape = shape
		}
		if err := ops.InferGraph(c.Table, g); err != nil {
			return err
		}
		c.Done(ruleSymbol, at.Out[0], sym+" is 1: "+at.String()+" allows no other length")
	}
	return nil
}

// forcedSymbol finds a symbol of the inputs that must be 1, and the node that says so.
func forcedSymbol(g *graph.Graph) (string, *graph.Node) {
	free := map[string]bool{}
	for _, v := range g.Inputs {
		for _, d := range v.Type.Shape {
			if s, ok := d.AsSym(); ok {
				free[s] = true
			}
		}
	}
	if len(free) == 0 {
		return "", nil
	}
	for _, n := range g.Nodes {
		if n.Op.Domain != "" || len(n.In) < 2 || n.In[0] == nil || n.In[1] == nil || !n.In[0].Type.Ranked() {
			continue
		}
		sym := ""
		switch n.Op.Name {
		case "Reshape":
			sym = reshapeForces(n)
		case "Add", "Mul", "Sub":
			sym = broadcastForces(n.In[0].Type, n.In[1].Type)
		}
		if free[sym] {
			return sym, n
		}
	}
	return "", nil
}

// reshapeForces: b*k elements become exactly k.
func reshapeForces(n *graph.Node) string {
	target, ok := ops.KnownOf(n.In[1])
	if !ok {
		return ""
	}
	for _, d := range target {
		if d.Is(0) || d.Is(-1) {
			return ""
		}
	}
	return ratio(product(n.In[0].Type.Shape), product(target))
}

// broadcastForces: [b,L] against [1,b*L]; only b = 1 gives back b rows of L.
func broadcastForces(x, y graph.Type) string {
	if x.Rank() != y.Rank() {
		return ""
	}
	for i := range x.Rank() {
		p, q := x.Shape[i], y.Shape[i]
		if p.IsConst() || q.IsConst() || p == q {
			continue
		}
		sym := ratio(p, q)
		if sym == "" {
			sym = ratio(q, p)
		}
		if sym == "" {
			continue
		}
		for j := range x.Rank() {
			a, b := x.Shape[j], y.Shape[j]
			if a.Is(1) && b == graph.Sym(sym) || b.Is(1) && a == graph.Sym(sym) {
				return sym
			}
		}
	}
	return ""
}

// ratio is the symbol that p is a multiple of q by.
func ratio(p, q graph.Dim) string {
	d, ok := p.DivExact(q)
	if !ok {
		return ""
	}
	s, _ := d.AsSym()
	return s
}
