package lengths

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
)

// Some nodes say by themselves that a symbol is 1: a Reshape of b*k elements
// to exactly k, or [b,L] beside [1,b*L]. That needs no probing, and the remark
// can name the node.

// forced states the symbols that single nodes fix.
func (p *prober) forced(c *passes.Context) error {
	for range len(p.syms) {
		sym, at := forcedSymbol(p.g)
		if sym == "" {
			return nil
		}
		if err := p.state(c, sym, graph.D(1), "1: "+at.String()+" allows no other length"); err != nil {
			return err
		}
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

func product(ds []graph.Dim) graph.Dim {
	p := graph.D(1)
	for _, d := range ds {
		p = p.Mul(d)
	}
	return p
}
