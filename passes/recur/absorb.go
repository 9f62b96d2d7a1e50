package recur

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Absorb draws the neighbours of a scan into it: the product with dt, the
// softplus, bias and clamp that made dt, the D skip and the z gate.
var Absorb = &passes.Pass{
	Name:  "absorb",
	Doc:   "draw dt, softplus, bias, clamp, D skip and z gate into ssm.SSD and ssm.SelectiveScan",
	After: []passes.Order{{Pass: "recur", Why: "there are no scans before it"}, {Pass: "canon", Why: "it reads one spelling of broadcasts"}},
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			var s *scan
			switch {
			case n.Op.Is("ssm", "SSD"):
				s = &scan{c: c, g: g, n: n, x: 0, dt: 1, a: 2, d: 5, z: 6, bias: 7}
			case n.Op.Is("ssm", "SelectiveScan"):
				s = &scan{c: c, g: g, n: n, x: 0, dt: 1, a: 2, d: 5, z: 6, bias: 7}
			default:
				continue
			}
			for _, a := range []struct {
				rule string
				try  func() error
			}{{ruleDT, s.timeStep}, {ruleSoftplus, s.softplus}, {ruleSkip, s.skip}, {ruleGate, s.gate}} {
				if err := a.try(); err != nil {
					c.Miss(a.rule, s.n.Out[0], 1, 2, "%v", err)
				}
			}
		}
		return nil
	},
}

// The names of what Absorb does, in remarks.
const (
	ruleDT       = "absorb dt"
	ruleSoftplus = "absorb softplus"
	ruleSkip     = "absorb D"
	ruleGate     = "absorb z"
)

// scan is a scan node being improved, with the input positions of its roles.
type scan struct {
	c                    *passes.Context
	g                    *graph.Graph
	n                    *graph.Node
	x, dt, a, d, z, bias int
}

// rebuilt copies the node with some inputs and attributes changed.
func (s *scan) rebuilt(b *graph.Builder, in map[int]*graph.Value, attrs graph.Attrs) *graph.Node {
	args := make([]*graph.Value, len(s.n.In))
	copy(args, s.n.In)
	for i, v := range in {
		for len(args) <= i {
			args = append(args, nil)
		}
		args[i] = v
	}
	at := s.n.Attrs.Clone()
	for k, v := range attrs {
		at[k] = v
	}
	m := b.Node(s.n.Op.Domain, s.n.Op.Name, at, 2, args...)
	if m != nil {
		m.From = s.n.From
	}
	return m
}

// claim lists the scan's inputs, and further roots, as where the check begins.
func (s *scan) claim(m *graph.Node, roots ...*graph.Value) *certify.Claim {
	cl := &certify.Claim{}
	seen := map[*graph.Value]bool{}
	for _, v := range roots {
		if v != nil && !seen[v] {
			seen[v] = true
			cl.In = append(cl.In, certify.Input{Value: v})
		}
	}
	for i, v := range m.In {
		if v == nil || seen[v] || reaches(v, seen) {
			continue
		}
		seen[v] = true
		k := certify.Any
		if i == s.a {
			k = certify.LogDecay
		}
		cl.In = append(cl.In, certify.Input{Value: v, Kind: k})
	}
	x := m.In[s.x].Type.Shape
	cl.Along(x[1], 5)
	sh := certify.NewShrinker(x[1])
	if bs := m.In[3].Type.Shape; len(x) == 4 {
		h, g := x[2], bs[2]
		if g.Is(1) || g == h {
			sh.To(h, 2)
		} else {
			sh.To(h, 4)
			sh.To(g, 2)
		}
		sh.To(x[3], 3)
		sh.To(bs[3], 5)
		sh.To(h.Mul(x[3]), sh.Of(h)*sh.Of(x[3]))
	} else {
		sh.To(x[2], 3)
		sh.To(bs[2], 5)
	}
	cl.Shrink = sh.Map
	return cl
}

// reaches: v is made from values in roots by a few nodes, so it is no root itself.
func reaches(v *graph.Value, roots map[*graph.Value]bool) bool {
	for depth := 0; depth < 12 && v.Def != nil; depth++ {
		if v.Def.Op.Is("ssm", "Dims") || len(v.Def.In) == 0 || v.Def.In[0] == nil {
			return false
		}
		if !layout.Is(v.Def) && !v.Def.Op.Is("", "Softplus") && !v.Def.Op.Is("", "Clip") && !v.Def.Op.Is("", "Add") && !v.Def.Op.Is("", "Mul") && !v.Def.Op.Is("", "Swish") {
			return false
		}
		for _, u := range v.Def.In {
			if u != nil && roots[u] {
				return true
			}
		}
		v = v.Def.In[0]
	}
	return false
}

// commit certifies and moves s to the new node.
func (s *scan) commit(rule string, cl *certify.Claim, m *graph.Node) error {
	if err := certify.Rewrite(s.c, rule, cl); err != nil {
		return err
	}
	s.n = m
	return nil
}

// outputs pairs the outputs of the old node, as far as they are used, with the new ones.
func (s *scan) outputs(cl *certify.Claim, m *graph.Node, from int) {
	for i := from; i < len(s.n.Out); i++ {
		if v := s.n.Out[i]; v != nil && !v.Unused() {
			cl.Old, cl.New = append(cl.Old, v), append(cl.New, m.Out[i])
		}
	}
}

// timeStep: x*dt and A*dt become x, dt and A.
func (s *scan) timeStep() error {
	x, a := s.n.In[s.x], s.n.In[s.a]
	if s.n.Input(s.dt) != nil || a.Type.Rank() != 3 || x.Def == nil || !x.Def.Op.Is("", "Mul") || a.Def == nil || !a.Def.Op.Is("", "Mul") {
		return nil
	}
	h := a.Type.Shape[2]
	for i, t := range x.Def.In {
		for j, u := range a.Def.In {
			x0, a0 := x.Def.In[1-i], a.Def.In[1-j]
			dt := layout.Deepest(t)
			if dt != layout.Deepest(u) || layout.Numel(t) != layout.Numel(a) || layout.Numel(u) != layout.Numel(a) || layout.Numel(a0) != h || !x0.Type.Equal(x.Type) || !dt.Type.Equal(a.Type) {
				continue
			}
			b := s.c.Builder(s.g, s.n.From)
			m := s.rebuilt(b, map[int]*graph.Value{s.x: x0, s.dt: dt, s.a: layout.Reshape(b, a0, []graph.Dim{h})}, nil)
			if b.Err != nil {
				return b.Err
			}
			cl := s.claim(m, x0, dt, a0)
			s.outputs(cl, m, 0)
			return s.commit(ruleDT, cl, m)
		}
	}
	for i, t := range x.Def.In {
		for j, u := range a.Def.In {
			if layout.Numel(t) == layout.Numel(a) && layout.Numel(u) == layout.Numel(a) && layout.Numel(a.Def.In[1-j]) == h && x.Def.In[1-i].Type.Equal(x.Type) {
				return fmt.Errorf("the input is scaled by %q and the decay by %q: with two time steps the scan stays discretised", layout.Deepest(t).Name, layout.Deepest(u).Name)
			}
		}
	}
	return nil
}

// softplus: dt = clamp(softplus(raw + bias)).
func (s *scan) softplus() error {
	dt := s.n.Input(s.dt)
	if dt == nil || s.n.Attrs.Int("dt_softplus", 0) != 0 || s.n.Input(s.bias) != nil {
		return nil
	}
	nodes, v := layout.Path(dt)
	attrs := graph.Attrs{"dt_softplus": int64(1)}
	if v.Def != nil && v.Def.Op.Is("", "Clip") && s.n.Op.Name == "SSD" {
		for i, name := range []string{"dt_min", "dt_max"} {
			if lim := v.Def.Input(i + 1); lim != nil {
				if lim.Const == nil || lim.Const.Len() != 1 {
					return nil
				}
				attrs[name] = float32(lim.Const.At(0))
			}
		}
		if !(attrs.Float("dt_min", float32(math.Inf(-1))) <= attrs.Float("dt_max", float32(math.Inf(1)))) {
			return fmt.Errorf("%s has its bounds crossed, and makes all steps the upper one; a scan clamps to an interval", v.Def)
		}
		v = v.Def.In[0]
	}
	if add := defOf(v, "Add"); add != nil && (defOf(add.In[0], "Softplus") != nil || defOf(add.In[1], "Softplus") != nil) {
		return fmt.Errorf("%s adds to the softplus; a scan takes a bias in front of it", add)
	}
	if v.Def == nil || !v.Def.Op.Is("", "Softplus") {
		return nil
	}
	b := s.c.Builder(s.g, s.n.From)
	raw := v.Def.In[0]
	in := map[int]*graph.Value{}
	roots := []*graph.Value{raw}
	heads := dt.Type.Shape[len(dt.Type.Shape)-1]
	if raw.Def != nil && raw.Def.Op.Is("", "Add") {
		for i, u := range raw.Def.In {
			bias := raw.Def.In[1-i]
			if u.Type.Equal(raw.Type) && layout.Numel(bias) == heads && bias.Const != nil {
				in[s.bias] = layout.Reshape(b, bias, []graph.Dim{heads})
				raw, roots = u, []*graph.Value{u, bias}
				break
			}
		}
	}
	in[s.dt] = layout.Replay(b, nodes, raw)
	m := s.rebuilt(b, in, attrs)
	if b.Err != nil {
		return b.Err
	}
	cl := s.claim(m, roots...)
	s.outputs(cl, m, 0)
	return s.commit(ruleSoftplus, cl, m)
}

// skip: y + D*x.
func (s *scan) skip() error {
	if s.n.Input(s.d) != nil || s.n.Input(s.z) != nil {
		return nil
	}
	nodes, last, use, ok := layout.After(s.n.Out[0])
	if !ok || !use.Node.Op.Is("", "Add") || !use.Node.Out[0].Type.Equal(last.Type) {
		return nil
	}
	mul := use.Node.In[1-use.Index].Def
	if mul == nil || !mul.Op.Is("", "Mul") {
		return nil
	}
	x := s.n.In[s.x]
	var why error
	for i, d := range mul.In {
		xl := mul.In[1-i]
		if layout.Deepest(xl) != layout.Deepest(x) || layout.Numel(xl) != layout.Numel(x) {
			if d.Const != nil && layout.Numel(xl) == layout.Numel(x) {
				why = fmt.Errorf("%q skips %q past the scan, whose own input is %q: D must multiply the same x", mul.Out[0].Name, layout.Deepest(xl).Name, layout.Deepest(x).Name)
			}
			continue
		}
		b := s.c.Builder(s.g, s.n.From)
		var shape []graph.Dim
		switch k := x.Type.Shape; {
		case layout.Numel(d) == k[2]:
			shape = []graph.Dim{k[2]}
		case len(k) == 4 && layout.Numel(d) == k[2].Mul(k[3]):
			shape = []graph.Dim{k[2], k[3]}
		default:
			return fmt.Errorf("y + D*x, but D is %s", d.Type)
		}
		m := s.rebuilt(b, map[int]*graph.Value{s.d: layout.Reshape(b, d, shape)}, nil)
		if b.Err != nil {
			return b.Err
		}
		cl := s.claim(m, layout.Deepest(x), d)
		cl.Old, cl.New = []*graph.Value{use.Node.Out[0]}, []*graph.Value{layout.Replay(b, nodes, m.Out[0])}
		if b.Err != nil {
			return b.Err
		}
		s.outputs(cl, m, 1)
		return s.commit(ruleSkip, cl, m)
	}
	return why
}

// gate: y * silu(z). A gated normalisation that follows wants the gate for
// itself, so Mamba-2 keeps it; Mamba-1 has none.
func (s *scan) gate() error {
	if s.n.Input(s.z) != nil || s.n.Op.Name != "SelectiveScan" {
		return nil
	}
	nodes, last, use, ok := layout.After(s.n.Out[0])
	if !ok || !use.Node.Op.Is("", "Mul") || !use.Node.Out[0].Type.Equal(last.Type) {
		return nil
	}
	silu := use.Node.In[1-use.Index].Def
	if silu != nil && silu.Op.Is("", "Sigmoid") && silu.Out[0].Type.Equal(last.Type) {
		return fmt.Errorf("%s gates the output by a sigmoid; only a SiLU, z*sigmoid(z), is drawn in", use.Node)
	}
	if silu == nil || !silu.Op.Is("", "Swish") || !silu.In[0].Type.Equal(last.Type) {
		return nil
	}
	b := s.c.Builder(s.g, s.n.From)
	z := layout.Undo(b, nodes, silu.In[0], s.n.Out[0].Type.Shape)
	if z == nil {
		return nil
	}
	m := s.rebuilt(b, map[int]*graph.Value{s.z: z}, nil)
	if b.Err != nil {
		return b.Err
	}
	cl := s.claim(m, silu.In[0])
	cl.Old, cl.New = []*graph.Value{use.Node.Out[0]}, []*graph.Value{layout.Replay(b, nodes, m.Out[0])}
	if b.Err != nil {
		return b.Err
	}
	s.outputs(cl, m, 1)
	return s.commit(ruleGate, cl, m)
}
