package certify

import (
	"context"
	"maps"
	"sort"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
)

// Along sets the sizes to try: the length l becomes each of lengths, or the
// next that it can be when it is an expression such as 256*blocks.
func (c *Claim) Along(l graph.Dim, lengths ...int64) {
	c.length, c.Sizes = l, nil
	for _, n := range lengths {
		b := bind(l, n)
		if last := len(c.Sizes) - 1; b != nil && (last < 0 || !maps.Equal(c.Sizes[last], b)) {
			c.Sizes = append(c.Sizes, b)
		}
	}
}

// bind gives the symbols of l, all alike, the least value from 1 on that makes
// l at least n; nil when l has no symbol.
func bind(l graph.Dim, n int64) graph.Bindings {
	at := func(v int64) (graph.Bindings, int64) {
		b := graph.Bindings{}
		for _, s := range l.Symbols() {
			b[s] = v
		}
		k, err := l.Eval(b)
		if err != nil {
			k = v
		}
		return b, k
	}
	if b, _ := at(1); len(b) == 0 {
		return nil
	}
	v := 1 + sort.Search(int(n), func(i int) bool { _, k := at(int64(i) + 1); return k >= n })
	b, _ := at(int64(v))
	return b
}

// Static evaluates a value that depends on lengths alone, where length is n. like
// is a value whose shape has the symbols of the lengths.
func Static(ctx context.Context, t *ops.Table, v, like *graph.Value, length graph.Dim, n int64) (*tensor.Tensor, error) {
	r, err := extract(&Claim{In: []Input{{Value: like}}, Old: []*graph.Value{v}, New: []*graph.Value{v}})
	if err != nil {
		return nil, err
	}
	g, err := r.concrete(t, bind(length, n), nil)
	if err != nil {
		return nil, err
	}
	in := make([]*tensor.Tensor, len(g.Inputs))
	for i, u := range g.Inputs {
		shape, _ := u.Type.Static()
		in[i] = tensor.New(u.Type.DType, shape...)
	}
	out, err := ops.Run(ctx, t, g, in)
	if err != nil {
		return nil, err
	}
	return out[0], nil
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
