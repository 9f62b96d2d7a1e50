package recur

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// shiftRegister: every step drops the first column along an axis and appends
// one that does not depend on the register, as the state of a convolution.
func (r *recurrence) shiftRegister(s *lift.State) (bool, error) {
	n := lift.Source(s.Out).Def
	if n == nil || !s.In.Type.Ranked() {
		return false, nil
	}
	drop := func(m *graph.Node, of *graph.Value) (axis int, ok bool) { // Slice(of, 1:)
		if m == nil || !m.Op.Is("", "Slice") || lift.Source(m.In[0]) != of || len(m.In) < 4 || m.Input(3) == nil || m.Input(4) != nil && !isOne(m.In[4]) {
			return 0, false
		}
		from, ok1 := ops.KnownOf(m.In[1])
		ax, ok2 := ops.KnownOf(m.In[3])
		if !ok1 || !ok2 || len(ax) != 1 || len(from) != 1 || !from[0].Is(1) {
			return 0, false
		}
		k, ok := ax[0].Const()
		if k < 0 {
			k += int64(of.Type.Rank())
		}
		return int(k), ok && m.In[0].Type.Shape[k].Sub(m.Out[0].Type.Shape[k]).Is(1)
	}
	var column *graph.Value
	axis, ok := 0, false
	switch {
	case n.Op.Is("", "Concat") && len(n.In) == 2:
		if axis, ok = drop(lift.Source(n.In[0]).Def, s.In); ok {
			column = n.In[1]
		}
	case n.Op.Is("", "Slice"):
		if cat := lift.Source(n.In[0]); cat.Def != nil && cat.Def.Op.Is("", "Concat") && len(cat.Def.In) == 2 && lift.Source(cat.Def.In[0]) == s.In {
			if axis, ok = drop(n, cat); ok {
				n, column = cat.Def, cat.Def.In[1]
			}
		}
	}
	if !ok || column == nil {
		return false, nil
	}
	if a := int(n.Attrs.Int("axis", 0)); a != axis && a+s.In.Type.Rank() != axis {
		return false, nil
	}
	width, known := s.In.Type.Shape[axis].Const()
	if i := slices.Index(r.loop.States, s); r.need(column)>>i&1 != 0 || !known || width > lift.MaxWindow || !column.Type.Shape[axis].Is(1) {
		return false, nil
	}
	b, l := r.b, r.lift
	x, err := r.value(column)
	if err != nil {
		return true, err
	}
	x = l.Over(l.Squeeze(x, []int{axis}), axis)
	if _, err := l.Of(s.Init); err != nil || b.Err != nil {
		return true, err
	}
	all := b.Op("Concat", graph.Attrs{"axis": int64(axis)}, s.Init, x.V)
	part := func(from int64, to graph.Dim) *graph.Value {
		return b.Op("Slice", nil, all, b.Ints(from), layout.Shape(b, []graph.Dim{to}, r.inputs()...), b.Ints(int64(axis)))
	}
	L := r.loop.Length
	sol := &solution{final: b.Op("Slice", nil, all, b.Ints(-width), b.Ints(1<<62), b.Ints(int64(axis)))}
	sol.make = func() error {
		var cols []*graph.Value
		for k := range width {
			cols = append(cols, b.Op("Unsqueeze", nil, part(k, L.Add(graph.D(k))), b.Ints(int64(axis)+1)))
		}
		sol.start = lift.Seq{V: b.Op("Concat", graph.Attrs{"axis": int64(axis) + 1}, cols...), At: axis}
		return b.Err
	}
	r.done[s] = sol
	r.registers = append(r.registers, &register{all: all, axis: axis})
	return true, b.Err
}

// register is a shift register in all steps: the initial columns and those
// appended, along an axis.
type register struct {
	all  *graph.Value
	axis int
}

// convolutions turns sums of windows of a register, weighted per channel, into
// a Conv over the columns. That the windows are consecutive is left to the
// certificate. It reports whether there was one.
func (r *recurrence) convolutions(cl *certify.Claim) bool {
	b, found := r.b, false
	live := liveFor(cl.New)
	for _, reg := range r.registers {
		if reg.axis != 2 || reg.all.Type.Rank() != 3 {
			continue // Conv wants [B,C,time]
		}
		for _, n := range r.g.Nodes {
			if !live.nodes[n] || !n.Op.Is("", "ReduceSum") || n.In[0].Def == nil || !n.In[0].Def.Op.Is("", "Mul") || n.In[0].Type.Rank() != 4 {
				continue
			}
			over := reduced(n, 4)
			if len(over) != 1 || over[0] != 3 || n.Attrs.Int("keepdims", 1) != 0 {
				continue
			}
			for i, win := range n.In[0].Def.In {
				from, ok := reg.window(win)
				k, known := win.Type.Shape[win.Type.Rank()-1].Const()
				c, channels := reg.all.Type.Shape[1].Const()
				w := layout.Deepest(n.In[0].Def.In[1-i])
				if !ok || !known || !channels || layout.Numel(w) != graph.D(c*k) || b.Err != nil {
					continue
				}
				end := layout.Shape(b, []graph.Dim{r.loop.Length.Add(graph.D(from + k - 1))}, r.inputs()...)
				cols := reg.all
				if from != 0 || cols.Type.Shape[2] != r.loop.Length.Add(graph.D(k-1)) {
					cols = b.Op("Slice", nil, cols, b.Ints(from), end, b.Ints(2))
				}
				kernel := layout.Reshape(b, w, graph.Ds(c, 1, k))
				v := b.Op("Conv", graph.Attrs{"group": c, "kernel_shape": []int64{k}}, cols, kernel)
				if b.Err != nil || v == nil || !v.Type.Equal(n.Out[0].Type) {
					continue
				}
				n.Out[0].ReplaceWith(v)
				for j, old := range cl.New {
					if old == n.Out[0] {
						cl.New[j] = v
					}
				}
				found = true
				break
			}
		}
	}
	return found
}

// window reports whether v puts columns of the register side by side along its
// last axis, and at which column the first of them starts.
func (g *register) window(v *graph.Value) (from int64, ok bool) {
	if v.Type.Rank() != 4 || v.Def == nil || !v.Def.Op.Is("", "Concat") || v.Def.Attrs.Int("axis", 0)&3 != 3 {
		return 0, false
	}
	for v.Def != nil && (v.Def.Op.Is("", "Concat") || layout.Is(v.Def)) {
		v = v.Def.In[0]
	}
	if v.Def == nil || !v.Def.Op.Is("", "Slice") || v.Def.In[0] != g.all {
		return 0, false
	}
	k, known := ops.KnownOf(v.Def.In[1])
	if !known || len(k) != 1 {
		return 0, false
	}
	return k[0].Const()
}

func isOne(v *graph.Value) bool {
	k, ok := ops.KnownOf(v)
	return ok && len(k) == 1 && k[0].Is(1)
}
