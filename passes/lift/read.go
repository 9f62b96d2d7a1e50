package lift

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// element recognises reads of the step's element of a sequence that is whole
// outside; ok is false when n is none.
func (l *Lifter) element(n *graph.Node) (s Seq, ok bool, err error) {
	switch n.Op.Name {
	case "Gather":
		return l.readGather(n)
	case "Slice":
		return l.readSlice(n)
	case "SequenceAt":
		return l.readMember(n)
	}
	return Seq{}, false, nil
}

// MaxWindow bounds the slices that a window read is made of.
const MaxWindow = 64

// readGather: Gather(whole, index of time).
func (l *Lifter) readGather(n *graph.Node) (Seq, bool, error) {
	a := l.Index(n.In[1])
	if a == nil || a.Scale == 0 {
		return Seq{}, false, nil
	}
	data, err := l.Of(n.In[0])
	if err != nil || data.Timed() {
		return Seq{}, false, err
	}
	axis := l.axis(n, data.Rank())
	s, ok := l.elements(data.V, axis, *a, true)
	if !ok {
		return Seq{}, false, nil // by a Gather of all indices
	}
	var ones []int
	for i := range n.In[1].Type.Rank() {
		ones = append(ones, axis+i)
	}
	return l.Unsqueeze(s, ones), true, nil
}

// elements is the sequence of v[a(t)] along axis, when it is a part of v or that turned around.
func (l *Lifter) elements(v *graph.Value, axis int, a Affine, wraps bool) (Seq, bool) {
	n, L := v.Type.Shape[axis], l.Loop.Length
	o := a.Offset
	if wraps && o.AtLeast(graph.D(-1<<30)) && !o.AtLeast(graph.D(0)) && a.Scale < 0 { // from the end: -1-t
		o = o.Add(n)
	}
	last := o.Add(L.Sub(graph.D(1)).Mul(graph.D(a.Scale)))
	lo, hi := o, last
	if a.Scale < 0 {
		lo, hi = last, o
	}
	if !lo.AtLeast(graph.D(0)) || !n.AtLeast(hi.Add(graph.D(1))) {
		return Seq{}, false
	}
	end := hi.Add(graph.D(1))
	switch a.Scale {
	case 1:
		return Seq{l.sliced(v, axis, lo, end), axis}, true
	case -1:
		return l.Reversed(Seq{l.sliced(v, axis, lo, end), axis}), true
	}
	return Seq{}, false
}

// readSlice: Slice(whole, t+o : t+o+w).
func (l *Lifter) readSlice(n *graph.Node) (Seq, bool, error) {
	if len(n.In) < 3 {
		return Seq{}, false, nil
	}
	from, to := l.Index(n.In[1]), l.Index(n.In[2])
	if from == nil || from.Scale == 0 {
		return Seq{}, false, nil
	}
	data, err := l.Of(n.In[0])
	if err != nil || data.Timed() {
		return Seq{}, false, err
	}
	if step := n.Input(4); step != nil {
		if k, ok := ops.KnownOf(step); !ok || len(k) != 1 || !k[0].Is(1) {
			return Seq{}, false, errorf(n, "reads by a stride")
		}
	}
	axes, ok := axesOf(n, 3, data.Rank())
	if n.Input(3) == nil {
		axes, ok = []int{0}, true
	}
	if !ok || len(axes) != 1 {
		return Seq{}, false, errorf(n, "reads along axes that are not known")
	}
	w := int64(0)
	if to != nil && to.Scale == from.Scale {
		w, _ = to.Offset.Sub(from.Offset).Const()
	}
	if w < 1 || w > MaxWindow {
		return Seq{}, false, errorf(n, "reads a part whose length changes with time, or of more than %d elements", MaxWindow)
	}
	parts := make([]*graph.Value, w)
	at := -1
	for k := range w {
		s, ok := l.elements(data.V, axes[0], Affine{from.Scale, from.Offset.Add(graph.D(k))}, false)
		if !ok {
			return Seq{}, false, errorf(n, "reads elements %s to %s in step t along an axis of length %s: not shown to exist in all %s steps",
				position(*from), position(Affine{from.Scale, from.Offset.Add(graph.D(w - 1))}), data.V.Type.Shape[axes[0]], l.Loop.Length)
		}
		s = l.Unsqueeze(s, axes)
		parts[k], at = s.V, s.At
	}
	if w == 1 {
		return Seq{parts[0], at}, true, nil
	}
	return Seq{l.B.Op("Concat", graph.Attrs{"axis": Seq{At: at}.full(axes[0])}, parts...), at}, true, nil
}

func position(a Affine) string {
	return graph.Sym("t").Mul(graph.D(a.Scale)).Add(a.Offset).String()
}

// readMember: SequenceAt(SplitToSequence(whole), t).
func (l *Lifter) readMember(n *graph.Node) (Seq, bool, error) {
	a, split := l.Index(n.In[1]), n.In[0].Def
	if a == nil || split == nil || !split.Op.Is("", "SplitToSequence") || l.Inside(n.In[0]) {
		return Seq{}, false, errorf(n, "reads a list that is not a sequence cut into its steps outside the loop")
	}
	if k := split.Input(1); k != nil {
		if d, ok := ops.KnownOf(k); !ok || len(d) != 1 || !d[0].Is(1) {
			return Seq{}, false, errorf(n, "reads a list of parts longer than one step")
		}
	}
	v := split.In[0]
	axis := l.axis(split, v.Type.Rank())
	l.takeUp(v)
	s, ok := l.elements(v, axis, *a, true)
	if !ok {
		return Seq{}, false, errorf(n, "reads members not shown to exist in all steps")
	}
	if split.Input(1) != nil || split.Attrs.Int("keepdims", 1) != 0 {
		s = l.Unsqueeze(s, []int{axis})
	}
	return s, true, nil
}

// Zero reports whether v is all zeros.
func Zero(v *graph.Value) bool {
	v = layout.Deepest(Source(v))
	if v.Const != nil {
		if !v.Const.DType.IsFloat() && !v.Const.DType.IsInt() {
			return false
		}
		for i := range v.Const.Len() {
			if v.Const.At(i) != 0 {
				return false
			}
		}
		return true
	}
	if n := v.Def; n != nil && n.Op.Is("", "ConstantOfShape") {
		t := n.Attrs.Tensor("value")
		return t == nil || t.DType != tensor.Bool && t.At(0) == 0
	}
	if n := v.Def; n != nil && n.Op.Is("", "Cast") {
		return Zero(n.In[0])
	}
	return false
}
