package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// spacedepthRows: DepthToSpace, SpaceToDepth, on [N,C,H,W] with blocks of b x b.
func spacedepthRows() []*ops.Op {
	d2s := ops.Op{
		Doc: "[N,C,H,W] to [N,C/b^2,H*b,W*b]. The channel index splits into (b,b,C/b^2) in mode DCR, (C/b^2,b,b) in mode CRD.",
		In:  params("input"), Out: params("output"), Attrs: []ops.Attr{attr("blocksize", nil)},
		Infer: func(c *ops.Infer) error { return inferBlocks(c, true) },
		Eval:  onBytes(func(c *ops.Call) ([]*tensor.Tensor, error) { return evalBlocks(c, true) }),
		Cases: []ops.Case{
			{Name: "block", Attrs: graph.Attrs{"blocksize": int64(2)}, In: []*tensor.Tensor{tensor.From([]int64{1, 2, 3, 4}, 1, 4, 1, 1)}, Want: []*tensor.Tensor{tensor.From([]int64{1, 2, 3, 4}, 1, 1, 2, 2)}},
		},
	}
	d2s11 := d2s
	d2s11.Attrs = []ops.Attr{attr("blocksize", nil), attr("mode", "DCR")}
	d2s11.Cases = []ops.Case{
		{Name: "dcr", Attrs: graph.Attrs{"blocksize": int64(2)}, In: []*tensor.Tensor{tensor.From([]int64{1, 2, 3, 4}, 1, 4, 1, 1)}, Want: []*tensor.Tensor{tensor.From([]int64{1, 2, 3, 4}, 1, 1, 2, 2)}},
	}
	s2d := ops.Op{
		Doc: "[N,C,H,W] to [N,C*b^2,H/b,W/b]: the inverse of DepthToSpace.",
		In:  params("input"), Out: params("output"), Attrs: []ops.Attr{attr("blocksize", nil)},
		Infer: func(c *ops.Infer) error { return inferBlocks(c, false) },
		Eval:  onBytes(func(c *ops.Call) ([]*tensor.Tensor, error) { return evalBlocks(c, false) }),
		Cases: []ops.Case{
			{Name: "block", Attrs: graph.Attrs{"blocksize": int64(2)}, In: []*tensor.Tensor{tensor.From([]int64{1, 2, 3, 4}, 1, 1, 2, 2)}, Want: []*tensor.Tensor{tensor.From([]int64{1, 2, 3, 4}, 1, 4, 1, 1)}},
		},
	}
	rows := versions("DepthToSpace", []int{1}, d2s)
	rows = append(rows, versions("DepthToSpace", []int{11, 13, 28}, d2s11)...)
	rows = append(rows, versions("SpaceToDepth", []int{1, 13}, s2d)...)
	s2d28 := s2d
	s2d28.Attrs = []ops.Attr{attr("blocksize", nil), attr("mode", "DCR")}
	return append(rows, versions("SpaceToDepth", []int{28}, s2d28)...)
}

func inferBlocks(c *ops.Infer, toSpace bool) error {
	t, b := c.Type(0), c.Node.Attrs.Int("blocksize", 0)
	if err := rankIs(c, 0, 4); err != nil {
		return err
	}
	if b < 1 || b > 1<<20 {
		return c.Errorf("blocksize is %d", b)
	}
	if m := c.Node.Attrs.Str("mode", "DCR"); m != "DCR" && m != "CRD" {
		return c.Errorf("mode %q, want DCR or CRD", m)
	}
	if !t.Ranked() {
		setOut(c, 0, graph.T(t.DType, freshShape(c, 0, 4)...))
		return nil
	}
	bb, block := graph.D(b*b), graph.D(b)
	div := func(d, by graph.Dim) (graph.Dim, error) {
		q := d.FloorDiv(by)
		if d.IsConst() && q.Mul(by) != d {
			return q, c.Errorf("length %v of %s is not a multiple of %v", d, t, by)
		}
		return q, nil
	}
	s := cloneDims(t.Shape)
	var err error
	if toSpace {
		s[1], err = div(s[1], bb)
		s[2], s[3] = s[2].Mul(block), s[3].Mul(block)
	} else {
		s[1] = s[1].Mul(bb)
		if s[2], err = div(s[2], block); err == nil {
			s[3], err = div(s[3], block)
		}
	}
	setOut(c, 0, graph.T(t.DType, s...))
	return err
}

func evalBlocks(c *ops.Call, toSpace bool) ([]*tensor.Tensor, error) {
	x, b := c.In[0], int(c.Node.Attrs.Int("blocksize", 0))
	if x.Rank() != 4 || b < 1 {
		return nil, fmt.Errorf("input %s, blocksize %d", x.TypeString(), b)
	}
	crd := c.Node.Attrs.Str("mode", "DCR") == "CRD"
	deep, wide := x, x // the tensor with the many channels, and the other
	shape := append([]int{}, x.Shape...)
	if toSpace {
		if x.Shape[1]%(b*b) != 0 {
			return nil, fmt.Errorf("%d channels, want a multiple of %d", x.Shape[1], b*b)
		}
		shape[1], shape[2], shape[3] = shape[1]/(b*b), shape[2]*b, shape[3]*b
		wide = tensor.New(x.DType, shape...)
	} else {
		if x.Shape[2]%b != 0 || x.Shape[3]%b != 0 {
			return nil, fmt.Errorf("input %s, want multiples of %d", x.TypeString(), b)
		}
		shape[1], shape[2], shape[3] = shape[1]*b*b, shape[2]/b, shape[3]/b
		deep = tensor.New(x.DType, shape...)
	}
	// One lattice [N, C, H, b, W, b] over both.
	n, ch, h, w := wide.Shape[0], wide.Shape[1], deep.Shape[2], deep.Shape[3]
	lattice := []int{n, ch, h, b, w, b}
	hw := h * w
	deepSt := []int{b * b * ch * hw, hw, w, b * ch * hw, 1, ch * hw}
	if crd {
		deepSt = []int{b * b * ch * hw, b * b * hw, w, b * hw, 1, hw}
	}
	wideSt := strides(lattice)
	if toSpace {
		moveND(wide, 0, wideSt, deep, 0, deepSt, lattice)
		return one(wide), nil
	}
	moveND(deep, 0, deepSt, wide, 0, wideSt, lattice)
	return one(deep), nil
}
