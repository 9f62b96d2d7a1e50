package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
)

// decomposeRotary turns pairs of features by products with the angles' cosines
// and sines.
func decomposeRotary(b *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	x, cos, sin := n.In[0], n.In[1], n.In[2]
	if ids := n.Input(3); ids != nil {
		cos, sin = b.Op("Gather", nil, cos, ids), b.Op("Gather", nil, sin, ids)
	}
	axis := int64(1) // of the heads, over which the angles are repeated
	packed := x.Type.Rank() == 3
	if packed {
		axis = 2
		x = b.Op("Reshape", nil, x, b.Ints(0, 0, n.Attrs.Int("num_heads", 1), -1))
	}
	if b.Err != nil {
		return nil, b.Err
	}
	d, ok := x.Type.Shape[3].Const()
	if !ok {
		return nil, fmt.Errorf("%s: heads of %s must be of a number of features", n, x.Type)
	}
	rot := n.Attrs.Int("rotary_embedding_dim", 0)
	if rot == 0 {
		rot = d
	}
	cos, sin = b.Op("Unsqueeze", nil, cos, b.Ints(axis)), b.Op("Unsqueeze", nil, sin, b.Ints(axis))
	cut := func(from, to int64) *graph.Value { return b.Op("Slice", nil, x, b.Ints(from), b.Ints(to), b.Ints(3)) }
	join := graph.Attrs{"axis": int64(3)}
	interleaved := n.Attrs.Int("interleaved", 0) != 0
	u, v := cut(0, rot/2), cut(rot/2, rot)
	if interleaved {
		pairs := b.Op("Reshape", nil, cut(0, rot), b.Ints(0, 0, 0, rot/2, 2))
		pick := func(i int64) *graph.Value {
			return b.Op("Squeeze", nil, b.Op("Slice", nil, pairs, b.Ints(i), b.Ints(i+1), b.Ints(4)), b.Ints(4))
		}
		u, v = pick(0), pick(1)
	}
	du := b.Op("Sub", nil, b.Op("Mul", nil, u, cos), b.Op("Mul", nil, v, sin))
	dv := b.Op("Add", nil, b.Op("Mul", nil, u, sin), b.Op("Mul", nil, v, cos))
	parts := []*graph.Value{du, dv}
	if interleaved {
		both := b.Op("Concat", graph.Attrs{"axis": int64(4)}, b.Op("Unsqueeze", nil, du, b.Ints(4)), b.Op("Unsqueeze", nil, dv, b.Ints(4)))
		parts = []*graph.Value{b.Op("Reshape", nil, both, b.Ints(0, 0, 0, rot))}
	}
	if rot < d {
		parts = append(parts, cut(rot, d))
	}
	y := b.Op("Concat", join, parts...)
	if packed {
		width, ok := n.In[0].Type.Shape[2].Const()
		if !ok {
			return nil, fmt.Errorf("%s: %s must be of a number of features", n, n.In[0].Type)
		}
		y = b.Op("Reshape", nil, y, b.Ints(0, 0, width))
	}
	return single(y)
}
