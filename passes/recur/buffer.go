package recur

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// A buffer is a carried value into which every step writes an output and which
// no step reads: a list that grows, or a tensor whose part at the step's time
// is replaced.
type buffer struct {
	value   *graph.Value // what a step writes
	axis    int          // of time in the tensor; -1: a list
	reverse bool
}

// buffer recognises one, or returns nil.
func (r *recurrence) buffer(s *lift.State) (*buffer, error) {
	out := lift.Source(s.Out)
	n := out.Def
	if n == nil || n.Op.Domain != "" || len(n.In) == 0 {
		return nil, nil
	}
	var value, index *graph.Value
	switch {
	case n.Op.Is("", "SequenceInsert") && lift.Source(n.In[0]) == s.In:
		if n.Input(2) != nil {
			return nil, fmt.Errorf("%s inserts in the middle of a list; expected it to append", n)
		}
		value = n.In[1]
	case (n.Op.Is("", "ScatterND") || n.Op.Is("", "ScatterElements")) && lift.Source(n.In[0]) == s.In:
		if red := n.Attrs.Str("reduction", "none"); red != "none" {
			return nil, fmt.Errorf("%s writes by %q; expected it to replace", n, red)
		}
		value, index = n.In[2], n.In[1]
	case n.Op.Is("", "Concat"):
		value, index = r.assigned(n, s)
	}
	if value == nil {
		return nil, nil
	}
	for _, u := range s.In.Uses {
		if m := u.Node; m != n && !m.Op.Is("", "Shape") && !m.Op.Is("", "SequenceLength") && !(m.Op.Is("", "Slice") && n.Op.Name == "Concat" && feeds(m, n)) {
			return nil, nil
		}
	}
	for _, u := range out.Uses {
		if !u.Node.Op.Is("", "Identity") {
			return nil, fmt.Errorf("%s reads the buffer %q that the steps write to", u.Node, s.In.Name)
		}
	}
	b := &buffer{value: value, axis: -1}
	if n.Op.Name == "SequenceInsert" {
		return b, nil
	}
	a := r.indexIn(index, 40)
	if a == nil || a.Scale != 1 && a.Scale != -1 {
		return nil, fmt.Errorf("%s writes at places that do not follow the step", n)
	}
	b.reverse = a.Scale < 0
	t := s.In.Type
	size := layout.Numel(value)
	for axis := range t.Rank() {
		if t.Shape[axis] == r.loop.Length && size.Mul(r.loop.Length) == layout.Numel(s.In) {
			b.axis = axis
			return b, nil
		}
	}
	return nil, fmt.Errorf("%s writes %s into %s in each of %s steps: not one element of an axis that is as long as the steps are many", n, value.Type, t, r.loop.Length)
}

// assigned: Concat(buffer[:t], value, buffer[t+1:]), either part may be missing.
func (r *recurrence) assigned(n *graph.Node, s *lift.State) (value, index *graph.Value) {
	for _, u := range n.In {
		if m := lift.Source(u).Def; m != nil && m.Op.Is("", "Slice") && lift.Source(m.In[0]) == s.In {
			for _, k := range m.In[1:3] {
				if a := r.lift.Index(k); a != nil && a.Scale != 0 {
					index = k
				}
			}
			continue
		}
		if value != nil {
			return nil, nil
		}
		value = u
	}
	if index == nil {
		return nil, nil
	}
	return value, index
}

func feeds(m, n *graph.Node) bool {
	for _, u := range n.In {
		if u.Def == m {
			return true
		}
	}
	return false
}

// indexIn finds the step's number among what an index is put together from.
func (r *recurrence) indexIn(v *graph.Value, depth int) *lift.Affine {
	if v == nil || depth == 0 || !r.lift.Inside(v) {
		return nil
	}
	if a := r.lift.Index(v); a != nil {
		if a.Scale != 0 {
			return a
		}
		return nil
	}
	if w := lift.Source(v); w != v {
		return r.indexIn(w, depth-1)
	}
	if v.Def == nil || !layout.Is(v.Def) && !isOp(v.Def, "Concat", "Add", "Mul", "Cast") {
		return nil // arithmetic that may bend the line somewhere
	}
	for _, u := range v.Def.In {
		if a := r.indexIn(u, depth-1); a != nil {
			return a
		}
	}
	return nil
}

// whole is the finished buffer of a tensor.
func (r *recurrence) whole(s *lift.State, b *buffer) (*graph.Value, error) {
	seq, err := r.value(b.value)
	if err != nil {
		return nil, err
	}
	var dims []graph.Dim
	for a, d := range s.In.Type.Shape {
		if a != b.axis {
			dims = append(dims, d)
		}
	}
	seq = r.lift.Reshape(seq, b.value.Type.Shape, dims)
	seq = r.lift.Over(seq, b.axis)
	if b.reverse {
		seq = r.lift.Reversed(seq)
	}
	if r.b.Err != nil {
		return nil, r.b.Err
	}
	return seq.V, nil
}

// stacked pairs each use of a finished list with the sequence it amounts to.
func (r *recurrence) stacked(s *lift.State, b *buffer) (old, new []*graph.Value, err error) {
	if k := s.Init.Def; k == nil || !k.Op.Is("", "SequenceEmpty") {
		return nil, nil, fmt.Errorf("the list %q is not empty before the loop", s.In.Name)
	}
	if s.Final.IsOutput() {
		return nil, nil, fmt.Errorf("the list %q is an output of the model; expected it to be stacked", s.Final.Name)
	}
	for _, u := range s.Final.Uses {
		m := u.Node
		if !m.Op.Is("", "ConcatFromSequence") {
			return nil, nil, fmt.Errorf("%s uses the list of outputs; expected ConcatFromSequence", m)
		}
		seq, err := r.value(b.value)
		if err != nil {
			return nil, nil, err
		}
		rank := b.value.Type.Rank()
		fresh := m.Attrs.Int("new_axis", 0) != 0
		axis := int(m.Attrs.Int("axis", 0))
		if axis < 0 {
			axis += rank
			if fresh {
				axis++
			}
		}
		seq = r.lift.Over(seq, axis)
		if r.b.Err != nil {
			return nil, nil, r.b.Err
		}
		v := seq.V
		if !fresh { // [..., L, k, ...] becomes [..., L*k, ...]
			v = layout.Reshape(r.b, v, m.Out[0].Type.Shape)
		}
		old, new = append(old, m.Out[0]), append(new, v)
	}
	return old, new, nil
}
