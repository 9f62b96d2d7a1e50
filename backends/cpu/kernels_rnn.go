package cpu

import (
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// LSTM and GRU with their usual activations. What the inputs contribute to the
// gates is one product over all steps; a step then multiplies the state, a few
// rows, by the recurrent weight, which stays in cache. The two directions of a
// bidirectional layer run side by side.

// layoutStack is [D,N,K] as D matrices in panels, one after the other.
const layoutStack = "panel32.f32.stack"

func rnnKernels() []*Kernel {
	row := func(name string, gates int, usual string) *Kernel {
		return &Kernel{
			Op: onnxOp(name, 7), Name: "steps", Pack: packStacks,
			Accepts: func(n *graph.Node, t backends.Target) error {
				for i, v := range n.In {
					if i == 4 && v != nil || i == 7 && v != nil {
						return fmt.Errorf("input %d (lengths or peepholes) is given", i)
					}
				}
				for _, a := range n.Attrs.Strings("activations") {
					if !strings.Contains(usual, strings.ToLower(a)) {
						return fmt.Errorf("activations are %v", n.Attrs.Strings("activations"))
					}
				}
				if acts := n.Attrs.Strings("activations"); len(acts) > 0 && strings.ToLower(strings.Join(acts[:len(acts)/directionsOf(n)], " ")) != usual {
					return fmt.Errorf("activations are %v", acts)
				}
				if n.Attrs.Has("clip") || n.Attrs.Int("layout", 0) != 0 || n.Attrs.Int("input_forget", 0) != 0 {
					return fmt.Errorf("clip, layout or input_forget is set")
				}
				return floats()(n, t)
			},
			Lower: func(b *Bind, n *graph.Node) (Step, error) { return lowerRNN(b, n, gates) },
		}
	}
	return []*Kernel{row("LSTM", 4, "sigmoid tanh tanh"), row("GRU", 3, "sigmoid tanh")}
}

func directionsOf(n *graph.Node) int {
	if n.Attrs.Str("direction", "forward") == "bidirectional" {
		return 2
	}
	return 1
}

// packStacks packs W[D,G*H,I] and R[D,G*H,H].
func packStacks(n *graph.Node, _ backends.Target) []Packing {
	var list []Packing
	for i := 1; i <= 2; i++ {
		c := n.In[i].Const
		if c == nil || c.Rank() != 3 {
			continue
		}
		d, cols, k := c.Shape[0], c.Shape[1], c.Shape[2]
		list = append(list, Packing{
			In: i, Layout: layoutStack, DType: tensor.Float32, Shape: []int{d * gemm.PackedSize(k, cols)},
			Pack: func(src *tensor.Tensor) (*tensor.Tensor, error) {
				dst := tensor.New(tensor.Float32, d*gemm.PackedSize(k, cols))
				packStack(tensor.Of[float32](dst), tensor.Of[float32](src), d, k, cols)
				return dst, nil
			},
			Unpack: func(packed *tensor.Tensor, shape []int) (*tensor.Tensor, error) {
				dst := tensor.New(tensor.Float32, shape...)
				o, p := tensor.Of[float32](dst), tensor.Of[float32](packed)
				size := gemm.PackedSize(k, cols)
				for j := range d * cols {
					gemm.F32.Column(o[j*k:(j+1)*k], tensor.Bytes(p[j/cols*size:][:size]), k, j%cols)
				}
				return dst, nil
			},
		})
	}
	return list
}

func packStack(dst, src []float32, d, k, cols int) {
	size := gemm.PackedSize(k, cols)
	for i := range d {
		gemm.Pack(dst[i*size:(i+1)*size], src[i*k*cols:], k, cols, k, true)
	}
}

// rnn is a layer bound to its shapes. Letters: T steps, B batch, H hidden.
type rnn struct {
	length, batch, hidden, gates, dirs int
	reverse                            bool // the only direction is backwards
	resetLast                          bool // GRU: the reset gate is applied after the product

	y, pre, rec, c []float32 // [T,D,B,H], [D,T,B,G*H], [D,B,G*H], [D,B,H]
	first          []float32 // [D,B,H], the initial state
	bias           []float32 // [D,2,G*H] or nil
	r              []float32 // packed, per direction
	ws             []*gemm.Workspace
	args           []gemm.Args
	lstm           bool
}

func lowerRNN(b *Bind, n *graph.Node, gates int) (Step, error) {
	x, w, rr, bias, h0, c0 := b.In(0), b.In(1), b.In(2), b.In(3), b.In(5), b.In(6)
	y, yh, yc := b.Out(0), b.Out(1), b.Out(2)
	if len(x.Shape) != 3 || x.Len() == 0 {
		return nil, ErrFallback
	}
	l := &rnn{length: x.Shape[0], batch: x.Shape[1], hidden: rr.Shape[2], gates: gates, dirs: directionsOf(n), lstm: n.Op.Name == "LSTM",
		reverse: n.Attrs.Str("direction", "forward") == "reverse", resetLast: n.Attrs.Int("linear_before_reset", 0) != 0}
	cols, k := gates*l.hidden, x.Shape[2]
	state := l.dirs * l.batch * l.hidden
	if w.Shape[0] != l.dirs || rr.Shape[0] != l.dirs || w.Shape[1] != cols || rr.Shape[1] != cols || w.Shape[2] != k ||
		bias != nil && bias.Len() != l.dirs*2*cols || h0 != nil && h0.Len() != state || c0 != nil && c0.Len() != state {
		return nil, fmt.Errorf("input X is %v, W %v and R %v in %d directions", x.Shape, w.Shape, rr.Shape, l.dirs)
	}
	if !l.lstm && !l.resetLast && 2*l.hidden%gemm.PanelWidth != 0 {
		return nil, ErrFallback // the candidate's columns would begin inside a panel
	}
	scratch := func(m *Mem, n int) *Mem {
		if m == nil {
			m = b.Scratch(tensor.Float32, n)
		}
		return m
	}
	rows := l.length * l.batch
	y = scratch(y, rows*l.dirs*l.hidden)
	pre, rec := b.Scratch(tensor.Float32, l.dirs*rows*cols), b.Scratch(tensor.Float32, l.dirs*l.batch*cols)
	cell, first := scratch(yc, state), b.Scratch(tensor.Float32, state)
	sums := b.Scratch(tensor.Float32, l.dirs*cols)
	panels := func(i int, m *Mem, k int) func() []float32 {
		if p := b.Packed(i); p != nil {
			t := tensor.Of[float32](p)
			return func() []float32 { return t }
		}
		s := b.Scratch(tensor.Float32, l.dirs*gemm.PackedSize(k, cols))
		return func() []float32 { packStack(s.F32, m.F32, l.dirs, k, cols); return s.F32 }
	}
	wp, rp := panels(1, w, k), panels(2, rr, l.hidden)
	for range l.dirs {
		l.ws, l.args = append(l.ws, gemm.NewWorkspace(1)), append(l.args, gemm.Args{})
	}
	ws, p := gemmWorkspace(b), b.Pool()
	inputs := gemm.Args{M: rows, N: cols, K: k, Lda: k, Ldc: cols}
	var both pool.Task = task(func(_, d int) { l.direction(d) })
	return func() error {
		l.y, l.pre, l.rec, l.c, l.first, l.r = y.F32, pre.F32, rec.F32, cell.F32, first.F32, rp()
		if l.bias = nil; bias != nil {
			l.bias = bias.F32
		}
		fillState(l.first, h0)
		fillState(l.c, c0)
		weights, size := wp(), gemm.PackedSize(k, cols)
		for d := range l.dirs {
			inputs.A, inputs.B, inputs.C = x.F32, weights[d*size:(d+1)*size], l.pre[d*rows*cols:][:rows*cols]
			if l.bias != nil {
				inputs.Bias = l.inputBias(sums.F32[d*cols:][:cols], d)
			}
			gemm.Run(p, &inputs, ws)
		}
		p.Run(l.dirs, both)
		if yh != nil {
			for d := range l.dirs {
				copy(yh.F32[d*l.batch*l.hidden:][:l.batch*l.hidden], l.at(d, l.time(d, l.length-1)))
			}
		}
		return nil
	}, nil
}

func fillState(dst []float32, given *Mem) {
	if given == nil {
		clear(dst)
	} else {
		copy(dst, given.F32)
	}
}

// inputBias is what stands beside the inputs' product: both biases, except that
// the candidate's second one of a GRU that resets last belongs to the state.
func (l *rnn) inputBias(dst []float32, d int) []float32 {
	cols := l.gates * l.hidden
	wb, rb := l.bias[2*d*cols:][:cols], l.bias[(2*d+1)*cols:][:cols]
	copy(dst, wb)
	if !l.lstm && l.resetLast {
		cols = 2 * l.hidden
	}
	vec.Add(dst[:cols], dst[:cols], rb[:cols])
	return dst
}

// time is the position that direction d visits at its step k.
func (l *rnn) time(d, k int) int {
	if d == 1 || l.reverse {
		return l.length - 1 - k
	}
	return k
}

// at is the state [B,H] of direction d at a position.
func (l *rnn) at(d, t int) []float32 {
	n := l.batch * l.hidden
	return l.y[(t*l.dirs+d)*n:][:n]
}

// direction runs all steps of one direction.
func (l *rnn) direction(d int) {
	state, cols := l.batch*l.hidden, l.gates*l.hidden
	h, c := l.first[d*state:][:state], l.c[d*state:][:state]
	rec := l.rec[d*l.batch*cols:][:l.batch*cols]
	a := &l.args[d]
	size := gemm.PackedSize(l.hidden, cols)
	r := l.r[d*size : (d+1)*size]
	for k := range l.length {
		t := l.time(d, k)
		pre := l.pre[(d*l.length+t)*l.batch*cols:][:l.batch*cols]
		next := l.at(d, t)
		switch {
		case l.lstm:
			*a = gemm.Args{M: l.batch, N: cols, K: l.hidden, A: h, Lda: l.hidden, B: r, C: rec, Ldc: cols, Residual: pre, Ldr: cols}
			gemm.Run(nil, a, l.ws[d])
			l.cells(next, c, rec)
		default:
			*a = gemm.Args{M: l.batch, N: cols, K: l.hidden, A: h, Lda: l.hidden, B: r, C: rec, Ldc: cols}
			if !l.resetLast {
				a.N = 2 * l.hidden
				a.B = r[:gemm.PackedSize(l.hidden, a.N)]
			}
			gemm.Run(nil, a, l.ws[d])
			l.candidates(d, next, h, pre, rec, r)
		}
		h = next
	}
	*a = gemm.Args{}
}

// cells is the element-wise part of an LSTM step; gates are i o f c.
func (l *rnn) cells(next, c, gates []float32) {
	h := l.hidden
	for b := range l.batch {
		g := gates[b*4*h : (b+1)*4*h]
		vec.Sigmoid(g[:3*h], g[:3*h])
		vec.Tanh(g[3*h:], g[3*h:])
		cell := c[b*h : (b+1)*h]
		vec.Mul(g[:h], g[:h], g[3*h:])
		vec.MulAdd(cell, g[2*h:3*h], cell, g[:h])
		out := next[b*h : (b+1)*h]
		vec.Tanh(out, cell)
		vec.Mul(out, out, g[h:2*h])
	}
}

// candidates is the rest of a GRU step; gates are z r h.
func (l *rnn) candidates(d int, next, prev, pre, rec, r []float32) {
	h := l.hidden
	for b := range l.batch {
		g, p := rec[b*3*h:(b+1)*3*h], pre[b*3*h:(b+1)*3*h]
		zr, cand := g[:2*h], g[2*h:]
		vec.Add(zr, zr, p[:2*h])
		vec.Sigmoid(zr, zr)
		if l.resetLast {
			if l.bias != nil {
				vec.Add(cand, cand, l.bias[(2*d+1)*3*h+2*h:][:h])
			}
			vec.MulAdd(cand, zr[h:], cand, p[2*h:])
		} else {
			vec.Mul(zr[h:], zr[h:], prev[b*h:(b+1)*h])
		}
	}
	if !l.resetLast {
		a := &l.args[d]
		from := 2 * h / gemm.PanelWidth * gemm.PanelWidth * h
		*a = gemm.Args{M: l.batch, N: h, K: h, A: rec[h:], Lda: 3 * h, B: r[from:], C: rec[2*h:], Ldc: 3 * h, Residual: pre[2*h:], Ldr: 3 * h}
		gemm.Run(nil, a, l.ws[d])
	}
	for b := range l.batch {
		z, cand := rec[b*3*h:][:h], rec[b*3*h+2*h:][:h]
		vec.Tanh(cand, cand)
		out := next[b*h : (b+1)*h]
		vec.Sub(out, prev[b*h:(b+1)*h], cand)
		vec.MulAdd(out, z, out, cand)
	}
}
