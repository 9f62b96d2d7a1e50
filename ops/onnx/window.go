package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
)

// window is the geometry of a convolution or pooling over r spatial axes.
type window struct {
	kernel, stride, dilation []int
	begin, end               []int // padding
	auto                     string
	ceil                     bool // round the number of windows up
}

// readWindow reads the attributes of a node. kernel is used when kernel_shape is absent.
func readWindow(a graph.Attrs, r int, kernel []int) (window, error) {
	w := window{kernel: kernel, auto: a.Str("auto_pad", "NOTSET"), ceil: a.Int("ceil_mode", 0) != 0}
	if k := a.Ints("kernel_shape"); k != nil {
		w.kernel = make([]int, len(k))
		for i, n := range k {
			w.kernel[i] = int(n)
			if kernel != nil && i < len(kernel) && kernel[i] != w.kernel[i] {
				return w, fmt.Errorf("kernel_shape %v does not agree with the weight's spatial shape %v", k, kernel)
			}
		}
	}
	if len(w.kernel) != r {
		return w, fmt.Errorf("kernel of %d axes for an input with %d spatial axes", len(w.kernel), r)
	}
	list := func(name string, n, def int) []int {
		out := make([]int, n)
		v := a.Ints(name)
		for i := range out {
			out[i] = def
			if i < len(v) {
				out[i] = int(v[i])
			}
		}
		return out
	}
	for name, n := range map[string]int{"strides": r, "dilations": r, "pads": 2 * r} {
		if v := a.Ints(name); v != nil && len(v) != n {
			return w, fmt.Errorf("attribute %s has %d values, want %d", name, len(v), n)
		}
	}
	w.stride, w.dilation = list("strides", r, 1), list("dilations", r, 1)
	pads := list("pads", 2*r, 0)
	w.begin, w.end = pads[:r:r], pads[r:]
	for i := range r {
		if w.kernel[i] < 1 || w.stride[i] < 1 || w.dilation[i] < 1 {
			return w, fmt.Errorf("kernel %v, strides %v and dilations %v must be positive", w.kernel, w.stride, w.dilation)
		}
	}
	switch w.auto {
	case "", "NOTSET":
		w.auto = ""
	case "VALID", "SAME_UPPER", "SAME_LOWER":
		w.begin, w.end = make([]int, r), make([]int, r)
	default:
		return w, fmt.Errorf("attribute auto_pad is %q, want NOTSET, VALID, SAME_UPPER or SAME_LOWER", w.auto)
	}
	return w, nil
}

// span is the number of input positions from a window's first to its last element on axis i.
func (w window) span(i int) int { return (w.kernel[i]-1)*w.dilation[i] + 1 }

func (w window) same() bool { return w.auto == "SAME_UPPER" || w.auto == "SAME_LOWER" }

// count is the number of windows along axis i of an input of length in.
func (w window) count(i int, in graph.Dim) graph.Dim {
	s := graph.D(int64(w.stride[i]))
	if w.same() {
		return in.CeilDiv(s)
	}
	padded := in.Add(graph.D(int64(w.begin[i] + w.end[i])))
	room := padded.Sub(graph.D(int64(w.span(i))))
	if !w.ceil {
		return room.FloorDiv(s).Add(graph.D(1))
	}
	// No window may start in the padding at the end.
	starts := in.Add(graph.D(int64(w.begin[i]))).CeilDiv(s)
	return room.CeilDiv(s).Add(graph.D(1)).Min(starts)
}

// outDims gives the symbolic spatial shape of the result.
func (w window) outDims(in []graph.Dim) ([]graph.Dim, error) {
	out := make([]graph.Dim, len(in))
	for i, d := range in {
		out[i] = w.count(i, d)
		if n, ok := out[i].Const(); ok && n < 0 {
			return nil, fmt.Errorf("window of %d positions is longer than spatial axis %d of length %v with padding %d+%d", w.span(i), i, d, w.begin[i], w.end[i])
		}
	}
	return out, nil
}

// place returns the output sizes for the given input sizes and fills in the
// padding that SAME asks for.
func (w *window) place(in []int) ([]int, error) {
	dims := make([]graph.Dim, len(in))
	for i, n := range in {
		dims[i] = graph.D(int64(n))
	}
	od, err := w.outDims(dims)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(in))
	for i, d := range od {
		n, _ := d.Const()
		out[i] = int(n)
		if w.same() {
			total := max(0, (out[i]-1)*w.stride[i]+w.span(i)-in[i])
			w.begin[i] = total / 2
			if w.auto == "SAME_LOWER" {
				w.begin[i] = total - total/2
			}
			w.end[i] = total - w.begin[i]
		}
	}
	return out, nil
}

// run is a stretch of windows along the last axis for which one kernel element
// lies inside the input: windows out, out+1, ... read input in, in+stride, ...
type run struct{ out, in, n int }

// taps lists, for every kernel element in row-major order, its runs.
func (w window) taps(in, out []int) [][]run {
	r := len(in)
	si, so := strides(in), strides(out)
	last := r - 1
	lead := 1
	if last >= 0 {
		lead = product(out[:last])
	}
	res := make([][]run, 0, product(w.kernel))
	for k := range product(w.kernel) {
		ki := unravel(k, w.kernel)
		// Windows lo..hi-1 of the last axis read inside the input.
		first := ki[last]*w.dilation[last] - w.begin[last]
		lo, hi := 0, 0
		if first < 0 {
			lo = (-first + w.stride[last] - 1) / w.stride[last]
		}
		if first < in[last] {
			hi = min(out[last], (in[last]-1-first)/w.stride[last]+1)
		}
		var runs []run
		for o := range lead {
			oi := unravel(o, out[:last])
			inOff, outOff, inside := 0, 0, lo < hi
			for a := range last {
				p := oi[a]*w.stride[a] + ki[a]*w.dilation[a] - w.begin[a]
				inside = inside && p >= 0 && p < in[a]
				inOff += p * si[a]
				outOff += oi[a] * so[a]
			}
			if inside {
				runs = append(runs, run{outOff + lo, inOff + first + lo*w.stride[last], hi - lo})
			}
		}
		res = append(res, runs)
	}
	return res
}

// unravel splits a row-major index into coordinates.
func unravel(i int, shape []int) []int {
	out := make([]int, len(shape))
	for a := len(shape) - 1; a >= 0; a-- {
		out[a] = i % shape[a]
		i /= shape[a]
	}
	return out
}
