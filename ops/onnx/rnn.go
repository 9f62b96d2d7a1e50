package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// rnnRows: the classic recurrent layers. X is [T,B,I] (layout 0) or [B,T,I]
// (layout 1); W [D,G*H,I], R [D,G*H,H], B [D,2*G*H] with D directions and G
// gates; gates are ordered i o f c for LSTM and z r h for GRU.
func rnnRows() []*ops.Op {
	seq := func(n int, shape ...int) *tensor.Tensor {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32((i*3)%7-3) / 8
		}
		return tensor.From(v, shape...)
	}
	common := []ops.Attr{attrOpt("activation_alpha"), attrOpt("activation_beta"), attrOpt("activations"), attrOpt("clip"),
		attr("direction", "forward"), attrOpt("hidden_size")}
	in := []string{"X", "W", "R", "B?", "sequence_lens?", "initial_h?"}
	var rows []*ops.Op
	for _, k := range []struct {
		name  string
		gates int
		in    []string
		out   []string
		attrs []ops.Attr
		since []int
		step  func(*cell)
		acts  []string
	}{
		{"RNN", 1, in, []string{"Y?", "Y_h?"}, nil, []int{7}, stepRNN, []string{"Tanh"}},
		{"GRU", 3, in, []string{"Y?", "Y_h?"}, []ops.Attr{attr("linear_before_reset", int64(0))}, []int{3, 7}, stepGRU, []string{"Sigmoid", "Tanh"}},
		{"LSTM", 4, append(append([]string{}, in...), "initial_c?", "P?"), []string{"Y?", "Y_h?", "Y_c?"}, []ops.Attr{attr("input_forget", int64(0))}, []int{7}, stepLSTM, []string{"Sigmoid", "Tanh", "Tanh"}},
	} {
		row := ops.Op{
			Doc: "recurrent layer, one or both directions; states past sequence_lens are zero in Y", In: params(k.in...), Out: params(k.out...),
			Attrs: append(append([]ops.Attr{}, common...), k.attrs...),
			Infer: func(c *ops.Infer) error { return inferRNN(c, k.gates, len(k.out)) },
			Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
				return evalRNN(c, k.gates, k.acts, k.step, len(k.out))
			},
			Cases: []ops.Case{{Name: "forward", NOut: 2, In: []*tensor.Tensor{seq(18, 3, 2, 3), seq(k.gates*6, 1, k.gates*2, 3), seq(k.gates*4, 1, k.gates*2, 2), seq(k.gates*4, 1, k.gates*4)}},
				{Name: "both directions", NOut: 2, Attrs: graph.Attrs{"direction": "bidirectional"}, In: []*tensor.Tensor{seq(18, 3, 2, 3), seq(k.gates*12, 2, k.gates*2, 3), seq(k.gates*8, 2, k.gates*2, 2)}}},
		}
		rows = append(rows, versions(k.name, k.since, row)...)
		row.Attrs = append(append([]ops.Attr{}, row.Attrs...), attr("layout", int64(0)))
		rows = append(rows, versions(k.name, []int{14, 22}, row)...)
	}
	return rows
}

func directions(a graph.Attrs) (int, error) {
	switch d := a.Str("direction", "forward"); d {
	case "forward", "reverse":
		return 1, nil
	case "bidirectional":
		return 2, nil
	default:
		return 0, fmt.Errorf("attribute direction is %q, want forward, reverse or bidirectional", d)
	}
}

func inferRNN(c *ops.Infer, gates, outs int) error {
	ins := []int{0, 1, 2, 3, 5, 6, 7}
	if err := same(c, floatTypes, ins...); err != nil {
		return err
	}
	if err := want(c, 4, setOf(tensor.Int32)); err != nil {
		return err
	}
	for i := range 3 {
		if err := rankIs(c, i, 3); err != nil {
			return err
		}
	}
	nd, err := directions(c.Node.Attrs)
	if err != nil {
		return err
	}
	x, r := c.Type(0), c.Type(2)
	if !x.Ranked() {
		for i := range outs {
			c.Out(i, unranked(x.DType))
		}
		return nil
	}
	dirs := graph.D(int64(nd))
	hidden := graph.Sym("?hidden")
	switch {
	case r.Ranked():
		hidden = r.Shape[2]
	case c.Node.Attrs.Has("hidden_size"):
		hidden = graph.D(c.Node.Attrs.Int("hidden_size", 0))
	}
	if size := graph.D(c.Node.Attrs.Int("hidden_size", 0)); c.Node.Attrs.Has("hidden_size") && hidden.IsConst() && hidden != size {
		return c.Errorf("R %s, want %v columns: attribute hidden_size", r, size)
	}
	if w := c.Type(1); w.Ranked() {
		if n := hidden.Mul(graph.D(int64(gates))); w.Shape[1] != n && w.Shape[1].IsConst() && n.IsConst() {
			return c.Errorf("W %s, want %v rows for %d gates of hidden size %v", w, n, gates, hidden)
		}
	}
	length, batch := x.Shape[0], x.Shape[1]
	y, state := graph.T(x.DType, length, dirs, batch, hidden), graph.T(x.DType, dirs, batch, hidden)
	if c.Node.Attrs.Int("layout", 0) != 0 {
		batch, length = x.Shape[0], x.Shape[1]
		y, state = graph.T(x.DType, batch, length, dirs, hidden), graph.T(x.DType, batch, dirs, hidden)
	}
	c.Out(0, y)
	c.Out(1, state)
	if outs > 2 {
		c.Out(2, state)
	}
	return nil
}

// cell is one direction of one sequence: pre holds the gates' inputs from X
// and both biases (but see rb), rec(row, v) is R[row]*v.
type cell struct {
	h, c   []float64 // states, updated by a step
	pre    []float64 // [G*H] X*W^T + Wb
	rb     []float64 // [G*H] Rb
	p      []float64 // [3*H] peepholes i o f, or zeros
	rec    func(row int, v []float64) float64
	act    []func(float64) float64
	clip   func(float64) float64
	attrs  graph.Attrs
	buffer [4][]float64
}

func stepRNN(s *cell) {
	next := s.buffer[0]
	for j := range next {
		next[j] = s.act[0](s.clip(s.pre[j] + s.rec(j, s.h) + s.rb[j]))
	}
	copy(s.h, next)
}

func stepGRU(s *cell) {
	n := len(s.h)
	z, r, cand := s.buffer[0], s.buffer[1], s.buffer[2]
	for j := range n {
		z[j] = s.act[0](s.clip(s.pre[j] + s.rec(j, s.h) + s.rb[j]))
		r[j] = s.act[0](s.clip(s.pre[n+j] + s.rec(n+j, s.h) + s.rb[n+j]))
	}
	gated := s.buffer[3]
	for j := range n {
		gated[j] = r[j] * s.h[j]
	}
	for j := range n {
		k := 2*n + j
		if s.attrs.Int("linear_before_reset", 0) != 0 {
			cand[j] = s.act[1](s.clip(s.pre[k] + r[j]*(s.rec(k, s.h)+s.rb[k])))
		} else {
			cand[j] = s.act[1](s.clip(s.pre[k] + s.rec(k, gated) + s.rb[k]))
		}
	}
	for j := range n {
		s.h[j] = (1-z[j])*cand[j] + z[j]*s.h[j]
	}
}

func stepLSTM(s *cell) {
	n := len(s.h)
	next := s.buffer[0]
	for j := range n {
		gate := func(k int) float64 { return s.pre[k*n+j] + s.rec(k*n+j, s.h) + s.rb[k*n+j] }
		i := s.act[0](s.clip(gate(0) + s.p[j]*s.c[j]))
		f := s.act[0](s.clip(gate(2) + s.p[2*n+j]*s.c[j]))
		if s.attrs.Int("input_forget", 0) != 0 {
			f = 1 - i
		}
		c := f*s.c[j] + i*s.act[1](s.clip(gate(3)))
		o := s.act[0](s.clip(gate(1) + s.p[n+j]*c))
		s.c[j] = c
		next[j] = o * s.act[2](c)
	}
	copy(s.h, next)
}

func evalRNN(c *ops.Call, gates int, defaults []string, step func(*cell), outs int) ([]*tensor.Tensor, error) {
	a := c.Node.Attrs
	nd, err := directions(a)
	if err != nil {
		return nil, err
	}
	x, w, r := c.In[0], c.In[1], c.In[2]
	hidden, width := r.Shape[2], x.Shape[2]
	if w.Shape[0] != nd || r.Shape[0] != nd || w.Shape[1] != gates*hidden || r.Shape[1] != gates*hidden || w.Shape[2] != width {
		return nil, fmt.Errorf("input %s, weights %s and %s do not fit %d directions and %d gates", x.TypeString(), w.TypeString(), r.TypeString(), nd, gates)
	}
	acts, err := activations(a, nd, defaults)
	if err != nil {
		return nil, err
	}
	batchFirst := a.Int("layout", 0) != 0
	length, batch := x.Shape[0], x.Shape[1]
	if batchFirst {
		batch, length = length, batch
	}
	clip := func(v float64) float64 { return v }
	if a.Has("clip") {
		m := float64(a.Float("clip", 0))
		clip = func(v float64) float64 { return clamp(v, -m, m) }
	}
	xv, wv, rv := floatsOf(x), floatsOf(w), floatsOf(r)
	bias, peep := make([]float64, nd*2*gates*hidden), make([]float64, nd*3*hidden)
	if b := c.Arg(3); b != nil {
		copy(bias, floatsOf(b))
	}
	if p := c.Arg(7); p != nil {
		copy(peep, floatsOf(p))
	}
	// at is the position of a state in [D,B,H] or [B,D,H].
	at := func(d, b int) int {
		if batchFirst {
			return (b*nd + d) * hidden
		}
		return (d*batch + b) * hidden
	}
	states := [2][]float64{make([]float64, nd*batch*hidden), make([]float64, nd*batch*hidden)}
	for i := range states {
		if t := c.Arg(5 + i); t != nil {
			copy(states[i], floatsOf(t))
		}
	}
	y := make([]float64, length*nd*batch*hidden)
	rows := gates * hidden
	s := &cell{clip: clip, attrs: a, pre: make([]float64, rows)}
	for i := range s.buffer {
		s.buffer[i] = make([]float64, hidden)
	}
	for d := range nd {
		s.act = acts[d*len(defaults) : (d+1)*len(defaults)]
		s.rb = bias[(2*d+1)*rows : (2*d+2)*rows]
		s.p = peep[d*3*hidden : (d+1)*3*hidden]
		s.rec = func(row int, v []float64) float64 {
			sum := 0.0
			for j, m := range rv[(d*rows+row)*hidden : (d*rows+row+1)*hidden] {
				sum += m * v[j]
			}
			return sum
		}
		backward := d == 1 || a.Str("direction", "forward") == "reverse"
		for b := range batch {
			s.h, s.c = states[0][at(d, b):at(d, b)+hidden], states[1][at(d, b):at(d, b)+hidden]
			n := length
			if lens := c.Arg(4); lens != nil {
				if n = int(lens.IntAt(b)); n < 0 || n > length {
					return nil, fmt.Errorf("sequence_lens[%d] is %d, want 0 to %d", b, n, length)
				}
			}
			for k := range n {
				t := k
				if backward {
					t = n - 1 - k
				}
				xt := xv[(t*batch+b)*width:]
				if batchFirst {
					xt = xv[(b*length+t)*width:]
				}
				for row := range rows {
					sum := bias[2*d*rows+row]
					for j, m := range wv[(d*rows+row)*width : (d*rows+row+1)*width] {
						sum += m * xt[j]
					}
					s.pre[row] = sum
				}
				step(s)
				if batchFirst {
					copy(y[((b*length+t)*nd+d)*hidden:], s.h)
				} else {
					copy(y[((t*nd+d)*batch+b)*hidden:], s.h)
				}
			}
		}
	}
	yShape, sShape := []int{length, nd, batch, hidden}, []int{nd, batch, hidden}
	if batchFirst {
		yShape, sShape = []int{batch, length, nd, hidden}, []int{batch, nd, hidden}
	}
	out := []*tensor.Tensor{fromFloats(x.DType, y, yShape...), fromFloats(x.DType, states[0], sShape...), fromFloats(x.DType, states[1], sShape...)}
	return out[:outs], nil
}

// activations builds the functions of all directions. Names without
// parameters take none from the alpha and beta lists.
func activations(a graph.Attrs, dirs int, defaults []string) ([]func(float64) float64, error) {
	names := a.Strings("activations")
	if len(names) == 0 {
		for range dirs {
			names = append(names, defaults...)
		}
	}
	if len(names) != dirs*len(defaults) {
		return nil, fmt.Errorf("attribute activations has %d names, want %d", len(names), dirs*len(defaults))
	}
	alphas, betas := a.Floats("activation_alpha"), a.Floats("activation_beta")
	take := func(list *[]float32, def float64) float64 {
		if len(*list) == 0 {
			return def
		}
		v := float64((*list)[0])
		*list = (*list)[1:]
		return v
	}
	out := make([]func(float64) float64, len(names))
	for i, n := range names {
		switch n {
		case "Tanh":
			out[i] = math.Tanh
		case "Sigmoid":
			out[i] = sigmoid
		case "Relu":
			out[i] = func(x float64) float64 { return math.Max(x, 0) }
		case "Softplus":
			out[i] = softplus
		case "Softsign":
			out[i] = func(x float64) float64 { return x / (1 + math.Abs(x)) }
		case "Affine":
			al, be := take(&alphas, 1), take(&betas, 0)
			out[i] = func(x float64) float64 { return al*x + be }
		case "ScaledTanh":
			al, be := take(&alphas, 1), take(&betas, 1)
			out[i] = func(x float64) float64 { return al * math.Tanh(be*x) }
		case "HardSigmoid":
			al, be := take(&alphas, 0.2), take(&betas, 0.5)
			out[i] = func(x float64) float64 { return clamp(al*x+be, 0, 1) }
		case "LeakyRelu":
			al := take(&alphas, 0.01)
			out[i] = func(x float64) float64 {
				if x < 0 {
					return al * x
				}
				return x
			}
		case "ThresholdedRelu":
			al := take(&alphas, 1)
			out[i] = func(x float64) float64 {
				if x > al {
					return x
				}
				return 0
			}
		case "Elu":
			out[i] = elu(1, take(&alphas, 1), 1)
		default:
			return nil, fmt.Errorf("unknown activation %q", n)
		}
	}
	return out, nil
}
