package certify

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
)

// Bindings makes one binding per length of l: its symbol is set so that l is
// the smallest possible length not below the one asked for.
func Bindings(l graph.Dim, lengths ...int64) []graph.Bindings {
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
		if s, scale, offset, ok := l.Affine(); ok {
			b[s] = max(1, (n-offset+scale-1)/scale)
		}
		if len(out) == 0 || out[len(out)-1][syms[0]] != b[syms[0]] {
			out = append(out, b)
		}
	}
	return out
}

// Smallest binds every symbol of a type to 1.
func Smallest(t graph.Type) []graph.Bindings {
	b := graph.Bindings{}
	for _, d := range t.Shape {
		for _, s := range d.Symbols() {
			b[s] = 1
		}
	}
	return []graph.Bindings{b}
}

// Shrinker maps large axis lengths to small distinct ones, for certification.
// Lengths in keep, small ones and pairs that coincide are left alone.
type Shrinker struct {
	Map  map[int64]int64
	keep map[int64]bool
}

// NewShrinker leaves the lengths in keep alone.
func NewShrinker(keep ...graph.Dim) *Shrinker {
	s := &Shrinker{Map: map[int64]int64{}, keep: map[int64]bool{}}
	for _, d := range keep {
		if n, ok := d.Const(); ok {
			s.keep[n] = true
		}
	}
	return s
}

// To asks for length d to become n, unless it already has another image.
func (s *Shrinker) To(d graph.Dim, n int64) {
	k, ok := d.Const()
	if !ok || k <= 8 || s.keep[k] || n >= k {
		return
	}
	if _, dup := s.Map[k]; !dup {
		s.Map[k] = n
	}
}

// Of is the image of d.
func (s *Shrinker) Of(d graph.Dim) int64 {
	k, _ := d.Const()
	if n, ok := s.Map[k]; ok {
		return n
	}
	return k
}

// Rewrite checks the claim and, with the certificate, lets New stand for Old.
func Rewrite(c *passes.Context, rule string, cl *Claim) error {
	if err := Check(c.Ctx, c.Table, c.Cache, cl); err != nil {
		return err
	}
	for i, v := range cl.Old {
		w := cl.New[i]
		if v.IsOutput() { // outputs of the model keep their names
			v.Name, w.Name = w.Name, v.Name
		}
		v.ReplaceWith(w)
	}
	c.Done(rule, cl.New[0], "certified in float64")
	return nil
}
