// Package recur recovers state-space recurrences from whatever operators spell
// them, and rewrites them into the fused scans of package ssm.
//
// Each door (a file of this package) finds candidates in one form: the chunked
// matrix form, one decode step, an unrolled trace, a Loop or Scan. A door only
// proposes: it names where a region begins (its roots, with the role each would
// play) and where it ends. Package certify then decides, by evaluating the
// region and the proposed scan side by side. So the doors can be generous in
// what they look at without ever being wrong, and drift in an exporter's
// spelling matters only where it hides the roots.
package recur

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
)

// Pass runs all doors.
var Pass = &passes.Pass{
	Name:  "recur",
	Doc:   "recover recurrences: chunked form, decode step, unrolled trace, Loop and Scan become ssm.SSD or ssm.SelectiveScan",
	After: []passes.Order{{Pass: "canon", Why: "doors look through one spelling of broadcasts, masks and shapes"}},
	Run:   Run,
}

// Run tries the doors, most explicit first.
func Run(c *passes.Context, g *graph.Graph) error {
	for _, door := range []func(*passes.Context, *graph.Graph) error{loops, unrolled, chunked, steps} { // one file each
		if err := door(c, g); err != nil {
			return err
		}
		if err := passes.Tidy(g); err != nil {
			return err
		}
	}
	return nil
}

// isLayout reports operators that only move or repeat elements of input 0.
func isLayout(n *graph.Node) bool {
	if n.Op.Domain != "" {
		return false
	}
	switch n.Op.Name {
	case "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Identity":
		return true
	case "Expand", "Tile", "Pad":
		return true
	case "Gather": // a constant index vector: repetition or permutation of an axis
		return n.In[1].Const != nil && n.In[1].Const.Rank() == 1
	}
	return false
}

// chain lists v and what it is a layout of, outermost first.
func chain(v *graph.Value) []*graph.Value {
	out := []*graph.Value{v}
	for v.Def != nil && isLayout(v.Def) {
		v = v.Def.In[0]
		out = append(out, v)
	}
	return out
}

// deepest is the last value of the chain.
func deepest(v *graph.Value) *graph.Value {
	c := chain(v)
	return c[len(c)-1]
}

// static tells values that depend only on constants and shapes: masks, zeros,
// parameters. Results are kept in seen.
type static map[*graph.Value]bool

func (s static) is(v *graph.Value) bool {
	if v.Const != nil {
		return true
	}
	if _, known := ops.KnownOf(v); known { // a shape, or the length of a sequence
		return true
	}
	if r, ok := s[v]; ok {
		return r
	}
	if v.Def == nil || len(v.Def.Bodies) > 0 {
		s[v] = false
		return false
	}
	s[v] = false // cuts cycles, which a sorted graph does not have anyway
	if v.Def.Op.Is("", "Shape") || v.Def.Op.Is("", "Size") {
		s[v] = true
		return true
	}
	for _, u := range v.Def.In {
		if u != nil && !s.is(u) {
			return false
		}
	}
	s[v] = true
	return true
}

// product multiplies dimensions.
func product(ds ...graph.Dim) graph.Dim {
	p := graph.D(1)
	for _, d := range ds {
		p = p.Mul(d)
	}
	return p
}

func numel(v *graph.Value) graph.Dim { return product(v.Type.Shape...) }

// reshaped gives v another shape of as many elements, or v itself.
func reshaped(b *graph.Builder, v *graph.Value, shape []graph.Dim) *graph.Value {
	if b.Err != nil || v.Type.Equal(graph.Type{DType: v.Type.DType, Shape: shape}) {
		return v
	}
	return b.Op("Reshape", nil, v, shapeOf(b, shape, v))
}

// shapeOf makes a shape vector from the shapes of the model's inputs or of the given values.
func shapeOf(b *graph.Builder, dims []graph.Dim, from ...*graph.Value) *graph.Value {
	return ssm.ShapeOf(b, dims, append(append([]*graph.Value{}, b.Graph.Root().Inputs...), from...)...)
}

// transposed permutes axes, or returns v for the identity.
func transposed(b *graph.Builder, v *graph.Value, perm ...int64) *graph.Value {
	for i, p := range perm {
		if int64(i) != p {
			return b.Op("Transpose", graph.Attrs{"perm": perm}, v)
		}
	}
	return v
}

// isFloat guards doors against integer recurrences.
func isFloat(v *graph.Value) bool {
	return v.Type.DType == tensor.Float32 || v.Type.DType == tensor.Float64 || v.Type.DType == tensor.Float16 || v.Type.DType == tensor.BFloat16
}

// bindings makes one binding per length: every symbol of l is set to it, and a
// batch symbol to 2.
func bindings(l graph.Dim, lengths ...int64) []graph.Bindings {
	syms := l.Symbols()
	if len(syms) == 0 {
		return []graph.Bindings{{}}
	}
	var out []graph.Bindings
	for _, n := range lengths {
		b := graph.Bindings{}
		for _, s := range syms {
			b[s] = n
		}
		out = append(out, b)
	}
	return out
}

// shrink maps large axis lengths to small distinct ones, for certification.
// Lengths in keep, small ones and pairs that coincide are left alone.
type shrinker struct {
	m    map[int64]int64
	keep map[int64]bool
}

func newShrinker(keep ...graph.Dim) *shrinker {
	s := &shrinker{m: map[int64]int64{}, keep: map[int64]bool{}}
	for _, d := range keep {
		if n, ok := d.Const(); ok {
			s.keep[n] = true
		}
	}
	return s
}

// to asks for length d to become n, unless it already has another image.
func (s *shrinker) to(d graph.Dim, n int64) {
	k, ok := d.Const()
	if !ok || k <= 8 || s.keep[k] || n >= k {
		return
	}
	if _, dup := s.m[k]; !dup {
		s.m[k] = n
	}
}

// of is the image of d.
func (s *shrinker) of(d graph.Dim) int64 {
	k, _ := d.Const()
	if n, ok := s.m[k]; ok {
		return n
	}
	return k
}

// propose certifies that new may stand for old and replaces.
func propose(c *passes.Context, rule string, cl *certify.Claim) error {
	if err := certify.Check(c.Ctx, c.Table, c.Cache, cl); err != nil {
		return err
	}
	for i, v := range cl.Old {
		w := cl.New[i]
		if v.IsOutput() {
			v.Name, w.Name = w.Name, v.Name
		}
		v.ReplaceWith(w)
	}
	c.Done(rule, cl.New[0], "certified in float64")
	return nil
}
