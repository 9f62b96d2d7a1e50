package graph

import "fmt"

// Sort puts the nodes of g, and of every body, in topological order, keeping
// the present order where it is one. It fails on a cycle.
func (g *Graph) Sort() error {
	const (
		unseen = iota
		active
		done
	)
	state := make(map[*Node]uint8, len(g.Nodes))
	sorted := make([]*Node, 0, len(g.Nodes))
	type frame struct {
		n    *Node
		deps []*Node
	}
	var stack []frame
	push := func(n *Node) {
		state[n] = active
		stack = append(stack, frame{n, g.deps(n)})
	}
	for _, root := range g.Nodes {
		if state[root] != unseen {
			continue
		}
		push(root)
		for len(stack) > 0 { // explicit stack: traces are hundreds of thousands of nodes deep
			f := &stack[len(stack)-1]
			if len(f.deps) == 0 {
				state[f.n] = done
				sorted = append(sorted, f.n)
				stack = stack[:len(stack)-1]
				continue
			}
			d := f.deps[0]
			f.deps = f.deps[1:]
			switch state[d] {
			case unseen:
				push(d)
			case active:
				return fmt.Errorf("graph %q: cycle through %s and %s", g.Name, d, f.n)
			}
		}
	}
	if len(sorted) != len(g.Nodes) {
		return fmt.Errorf("graph %q: %d nodes are used but not in the graph", g.Name, len(sorted)-len(g.Nodes))
	}
	g.Nodes = sorted
	for _, n := range g.Nodes {
		for _, b := range n.Bodies {
			if err := b.Sort(); err != nil {
				return err
			}
		}
	}
	return nil
}

// deps lists the nodes of g that n needs, directly or from inside its bodies.
func (g *Graph) deps(n *Node) []*Node {
	var out []*Node
	for _, v := range n.In {
		if v != nil && v.Def != nil && v.Def.Graph == g {
			out = append(out, v.Def)
		}
	}
	for _, b := range n.Bodies {
		b.Walk(func(m *Node) { out = append(out, g.deps1(m)...) })
		for _, v := range b.Outputs {
			if v.Def != nil && v.Def.Graph == g {
				out = append(out, v.Def)
			}
		}
	}
	return out
}

func (g *Graph) deps1(n *Node) []*Node {
	var out []*Node
	for _, v := range n.In {
		if v != nil && v.Def != nil && v.Def.Graph == g {
			out = append(out, v.Def)
		}
	}
	for _, b := range n.Bodies {
		for _, v := range b.Outputs {
			if v.Def != nil && v.Def.Graph == g {
				out = append(out, v.Def)
			}
		}
	}
	return out
}

// Sweep removes nodes whose outputs nothing consumes, to a fixed point, and
// reports how many. It keeps the nodes of bodies alive through body outputs.
func (g *Graph) Sweep() int {
	removed := map[*Node]bool{}
	var drop func(*Node)
	var work []*Node
	drop = func(n *Node) {
		removed[n] = true
		for i, v := range n.In {
			if v == nil {
				continue
			}
			v.dropUse(n, i)
			if v.Def != nil && v.Unused() {
				work = append(work, v.Def)
			}
		}
		for _, b := range n.Bodies {
			for i, v := range b.Outputs {
				b.SetOutput(i, nil)
				if v.Def != nil && v.Unused() {
					work = append(work, v.Def)
				}
			}
			for _, m := range b.Nodes {
				if !removed[m] {
					drop(m)
				}
			}
		}
	}
	dead := func(n *Node) bool {
		for _, v := range n.Out {
			if v != nil && !v.Unused() {
				return false
			}
		}
		return true
	}
	g.Walk(func(n *Node) { work = append(work, n) })
	for len(work) > 0 {
		n := work[len(work)-1]
		work = work[:len(work)-1]
		if !removed[n] && dead(n) {
			drop(n)
		}
	}
	if len(removed) > 0 {
		g.filter(removed)
	}
	return len(removed)
}

// Truncate removes all nodes behind the first n, the ones added last: what an
// attempt has built that is not to stay. No other node may use their results.
func (g *Graph) Truncate(n int) {
	for _, m := range g.Nodes[n:] {
		m.release()
	}
	clear(g.Nodes[n:])
	g.Nodes = g.Nodes[:n]
}

// release takes back all uses by n and its bodies.
func (n *Node) release() {
	for i := range n.In {
		n.SetIn(i, nil)
	}
	for _, b := range n.Bodies {
		for i := range b.Outputs {
			b.SetOutput(i, nil)
		}
		for _, m := range b.Nodes {
			m.release()
		}
	}
}

func (g *Graph) filter(removed map[*Node]bool) {
	kept := g.Nodes[:0]
	for _, n := range g.Nodes {
		if removed[n] {
			continue
		}
		kept = append(kept, n)
		for _, b := range n.Bodies {
			b.filter(removed)
		}
	}
	clear(g.Nodes[len(kept):])
	g.Nodes = kept
}

// Clone copies the graph and its bodies. Constants' tensors and outer values
// of a body that is cloned alone are shared. The map gives each value's copy.
func (g *Graph) Clone() (*Graph, map[*Value]*Value) {
	m := map[*Value]*Value{}
	return g.cloneInto(nil, m), m
}

func (g *Graph) cloneInto(parent *Node, m map[*Value]*Value) *Graph {
	c := &Graph{Name: g.Name, Parent: parent}
	copyOf := func(v *Value) *Value {
		if v == nil {
			return nil
		}
		if w, ok := m[v]; ok {
			return w
		}
		if v.Const == nil {
			return v // an outer value of a body cloned alone
		}
		w := &Value{Name: v.Name, Type: v.Type, Const: v.Const, Known: v.Known}
		m[v] = w
		return w
	}
	for _, v := range g.Inputs {
		w := &Value{Name: v.Name, Type: v.Type, Known: v.Known}
		m[v] = w
		c.Inputs = append(c.Inputs, w)
	}
	for _, n := range g.Nodes {
		k := &Node{Op: n.Op, Attrs: n.Attrs.Clone(), From: n.From, Graph: c}
		k.In = make([]*Value, len(n.In))
		for i, v := range n.In {
			k.SetIn(i, copyOf(v))
		}
		for _, b := range n.Bodies {
			k.Bodies = append(k.Bodies, Body{b.Attr, b.cloneInto(k, m)})
		}
		for _, v := range n.Out {
			if v == nil {
				k.Out = append(k.Out, nil)
				continue
			}
			w := &Value{Name: v.Name, Type: v.Type, Known: v.Known, Def: k}
			m[v] = w
			k.Out = append(k.Out, w)
		}
		c.Nodes = append(c.Nodes, k)
	}
	for _, v := range g.Outputs {
		c.AddOutput(copyOf(v))
	}
	return c
}
