package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// cropRows: CenterCropPad, Col2Im.
func cropRows() []*ops.Op {
	v := tensor.From([]float32{1, 2, 3}, 3)
	crop := ops.Op{
		Doc: "The centre of input_data with the lengths that shape gives, cropped or padded with zeros.",
		In:  params("input_data", "shape"), Out: params("output_data"), Attrs: []ops.Attr{attrOpt("axes")},
		Infer: inferCenterCrop, Eval: onBytes(evalCenterCrop),
		Cases: []ops.Case{
			{Name: "pad", In: []*tensor.Tensor{v, tensor.Ints(6)}, Want: []*tensor.Tensor{tensor.From([]float32{0, 1, 2, 3, 0, 0}, 6)}},
			{Name: "crop", In: []*tensor.Tensor{v, tensor.Ints(2)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 2}, 2)}},
		},
	}
	col2im := ops.Op{
		Doc: "Sums the columns [N, C*prod(block), L] of sliding blocks back into images [N, C, image...].",
		In:  params("input", "image_shape", "block_shape"), Out: params("output"),
		Attrs: []ops.Attr{attrOpt("dilations"), attrOpt("pads"), attrOpt("strides")},
		Infer: inferCol2Im, Eval: evalCol2Im,
		Cases: []ops.Case{
			{Name: "overlap", In: []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4}, 1, 2, 2), tensor.Ints(1, 3), tensor.Ints(1, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{1, 5, 4}, 1, 1, 1, 3)}},
		},
	}
	return append(versions("CenterCropPad", []int{18}, crop), versions("Col2Im", []int{18}, col2im)...)
}

func inferCenterCrop(c *ops.Infer) error {
	t := c.Type(0)
	if err := want(c, 1, indexTypes); err != nil {
		return err
	}
	if !t.Ranked() {
		setOut(c, 0, t)
		return nil
	}
	axes, err := resizeAxes(c.Node.Attrs, t.Rank())
	if err != nil {
		return c.Errorf("%w of %s", err, t)
	}
	target, ok := c.Known(1)
	if ok && len(target) != len(axes) {
		return c.Errorf("%d lengths for %d axes", len(target), len(axes))
	}
	shape := cloneDims(t.Shape)
	for i, a := range axes {
		if shape[a] = freshDim(c, 0, a); ok {
			shape[a] = target[i]
		}
		if n, ok := shape[a].Const(); ok && n < 0 {
			return c.Errorf("length %d for axis %d", n, a)
		}
	}
	setOut(c, 0, graph.T(t.DType, shape...))
	return nil
}

func evalCenterCrop(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	axes, err := resizeAxes(c.Node.Attrs, x.Rank())
	if err != nil {
		return nil, err
	}
	if c.In[1].Len() != len(axes) {
		return nil, fmt.Errorf("%d lengths for %d axes", c.In[1].Len(), len(axes))
	}
	before, after := make([]int, x.Rank()), make([]int, x.Rank())
	for i, a := range axes {
		more := int(c.In[1].IntAt(i)) - x.Shape[a]
		before[a] = more / 2 // toward zero: crops start early, pads end late
		after[a] = more - before[a]
	}
	return padConstant(x, tensor.New(x.DType), before, after)
}

// spatial is one axis of a sliding block.
type spatial struct{ image, block, stride, dilation, before, steps int }

func col2imAxes(a graph.Attrs, image, block []int64) ([]spatial, error) {
	if len(image) != len(block) || len(image) == 0 {
		return nil, fmt.Errorf("image_shape %v, block_shape %v", image, block)
	}
	out := make([]spatial, len(image))
	item := func(name string, i int, def int64) int64 {
		if l := a.Ints(name); i < len(l) {
			return l[i]
		}
		return def
	}
	for i := range out {
		n, b := image[i], block[i]
		s, d := item("strides", i, 1), item("dilations", i, 1)
		p, q := item("pads", i, 0), item("pads", i+len(image), 0)
		const limit = 1 << 30
		for _, v := range []int64{n, b, s, d, p, q} {
			if v < 0 || v > limit {
				return nil, fmt.Errorf("axis %d: image %d, block %d, stride %d, dilation %d, pads %d and %d", i, n, b, s, d, p, q)
			}
		}
		if s == 0 || d == 0 || b == 0 || n+p+q < d*(b-1)+1 {
			return nil, fmt.Errorf("axis %d: image %d, block %d, stride %d, dilation %d, pads %d and %d", i, n, b, s, d, p, q)
		}
		out[i] = spatial{int(n), int(b), int(s), int(d), int(p), int((n+p+q-d*(b-1)-1)/s + 1)}
	}
	return out, nil
}

func inferCol2Im(c *ops.Infer) error {
	t := c.Type(0)
	if err := rankIs(c, 0, 3); err != nil {
		return err
	}
	if err := want(c, 0, numberTypes); err != nil {
		return err
	}
	image, ok := c.Known(1)
	block, okBlock := c.Ints(2)
	if !t.Ranked() || !ok {
		out := unranked(t.DType)
		if n, ok := vectorLen(c.Type(1)); ok {
			out.Shape = freshShape(c, 0, n+2)
		}
		setOut(c, 0, out)
		return nil
	}
	channels := freshDim(c, 0, 1)
	if okBlock {
		size := graph.D(1)
		for _, b := range block {
			size = size.Mul(graph.D(b))
		}
		if n, ok := size.Const(); ok && n < 1 {
			return c.Errorf("block_shape is %v", block)
		}
		channels = t.Shape[1].FloorDiv(size)
	}
	setOut(c, 0, graph.T(t.DType, append([]graph.Dim{t.Shape[0], channels}, image...)...))
	return nil
}

func evalCol2Im(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	axes, err := col2imAxes(c.Node.Attrs, c.In[1].AsInts(), c.In[2].AsInts())
	if err != nil {
		return nil, err
	}
	image, lattice := []int{}, []int{}
	for _, s := range axes {
		image, lattice = append(image, s.image), append(lattice, s.block)
	}
	blockSize := product(lattice)
	for _, s := range axes {
		lattice = append(lattice, s.steps)
	}
	columns := product(lattice) / blockSize
	if x.Rank() != 3 || x.Shape[1]%blockSize != 0 || x.Shape[2] != columns {
		return nil, fmt.Errorf("input is %s, want [N, C*%d, %d]", x.TypeString(), blockSize, columns)
	}
	channels := x.Shape[1] / blockSize
	out := tensor.New(x.DType, append([]int{x.Shape[0], channels}, image...)...)
	st, r := strides(image), len(axes)
	index := make([]int, 2*r)
	for plane := range x.Shape[0] * channels {
		clear(index)
		for i := range blockSize * columns {
			at, inside := plane*product(image), true
			for k, s := range axes {
				p := index[k]*s.dilation + index[r+k]*s.stride - s.before
				inside = inside && p >= 0 && p < s.image
				at += p * st[k]
			}
			if inside {
				out.SetAt(at, out.At(at)+x.At(plane*blockSize*columns+i))
			}
			for k := len(index) - 1; k >= 0; k-- {
				if index[k]++; index[k] < lattice[k] {
					break
				}
				index[k] = 0
			}
		}
	}
	return one(out), nil
}
