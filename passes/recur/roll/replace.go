package roll

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// collected puts the output y in the place of what rt collects, and of single
// elements that are used by themselves.
func (a *attempt) collected(loop *Loop, rt *root, y *graph.Value) {
	c, width := rt.c, max(1, rt.c.width)
	if c.width > 0 { // the axis of the steps joins the one behind it
		shape := slices.Clone(c.Elems[0].Type.Shape)
		shape[c.Axis] = graph.D(int64(a.n) * width)
		y = layout.Reshape(a.b, y, shape)
	}
	if a.peel > 0 {
		parts := slices.Clone(c.Elems[:a.peel])
		if a.reverse {
			parts = append([]*graph.Value{y}, c.Elems[a.n:]...)
		} else {
			parts = append(parts, y)
		}
		for _, p := range parts {
			if p != y {
				loop.begin(p)
			}
		}
		y = a.b.Op("Concat", graph.Attrs{"axis": int64(c.Axis)}, parts...)
	}
	if !c.unread {
		loop.Old, loop.New = append(loop.Old, c.Value), append(loop.New, y)
	}
	lanes := [][]*graph.Value{rt.l.vals}
	if rt.squeeze || c.width > 0 {
		lanes = nil
	}
	vals := slices.Clone(c.Elems)
	if a.reverse {
		slices.Reverse(vals)
	}
	for i, l := range append(lanes, vals[a.peel:]) {
		for t, v := range l {
			outside := func(u graph.Use) bool { return !a.inside[u.Node] }
			if v == nil || v.Def == nil || !a.inside[v.Def] || slices.Contains(loop.In, v) || c.unread && slices.Contains(loop.Old, v) || !slices.ContainsFunc(v.Uses, outside) && !v.IsOutput() {
				continue
			}
			at := int64(t + a.peel)
			if a.reverse {
				at = int64(len(c.Elems)) - 1 - at
			}
			one := a.b.Op("Slice", nil, y, a.b.Ints(at*width), a.b.Ints((at+1)*width), a.b.Ints(int64(c.Axis)))
			if i < len(lanes) {
				one = a.b.Op("Squeeze", nil, one, a.b.Ints(int64(c.Axis)))
			}
			loop.Old, loop.New = append(loop.Old, v), append(loop.New, one)
			loop.early = loop.early || a.zeroed && t == 0
		}
	}
}

// begin notes where the trace begins.
func (l *Loop) begin(v *graph.Value) {
	if v != nil && v.Const == nil && v.Known == nil && !slices.Contains(l.In, v) { // shapes are no numbers to draw
		l.In = append(l.In, v)
	}
}

// captured notes the values that the body takes from outside.
func (a *attempt) captured(loop *Loop) {
	params := map[*graph.Value]bool{}
	for _, v := range a.body.Inputs {
		params[v] = true
	}
	for _, n := range a.body.Nodes {
		for _, v := range n.In {
			if v != nil && !params[v] && (v.Def == nil || v.Def.Graph != a.body) {
				loop.begin(v)
			}
		}
	}
}
