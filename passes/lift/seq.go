package lift

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Seq is a value of the body in all steps. V has the axes of the body's value
// and time at axis At; with At < 0 the value is the same in every step and V
// has no time axis. An axis of V may be 1 where the body's is longer.
type Seq struct {
	V  *graph.Value
	At int
}

// Timed reports whether s has a time axis.
func (s Seq) Timed() bool { return s.At >= 0 }

// Rank is the number of axes besides time.
func (s Seq) Rank() int {
	if s.Timed() {
		return s.V.Type.Rank() - 1
	}
	return s.V.Type.Rank()
}

// Dims is the shape without time.
func (s Seq) Dims() []graph.Dim {
	d := slices.Clone(s.V.Type.Shape)
	if s.Timed() {
		d = slices.Delete(d, s.At, s.At+1)
	}
	return d
}

// full maps an axis of the body to one of V.
func (s Seq) full(axis int) int64 {
	if s.Timed() && axis >= s.At {
		axis++
	}
	return int64(axis)
}

// with inserts the number of steps into a shape of the body.
func (l *Lifter) with(dims []graph.Dim, at int) []graph.Dim {
	if at < 0 {
		return dims
	}
	return slices.Insert(slices.Clone(dims), at, l.Loop.Length)
}

// MoveTime puts the time axis at axis to.
func (l *Lifter) MoveTime(s Seq, to int) Seq {
	if !s.Timed() || s.At == to || l.B.Err != nil {
		return s
	}
	perm := make([]int64, 0, s.V.Type.Rank())
	for a := range s.V.Type.Rank() {
		if a != s.At {
			perm = append(perm, int64(a))
		}
	}
	perm = slices.Insert(perm, to, int64(s.At))
	return Seq{layout.Transpose(l.B, s.V, perm...), to}
}

// Repeat gives s a time axis at axis to, of length 1.
func (l *Lifter) oneStep(s Seq, to int) *graph.Value {
	return l.B.Op("Unsqueeze", nil, s.V, l.B.Ints(int64(to)))
}

// Over gives s its time axis at axis at, repeating what is the same in all steps.
func (l *Lifter) Over(s Seq, at int) Seq {
	if s.Timed() {
		return l.MoveTime(s, at)
	}
	v := l.oneStep(s, at)
	if l.B.Err != nil {
		return s
	}
	return Seq{l.expand(v, l.with(s.Dims(), at)), at}
}

func (l *Lifter) expand(v *graph.Value, dims []graph.Dim) *graph.Value {
	if l.B.Err != nil || slices.Equal(v.Type.Shape, dims) {
		return v
	}
	return l.B.Op("Expand", nil, v, layout.Shape(l.B, dims, v))
}

// Unsqueeze inserts axes, positions in the result's body shape.
func (l *Lifter) Unsqueeze(s Seq, axes []int) Seq {
	if len(axes) == 0 || l.B.Err != nil {
		return s
	}
	out := s.Rank() + len(axes)
	inserted := map[int]bool{}
	for _, a := range axes {
		inserted[a] = true
	}
	to := s.At
	if to > 0 { // behind the axis that it was behind
		kept := 0
		for p := range out {
			if inserted[p] {
				continue
			}
			if kept++; kept == s.At {
				to = p + 1
				break
			}
		}
	}
	r := Seq{At: to}
	full := make([]int64, len(axes))
	for i, a := range axes {
		full[i] = r.full(a)
	}
	slices.Sort(full)
	r.V = l.B.Op("Unsqueeze", nil, s.V, l.B.Ints(full...))
	return r
}

// Squeeze removes axes of length 1.
func (l *Lifter) Squeeze(s Seq, axes []int) Seq {
	if len(axes) == 0 || l.B.Err != nil {
		return s
	}
	full := make([]int64, len(axes))
	r := Seq{At: s.At}
	for i, a := range axes {
		full[i] = s.full(a)
		if a < s.At {
			r.At--
		}
	}
	slices.Sort(full)
	r.V = l.B.Op("Squeeze", nil, s.V, l.B.Ints(full...))
	return r
}

// Transpose permutes the axes of the body.
func (l *Lifter) Transpose(s Seq, perm []int64) Seq {
	if l.B.Err != nil {
		return s
	}
	full := make([]int64, 0, len(perm)+1)
	for _, p := range perm {
		full = append(full, s.full(int(p)))
	}
	if s.Timed() {
		full = slices.Insert(full, s.At, int64(s.At))
	}
	return Seq{layout.Transpose(l.B, s.V, full...), s.At}
}

// Pad prepends axes of length 1 to the body's shape until it has rank.
func (l *Lifter) Pad(s Seq, rank int) Seq {
	var axes []int
	for a := range rank - s.Rank() {
		axes = append(axes, a)
	}
	return l.Unsqueeze(s, axes)
}

// Expand repeats s to the body shape dims.
func (l *Lifter) Expand(s Seq, dims []graph.Dim) Seq {
	s = l.Pad(s, len(dims))
	if l.B.Err != nil {
		return s
	}
	return Seq{l.expand(s.V, l.with(dims, s.At)), s.At}
}

// Reshape gives s, which broadcasts to the body shape from, the shape that a
// Reshape of from to dims gives. Axes that s does not have stay 1 where the
// Reshape neither splits nor merges them with ones that it has.
func (l *Lifter) Reshape(s Seq, from, dims []graph.Dim) Seq {
	s = l.Pad(s, len(from))
	if l.B.Err != nil {
		return s
	}
	have := s.Dims()
	groups, ok := Match(from, dims)
	if !ok {
		groups = []Group{{0, len(from), 0, len(dims)}}
	}
	want := slices.Clone(dims)
	grown := slices.Clone(have)
	for _, g := range groups {
		ones, same := true, true
		for i := g.I; i < g.J; i++ {
			ones = ones && have[i].Is(1)
			same = same && have[i] == from[i]
		}
		switch {
		case same:
		case ones:
			for i := g.K; i < g.L; i++ {
				want[i] = graph.D(1)
			}
		default:
			copy(grown[g.I:g.J], from[g.I:g.J])
		}
	}
	if !slices.Equal(grown, have) {
		s = l.Expand(s, grown)
	}
	if s.Timed() && l.B.Err == nil {
		to := -1
		for k := range len(want) + 1 { // time stays where as many elements precede it
			if layout.Product(want[:k]...) == layout.Product(grown[:s.At]...) {
				to = k
				break
			}
		}
		if to < 0 {
			s, to = l.MoveTime(s, 0), 0
		}
		return Seq{layout.Reshape(l.B, s.V, l.with(want, to)), to}
	}
	return Seq{layout.Reshape(l.B, s.V, want), -1}
}

// Group says that axes I to J of one shape hold what axes K to L of another hold.
type Group struct{ I, J, K, L int }

// Match splits two shapes of equal size into the smallest groups of axes that
// correspond.
func Match(a, b []graph.Dim) ([]Group, bool) {
	var out []Group
	i, k := 0, 0
	for i < len(a) || k < len(b) {
		g := Group{i, i, k, k}
		p, q := graph.D(1), graph.D(1)
		if i < len(a) {
			p, i = a[i], i+1
		}
		if k < len(b) {
			q, k = b[k], k+1
		}
		for p != q {
			_, less := q.DivExact(p)
			switch {
			case less && i < len(a):
				p, i = p.Mul(a[i]), i+1
			case k < len(b):
				q, k = q.Mul(b[k]), k+1
			case i < len(a):
				p, i = p.Mul(a[i]), i+1
			default:
				return nil, false
			}
		}
		g.J, g.L = i, k
		out = append(out, g)
	}
	return out, true
}

// Elementwise applies a broadcasting operator: the version and attributes of n,
// or the newest of its name when like is nil.
func (l *Lifter) Elementwise(name string, like *graph.Node, in ...Seq) Seq {
	if l.B.Err != nil {
		return Seq{}
	}
	rank := 0
	for _, s := range in {
		if s.V != nil {
			rank = max(rank, s.Rank())
		}
	}
	args, at := l.align(rank, in)
	if l.B.Err != nil {
		return Seq{}
	}
	if like != nil {
		if m := l.B.Like(like, args...); m != nil {
			return Seq{m.Out[0], at}
		}
		return Seq{}
	}
	return Seq{l.B.Op(name, nil, args...), at}
}

// align makes the operands broadcast: the time axes of all stand as far from
// the last axis, and what is the same in all steps makes room. It returns the
// values and the place of time in the result.
func (l *Lifter) align(rank int, in []Seq) ([]*graph.Value, int) {
	behind, votes, best := -1, map[int]int{}, 0 // axes behind time
	for _, s := range in {
		if s.V != nil && s.Timed() {
			q := s.Rank() - s.At
			if votes[q] += 1 + s.Rank(); votes[q] > best { // the larger the operand, the dearer its transposition
				behind, best = q, votes[q]
			}
		}
	}
	out := make([]*graph.Value, len(in))
	for i, s := range in {
		switch {
		case s.V == nil:
		case behind < 0:
			out[i] = s.V
		case s.Timed():
			if r := s.Rank(); r < behind {
				s = l.MoveTime(s, 0)
				var axes []int64
				for a := range behind - r {
					axes = append(axes, int64(1+a))
				}
				out[i] = l.B.Op("Unsqueeze", nil, s.V, l.B.Ints(axes...))
			} else {
				out[i] = l.MoveTime(s, r-behind).V
			}
		case s.Rank() > behind:
			out[i] = l.oneStep(s, s.Rank()-behind)
		default:
			out[i] = s.V
		}
	}
	if behind < 0 {
		return out, -1
	}
	return out, rank - behind
}

// Scalar is a constant of the dtype of like, the same in all steps.
func (l *Lifter) Scalar(d tensor.DType, x float64) Seq {
	t := tensor.New(d)
	t.SetAt(0, x)
	return Seq{l.B.Const(t), -1}
}

// Reversed turns time around.
func (l *Lifter) Reversed(s Seq) Seq {
	if !s.Timed() || l.B.Err != nil {
		return s
	}
	return Seq{l.B.Op("Slice", nil, s.V, l.B.Ints(-1), l.B.Ints(-1<<62), l.B.Ints(int64(s.At)), l.B.Ints(-1)), s.At}
}

// Cast changes the dtype.
func (l *Lifter) Cast(s Seq, d tensor.DType) Seq {
	if l.B.Err != nil || s.V.Type.DType == d {
		return s
	}
	return Seq{l.B.Op("Cast", graph.Attrs{"to": int64(d)}, s.V), s.At}
}

// Slice takes [from, to) of body axis a; to < 0 means up to the end.
func (l *Lifter) sliced(v *graph.Value, axis int, from, to graph.Dim) *graph.Value {
	if l.B.Err != nil || from.Is(0) && to == v.Type.Shape[axis] {
		return v
	}
	return l.B.Op("Slice", nil, v, layout.Shape(l.B, []graph.Dim{from}, v), layout.Shape(l.B, []graph.Dim{to}, v), l.B.Ints(int64(axis)))
}

func errorf(n *graph.Node, format string, a ...any) error {
	return fmt.Errorf("%s %s", n, fmt.Sprintf(format, a...))
}
