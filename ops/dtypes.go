package ops

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// DTypes lists the element types that an operator's first input may have. It
// asks the row itself: inference of its first case with one type after another,
// given to all inputs of the first one's type. Rows without cases, and those
// whose first input is no tensor, have none.
func DTypes(t *Table, row *Op) []tensor.DType {
	for _, c := range row.Cases {
		if len(c.In) > 0 && c.In[0] != nil && !c.In[0].DType.IsContainer() {
			var out []tensor.DType
			for d := tensor.Float32; d <= tensor.Int2; d++ {
				if infers(t, row, c, d) {
					out = append(out, d)
				}
			}
			return out
		}
	}
	return nil
}

// infers reports whether the case's types are accepted with d for the first.
func infers(t *Table, row *Op, c Case, d tensor.DType) (ok bool) {
	defer func() { ok = recover() == nil && ok }()
	g := graph.New("types")
	var in []*graph.Value
	for i, x := range c.In {
		switch {
		case x == nil:
			in = append(in, nil)
		case x.DType == c.In[0].DType && !contains(c.Consts, i):
			ty := graph.TypeOf(x)
			ty.DType = d
			in = append(in, g.AddInput("in", ty))
		default:
			in = append(in, g.AddConst("in", x))
		}
	}
	n := g.Add(row.ID, c.Attrs, in, max(c.NOut, 1), "out")
	n.TrimIn()
	return InferNode(t, n) == nil
}

func contains(list []int, i int) bool {
	for _, x := range list {
		if x == i {
			return true
		}
	}
	return false
}
