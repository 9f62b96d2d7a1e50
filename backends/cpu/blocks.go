package cpu

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/backends/cpu/conv2d"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Images in blocks of channels. Convolutions are fastest on [N, C/16, H, W, 16] (package
// conv2d), and between two of them nobody else need know: a value of shape [N, C, H, W]
// is kept so in a program if the node that makes it and all nodes that read it say that
// they can. Such a value has as many elements as ever, in another order; element-wise
// nodes do not care, as long as all their operands agree.

// Blocking says which operands of a node may be in blocks.
type Blocking struct {
	// Out: output 0 may, whatever the inputs are.
	Out bool
	// In lists the inputs that may, whatever the others are.
	In []int
	// Tied lists the inputs that are in blocks when output 0 is, and only then.
	Tied []int
}

// declined is the error of a kernel that declines operands which it allowed in blocks,
// so that its node would run by definition.
type declined struct{ node *graph.Node }

func (d *declined) Error() string {
	return fmt.Sprintf("%s: the definition reads no images in blocks of channels", d.node)
}

// blocking is what the kernel of n says.
func (b *binder) blocking(n *graph.Node) (bl Blocking, ok bool) {
	k := b.e.kernels[n]
	if k == nil || b.plain[n] || b.dynamic(n) {
		return bl, false
	}
	if k.Blocks != nil {
		return k.Blocks(&Bind{b, n, b.at[n]}, n)
	}
	if k.Tile == nil || len(n.Out) != 1 {
		return bl, false
	}
	// Element-wise: operands of the result's shape, and single numbers.
	out, _ := b.typeOf(n.Out[0]).Static()
	for i, v := range n.In {
		if v == nil {
			continue
		}
		shape, ok := b.typeOf(v).Static()
		switch {
		case !ok:
			return bl, false
		case slices.Equal(shape, out):
			bl.Tied = append(bl.Tied, i)
		case product(shape) != 1:
			return bl, false
		}
	}
	return bl, len(bl.Tied) > 0
}

// imageIn reports that v is an image whose channels make up blocks.
func (b *binder) imageIn(v *graph.Value) bool {
	shape, ok := b.typeOf(v).Static()
	return ok && v.Type.DType == tensor.Float32 && len(shape) == 4 && shape[1] > 0 && shape[1]%conv2d.Block == 0 && product(shape) > 0
}

// block finds the values that are kept in blocks.
func (b *binder) block() map[*graph.Value]bool {
	rows := map[*graph.Node]Blocking{}
	group := map[*graph.Value]*graph.Value{} // of values that must agree: union by parents
	var find func(v *graph.Value) *graph.Value
	find = func(v *graph.Value) *graph.Value {
		p := group[v]
		if p == nil || p == v {
			return v
		}
		p = find(p)
		group[v] = p
		return p
	}
	any := false
	for _, n := range b.nodes {
		bl, ok := b.blocking(n)
		if !ok {
			continue
		}
		rows[n], any = bl, any || bl.Out
		for _, i := range bl.Tied {
			group[find(n.In[i])] = find(n.Out[0])
		}
	}
	if !any {
		return nil
	}
	can := map[*graph.Value]bool{}  // by group: nothing speaks against it
	made := map[*graph.Value]bool{} // by group: a kernel makes blocks of its own accord
	see := func(v *graph.Value) {
		if v == nil {
			return
		}
		g := find(v)
		if _, seen := can[g]; !seen {
			can[g] = true
		}
		can[g] = can[g] && b.blockable(v, rows)
		made[g] = made[g] || v.Def != nil && rows[v.Def].Out
	}
	for n, bl := range rows {
		see(n.Out[0])
		for _, i := range bl.Tied {
			see(n.In[i])
		}
	}
	in := map[*graph.Value]bool{}
	for n := range rows {
		if v := n.Out[0]; can[find(v)] && made[find(v)] {
			in[v] = true
		}
	}
	return in
}

// blockable reports that the node which makes v and all that read it allow v in blocks.
func (b *binder) blockable(v *graph.Value, rows map[*graph.Node]Blocking) bool {
	if v.Def == nil || v.IsOutput() || v.Def.Out[0] != v || b.contents(v) != nil || !b.imageIn(v) {
		return false
	}
	if bl, ok := rows[v.Def]; !ok || !bl.Out && len(bl.Tied) == 0 {
		return false
	}
	for _, u := range v.Uses {
		n := u.Node
		if _, runs := b.at[n]; !runs {
			if n.Graph != b.e.plan.Graph {
				return false // captured by a body
			}
			continue
		}
		bl, ok := rows[n]
		if !ok || !slices.Contains(bl.In, u.Index) && !slices.Contains(bl.Tied, u.Index) {
			return false
		}
	}
	return true
}
