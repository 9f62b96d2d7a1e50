package onnx

import (
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// resizeRows: Resize (10; 11 with coordinate modes; 13 with optional inputs; 18
// with axes, antialias and aspect policies; 19 with half_pixel_symmetric) and
// its predecessor Upsample (7, 9).
func resizeRows() []*ops.Op {
	mode := attr("mode", "nearest")
	x := tensor.From([]float32{1, 2, 3, 4}, 1, 1, 2, 2)
	scales := tensor.From([]float32{1, 1, 1, 2}, 4)
	wide := []*tensor.Tensor{tensor.From([]float32{1, 1, 2, 2, 3, 3, 4, 4}, 1, 1, 2, 4)}
	up7 := ops.Op{
		Doc: "X sampled at scales times as many positions per axis, by nearest neighbour or linear interpolation.",
		In:  params("X"), Out: params("Y"), Attrs: []ops.Attr{mode, attr("scales", nil)},
		Infer: inferResize, Eval: onBytes(evalResize),
		Cases: []ops.Case{{Name: "nearest", Attrs: graph.Attrs{"scales": []float32{1, 1, 1, 2}}, In: []*tensor.Tensor{x}, Want: wide}},
	}
	up9 := up7
	up9.In, up9.Attrs = params("X", "scales"), []ops.Attr{mode}
	up9.Cases = []ops.Case{{Name: "nearest", In: []*tensor.Tensor{x, scales}, Want: wide}}
	r11 := ops.Op{
		Doc: "X sampled on a grid of another size: scales or sizes give the size, coordinate_transformation_mode how positions correspond.",
		In:  params("X", "roi", "scales", "sizes?"), Out: params("Y"),
		Attrs: []ops.Attr{
			mode, attr("coordinate_transformation_mode", "half_pixel"), attr("cubic_coeff_a", float32(-0.75)),
			attr("exclude_outside", int64(0)), attr("extrapolation_value", float32(0)), attr("nearest_mode", "round_prefer_floor"),
		},
		Infer: inferResize, Eval: onBytes(evalResize),
		Cases: []ops.Case{{Name: "nearest", In: []*tensor.Tensor{x, tensor.New(tensor.Float32, 0), scales}, Want: wide}},
	}
	r13 := r11
	r13.In = params("X", "roi?", "scales?", "sizes?")
	r13.Cases = []ops.Case{
		{Name: "nearest", In: []*tensor.Tensor{x, nil, scales}, Want: wide},
		{Name: "linear", Attrs: graph.Attrs{"mode": "linear"}, In: []*tensor.Tensor{x, nil, scales}, Want: []*tensor.Tensor{tensor.From([]float32{1, 1.25, 1.75, 2, 3, 3.25, 3.75, 4}, 1, 1, 2, 4)}},
		{Name: "sizes", In: []*tensor.Tensor{x, nil, nil, tensor.Ints(1, 1, 2, 4)}, Want: wide},
	}
	r18 := r13
	r18.Attrs = append(slices.Clone(r11.Attrs), attr("antialias", int64(0)), attrOpt("axes"), attr("keep_aspect_ratio_policy", "stretch"))
	rows := versions("Upsample", []int{7}, up7)
	rows = append(rows, versions("Upsample", []int{9, 10}, up9)...)
	rows = append(rows, versions("Resize", []int{10}, up9)...)
	rows = append(rows, versions("Resize", []int{11}, r11)...)
	rows = append(rows, versions("Resize", []int{13}, r13)...)
	return append(rows, versions("Resize", []int{18, 19}, r18)...)
}

// resizeInputs are the indices of the inputs; absent ones are past the end.
func resizeInputs(op graph.OpID) (roi, scales, sizes int) {
	const absent = 4
	switch {
	case op.Name == "Upsample" && op.Since < 9:
		return absent, absent, absent
	case op.Name == "Upsample" || op.Since < 11:
		return absent, 1, absent
	}
	return 1, 2, 3
}

func inferResize(c *ops.Infer) error {
	t, a := c.Type(0), c.Node.Attrs
	if err := want(c, 0, castTypes); err != nil {
		return err
	}
	if m := a.Str("mode", "nearest"); m != "nearest" && m != "linear" && m != "cubic" {
		return c.Errorf("mode %q, want nearest, linear or cubic", m)
	}
	if !t.Ranked() {
		setOut(c, 0, t)
		return nil
	}
	axes, err := resizeAxes(a, t.Rank())
	if err != nil {
		return c.Errorf("%w of %s", err, t)
	}
	shape := cloneDims(t.Shape)
	for _, ax := range axes {
		shape[ax] = freshDim(c, 0, ax)
	}
	_, si, zi := resizeInputs(c.Node.Op)
	scales := a.Floats("scales")
	if k := c.Const(si); k != nil && k.DType.IsFloat() {
		scales = nil
		for i := range k.Len() {
			scales = append(scales, float32(k.At(i)))
		}
	}
	crop := a.Str("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
	if sizes, ok := c.Known(zi); ok && len(sizes) > 0 {
		if len(sizes) != len(axes) {
			return c.Errorf("%d sizes for %d axes", len(sizes), len(axes))
		}
		if a.Str("keep_aspect_ratio_policy", "stretch") == "stretch" {
			for i, ax := range axes {
				shape[ax] = sizes[i]
			}
		}
	} else if len(scales) > 0 && !crop {
		if len(scales) != len(axes) {
			return c.Errorf("%d scales for %d axes", len(scales), len(axes))
		}
		for i, ax := range axes {
			if !(scales[i] > 0) || scales[i] > 1<<20 {
				return c.Errorf("scale %v on axis %d", scales[i], ax)
			}
			shape[ax] = scaleDim(t.Shape[ax], float64(scales[i]), shape[ax])
		}
	}
	setOut(c, 0, graph.T(t.DType, shape...))
	return nil
}

// scaleDim is floor(d*scale) where that can be written, else unknown.
func scaleDim(d graph.Dim, scale float64, unknown graph.Dim) graph.Dim {
	if n, ok := d.Const(); ok {
		return graph.D(int64(math.Floor(float64(n) * scale)))
	}
	if scale == math.Trunc(scale) {
		return d.Mul(graph.D(int64(scale)))
	}
	if k := math.Round(1 / scale); float32(1/k) == float32(scale) {
		return d.FloorDiv(graph.D(int64(k)))
	}
	return unknown
}

func resizeAxes(a graph.Attrs, rank int) ([]int, error) {
	list := a.Ints("axes")
	if !a.Has("axes") {
		for i := range rank {
			list = append(list, int64(i))
		}
	}
	return axesOf(list, rank)
}

// resampler computes, for one axis, which input positions an output position
// is made of, and with what weights.
type resampler struct {
	attrs      graph.Attrs
	mode       string // nearest, linear, cubic
	coordinate string
	nearest    string
	n, m       int     // input and output length
	scale      float64 // output per input
	start, end float64 // region of interest, for tf_crop_and_resize
}

func evalResize(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a, op := c.In[0], c.Node.Attrs, c.Node.Op
	axes, err := resizeAxes(a, x.Rank())
	if err != nil {
		return nil, err
	}
	list := make([]resampler, len(axes))
	for i := range list {
		list[i] = resampler{
			attrs: a, mode: a.Str("mode", "nearest"),
			coordinate: a.Str("coordinate_transformation_mode", "half_pixel"),
			nearest:    a.Str("nearest_mode", "round_prefer_floor"),
			n:          x.Shape[axes[i]], end: 1,
		}
		if op.Name == "Upsample" || op.Since < 11 {
			list[i].coordinate, list[i].nearest = "asymmetric", "simple"
		}
	}
	roi, si, zi := resizeInputs(op)
	if t := c.Arg(roi); t != nil && t.Len() == 2*len(axes) {
		for i := range list {
			list[i].start, list[i].end = t.At(i), t.At(i+len(axes))
		}
	}
	if err := resizeLengths(list, a, c.Arg(si), c.Arg(zi)); err != nil {
		return nil, err
	}
	out := x
	type outside struct {
		axis int
		at   []bool
	}
	var masks []outside
	for i, r := range list {
		if r.n == r.m && r.scale == 1 && r.coordinate != "tf_crop_and_resize" {
			continue
		}
		if r.n == 0 {
			return nil, fmt.Errorf("cannot resize the empty axis %d of %s", axes[i], x.TypeString())
		}
		if r.coordinate == "tf_crop_and_resize" {
			mask := outside{axes[i], make([]bool, r.m)}
			for j := range mask.at {
				p := r.position(j)
				mask.at[j] = p < 0 || p > float64(r.n-1)
			}
			masks = append(masks, mask)
		}
		out = r.apply(out, axes[i])
	}
	for _, m := range masks {
		inner, n := product(out.Shape[m.axis+1:]), len(m.at)
		for i := range out.Len() {
			if m.at[i/inner%n] {
				out.SetAt(i, float64(a.Float("extrapolation_value", 0)))
			}
		}
	}
	return one(out), nil
}

// resizeLengths fills in the output lengths and scales.
func resizeLengths(list []resampler, a graph.Attrs, scales, sizes *tensor.Tensor) error {
	if sizes != nil && sizes.Len() > 0 {
		if sizes.Len() != len(list) {
			return fmt.Errorf("%d sizes for %d axes", sizes.Len(), len(list))
		}
		for i := range list {
			list[i].m = int(sizes.IntAt(i))
			list[i].scale = float64(list[i].m) / float64(list[i].n)
		}
		policy := a.Str("keep_aspect_ratio_policy", "stretch")
		if policy != "stretch" {
			scale := list[0].scale
			for _, r := range list {
				if policy == "not_larger" {
					scale = min(scale, r.scale)
				} else {
					scale = max(scale, r.scale)
				}
			}
			for i := range list {
				list[i].scale, list[i].m = scale, int(math.Floor(scale*float64(list[i].n)+0.5))
			}
		}
	} else {
		values := make([]float64, 0, len(list))
		for _, s := range a.Floats("scales") {
			values = append(values, float64(s))
		}
		if scales != nil {
			values = scales.AsFloats()
		}
		if len(values) != len(list) {
			return fmt.Errorf("%d scales for %d axes", len(values), len(list))
		}
		for i, s := range values {
			r := &list[i]
			part := 1.0
			if r.coordinate == "tf_crop_and_resize" {
				part = r.end - r.start
			}
			r.scale, r.m = s, int(math.Floor(float64(r.n)*part*s))
		}
	}
	for i, r := range list {
		if r.m < 0 || r.m > 1<<30 || !(r.scale > 0) && r.m > 0 {
			return fmt.Errorf("axis %d: cannot resize length %d to %d (scale %v)", i, r.n, r.m, r.scale)
		}
	}
	return nil
}

// position is the place in the input that output position j looks at.
func (r *resampler) position(j int) float64 {
	x, n := float64(j), float64(r.n)
	width := r.scale * n // may be a fraction, unlike r.m
	switch r.coordinate {
	case "align_corners":
		if width == 1 {
			return 0
		}
		return x * (n - 1) / (width - 1)
	case "asymmetric":
		return x / r.scale
	case "tf_half_pixel_for_nn": // opset 11 only
		return (x + 0.5) / r.scale
	case "pytorch_half_pixel":
		if r.m <= 1 {
			return 0
		}
	case "half_pixel_symmetric":
		return n/2*(1-float64(r.m)/width) + (x+0.5)/r.scale - 0.5
	case "tf_crop_and_resize":
		if r.m <= 1 {
			return 0.5 * (r.start + r.end) * (n - 1)
		}
		return r.start*(n-1) + x*(r.end-r.start)*(n-1)/float64(r.m-1)
	}
	return (x+0.5)/r.scale - 0.5
}

// apply resamples one axis of x.
func (r *resampler) apply(x *tensor.Tensor, axis int) *tensor.Tensor {
	if r.mode == "nearest" {
		at := make([]int64, r.m)
		for j := range at {
			at[j] = int64(min(max(r.nearestTo(r.position(j)), 0), float64(r.n-1)))
		}
		return take(x, axis, at)
	}
	shape := slices.Clone(x.Shape)
	shape[axis] = r.m
	out := tensor.New(x.DType, shape...)
	inner := product(shape[axis+1:])
	for j := range r.m {
		at, w := r.taps(r.position(j))
		for o := range product(shape[:axis]) {
			for i := range inner {
				sum := 0.0
				for k, p := range at {
					sum += w[k] * x.At((o*r.n+p)*inner+i)
				}
				out.SetAt((o*r.m+j)*inner+i, sum)
			}
		}
	}
	return out
}

func (r *resampler) nearestTo(x float64) float64 {
	switch r.nearest {
	case "simple": // before opset 11: floor, but ceil when shrinking
		if r.scale < 1 {
			return math.Ceil(x)
		}
		return math.Floor(x)
	case "floor":
		return math.Floor(x)
	case "ceil":
		return math.Ceil(x)
	case "round_prefer_ceil":
		return math.Floor(x + 0.5)
	}
	return math.Ceil(x - 0.5)
}

// taps lists the input positions near x and their weights. Positions outside
// the axis repeat its ends, or do not count with exclude_outside.
func (r *resampler) taps(x float64) (at []int, weights []float64) {
	shrink := 1.0 // with antialias, the filter covers 1/scale as much
	antialias := r.attrs.Int("antialias", 0) != 0
	if antialias {
		shrink = min(r.scale, 1)
	}
	support, filter := 1.0, func(d float64) float64 { return max(0, 1-d) }
	if r.mode == "cubic" {
		support, filter = 2, cubic(float64(r.attrs.Float("cubic_coeff_a", -0.75)))
	}
	exclude := r.attrs.Int("exclude_outside", 0) != 0
	sum := 0.0
	for p := math.Floor(x - support/shrink); p <= math.Ceil(x+support/shrink); p++ {
		w := filter(math.Abs(p-x) * shrink)
		if w == 0 || exclude && (p < 0 || p > float64(r.n-1)) {
			continue
		}
		at = append(at, int(min(max(p, 0), float64(r.n-1))))
		weights = append(weights, w)
		sum += w
	}
	if (antialias || exclude) && sum != 0 {
		for k := range weights {
			weights[k] /= sum
		}
	}
	return at, weights
}

// cubic is Keys' interpolation kernel at distance d.
func cubic(a float64) func(float64) float64 {
	return func(d float64) float64 {
		switch {
		case d < 1:
			return ((a+2)*d-(a+3))*d*d + 1
		case d < 2:
			return ((a*d-5*a)*d+8*a)*d - 4*a
		}
		return 0
	}
}
