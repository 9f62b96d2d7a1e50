package onnx

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// poolRows are windowed reductions over the spatial axes of X[N,C,D1,...,Dn].
// Versions that lack an attribute behave as later ones with its default.
func poolRows() []*ops.Op {
	kernel, auto, pads, st := attr("kernel_shape", nil), attr("auto_pad", "NOTSET"), attrOpt("pads"), attrOpt("strides")
	ceil, dil := attr("ceil_mode", int64(0)), attrOpt("dilations")
	count, order, p := attr("count_include_pad", int64(0)), attr("storage_order", int64(0)), attr("p", int64(2))
	base := []ops.Attr{kernel, auto, pads, st}
	with := func(more ...ops.Attr) []ops.Attr { return append(append([]ops.Attr{}, base...), more...) }
	x := one(tensor.From([]float32{1, 5, 2, 4, 3, 6}, 1, 1, 6))
	at := graph.Attrs{"kernel_shape": []int64{2}, "strides": []int64{2}}
	padded := graph.Attrs{"kernel_shape": []int64{3}, "strides": []int64{2}, "pads": []int64{1, 1}}
	var rows []*ops.Op
	add := func(name string, since []int, row ops.Op, want ...float32) {
		row.In = params("X")
		if row.Out == nil {
			row.Out = params("Y")
		}
		row.Cases = []ops.Case{{Name: "pairs", Attrs: at, In: x, Want: one(tensor.From(want, 1, 1, 3))}, {Name: "padded", Attrs: padded, In: x}}
		rows = append(rows, versions(name, since, row)...)
	}
	avg := ops.Op{Doc: "mean of each window; padding counts only when count_include_pad", Infer: inferPool(floatTypes), Eval: evalAveragePool}
	for _, v := range []struct {
		since []int
		attrs []ops.Attr
	}{{[]int{1}, base}, {[]int{7}, with(count)}, {[]int{10, 11}, with(count, ceil)}, {[]int{19, 22}, with(count, ceil, dil)}} {
		avg.Attrs = v.attrs
		add("AveragePool", v.since, avg, 3, 3, 4.5)
	}
	maxRow := ops.Op{Doc: "maximum of each window, and its position in the flattened input", Infer: inferPool(floatTypes | byteTypes), Eval: evalMaxPool}
	maxRow.Attrs = base
	add("MaxPool", []int{1}, maxRow, 5, 4, 6)
	maxRow.Out, maxRow.Attrs = params("Y", "Indices?"), with(order)
	add("MaxPool", []int{8}, maxRow, 5, 4, 6)
	maxRow.Attrs = with(order, ceil, dil)
	add("MaxPool", []int{10, 11, 12, 22}, maxRow, 5, 4, 6)

	lp := ops.Op{Doc: "p-norm of each window", Infer: inferPool(floatTypes), Eval: evalLpPool}
	l1 := graph.Attrs{"kernel_shape": []int64{2}, "strides": []int64{2}, "p": int64(1)}
	at = l1
	for _, v := range []struct {
		since []int
		attrs []ops.Attr
	}{{[]int{2, 11}, with(p)}, {[]int{18, 22}, with(p, ceil, dil)}} {
		lp.Attrs = v.attrs
		add("LpPool", v.since, lp, 6, 6, 9)
	}
	return append(append(rows, globalPoolRows()...), unpoolRows()...)
}

func inferPool(types dtypes) func(c *ops.Infer) error {
	return func(c *ops.Infer) error {
		if err := want(c, 0, types); err != nil {
			return err
		}
		if err := rankAtLeast(c, 0, 3); err != nil {
			return err
		}
		t := c.Type(0)
		out := unranked(t.DType)
		if t.Ranked() {
			w, err := readWindow(c.Node.Attrs, t.Rank()-2, nil)
			if err != nil {
				return err
			}
			spatial, err := w.outDims(t.Shape[2:])
			if err != nil {
				return err
			}
			out = graph.T(t.DType, append(append([]graph.Dim{}, t.Shape[:2]...), spatial...)...)
		}
		c.Out(0, out)
		c.Out(1, withDType(out, tensor.Int64))
		return nil
	}
}

// pool calls f for every window with the flat positions, within the channel,
// of the window's elements that lie inside the input; padded is the number of
// its elements inside the input or the explicit padding.
func pool(c *ops.Call, f func(channel, o int, at []int, padded int)) ([]int, error) {
	x := c.In[0]
	r := x.Rank() - 2
	w, err := readWindow(c.Node.Attrs, r, nil)
	if err != nil {
		return nil, err
	}
	in := x.Shape[2:]
	out, err := w.place(in)
	if err != nil {
		return nil, err
	}
	tensor.Room(tensor.Float64, append([]int{x.Shape[0], x.Shape[1], 8}, out...)...) // callers keep a record for every window
	st := strides(in)
	var at []int
	lo, n := make([]int, r), make([]int, r) // of the kernel's positions along an axis, those inside
	for o := range product(out) {
		oi := unravel(o, out)
		padded, inside := 1, 1
		for a := range r {
			begin := oi[a]*w.stride[a] - w.begin[a]
			until := func(end int) int { // how many positions lie before end
				if end <= begin {
					return 0
				}
				return min((end-begin-1)/w.dilation[a]+1, w.kernel[a])
			}
			lo[a] = until(0)
			n[a] = until(in[a]) - lo[a]
			padded *= until(in[a] + w.end[a])
			inside *= n[a]
		}
		at = at[:0]
		for k := range inside {
			off := 0
			for a, ki := range unravel(k, n) {
				off += (oi[a]*w.stride[a] - w.begin[a] + (lo[a]+ki)*w.dilation[a]) * st[a]
			}
			at = append(at, off)
		}
		for ch := range x.Shape[0] * x.Shape[1] {
			f(ch, o, at, padded)
		}
	}
	return append([]int{x.Shape[0], x.Shape[1]}, out...), nil
}

// poolFloats runs f over every window's elements.
func poolFloats(c *ops.Call, f func(v []float64, padded int) float64) ([]*tensor.Tensor, error) {
	x := floatsOf(c.In[0])
	n := product(c.In[0].Shape[2:])
	type result struct {
		ch, o int
		v     float64
	}
	var res []result
	var buf []float64
	shape, err := pool(c, func(ch, o int, at []int, padded int) {
		buf = buf[:0]
		for _, i := range at {
			buf = append(buf, x[ch*n+i])
		}
		res = append(res, result{ch, o, f(buf, padded)})
	})
	if err != nil {
		return nil, err
	}
	y := make([]float64, product(shape))
	no := product(shape[2:])
	for _, r := range res {
		y[r.ch*no+r.o] = r.v
	}
	return one(fromFloats(c.In[0].DType, y, shape...)), nil
}

func evalAveragePool(c *ops.Call) ([]*tensor.Tensor, error) {
	include := c.Node.Attrs.Int("count_include_pad", 0) != 0
	return poolFloats(c, func(v []float64, padded int) float64 {
		s := 0.0
		for _, x := range v {
			s += x
		}
		if include {
			return s / float64(padded)
		}
		return s / float64(len(v))
	})
}

func evalLpPool(c *ops.Call) ([]*tensor.Tensor, error) {
	p := float64(c.Node.Attrs.Int("p", 2))
	return poolFloats(c, func(v []float64, _ int) float64 { return pNorm(v, p) })
}

func pNorm(v []float64, p float64) float64 {
	s := 0.0
	for _, x := range v {
		s += math.Pow(math.Abs(x), p)
	}
	return math.Pow(s, 1/p)
}

func evalMaxPool(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	v := floatsOf(x) // exact for the two integer types allowed
	in := x.Shape[2:]
	n := product(in)
	// Position of an element in column-major order within its channel.
	var column []int
	if c.Node.Attrs.Int("storage_order", 0) != 0 {
		column = make([]int, n)
		for i := range n {
			m := 1
			for a, p := range unravel(i, in) {
				column[i] += p * m
				m *= in[a]
			}
		}
	}
	type result struct{ ch, o, at int }
	var res []result
	shape, err := pool(c, func(ch, o int, at []int, _ int) {
		best := -1
		for _, i := range at {
			if best < 0 || v[ch*n+i] > v[ch*n+best] || math.IsNaN(v[ch*n+i]) && !math.IsNaN(v[ch*n+best]) {
				best = i
			}
		}
		res = append(res, result{ch, o, best})
	})
	if err != nil {
		return nil, err
	}
	y, idx := make([]float64, product(shape)), tensor.New(tensor.Int64, shape...)
	no := product(shape[2:])
	for _, r := range res {
		if r.at < 0 { // a window of padding only
			y[r.ch*no+r.o] = math.Inf(-1)
			continue
		}
		y[r.ch*no+r.o] = v[r.ch*n+r.at]
		pos := r.at
		if column != nil {
			pos = column[r.at]
		}
		tensor.Of[int64](idx)[r.ch*no+r.o] = int64(r.ch*n + pos)
	}
	return []*tensor.Tensor{fromFloats(x.DType, y, shape...), idx}, nil
}

func globalPoolRows() []*ops.Op {
	var rows []*ops.Op
	x := one(tensor.From([]float32{1, 3, -2, 4}, 1, 2, 2))
	for _, g := range []struct {
		name  string
		since []int
		attrs []ops.Attr
		f     func(a graph.Attrs, v []float64) float64
		want  []float32
	}{
		{"GlobalAveragePool", []int{1, 22}, noAttrs, func(_ graph.Attrs, v []float64) float64 {
			s := 0.0
			for _, x := range v {
				s += x
			}
			return s / float64(len(v))
		}, []float32{2, 1}},
		{"GlobalMaxPool", []int{1, 22}, noAttrs, func(_ graph.Attrs, v []float64) float64 { return foldFloats(math.Inf(-1), math.Max)(v) }, []float32{3, 4}},
		{"GlobalLpPool", []int{2, 22}, []ops.Attr{attr("p", int64(2))}, func(a graph.Attrs, v []float64) float64 { return pNorm(v, float64(a.Int("p", 2))) },
			[]float32{3.1622777, 4.472136}},
	} {
		rows = append(rows, versions(g.name, g.since, ops.Op{
			Doc: "reduces every spatial axis of X[N,C,...] to length 1", In: params("X"), Out: params("Y"), Attrs: g.attrs,
			Infer: func(c *ops.Infer) error {
				if err := want(c, 0, floatTypes); err != nil {
					return err
				}
				if err := rankAtLeast(c, 0, 2); err != nil {
					return err
				}
				t := c.Type(0)
				out := unranked(t.DType)
				if t.Ranked() {
					out.Shape = append([]graph.Dim{}, t.Shape...)
					for a := 2; a < t.Rank(); a++ {
						out.Shape[a] = graph.D(1)
					}
				}
				c.Out(0, out)
				return nil
			},
			Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
				x := c.In[0]
				shape := append([]int{}, x.Shape...)
				for a := 2; a < len(shape); a++ {
					shape[a] = 1
				}
				v, n := floatsOf(x), product(x.Shape[2:])
				y := make([]float64, product(shape))
				for i := range y {
					y[i] = g.f(c.Node.Attrs, v[i*n:(i+1)*n])
				}
				return one(fromFloats(x.DType, y, shape...)), nil
			},
			Cases: []ops.Case{{Name: "1d", In: x, Want: one(tensor.From(g.want, 1, 2, 1))}},
		})...)
	}
	return rows
}

func unpoolRows() []*ops.Op {
	return versions("MaxUnpool", []int{9, 11, 22}, ops.Op{
		Doc: "puts X's values at the flat positions I of a zero tensor: the inverse of MaxPool with indices",
		In:  params("X", "I", "output_shape?"), Out: params("output"),
		Attrs: []ops.Attr{attr("kernel_shape", nil), attrOpt("pads"), attrOpt("strides")},
		Infer: func(c *ops.Infer) error {
			t := c.Type(0)
			if err := want(c, 0, floatTypes|intTypes); err != nil {
				return err
			}
			if err := rankAtLeast(c, 0, 3); err != nil {
				return err
			}
			if dims, ok := c.Known(2); ok {
				c.Out(0, graph.T(t.DType, dims...))
				return nil
			}
			out := unranked(t.DType)
			if t.Ranked() {
				w, err := readWindow(c.Node.Attrs, t.Rank()-2, nil)
				if err != nil {
					return err
				}
				out.Shape = append([]graph.Dim{}, t.Shape...)
				for i := range w.kernel {
					if c.Has(2) {
						out.Shape[i+2] = c.Fresh(0, i+2)
					} else {
						out.Shape[i+2], _ = w.grown(graph.Attrs{}, i, t.Shape[i+2])
					}
				}
			}
			c.Out(0, out)
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x, idx := c.In[0], c.In[1]
			w, err := readWindow(c.Node.Attrs, x.Rank()-2, nil)
			if err != nil {
				return nil, err
			}
			// Positions count within the shape that the window implies, even
			// when output_shape asks for more room.
			dense := append([]int{}, x.Shape...)
			for i := range w.kernel {
				d, _ := w.grown(graph.Attrs{}, i, graph.D(int64(x.Shape[i+2])))
				n, _ := d.Const()
				dense[i+2] = int(n)
			}
			shape := dense
			if s := c.Arg(2); s != nil {
				shape = make([]int, s.Len())
				for i, n := range s.AsInts() {
					shape[i] = int(n)
				}
			}
			out := tensor.New(x.DType, shape...)
			st := strides(shape)
			for i := range x.Len() {
				o := 0
				for a, p := range unravel(int(idx.IntAt(i)), dense) {
					o += p * st[a]
				}
				if x.DType.IsFloat() {
					out.SetAt(o, x.At(i))
				} else {
					out.SetIntAt(o, x.IntAt(i))
				}
			}
			return one(out), nil
		},
		Cases: []ops.Case{{Name: "1d", Attrs: graph.Attrs{"kernel_shape": []int64{2}, "strides": []int64{2}},
			In:   []*tensor.Tensor{tensor.From([]float32{5, 7}, 1, 1, 2), tensor.From([]int64{1, 2}, 1, 1, 2)},
			Want: one(tensor.From([]float32{0, 5, 7, 0}, 1, 1, 4))}},
	})
}
