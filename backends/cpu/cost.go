package cpu

import (
	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/graph"
)

// cost counts what the nodes of a step have to do at least: their arithmetic, a
// multiply-add being two operations, and the bytes that go in and out, weights as
// they are stored. What nodes hand to each other inside a step is free.
func (b *binder) cost(nodes []*graph.Node) backends.Cost {
	c := backends.Cost{Format: "f32"}
	inside, seen := map[*graph.Value]bool{}, map[*graph.Value]bool{}
	for _, n := range nodes {
		for _, v := range n.Out {
			inside[v] = true
		}
	}
	for _, n := range nodes {
		c.Ops += b.operations(n)
		packed := false
		for i, v := range n.In {
			if v == nil || inside[v] || seen[v] {
				continue
			}
			seen[v] = true
			if t := b.e.packed[packKey{n, i}]; t != nil {
				if n.Op.Name == "Gather" { // some rows of it
					c.Bytes += int64(b.bytes(n.Output(0)))
					continue
				}
				packed = true
				c.Bytes += int64(len(t.Data))
				continue
			}
			if n.Op.Is("", "Gather") && i == 0 {
				c.Bytes += int64(b.bytes(n.Output(0)))
				continue
			}
			c.Bytes += int64(b.bytes(v))
		}
		if bytewise[n.Op.Name] {
			c.Format = gemm.Int8.String()
		}
		if packed && weightFormat(b.e.plan.Target) != gemm.F32 {
			c.Format = weightFormat(b.e.plan.Target).String()
		}
		for _, v := range n.Out {
			if v == nil {
				continue
			}
			used := v.IsOutput()
			for _, u := range v.Uses {
				used = used || len(nodes) == 1 || !inside[u.Node.Output(0)]
			}
			if used {
				c.Bytes += int64(b.bytes(v))
			}
		}
	}
	return c
}

// bytes is the size of a value in this binding, 0 if it is not known.
func (b *binder) bytes(v *graph.Value) int {
	if v == nil {
		return 0
	}
	if m := b.of(v); m != nil {
		return m.DType.Bytes(m.Len())
	}
	return 0
}
