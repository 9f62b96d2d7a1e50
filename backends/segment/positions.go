package segment

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// positions handles nodes with an input along the length.
func (a *analysis) positions(n *graph.Node) error {
	if ops.StateInput(n) >= 0 {
		return a.scan(n)
	}
	x := a.of(n, 0)
	rank := n.In[0].Type.Rank()
	axis := func(name string, def int64, rank int) int {
		i := int(n.Attrs.Int(name, def))
		if i < 0 {
			i += rank
		}
		return i
	}
	switch n.Op.Domain + "." + n.Op.Name {
	case ".MatMul", "ssm.Linear":
		if x.kind == along && x.axis < rank-1 && a.of(n, 1).kind == free && n.In[1].Type.Rank() == 2 && a.same(n, x, 2, 3) {
			a.set(n, x)
			return nil
		}
	case ".RMSNormalization", ".LayerNormalization", ".Softmax", ".LogSoftmax":
		if x.kind == along && axis("axis", -1, rank) > x.axis && a.others(n, 0) {
			a.set(n, x)
			return nil
		}
	case "ssm.GatedRMSNorm":
		if x.kind == along && x.axis < rank-1 && a.same(n, x, 1) && a.of(n, 2).kind == free {
			a.set(n, x)
			return nil
		}
	case ".Gather":
		return a.gather(n, axis("axis", 0, rank))
	case ".Split":
		if x.kind == along && axis("axis", 0, rank) != x.axis {
			a.set(n, x)
			return nil
		}
	case ".Concat":
		at := axis("axis", 0, n.Out[0].Type.Rank())
		for i := range n.In {
			if c := a.of(n, i); c != x || c.kind != along || c.axis == at {
				return errMixes
			}
		}
		a.set(n, x)
		return nil
	case ".Slice":
		return a.slice(n, x)
	case ".Transpose":
		perm := n.Attrs.Ints("perm")
		for to, from := range perm {
			if int(from) == x.axis {
				a.set(n, class{along, to})
				return nil
			}
		}
	case ".Reshape", ".Unsqueeze", ".Squeeze", ".Flatten":
		if to, ok := follow(n.In[0].Type.Shape, x.axis, n.Out[0].Type.Shape); ok && x.kind == along {
			a.set(n, class{along, to})
			return nil
		}
	default:
		return a.elementwise(n)
	}
	return errMixes
}

// same reports that the listed inputs, where they are there and not free, lie like c.
func (a *analysis) same(n *graph.Node, c class, inputs ...int) bool {
	for _, i := range inputs {
		if d := a.of(n, i); d.kind != free && d != c {
			return false
		}
	}
	return true
}

// others reports that all inputs but one are free.
func (a *analysis) others(n *graph.Node, but int) bool {
	for i := range n.In {
		if i != but && a.of(n, i).kind != free {
			return false
		}
	}
	return true
}

// scan accepts recurrent operators along axis 1 whose state a session carries.
func (a *analysis) scan(n *graph.Node) error {
	at := ops.StateInput(n)
	for i, v := range n.In {
		c := a.of(n, i)
		switch {
		case v == nil || i == at || c.kind == free:
		case c != class{along, 1}:
			return fmt.Errorf("input %d has the positions elsewhere than on axis 1", i)
		case n.Op.Name == "SSD" && i == 9:
			return fmt.Errorf("seq_idx may change between two pieces")
		}
	}
	if n.Op.Name == "SSD" && n.Input(9) != nil {
		return fmt.Errorf("seq_idx may change between two pieces")
	}
	h0, out := n.Input(at), n.Output(1)
	if h0 == nil || h0.Def != nil || out == nil || !out.IsOutput() || a.paired[h0.Name] != out.Name {
		return fmt.Errorf("its state is not carried from run to run: compile with --carry-state")
	}
	if n.Out[0] != nil {
		a.class[n.Out[0]] = class{along, 1}
	}
	a.class[out] = class{}
	return nil
}

func (a *analysis) gather(n *graph.Node, axis int) error {
	x, i := a.of(n, 0), a.of(n, 1)
	switch {
	case x.kind == free && i.kind == along:
		a.set(n, class{along, axis + i.axis})
	case x.kind != along || i.kind != free:
		return errMixes
	case x.axis == axis:
		c := n.In[1].Const
		if c == nil || c.Len() != 1 || c.IntAt(0) != -1 {
			return fmt.Errorf("it takes other positions than the last")
		}
		a.set(n, class{kind: tail})
	case axis < x.axis:
		a.set(n, class{along, x.axis + n.In[1].Type.Rank() - 1})
	default:
		a.set(n, x)
	}
	return nil
}

// slice accepts slices of other axes, and the last few positions.
func (a *analysis) slice(n *graph.Node, x class) error {
	if x.kind != along || len(n.In) < 4 || n.In[3] == nil || n.In[3].Const == nil {
		return errMixes
	}
	axes := n.In[3].Const
	for j := range axes.Len() {
		i := int(axes.IntAt(j))
		if i < 0 {
			i += n.In[0].Type.Rank()
		}
		if i != x.axis {
			continue
		}
		start, end, step := n.In[1].Const, n.In[2].Const, n.Input(4)
		if axes.Len() != 1 || start == nil || end == nil || step != nil && (step.Const == nil || step.Const.IntAt(0) != 1) ||
			start.IntAt(0) >= 0 || start.IntAt(0) < -math.MaxInt32 || end.IntAt(0) < math.MaxInt32 {
			return fmt.Errorf("it takes other positions than the last")
		}
		a.cut.Least = max(a.cut.Least, int(-start.IntAt(0)))
		a.set(n, class{kind: tail})
		return nil
	}
	a.set(n, x)
	return nil
}

// elementwise accepts operators that treat every element alone.
func (a *analysis) elementwise(n *graph.Node) error {
	row := a.table.Lookup(n.Op)
	if row == nil || row.Traits&ops.Elementwise == 0 || n.Out[0] == nil {
		return errMixes
	}
	rank := n.Out[0].Type.Rank()
	var out class
	for i, v := range n.In {
		c := a.of(n, i)
		switch {
		case v == nil || c.kind == free:
			continue
		case c.kind != along:
			return errMixes
		}
		c.axis += rank - v.Type.Rank() // broadcasting aligns the last axes
		if out.kind == along && out != c {
			return errMixes
		}
		out = c
	}
	a.set(n, out)
	return nil
}

// follow finds the axis of a reshaped tensor that is axis i of the tensor before.
func follow(from []graph.Dim, i int, to []graph.Dim) (int, bool) {
	product := func(d []graph.Dim) graph.Dim {
		p := graph.D(1)
		for _, x := range d {
			p = p.Mul(x)
		}
		return p
	}
	for j := range to {
		if to[j] == from[i] && product(to[:j]) == product(from[:i]) {
			return j, true
		}
	}
	return 0, false
}
