package graph

import "fmt"

// Verify checks the structure: topological order, single definition, exact use
// lists, unique names, types of constants. Types of operators are checked by
// ops.Verify, which knows them. Every pass must leave a graph that verifies.
func (g *Graph) Verify() error {
	v := verifier{defined: map[*Value]bool{}, names: map[string]*Value{}, uses: map[*Value]int{}}
	if err := v.graph(g); err != nil {
		return fmt.Errorf("graph %q: %w", g.Name, err)
	}
	for val, n := range v.uses {
		if len(val.Uses) != n {
			return fmt.Errorf("graph %q: value %q lists %d uses, but nodes use it %d times", g.Name, val.Name, len(val.Uses), n)
		}
	}
	return nil
}

type verifier struct {
	defined map[*Value]bool
	names   map[string]*Value
	uses    map[*Value]int
}

func (s *verifier) define(v *Value) error {
	if v.Name == "" {
		return fmt.Errorf("a value has no name")
	}
	if other := s.names[v.Name]; other != nil && other != v {
		return fmt.Errorf("two values are named %q", v.Name)
	}
	s.names[v.Name] = v
	s.defined[v] = true
	return nil
}

func (s *verifier) graph(g *Graph) error {
	for _, v := range g.Inputs {
		if v.Def != nil || v.Const != nil {
			return fmt.Errorf("input %q is also a constant or the output of a node", v.Name)
		}
		if s.defined[v] {
			return fmt.Errorf("input %q is listed twice", v.Name)
		}
		if err := s.define(v); err != nil {
			return err
		}
	}
	for _, n := range g.Nodes {
		if n.Graph != g {
			return fmt.Errorf("%s belongs to another graph", n)
		}
		for i, v := range n.In {
			if v == nil {
				continue
			}
			if err := s.use(v); err != nil {
				return fmt.Errorf("%s input %d: %w", n, i, err)
			}
			s.uses[v]++
			if !v.hasUse(n, i) {
				return fmt.Errorf("%s input %d: %q does not list this use", n, i, v.Name)
			}
		}
		for _, b := range n.Bodies {
			if b.Parent != n {
				return fmt.Errorf("%s: body %q has another parent", n, b.Attr)
			}
			if err := s.graph(b.Graph); err != nil {
				return fmt.Errorf("%s body %q: %w", n, b.Attr, err)
			}
		}
		for i, v := range n.Out {
			if v == nil {
				continue
			}
			if v.Def != n {
				return fmt.Errorf("%s output %d: %q names another definition", n, i, v.Name)
			}
			if err := s.define(v); err != nil {
				return fmt.Errorf("%s output %d: %w", n, i, err)
			}
		}
	}
	for i, v := range g.Outputs {
		if v == nil {
			return fmt.Errorf("output %d is missing", i)
		}
		if err := s.use(v); err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
		found := false
		for _, o := range v.Outs {
			found = found || o == OutUse{g, i}
		}
		if !found {
			return fmt.Errorf("output %d: %q does not list this use", i, v.Name)
		}
	}
	return nil
}

// use accepts constants on first sight and everything else once defined.
func (s *verifier) use(v *Value) error {
	if v.Const != nil {
		if v.Def != nil {
			return fmt.Errorf("constant %q also has a definition", v.Name)
		}
		if !v.Type.Equal(TypeOf(v.Const)) && !v.Type.DType.IsContainer() {
			return fmt.Errorf("constant %q has type %s but holds %s", v.Name, v.Type, v.Const.TypeString())
		}
		return s.define(v)
	}
	if !s.defined[v] {
		return fmt.Errorf("%q is used before it is defined", v.Name)
	}
	return nil
}

// hasUse scans short use lists; long ones (constants, unrolled inputs) are only
// counted, because a scan per use would be quadratic.
func (v *Value) hasUse(n *Node, i int) bool {
	if len(v.Uses) > 64 {
		return true
	}
	for _, u := range v.Uses {
		if u.Node == n && u.Index == i {
			return true
		}
	}
	return false
}
