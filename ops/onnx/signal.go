package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// signalRows: discrete Fourier transforms, window functions and mel filters.
// Complex numbers are pairs on the last axis; real signals have length 1 there.
func signalRows() []*ops.Op {
	flags := []ops.Attr{attr("inverse", int64(0)), attr("onesided", int64(0))}
	x := tensor.From([]float32{1, 2, 3, 4}, 1, 4, 1)
	spectrum := one(tensor.From([]float32{10, 0, -2, 2, -2, 0, -2, -2}, 1, 4, 2))
	dft := ops.Op{
		Doc: "discrete Fourier transform along one axis, zero-padded or cut to dft_length; inverse scales by 1/length; onesided keeps length/2+1 bins " +
			"(or, inverse, reads them and gives a real signal)",
		In: params("input", "dft_length?"), Out: params("output"), Attrs: append([]ops.Attr{attr("axis", int64(1))}, flags...),
		Infer: inferDFT, Eval: evalDFT,
		Cases: []ops.Case{{Name: "real", In: one(x), Want: spectrum}, {Name: "inverse", Attrs: graph.Attrs{"inverse": int64(1)}, In: spectrum}},
	}
	rows := versions("DFT", []int{17}, dft)
	dft.In, dft.Attrs = params("input", "dft_length?", "axis?"), flags
	rows = append(rows, versions("DFT", []int{20}, dft)...)
	rows = append(rows, versions("STFT", []int{17}, ops.Op{
		Doc: "DFTs of frames of signal [B,L,1 or 2] that start every frame_step samples, times window; output [B,frames,bins,2]",
		In:  params("signal", "frame_step", "window?", "frame_length?"), Out: params("output"), Attrs: []ops.Attr{attr("onesided", int64(1))},
		Infer: inferSTFT, Eval: evalSTFT,
		Cases: []ops.Case{{Name: "two frames", In: []*tensor.Tensor{x, tensor.Scalar(int64(2)), nil, tensor.Scalar(int64(2))},
			Want: one(tensor.From([]float32{3, 0, -1, 0, 7, 0, -1, 0}, 1, 2, 2, 2))}},
	})...)
	for _, w := range []struct {
		name    string
		a, b, c float64 // a - b*cos(2 pi n/N) + c*cos(4 pi n/N)
	}{{"HannWindow", 0.5, 0.5, 0}, {"HammingWindow", 25.0 / 46, 21.0 / 46, 0}, {"BlackmanWindow", 0.42, 0.5, 0.08}} {
		rows = append(rows, versions(w.name, []int{17}, ops.Op{
			Doc: fmt.Sprintf("%g - %g*cos(2*pi*n/N) + %g*cos(4*pi*n/N) for n < size; N is size, or size-1 when not periodic", w.a, w.b, w.c),
			In:  params("size"), Out: params("output"), Attrs: []ops.Attr{attr("output_datatype", int64(tensor.Float32)), attr("periodic", int64(1))},
			Infer: func(c *ops.Infer) error {
				if err := want(c, 0, indexTypes); err != nil {
					return err
				}
				n := c.Fresh(0, 0)
				if k, ok := c.Known(0); ok && len(k) == 1 {
					n = k[0]
				}
				c.Out(0, graph.T(tensor.DType(c.Node.Attrs.Int("output_datatype", int64(tensor.Float32))), n))
				return nil
			},
			Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
				size := int(c.In[0].IntAt(0))
				if size < 0 {
					return nil, fmt.Errorf("size is %d, want 0 or more", size)
				}
				period := float64(size)
				if c.Node.Attrs.Int("periodic", 1) == 0 {
					period = math.Max(period-1, 1)
				}
				out := tensor.New(tensor.DType(c.Node.Attrs.Int("output_datatype", int64(tensor.Float32))), size)
				for n := range size {
					t := 2 * math.Pi * float64(n) / period
					out.SetAt(n, w.a-w.b*math.Cos(t)+w.c*math.Cos(2*t))
				}
				return one(out), nil
			},
			Cases: []ops.Case{{Name: "eight", In: one(tensor.Scalar(int64(8)))}, {Name: "symmetric", Attrs: graph.Attrs{"periodic": int64(0)}, In: one(tensor.Scalar(int64(5)))}},
		})...)
	}
	return append(rows, versions("MelWeightMatrix", []int{17}, ops.Op{
		Doc: "triangular filters [dft_length/2+1, num_mel_bins] whose centres are evenly spaced in mel between the two edges",
		In:  params("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz"), Out: params("output"),
		Attrs: []ops.Attr{attr("output_datatype", int64(tensor.Float32))},
		Infer: func(c *ops.Infer) error {
			out := graph.T(tensor.DType(c.Node.Attrs.Int("output_datatype", int64(tensor.Float32))), c.Fresh(0, 0), c.Fresh(0, 1))
			if k, ok := c.Known(1); ok && len(k) == 1 {
				out.Shape[0] = k[0].FloorDiv(graph.D(2)).Add(graph.D(1))
			}
			if k, ok := c.Known(0); ok && len(k) == 1 {
				out.Shape[1] = k[0]
			}
			c.Out(0, out)
			return nil
		},
		Eval: evalMel,
		Cases: []ops.Case{{Name: "eight bins", In: []*tensor.Tensor{tensor.Scalar(int64(8)), tensor.Scalar(int64(16)), tensor.Scalar(int64(8192)),
			tensor.Scalar(float32(0)), tensor.Scalar(float32(4096))}}},
	})...)
}

// dftAxis reads the axis from the attribute (DFT-17) or the input; known is
// false when that is computed.
func dftAxis(n *graph.Node, input *tensor.Tensor, computed bool) (axis int64, known bool) {
	switch {
	case n.Op.Since < 20:
		return n.Attrs.Int("axis", 1), true
	case input != nil && input.Len() == 1:
		return input.IntAt(0), true
	}
	return -2, !computed
}

func inferDFT(c *ops.Infer) error {
	if err := want(c, 0, floatTypes); err != nil {
		return err
	}
	if err := rankAtLeast(c, 0, 2); err != nil {
		return err
	}
	t := c.Type(0)
	if !t.Ranked() {
		c.Out(0, t)
		return nil
	}
	out := graph.T(t.DType, append([]graph.Dim{}, t.Shape...)...)
	inverse, onesided := c.Node.Attrs.Int("inverse", 0) != 0, c.Node.Attrs.Int("onesided", 0) != 0
	out.Shape[t.Rank()-1] = graph.D(2)
	if inverse && onesided {
		out.Shape[t.Rank()-1] = graph.D(1)
	}
	axis, known := dftAxis(c.Node, c.Const(2), c.Has(2))
	if !known {
		for a := range t.Rank() - 1 {
			out.Shape[a] = c.Fresh(0, a)
		}
		c.Out(0, out)
		return nil
	}
	i, ok := axisOf(axis, t.Rank(), t.Rank()-1)
	if !ok {
		return c.Errorf("axis %d for input %s, want an axis before the last", axis, t)
	}
	n := t.Shape[i]
	if inverse && onesided {
		n = n.Sub(graph.D(1)).Mul(graph.D(2))
	}
	if c.Has(1) {
		n = c.Fresh(0, i)
		if k, ok := c.Known(1); ok && len(k) == 1 {
			n = k[0]
		}
	}
	if onesided && !inverse {
		n = n.FloorDiv(graph.D(2)).Add(graph.D(1))
	}
	out.Shape[i] = n
	c.Out(0, out)
	return nil
}

// transform computes a DFT of length n of re and im (im may be nil), which are
// cut or zero-padded; sign is -1 forward, 1 inverse. Plain sums over a table
// of roots of unity.
func transform(re, im []float64, n int, sign float64) (outRe, outIm []float64) {
	cos, sin := make([]float64, n), make([]float64, n)
	for i := range n {
		cos[i], sin[i] = math.Cos(2*math.Pi*float64(i)/float64(n)), sign*math.Sin(2*math.Pi*float64(i)/float64(n))
	}
	outRe, outIm = make([]float64, n), make([]float64, n)
	for k := range n {
		var sr, si float64
		for t := range min(n, len(re)) {
			w := k * t % n
			sr += re[t] * cos[w]
			si += re[t] * sin[w]
			if im != nil {
				sr -= im[t] * sin[w]
				si += im[t] * cos[w]
			}
		}
		outRe[k], outIm[k] = sr, si
	}
	return outRe, outIm
}

func evalDFT(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	raw, _ := dftAxis(c.Node, c.Arg(2), false)
	last := x.Rank() - 1
	axis, ok := axisOf(raw, x.Rank(), last)
	if !ok || x.Shape[last] != 1 && x.Shape[last] != 2 {
		return nil, fmt.Errorf("axis %d of input %s, want an axis before the last, which has length 1 or 2", raw, x.TypeString())
	}
	inverse, onesided := a.Int("inverse", 0) != 0, a.Int("onesided", 0) != 0
	length := x.Shape[axis]
	n := length
	if inverse && onesided {
		n = 2 * (length - 1)
	}
	if t := c.Arg(1); t != nil {
		n = int(t.IntAt(0))
	}
	if n < 1 {
		return nil, fmt.Errorf("transform length %d, want 1 or more", n)
	}
	bins, parts := n, 2
	switch {
	case onesided && inverse:
		parts = 1
	case onesided:
		bins = n/2 + 1
	}
	shape := append([]int{}, x.Shape...)
	shape[axis], shape[last] = bins, parts
	v, y := floatsOf(x), make([]float64, product(shape))
	in := x.Shape[last]
	outer, inner := product(x.Shape[:axis]), product(x.Shape[axis+1:last])
	re, im := make([]float64, length), make([]float64, length)
	for o := range outer {
		for i := range inner {
			for t := range length {
				p := ((o*length+t)*inner + i) * in
				re[t] = v[p]
				if in == 2 {
					im[t] = v[p+1]
				}
			}
			sign, fr, fi := -1.0, re, im
			if inverse {
				sign = 1
				if onesided {
					fr, fi = hermitian(re, im, n)
				}
			}
			yr, yi := transform(fr, fi, n, sign)
			for k := range bins {
				p := ((o*bins+k)*inner + i) * parts
				s := 1.0
				if inverse {
					s = 1 / float64(n)
				}
				y[p] = yr[k] * s
				if parts == 2 {
					y[p+1] = yi[k] * s
				}
			}
		}
	}
	return one(fromFloats(x.DType, y, shape...)), nil
}

// hermitian completes half a spectrum to the n bins of a real signal.
func hermitian(re, im []float64, n int) (fr, fi []float64) {
	fr, fi = make([]float64, n), make([]float64, n)
	for k := 0; k <= n/2 && k < len(re); k++ {
		fr[k], fi[k] = re[k], im[k]
		if m := (n - k) % n; m != k {
			fr[m], fi[m] = re[k], -im[k]
		} else {
			fi[k] = 0 // the first and middle bins of a real signal are real
		}
	}
	return fr, fi
}

func inferSTFT(c *ops.Infer) error {
	if err := same(c, floatTypes, 0, 2); err != nil {
		return err
	}
	if err := rankIs(c, 0, 2, 3); err != nil {
		return err
	}
	t := c.Type(0)
	if !t.Ranked() {
		c.Out(0, graph.T(t.DType, c.Fresh(0, 0), c.Fresh(0, 1), c.Fresh(0, 2), graph.D(2)))
		return nil
	}
	out := graph.T(t.DType, t.Shape[0], c.Fresh(0, 1), c.Fresh(0, 2), graph.D(2))
	n, ok := t.Shape[1], true
	if w := c.Type(2); w.Ranked() && w.Rank() == 1 {
		n = w.Shape[0]
	} else if c.Has(2) {
		ok = false
	}
	if c.Has(3) {
		if k, known := c.Known(3); known && len(k) == 1 {
			n, ok = k[0], true
		} else {
			ok = false
		}
	}
	if ok {
		out.Shape[2] = n
		if c.Node.Attrs.Int("onesided", 1) != 0 {
			out.Shape[2] = n.FloorDiv(graph.D(2)).Add(graph.D(1))
		}
		if s, known := c.Known(1); known && len(s) == 1 && s[0].AtLeast(graph.D(1)) {
			out.Shape[1] = t.Shape[1].Sub(n).FloorDiv(s[0]).Add(graph.D(1))
		}
	}
	c.Out(0, out)
	return nil
}

func evalSTFT(c *ops.Call) ([]*tensor.Tensor, error) {
	x, step, window := c.In[0], int(c.In[1].IntAt(0)), c.Arg(2)
	batch, length, parts := x.Shape[0], x.Shape[1], 1
	if x.Rank() == 3 {
		parts = x.Shape[2]
	}
	n := length
	var w []float64
	if window != nil {
		w = floatsOf(window)
		n = len(w)
	}
	if t := c.Arg(3); t != nil {
		n = int(t.IntAt(0))
	}
	if step < 1 || n < 1 || n > length || parts > 2 || w != nil && len(w) > n {
		return nil, fmt.Errorf("signal %s with frame_step=%d, frame_length=%d and a window of %d samples", x.TypeString(), step, n, len(w))
	}
	frames, bins := (length-n)/step+1, n
	if c.Node.Attrs.Int("onesided", 1) != 0 {
		bins = n/2 + 1
	}
	v := floatsOf(x)
	y := make([]float64, 0, batch*frames*bins*2)
	re, im := make([]float64, n), make([]float64, n)
	for b := range batch {
		for f := range frames {
			for t := range n {
				g := 1.0
				switch {
				case w != nil && t < len(w):
					g = w[t]
				case w != nil:
					g = 0
				}
				p := (b*length + f*step + t) * parts
				re[t] = v[p] * g
				if parts == 2 {
					im[t] = v[p+1] * g
				}
			}
			yr, yi := transform(re, im, n, -1)
			for k := range bins {
				y = append(y, yr[k], yi[k])
			}
		}
	}
	return one(fromFloats(x.DType, y, batch, frames, bins, 2)), nil
}

func evalMel(c *ops.Call) ([]*tensor.Tensor, error) {
	bins, n, rate := int(c.In[0].IntAt(0)), int(c.In[1].IntAt(0)), c.In[2].At(0)
	mel := func(hz float64) float64 { return 2595 * math.Log10(1+hz/700) }
	lo, hi := mel(c.In[3].At(0)), mel(c.In[4].At(0))
	rows := n/2 + 1
	edge := make([]int, bins+2) // spectrum bin of each filter edge
	for i := range edge {
		hz := 700 * (math.Pow(10, (lo+float64(i)*(hi-lo)/float64(bins+2))/2595) - 1)
		edge[i] = int(math.Floor(float64(n+1) * hz / rate))
		if edge[i] < 0 || edge[i] >= rows+1 {
			return nil, fmt.Errorf("filter edge %d at %g Hz lies outside the spectrum of %d bins at a rate of %g Hz", i, hz, rows, rate)
		}
	}
	y := make([]float64, rows*bins)
	set := func(j, i int, v float64) {
		if j < rows {
			y[j*bins+i] = v
		}
	}
	for i := range bins {
		l, m, r := edge[i], edge[i+1], edge[i+2]
		if l == m {
			set(m, i, 1)
		}
		for j := l; j <= m && l < m; j++ {
			set(j, i, float64(j-l)/float64(m-l))
		}
		for j := m; j < r; j++ {
			set(j, i, float64(r-j)/float64(r-m))
		}
	}
	return one(fromFloats(tensor.DType(c.Node.Attrs.Int("output_datatype", int64(tensor.Float32))), y, rows, bins)), nil
}
