package cpu

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
)

// A table is a large constant of which nothing is read but rows: the embedding of a
// vocabulary. Its rows are read from the file and not through the map, which would put
// the pages around each of them into the memory of the process: up to 2 MiB, so that a
// prompt of some hundred tokens has all of the table there. A row costs a system call
// more, which is nothing to what is then done to it.
const (
	leastTable    = 4 << 20
	leastTableRow = 1 << 10
)

// openTables finds the tables of a graph that can be read so.
func openTables(g *graph.Graph, w backends.Weights) map[*graph.Value]io.ReaderAt {
	from, ok := w.(backends.TableWeights)
	if !ok {
		return nil
	}
	tables, others := map[*graph.Value]io.ReaderAt{}, map[*graph.Value]bool{}
	for _, n := range g.Nodes {
		for i, v := range n.In {
			if v == nil || v.Const == nil || others[v] {
				continue
			}
			if !isTable(n, i) {
				others[v] = true
				delete(tables, v)
			} else if tables[v] == nil {
				if r := from.Reader(v.Name); r != nil {
					tables[v] = r
				}
			}
		}
	}
	return tables
}

// isTable reports whether input i of n is a large constant of whose rows n takes some.
func isTable(n *graph.Node, i int) bool {
	c := n.In[i].Const
	if i != 0 || n.Op.Domain != "" || n.Op.Name != "Gather" || n.Attrs.Int("axis", 0) != 0 || len(c.Shape) < 2 || c.Shape[0] == 0 {
		return false
	}
	return len(c.Data) >= leastTable && len(c.Data)/c.Shape[0] >= leastTableRow
}

// readRows makes dst of the rows of a table that idx names.
func readRows(b *Bind, dst, idx *Mem, table io.ReaderAt, length, width int) Step {
	var failed atomic.Pointer[error]
	rows := b.Split(idx.Len(), max(1, lightGrain/width), func(lo, hi int) {
		for k := lo; k < hi; k++ {
			if _, err := table.ReadAt(dst.Raw[k*width:(k+1)*width], int64(wrap(indexAt(idx, k), length))*int64(width)); err != nil {
				first := err // not err itself, which would be on the heap in every row
				failed.CompareAndSwap(nil, &first)
				return
			}
		}
	})
	return func() error {
		if err := rows(); err != nil {
			return err
		}
		if err := failed.Swap(nil); err != nil {
			return fmt.Errorf("reading one of %d rows: %w", length, *err)
		}
		return nil
	}
}
