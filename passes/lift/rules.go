package lift

import (
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// MatMul multiplies the last two axes of body shapes.
func (l *Lifter) MatMul(a, b Seq) Seq {
	row, column := a.Rank() == 1, b.Rank() == 1
	if row {
		a = l.Unsqueeze(a, []int{0})
	}
	if column {
		b = l.Unsqueeze(b, []int{1})
	}
	var out Seq
	if !b.Timed() && b.Rank() == 2 && a.At < a.Rank() { // time is one more axis of rows
		out = Seq{l.B.Op("MatMul", nil, a.V, b.V), a.At}
	} else {
		for _, s := range []*Seq{&a, &b} {
			if s.Timed() && s.Rank()-s.At < 2 {
				*s = l.MoveTime(*s, s.Rank()-2)
			}
		}
		rank := max(a.Rank(), b.Rank())
		args, at := l.align(rank, []Seq{a, b})
		out = Seq{l.B.Op("MatMul", nil, args...), at}
	}
	if l.B.Err != nil {
		return out
	}
	var drop []int
	if row {
		drop = append(drop, out.Rank()-2)
	}
	if column {
		drop = append(drop, out.Rank()-1)
	}
	return l.Squeeze(out, drop)
}

func (l *Lifter) gemm(n *graph.Node, in []Seq, _ *graph.Value) (Seq, error) {
	a, b := in[0], in[1]
	if n.Attrs.Int("transA", 0) != 0 {
		a = l.Transpose(a, []int64{1, 0})
	}
	if n.Attrs.Int("transB", 0) != 0 {
		b = l.Transpose(b, []int64{1, 0})
	}
	y := l.MatMul(a, b)
	scaled := func(s Seq, by float32) Seq {
		if by == 1 || l.B.Err != nil {
			return s
		}
		return l.Elementwise("Mul", nil, s, l.Scalar(s.V.Type.DType, float64(by)))
	}
	y = scaled(y, n.Attrs.Float("alpha", 1))
	if len(in) > 2 && in[2].V != nil {
		y = l.Elementwise("Add", nil, y, scaled(in[2], n.Attrs.Float("beta", 1)))
	}
	return y, nil
}

func (l *Lifter) einsum(n *graph.Node, in []Seq, _ *graph.Value) (Seq, error) {
	terms, out, ok := Equation(n)
	if !ok {
		return Seq{}, errorf(n, "has an ellipsis in its equation %q", n.Attrs.Str("equation", ""))
	}
	time := ""
	for _, c := range "tTuUvVwWxXyYzZaAbBcCdDeEfFgGhHiIjJkKlLmMnNoOpPqQrRsS" {
		if !strings.ContainsRune(strings.Join(terms, "")+out, c) {
			time = string(c)
			break
		}
	}
	to := -1
	args := make([]*graph.Value, len(in))
	for i, s := range in {
		args[i] = s.V
		if s.Timed() {
			terms[i] = terms[i][:s.At] + time + terms[i][s.At:]
			if to < 0 {
				to = min(s.At, len(out))
			}
		}
	}
	eq := strings.Join(terms, ",") + "->" + out[:to] + time + out[to:]
	return Seq{l.B.Op("Einsum", graph.Attrs{"equation": eq}, args...), to}, nil
}

// Equation splits an Einsum without ellipsis into the letters of its operands
// and of its result.
func Equation(n *graph.Node) (in []string, out string, ok bool) {
	eq := strings.ReplaceAll(n.Attrs.Str("equation", ""), " ", "")
	if strings.Contains(eq, ".") {
		return nil, "", false
	}
	left, out, explicit := strings.Cut(eq, "->")
	in = strings.Split(left, ",")
	if !explicit {
		letters := strings.Split(strings.ReplaceAll(left, ",", ""), "")
		slices.Sort(letters)
		for _, c := range letters {
			if strings.Count(left, c) == 1 {
				out += c
			}
		}
	}
	return in, out, len(in) == len(n.In)
}

// along: operators over the last axes, which an axis attribute names.
func (l *Lifter) along(n *graph.Node, in []Seq, v *graph.Value) (Seq, error) {
	s, rank := in[0], n.In[0].Type.Rank()
	axis := int(n.Attrs.Int("axis", -1))
	if axis < 0 {
		axis += rank
	}
	if strings.HasSuffix(n.Op.Name, "oftmax") && n.Op.Since < 13 && axis != rank-1 || v != n.Out[0] {
		return Seq{}, errorf(n, "is of an opset that flattens its input")
	}
	if s.At > axis {
		s = l.MoveTime(s, axis)
	}
	args := []*graph.Value{s.V}
	for _, p := range in[1:] {
		if p.Timed() {
			return Seq{}, errorf(n, "has parameters that change with time")
		}
		args = append(args, p.V)
	}
	m := l.like(n, graph.Attrs{"axis": s.full(axis)}, args...)
	if m == nil {
		return Seq{}, l.B.Err
	}
	return Seq{m.Out[0], s.At}, l.B.Err
}

func (l *Lifter) reduce(n *graph.Node, in []Seq) (Seq, error) {
	s, rank := in[0], n.In[0].Type.Rank()
	axes, ok := axesOf(n, 1, rank)
	if !ok || len(axes) == 0 {
		if n.Input(1) != nil && !ok {
			return Seq{}, errorf(n, "reduces over axes that are not constant")
		}
		if n.Attrs.Int("noop_with_empty_axes", 0) != 0 {
			return s, nil
		}
		axes = nil
		for a := range rank {
			axes = append(axes, a)
		}
	}
	keep := n.Attrs.Int("keepdims", 1)
	at := s.At
	full := make([]int64, len(axes))
	for i, a := range axes {
		full[i] = s.full(a)
		if keep == 0 && a < s.At {
			at--
		}
	}
	op := graph.Attrs{"keepdims": keep}
	if len(n.In) > 1 || !n.Attrs.Has("axes") && n.Op.Since >= 18 || n.Op.Name == "ReduceSum" && n.Op.Since >= 13 {
		return Seq{l.B.Op(n.Op.Name, op, s.V, l.B.Ints(full...)), at}, nil
	}
	m := l.like(n, graph.Attrs{"axes": full}, s.V)
	if m == nil {
		return Seq{}, l.B.Err
	}
	return Seq{m.Out[0], at}, l.B.Err
}

// like is Builder.Like with some attributes changed.
func (l *Lifter) like(n *graph.Node, change graph.Attrs, in ...*graph.Value) *graph.Node {
	m := *n
	m.Attrs = n.Attrs.Clone()
	for k, v := range change {
		m.Attrs[k] = v
	}
	return l.B.Like(&m, in...)
}

func (l *Lifter) outs(n *graph.Node, v *graph.Value, m *graph.Node, at int) (Seq, error) {
	if m == nil {
		return Seq{}, l.B.Err
	}
	var s Seq
	for i, o := range n.Out {
		if o == nil {
			continue
		}
		if o == v {
			s = Seq{m.Out[i], at}
		} else {
			l.seqs[o] = Seq{m.Out[i], at}
		}
	}
	return s, l.B.Err
}

func (l *Lifter) axis(n *graph.Node, rank int) int {
	a := int(n.Attrs.Int("axis", 0))
	if a < 0 {
		a += rank
	}
	return a
}

func (l *Lifter) concat(n *graph.Node, in []Seq, v *graph.Value) (Seq, error) {
	axis := l.axis(n, v.Type.Rank())
	at := -1
	for _, s := range in {
		if s.Timed() {
			at = s.At
			break
		}
	}
	args := make([]*graph.Value, len(in))
	for i, s := range in {
		args[i] = l.Over(s, at).V
	}
	return Seq{l.B.Op("Concat", graph.Attrs{"axis": Seq{At: at}.full(axis)}, args...), at}, nil
}

func (l *Lifter) split(n *graph.Node, in []Seq, v *graph.Value) (Seq, error) {
	s := in[0]
	if len(in) > 1 && in[1].Timed() {
		return Seq{}, errorf(n, "cuts at lengths that change with time")
	}
	args := []*graph.Value{s.V}
	if len(in) > 1 && in[1].V != nil {
		args = append(args, in[1].V)
	}
	m := l.like(n, graph.Attrs{"axis": s.full(l.axis(n, n.In[0].Type.Rank()))}, args...)
	return l.outs(n, v, m, s.At)
}

func (l *Lifter) slice(n *graph.Node, in []Seq, _ *graph.Value) (Seq, error) {
	s, rank := in[0], n.In[0].Type.Rank()
	for _, p := range in[1:] {
		if p.V != nil && p.Timed() {
			return Seq{}, errorf(n, "takes a part that moves with time out of what changes with time")
		}
	}
	if len(n.In) < 3 {
		return Seq{}, errorf(n, "is of an opset before 10")
	}
	axes, ok := axesOf(n, 3, rank)
	if !ok {
		k, known := n.In[1].Type.Static()
		if n.Input(3) != nil || !known {
			return Seq{}, errorf(n, "cuts axes that are not constant")
		}
		for a := range k[0] {
			axes = append(axes, a)
		}
	}
	full := make([]int64, len(axes))
	for i, a := range axes {
		full[i] = s.full(a)
	}
	args := []*graph.Value{s.V, in[1].V, in[2].V, l.B.Ints(full...)}
	if len(in) > 4 {
		args = append(args, in[4].V)
	}
	return Seq{l.B.Op("Slice", nil, args...), s.At}, nil
}

func (l *Lifter) gather(n *graph.Node, in []Seq, _ *graph.Value) (Seq, error) {
	data, idx := in[0], in[1]
	axis := l.axis(n, n.In[0].Type.Rank())
	switch {
	case data.Timed() && idx.Timed():
		return Seq{}, errorf(n, "takes a part that moves with time out of what changes with time")
	case idx.Timed():
		return Seq{l.B.Op("Gather", graph.Attrs{"axis": int64(axis)}, data.V, idx.V), axis + idx.At}, nil
	}
	at := data.At
	if axis < at {
		at += idx.Rank() - 1
	}
	return Seq{l.B.Op("Gather", graph.Attrs{"axis": data.full(axis)}, data.V, idx.V), at}, nil
}

func (l *Lifter) pad(n *graph.Node, in []Seq, _ *graph.Value) (Seq, error) {
	s, rank := in[0], n.In[0].Type.Rank()
	if len(n.In) < 2 || n.Input(3) != nil {
		return Seq{}, errorf(n, "is a Pad of another form than pads of all axes as an input")
	}
	k, ok := ops.KnownOf(n.In[1])
	if !ok || len(k) != 2*rank {
		return Seq{}, errorf(n, "pads by lengths that are not known")
	}
	pads := slices.Clone(k)
	pads = slices.Insert(pads, rank+s.At, graph.D(0))
	pads = slices.Insert(pads, s.At, graph.D(0))
	args := []*graph.Value{s.V, layout.Shape(l.B, pads, s.V)}
	if len(in) > 2 && in[2].V != nil {
		args = append(args, in[2].V)
	}
	m := l.B.Like(n, args...)
	if m == nil {
		return Seq{}, l.B.Err
	}
	return Seq{m.Out[0], s.At}, nil
}

func (l *Lifter) tile(n *graph.Node, in []Seq, _ *graph.Value) (Seq, error) {
	k, ok := ops.KnownOf(n.Input(1))
	if !ok || !in[0].Timed() {
		return Seq{}, errorf(n, "repeats by numbers that are not known")
	}
	k = slices.Insert(slices.Clone(k), in[0].At, graph.D(1))
	return Seq{l.B.Op("Tile", nil, in[0].V, layout.Shape(l.B, k, in[0].V)), in[0].At}, nil
}

func (l *Lifter) trilu(n *graph.Node, in []Seq, _ *graph.Value) (Seq, error) {
	s := in[0]
	if len(in) > 1 && in[1].Timed() {
		return Seq{}, errorf(n, "masks by a diagonal that moves with time")
	}
	if s.Rank()-s.At < 2 {
		s = l.MoveTime(s, s.Rank()-2)
	}
	args := []*graph.Value{s.V}
	if len(in) > 1 && in[1].V != nil {
		args = append(args, in[1].V)
	}
	m := l.B.Like(n, args...)
	if m == nil {
		return Seq{}, l.B.Err
	}
	return Seq{m.Out[0], s.At}, nil
}

func (l *Lifter) cumsum(n *graph.Node, in []Seq, _ *graph.Value) (Seq, error) {
	a := l.Index(n.In[1])
	if a == nil || a.Scale != 0 || !in[0].Timed() {
		return Seq{}, errorf(n, "sums along an axis that is not constant")
	}
	axis, _ := a.Offset.Const()
	if axis < 0 {
		axis += int64(in[0].Rank())
	}
	m := l.B.Like(n, in[0].V, layout.Reshape(l.B, l.B.Ints(in[0].full(int(axis))), nil))
	if m == nil {
		return Seq{}, l.B.Err
	}
	return Seq{m.Out[0], in[0].At}, nil
}
