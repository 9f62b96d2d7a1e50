package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// gatherKernels copy slices by index: embeddings, selections.
func gatherKernels() []*Kernel {
	return []*Kernel{tiedGather(), {
		Op: onnxOp("Gather", 1), Name: "copy",
		Accepts: func(n *graph.Node, t backends.Target) error {
			if d := n.In[1].Type.DType; d != tensor.Int64 && d != tensor.Int32 || !n.In[1].Type.Ranked() {
				return fmt.Errorf("indices are %s", n.In[1].Type)
			}
			return movable(n, t)
		},
		Lower: func(b *Bind, n *graph.Node) (Step, error) {
			dst, src, idx := b.Out(0), b.In(0), b.In(1)
			axis, ok := axisOf(n.Attrs.Int("axis", 0), len(src.Shape))
			if !ok {
				return nil, fmt.Errorf("axis %d of %v", n.Attrs.Int("axis", 0), src.Shape)
			}
			outer, length := product(src.Shape[:axis]), src.Shape[axis]
			width := product(src.Shape[axis+1:]) * src.DType.Size()
			count := idx.Len()
			if dst.span() != outer*count*width {
				return nil, fmt.Errorf("gathering %d of %v along axis %d does not give %v", count, src.Shape, axis, dst.Shape)
			}
			if table := b.b.e.tables[n.In[0]]; table != nil {
				return checked(n, idx, length, readRows(b, dst, idx, table, length, width)), nil
			}
			copies := b.Split(outer*count, max(1, lightGrain*4/max(width, 1)), func(lo, hi int) {
				for k := lo; k < hi; k++ {
					i := wrap(indexAt(idx, k%count), length)
					copy(dst.Raw[k*width:(k+1)*width], src.Raw[(k/count*length+i)*width:])
				}
			})
			return checked(n, idx, length, copies), nil
		},
	}}
}

// indexAt is element i of an integer input.
func indexAt(idx *Mem, i int) int64 {
	if idx.DType == tensor.Int32 {
		return int64(View[int32](idx)[i])
	}
	return View[int64](idx)[i]
}

// wrap lets a negative index count from the end.
func wrap(i int64, length int) int {
	if i < 0 {
		i += int64(length)
	}
	return int(i)
}

// checked refuses indices outside a length before it runs the step.
func checked(n *graph.Node, idx *Mem, length int, run Step) Step {
	return func() error {
		for i := range idx.Len() {
			if j := indexAt(idx, i); j < -int64(length) || j >= int64(length) {
				return fmt.Errorf("%s: index %d at position %d is outside [%d,%d)", n, j, i, -length, length)
			}
		}
		return run()
	}
}
