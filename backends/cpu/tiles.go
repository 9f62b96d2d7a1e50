package cpu

import (
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
)

// tileElems is the length of the pieces in which a chain of element-wise nodes
// runs: a few operands of 16 KB stay in the second-level cache.
var tileElems = 4096

// tiled makes one step of the longest chain of element-wise nodes that starts
// at node i: neighbours in the order of execution with results of one length.
// They compute a tile each in turn, so that what one writes the next one reads
// from the cache. It returns the last node of the chain, and nil when there are
// not two.
func (b *binder) tiled(i int) (end int, run Step, name string) {
	var fs []func(lo, hi int)
	var names []string
	length := 0
	// Elements may only be exchanged between nodes at the same position, so the
	// memory that a node writes is not read at other positions: by
	// broadcasting, or as a part of something.
	written, partly := map[*root]bool{}, map[*root]bool{}
	for j := i; j < len(b.nodes); j++ {
		n := b.nodes[j]
		if b.views[n] {
			continue
		}
		k := b.e.kernels[n]
		if k == nil || k.Tile == nil || b.dynamic(n) || len(n.Out) != 1 {
			break
		}
		out := b.mem[n.Out[0]]
		if out == nil || out.Len() == 0 || length != 0 && out.Len() != length {
			break
		}
		parts, clash := b.partly(n, out), partly[out.root]
		for _, r := range parts {
			clash = clash || written[r] || r == out.root
		}
		if clash {
			break
		}
		f := k.Tile(&Bind{b, n, j}, n)
		if f == nil {
			break
		}
		for _, r := range parts {
			partly[r] = true
		}
		written[out.root] = true
		fs, names, length, end = append(fs, f), append(names, n.Op.Name), out.Len(), j
	}
	if len(fs) < 2 {
		return i, nil, ""
	}
	for j := i; j <= end; j++ {
		b.group[j] = span{i, end}
	}
	bind := &Bind{b, b.nodes[i], i}
	tile := tileElems
	run = bind.Split(length, heavyGrain, func(lo, hi int) {
		for ; lo < hi; lo += tile {
			to := min(lo+tile, hi)
			for _, f := range fs {
				f(lo, to)
			}
		}
	})
	return end, run, fmt.Sprintf("tiled %s", strings.Join(names, "+"))
}

// partly lists the roots that n reads other than whole and in step with out.
func (b *binder) partly(n *graph.Node, out *Mem) []*root {
	var list []*root
	for _, v := range n.In {
		if v == nil {
			continue
		}
		if m := b.of(v); m.Len() != out.Len() || !m.whole() {
			list = append(list, m.root)
		}
	}
	return list
}
