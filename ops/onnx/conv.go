package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

var windowAttrs = []ops.Attr{attr("auto_pad", "NOTSET"), attrOpt("dilations"), attr("group", int64(1)), attrOpt("kernel_shape"), attrOpt("pads"), attrOpt("strides")}

// convRows are convolutions (cross-correlations) over any number of spatial axes.
func convRows() []*ops.Op {
	x := tensor.From([]float32{1, 2, 3, 4, 5}, 1, 1, 5)
	w := tensor.From([]float32{1, 0, -1}, 1, 1, 3)
	rows := versions("Conv", []int{1, 11, 22}, ops.Op{
		Doc: "Y[N,M,o...] = sum over C/group and the kernel of X[N,C,i...]*W[M,C/group,k...], plus B[M]; zero padding",
		In:  params("X", "W", "B?"), Out: params("Y"), Attrs: windowAttrs,
		Infer: func(c *ops.Infer) error {
			if err := same(c, floatTypes, 0, 1, 2); err != nil {
				return err
			}
			return inferConv(c, 0, 1, c.Type(0).DType)
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			y, shape, err := convolve(c.Node.Attrs, c.In[0].Shape, c.In[1].Shape, floatsOf(c.In[0]), floatsOf(c.In[1]))
			if err != nil {
				return nil, err
			}
			if b := c.Arg(2); b != nil {
				addChannelBias(y, shape, floatsOf(b))
			}
			return one(fromFloats(c.In[0].DType, y, shape...)), nil
		},
		Cases: []ops.Case{{Name: "1d", In: []*tensor.Tensor{x, w}, Want: one(tensor.From([]float32{-2, -2, -2}, 1, 1, 3))},
			{Name: "causal, bias", Attrs: graph.Attrs{"pads": []int64{2, 0}}, In: []*tensor.Tensor{x, w, tensor.From([]float32{10}, 1)}, Want: one(tensor.From([]float32{9, 8, 8, 8, 8}, 1, 1, 5))},
			{Name: "depthwise", Attrs: graph.Attrs{"group": int64(2), "pads": []int64{3, 0}}, In: []*tensor.Tensor{
				tensor.From([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 1, 2, 5), tensor.From([]float32{1, 2, 3, 4, 0.5, -1, 0, 1}, 2, 1, 4), tensor.From([]float32{0.5, -0.5}, 2)}},
			{Name: "2d strided and dilated", Attrs: graph.Attrs{"strides": []int64{2, 1}, "dilations": []int64{1, 2}, "pads": []int64{1, 0, 0, 2}}, In: []*tensor.Tensor{
				tensor.From([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 1, 1, 3, 4), tensor.From([]float32{1, -1, 2, 0.5}, 1, 1, 2, 2)}}},
	})
	rows = append(rows, convIntegerRows()...)
	return append(rows, convTransposeRows()...)
}

// inferConv types output 0 as a convolution of input xi by weight wi.
func inferConv(c *ops.Infer, xi, wi int, d tensor.DType) error {
	x, w := c.Type(xi), c.Type(wi)
	if err := rankAtLeast(c, xi, 3); err != nil {
		return err
	}
	if err := rankAtLeast(c, wi, 3); err != nil {
		return err
	}
	if !x.Ranked() {
		if !w.Ranked() {
			c.Out(0, unranked(d))
			return nil
		}
		out := graph.T(d)
		for a := range w.Shape {
			out.Shape = append(out.Shape, c.Fresh(0, a))
		}
		out.Shape[1] = w.Shape[0]
		c.Out(0, out)
		return nil
	}
	group := c.Node.Attrs.Int("group", 1)
	if group < 1 {
		return c.Errorf("attribute group is %d, want 1 or more", group)
	}
	out := graph.T(d, append([]graph.Dim{}, x.Shape...)...)
	for a := 1; a < len(out.Shape); a++ {
		out.Shape[a] = c.Fresh(0, a)
	}
	if !w.Ranked() {
		c.Out(0, out)
		return nil
	}
	if w.Rank() != x.Rank() {
		return c.Errorf("weight %s for input %s, want the same rank", w, x)
	}
	if need := w.Shape[1].Mul(graph.D(group)); need != x.Shape[1] && need.IsConst() && x.Shape[1].IsConst() {
		return c.Errorf("weight %s with group=%d takes %v channels, input %s has %v", w, group, need, x, x.Shape[1])
	}
	out.Shape[1] = w.Shape[0]
	kernel, ok := graph.Type{Shape: w.Shape[2:]}.Static()
	if !ok && !c.Node.Attrs.Has("kernel_shape") {
		c.Out(0, out)
		return nil
	}
	win, err := readWindow(c.Node.Attrs, x.Rank()-2, kernel)
	if err != nil {
		return err
	}
	spatial, err := win.outDims(x.Shape[2:])
	if err != nil {
		return err
	}
	c.Out(0, graph.T(d, append(out.Shape[:2], spatial...)...))
	return nil
}

// convolve computes the products only; bias is the caller's.
func convolve(a graph.Attrs, xs, ws []int, x, w []float64) ([]float64, []int, error) {
	if len(xs) != len(ws) || len(xs) < 3 {
		return nil, nil, fmt.Errorf("cannot convolve input %v with weight %v", xs, ws)
	}
	group := int(a.Int("group", 1))
	if group < 1 || ws[1]*group != xs[1] || ws[0]%group != 0 {
		return nil, nil, fmt.Errorf("weight %v with group=%d does not fit input %v", ws, group, xs)
	}
	win, err := readWindow(a, len(xs)-2, ws[2:])
	if err != nil {
		return nil, nil, err
	}
	in := xs[2:]
	out, err := win.place(in)
	if err != nil {
		return nil, nil, err
	}
	batch, channels, maps := xs[0], xs[1], ws[0]
	y := tensor.Of[float64](tensor.New(tensor.Float64, append([]int{batch, maps}, out...)...)) // first: it knows what is too large
	taps := win.taps(in, out)
	perGroup, stride := ws[1], win.stride[len(in)-1]
	ni, no, nk := product(in), product(out), len(taps)
	for n := range batch {
		for m := range maps {
			row := y[(n*maps+m)*no : (n*maps+m+1)*no]
			first := m / (maps / group) * perGroup
			for ch := range perGroup {
				src := x[(n*channels+first+ch)*ni : (n*channels+first+ch+1)*ni]
				for k, runs := range taps {
					accumulate(row, src, w[(m*perGroup+ch)*nk+k], runs, stride)
				}
			}
		}
	}
	return y, append([]int{batch, maps}, out...), nil
}

// accumulate adds wv * src to dst along the runs of one kernel element.
func accumulate(dst, src []float64, wv float64, runs []run, stride int) {
	for _, r := range runs {
		d, i := dst[r.out:r.out+r.n], r.in
		for j := range d {
			d[j] += wv * src[i]
			i += stride
		}
	}
}

// addChannelBias adds b[m] to channel m of y[N,M,...].
func addChannelBias(y []float64, shape []int, b []float64) {
	n := product(shape[2:])
	for i := range y {
		y[i] += b[i/n%shape[1]]
	}
}

func convTransposeRows() []*ops.Op {
	attrs := append(append([]ops.Attr{}, windowAttrs...), attrOpt("output_padding"), attrOpt("output_shape"))
	return versions("ConvTranspose", []int{1, 11, 22}, ops.Op{
		Doc: "the gradient of Conv: every X[N,C,i...] adds W[C,M/group,k...] times itself to Y[N,M,i*stride+k*dilation-pad...]; plus B[M]",
		In:  params("X", "W", "B?"), Out: params("Y"), Attrs: attrs,
		Infer: func(c *ops.Infer) error {
			if err := same(c, floatTypes, 0, 1, 2); err != nil {
				return err
			}
			if err := rankAtLeast(c, 0, 3); err != nil {
				return err
			}
			x, w := c.Type(0), c.Type(1)
			if !x.Ranked() {
				c.Out(0, unranked(x.DType))
				return nil
			}
			out := graph.T(x.DType, append([]graph.Dim{}, x.Shape...)...)
			for a := 1; a < x.Rank(); a++ {
				out.Shape[a] = c.Fresh(0, a)
			}
			if w.Ranked() && w.Rank() != x.Rank() {
				return c.Errorf("weight %s for input %s, want the same rank", w, x)
			}
			if w.Ranked() {
				out.Shape[1] = w.Shape[1].Mul(graph.D(c.Node.Attrs.Int("group", 1)))
				if kernel, ok := (graph.Type{Shape: w.Shape[2:]}).Static(); ok {
					win, err := readWindow(c.Node.Attrs, x.Rank()-2, kernel)
					if err != nil {
						return err
					}
					for i := range win.kernel {
						out.Shape[i+2], _ = win.grown(c.Node.Attrs, i, x.Shape[i+2])
					}
				}
			}
			c.Out(0, out)
			return nil
		},
		Eval: evalConvTranspose,
		Cases: []ops.Case{{Name: "stride 2", Attrs: graph.Attrs{"strides": []int64{2}},
			In:   []*tensor.Tensor{tensor.From([]float32{1, 2, 3}, 1, 1, 3), tensor.From([]float32{1, 10, 100}, 1, 1, 3)},
			Want: one(tensor.From([]float32{1, 10, 102, 20, 203, 30, 300}, 1, 1, 7))}},
	})
}

// grown is the output length of a transposed convolution along axis i, and the
// total padding that auto_pad or output_shape implies (0 for explicit pads).
func (w window) grown(a graph.Attrs, i int, in graph.Dim) (out, padding graph.Dim) {
	extra := int64(0)
	if p := a.Ints("output_padding"); i < len(p) {
		extra = p[i]
	}
	s := graph.D(int64(w.stride[i]))
	full := in.Sub(graph.D(1)).Mul(s).Add(graph.D(extra + int64(w.span(i))))
	switch shape := a.Ints("output_shape"); {
	case len(shape) > 0:
		out = graph.D(shape[max(0, len(shape)-len(w.kernel))+i]) // may include batch and channels
	case w.same():
		out = in.Mul(s)
	default:
		return full.Sub(graph.D(int64(w.begin[i] + w.end[i]))), graph.D(0)
	}
	return out, full.Sub(out).Max(graph.D(0)) // asked for more than there is: zeros at the end
}

func evalConvTranspose(c *ops.Call) ([]*tensor.Tensor, error) {
	x, w, a := c.In[0], c.In[1], c.Node.Attrs
	group := int(a.Int("group", 1))
	if w.Rank() != x.Rank() || group < 1 || x.Shape[1] != w.Shape[0] || x.Shape[1]%group != 0 {
		return nil, fmt.Errorf("weight %s with group=%d does not fit input %s", w.TypeString(), group, x.TypeString())
	}
	win, err := readWindow(a, x.Rank()-2, w.Shape[2:])
	if err != nil {
		return nil, err
	}
	in := x.Shape[2:]
	out := make([]int, len(in))
	for i, n := range in {
		o, p := win.grown(a, i, graph.D(int64(n)))
		size, _ := o.Const()
		total, _ := p.Const()
		out[i] = int(size)
		if win.same() || len(a.Ints("output_shape")) > 0 {
			win.begin[i] = int(total) / 2
			if win.auto != "SAME_UPPER" {
				win.begin[i] = int(total) - int(total)/2
			}
			win.end[i] = int(total) - win.begin[i]
		}
		if out[i] < 0 {
			return nil, fmt.Errorf("input %s gives the negative length %d on spatial axis %d", x.TypeString(), out[i], i)
		}
	}
	// Seen from the output, a tap reads where Conv would write.
	taps := win.taps(out, in)
	batch, channels, perGroup := x.Shape[0], x.Shape[1], w.Shape[1]
	maps, stride := perGroup*group, win.stride[len(in)-1]
	ni, no, nk := product(in), product(out), len(taps)
	xv, wv := floatsOf(x), floatsOf(w)
	y := make([]float64, batch*maps*no)
	for n := range batch {
		for ch := range channels {
			src := xv[(n*channels+ch)*ni : (n*channels+ch+1)*ni]
			first := ch / (channels / group) * perGroup
			for m := range perGroup {
				dst := y[(n*maps+first+m)*no : (n*maps+first+m+1)*no]
				for k, runs := range taps {
					f := wv[(ch*perGroup+m)*nk+k]
					for _, r := range runs {
						for j := range r.n {
							dst[r.in+j*stride] += f * src[r.out+j]
						}
					}
				}
			}
		}
	}
	shape := append([]int{batch, maps}, out...)
	if b := c.Arg(2); b != nil {
		addChannelBias(y, shape, floatsOf(b))
	}
	return one(fromFloats(x.DType, y, shape...)), nil
}
