package ssm

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Chunk is Q of the decomposed SSD. Measured in ONNX Runtime 1.32 on the layer
// of the mamba2-130m shape: see passes/legalize.
const Chunk = 64

// ScanOperands are the operands of an SSD node once dt is processed and
// multiplied in: S_t = exp(Decay_t) S_{t-1} + X_t B_t^T, in the working type.
type ScanOperands struct {
	X, Decay   *graph.Value // [B,L,H,P], [B,L,H]
	B, C       *graph.Value // [B,L,G,N]
	H0         *graph.Value // [B,H,P,N] or nil
	H, P, G, N int64
	skip, gate *graph.Value // D*x and z, or nil
	dtype      tensor.DType // of y
}

// Operands writes what stands before the scan of an SSD node.
func Operands(g *graph.Builder, n *graph.Node) (*ScanOperands, error) {
	b := write{g}
	s := &ScanOperands{dtype: n.In[0].Type.DType}
	f := working(s.dtype)
	in := func(i int) *graph.Value { return b.cast(n.Input(i), f) }
	if err := fixed(n, n.In[0], 4, map[int]*int64{2: &s.H, 3: &s.P}); err != nil {
		return nil, err
	}
	if err := fixed(n, n.In[3], 4, map[int]*int64{2: &s.G, 3: &s.N}); err != nil {
		return nil, err
	}
	x, dt, a := in(0), in(1), in(2)
	s.X, s.B, s.C, s.H0, s.gate = x, in(3), in(4), in(8), in(6)
	if dt != nil {
		if bias := in(7); bias != nil {
			dt = b.add(dt, bias)
		}
		if n.Attrs.Int("dt_softplus", 0) != 0 {
			dt = b.Op("Softplus", nil, dt)
		}
		lo, hi := float64(n.Attrs.Float("dt_min", float32(math.Inf(-1)))), float64(n.Attrs.Float("dt_max", float32(math.Inf(1))))
		if !math.IsInf(lo, -1) || !math.IsInf(hi, 1) {
			var from, to *graph.Value
			if !math.IsInf(lo, -1) {
				from = b.scalar(dt, lo)
			}
			if !math.IsInf(hi, 1) {
				to = b.scalar(dt, hi)
			}
			dt = b.Op("Clip", nil, dt, from, to)
		}
		s.X = b.mul(x, b.unsqueeze(dt, -1))
	}
	if n.In[2].Type.Rank() == 1 {
		s.Decay = b.mul(dt, a)
	} else { // given from outside, it may be -inf, which times 0 would be NaN in a chunk
		s.Decay = b.Op("Max", nil, a, b.scalar(a, -1e30))
	}
	if seq := n.Input(9); seq != nil {
		s.Decay = b.add(s.Decay, b.resets(seq, f))
	}
	if d := in(5); d != nil {
		if d.Type.Rank() == 1 {
			d = b.reshape(d, s.H, 1)
		}
		s.skip = b.mul(x, d)
	}
	return s, nil
}

// resets is a decay that forgets everything where seq_idx [B,L] changes; finite,
// like all decays here.
func (b write) resets(seq *graph.Value, f tensor.DType) *graph.Value {
	before := b.concat(1, b.slice(seq, 1, 0, 1), b.slice(seq, 1, 0, -1))
	same := b.unsqueeze(b.Op("Equal", nil, before, seq), -1)
	return b.Op("Where", nil, same, b.Const(store(f, []float64{0})), b.Const(store(f, []float64{-1e4})))
}

// Finish writes what stands behind the scan; y is [B,L,H,P].
func (s *ScanOperands) Finish(g *graph.Builder, y *graph.Value) *graph.Value {
	b := write{g}
	if s.skip != nil {
		y = b.add(y, s.skip)
	}
	if s.gate != nil {
		y = b.mul(y, b.silu(s.gate))
	}
	return b.cast(y, s.dtype)
}

// perHead repeats axis 1 of v, the groups, once per head of each; one group, or
// as many as heads, broadcasts as it is.
func (s *ScanOperands) perHead(b write, v *graph.Value) *graph.Value {
	if b.Err != nil || s.G == 1 || s.G == s.H {
		return v
	}
	return RepeatGroups(b.Builder, v, 1, s.H/s.G)
}

// RepeatGroups repeats every entry of an axis n times in place: 0,0,1,1,...
func RepeatGroups(g *graph.Builder, v *graph.Value, axis int64, n int64) *graph.Value {
	b := write{g}
	if b.Err != nil || n == 1 {
		return v
	}
	rank := int64(v.Type.Rank())
	times, flat := make([]int64, rank+1), make([]int64, rank)
	for i := range times {
		times[i] = 1
	}
	times[axis+1] = n
	groups, _ := v.Type.Shape[axis].Const()
	flat[axis] = groups * n
	// After Expand, the axes behind the groups' stand one further on: only the
	// first unknown one may be left to -1.
	for i := axis + 1; i < rank; i++ {
		if d, ok := v.Type.Shape[i].Const(); ok {
			flat[i] = d
		} else {
			flat[i] = -1
		}
	}
	return b.reshape(b.Op("Expand", nil, b.unsqueeze(v, axis+1), b.Ints(times...)), flat...)
}

func decomposeSSD(g *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	s, err := Operands(g, n)
	if err != nil || g.Err != nil {
		return nil, err
	}
	b := write{g}
	wantState := n.Output(1) != nil
	length, known := n.In[0].Type.Shape[1].Const()
	var y, last *graph.Value // [B,L,H,P]; [B,H,P,N]
	switch {
	case known && length == 1:
		y, last = s.step(b)
	case known && length > 0 && length <= Chunk:
		y, last = s.chunks(b, length, 1)
	default:
		y, last = s.chunks(b, Chunk, 0)
	}
	out := []*graph.Value{s.Finish(g, y), nil}
	if wantState {
		out[1] = b.cast(last, n.Out[1].Type.DType)
	}
	return out[:len(n.Out)], nil
}

// state0 is the initial state [B,H,N,P], or nil.
func (s *ScanOperands) state0(b write) *graph.Value {
	if s.H0 == nil {
		return nil
	}
	return b.transpose(s.H0, 0, 1, 3, 2)
}

// step is a single token.
func (s *ScanOperands) step(b write) (y, last *graph.Value) {
	x := b.reshape(s.X, 0, s.H, s.P, 1)
	bm := s.perHead(b, b.reshape(s.B, 0, s.G, 1, s.N))
	c := s.perHead(b, b.reshape(s.C, 0, s.G, s.N, 1))
	state := b.mul(x, bm) // [B,H,P,N]
	if s.H0 != nil {
		decay := b.exp(b.reshape(s.Decay, 0, s.H, 1, 1))
		state = b.add(b.mul(s.H0, decay), state)
	}
	return b.reshape(b.dot(state, c), 0, 1, s.H, s.P), state
}

// chunks is the algorithm of section 6 of arXiv 2405.21060 with chunks of q
// tokens, heads first: [B,H,chunk,q,...]. number is how many chunks there are,
// 0 when only the run knows.
func (s *ScanOperands) chunks(b write, q, number int64) (y, last *graph.Value) {
	x, a, bm, c := s.X, s.Decay, s.B, s.C
	length := b.axis(x, 1)
	if number == 0 { // fill the last chunk with tokens that neither decay nor add
		fill := b.Op("Sub", nil, b.Op("Mul", nil, b.Op("Div", nil, b.add(length, b.Ints(q-1)), b.Ints(q)), b.Ints(q)), length)
		x, a, bm, c = b.pad(x, 1, 0, fill), b.pad(a, 1, 0, fill), b.pad(bm, 1, 0, fill), b.pad(c, 1, 0, fill)
	}
	cut := func(v *graph.Value, rest ...int64) *graph.Value {
		return b.reshape(v, append([]int64{0, -1, q}, rest...)...)
	}
	xh := b.transpose(cut(x, s.H, s.P), 0, 3, 1, 2, 4)  // [B,H,nc,Q,P]
	ch := b.transpose(cut(c, s.G, s.N), 0, 3, 1, 2, 4)  // [B,G,nc,Q,N]
	bt := b.transpose(cut(bm, s.G, s.N), 0, 3, 1, 4, 2) // [B,G,nc,N,Q]
	ah := b.transpose(cut(a, s.H), 0, 3, 1, 2)          // [B,H,nc,Q]

	// Sums of decays between two tokens, each summed by itself: differences of
	// running sums would lose small decays behind large ones.
	n := int(q)
	below := b.matrix(a, n, n, func(i, j int) float64 { return indicator(i > j) })
	upTo := b.matrix(a, n, n, func(i, j int) float64 { return indicator(i >= j) })
	future := b.matrix(a, n, n, func(i, j int) float64 {
		if i < j {
			return math.Inf(-1)
		}
		return 0
	})
	between := b.dot(upTo, b.mul(b.unsqueeze(ah, -1), below))                                // [B,H,nc,Q,Q]
	mask := b.exp(b.add(between, future))                                                    // exp of the sum over j < k <= i
	run := b.dot(ah, b.matrix(a, n, n, func(i, j int) float64 { return indicator(i <= j) })) // [B,H,nc,Q]
	y = b.dot(b.mul(s.perHead(b, b.dot(ch, bt)), mask), xh)                                  // within the chunk
	toEnd := b.transpose(b.slice(mask, 3, q-1, q), 0, 1, 2, 4, 3)                            // [B,H,nc,Q,1]
	states := b.dot(s.perHead(b, bt), b.mul(xh, toEnd))                                      // [B,H,nc,N,P]
	total := b.slice(run, 3, q-1, q)                                                         // [B,H,nc,1]
	before, last := s.pass(b, states, total, number)                                         // [B,H,nc,N,P], [B,H,P,N]
	if before != nil {
		y = b.add(y, b.mul(b.dot(s.perHead(b, ch), before), b.unsqueeze(b.exp(run), -1)))
	}
	y = b.reshape(b.transpose(y, 0, 2, 3, 1, 4), 0, -1, s.H, s.P)
	if number == 0 {
		y = b.Op("Slice", nil, y, b.Ints(0), length, b.Ints(1))
	}
	return y, last
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// pass hands states [B,H,nc,N,P] from chunk to chunk: the state before each, and
// the last one. With one chunk there is nothing to hand on but the initial state.
func (s *ScanOperands) pass(b write, states, total *graph.Value, number int64) (before, last *graph.Value) {
	first := s.state0(b)
	if number == 1 {
		if first == nil {
			return nil, s.final(b, states)
		}
		first = b.unsqueeze(first, 2)
		return first, s.final(b, b.add(b.mul(first, b.unsqueeze(b.exp(total), -1)), states))
	}
	// A lower triangle of decays between chunks times all states: the matrix of
	// section 6, one product instead of a loop.
	if first == nil {
		zero := b.Const(store(states.Type.DType, []float64{0}, 1, 1, 1, 1, 1))
		shape := b.concat(0, b.axis(states, 0), b.Ints(s.H, 1, s.N, s.P))
		first = b.Op("Expand", nil, zero, shape)
	} else {
		first = b.unsqueeze(first, 2)
	}
	all := b.reshape(b.concat(2, first, states), 0, s.H, -1, s.N*s.P)
	a := b.pad(b.reshape(total, 0, s.H, -1), 2, 1, b.Ints(0)) // [B,H,1+nc]
	size := b.axis(a, 2)
	ones := b.Op("Expand", nil, b.Const(store(a.Type.DType, []float64{1}, 1, 1)), b.concat(0, size, size))
	below := b.Op("Trilu", graph.Attrs{"upper": int64(0)}, ones, b.Const(tensor.Scalar(int64(-1))))
	upTo := b.Op("Trilu", graph.Attrs{"upper": int64(0)}, ones)
	between := b.Op("CumSum", nil, b.mul(b.unsqueeze(a, -1), below), b.Const(tensor.Scalar(int64(2))))
	decay := b.mul(b.exp(between), upTo)
	handed := b.reshape(b.dot(decay, all), 0, s.H, -1, s.N, s.P)
	return b.slice(handed, 2, 0, -1), s.final(b, b.slice(handed, 2, -1, 1<<62))
}

// final is the state [B,H,P,N] of [B,H,1,N,P].
func (s *ScanOperands) final(b write, v *graph.Value) *graph.Value {
	return b.reshape(b.transpose(v, 0, 1, 2, 4, 3), 0, s.H, s.P, s.N)
}

// decomposeSelective is an ONNX Scan over time: decays differ per channel and
// state, so that no product of matrices does more than one token.
func decomposeSelective(g *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	b := write{g}
	d := n.In[0].Type.DType
	f := working(d)
	in := func(i int) *graph.Value { return b.cast(n.Input(i), f) }
	var channels, states int64
	if err := fixed(n, n.In[2], 2, map[int]*int64{0: &channels, 1: &states}); err != nil {
		return nil, err
	}
	u, dt, a := in(0), in(1), in(2)
	if bias := in(7); bias != nil {
		dt = b.add(dt, bias)
	}
	if n.Attrs.Int("dt_softplus", 0) != 0 {
		dt = b.Op("Softplus", nil, dt)
	}
	h0 := in(8)
	bm, c := in(3), in(4)
	token := func(b write, h, dt, u, bm, c *graph.Value) (y, next *graph.Value) {
		dt = b.unsqueeze(dt, -1)
		decay := b.exp(b.mul(dt, a))
		next = b.mul(b.mul(dt, b.unsqueeze(u, -1)), b.unsqueeze(bm, 1))
		if h != nil {
			next = b.add(b.mul(h, decay), next)
		}
		return b.reshape(b.dot(next, b.unsqueeze(c, -1)), 0, channels), next
	}
	var y, last *graph.Value
	if u.Type.Shape[1].Is(1) {
		y, last = token(b, h0, b.reshape(dt, 0, channels), b.reshape(u, 0, channels), b.reshape(bm, 0, states), b.reshape(c, 0, states))
		y = b.unsqueeze(y, 1)
	} else {
		if h0 == nil {
			zero := b.Const(store(f, []float64{0}, 1, 1, 1))
			h0 = b.Op("Expand", nil, zero, b.concat(0, b.axis(u, 0), b.Ints(channels, states)))
		}
		out := b.scan([]*graph.Value{h0}, []*graph.Value{dt, u, bm, c}, func(b write, s, x []*graph.Value) ([]*graph.Value, []*graph.Value) {
			y, next := token(b, s[0], x[0], x[1], x[2], x[3])
			return []*graph.Value{next}, []*graph.Value{y}
		})
		if b.Err != nil {
			return nil, b.Err
		}
		last, y = out[0], out[1]
	}
	if skip := in(5); skip != nil {
		y = b.add(y, b.mul(u, skip))
	}
	if z := in(6); z != nil {
		y = b.mul(y, b.silu(z))
	}
	out := []*graph.Value{b.cast(y, d), nil}
	if n.Output(1) != nil {
		out[1] = b.cast(last, n.Out[1].Type.DType)
	}
	return out[:len(n.Out)], nil
}

func decomposeLinearScan(g *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	b := write{g}
	d := n.In[1].Type.DType
	f := working(d)
	a, u, h0 := b.cast(n.In[0], f), b.cast(n.In[1], f), b.cast(n.Input(2), f)
	rank := int64(u.Type.Rank())
	if rank < 2 {
		return nil, fmt.Errorf("%s: u is %s; expected a known rank", n, u.Type)
	}
	if h0 == nil {
		shape := []*graph.Value{b.axis(u, 0)}
		for i := int64(2); i < rank; i++ {
			shape = append(shape, b.axis(u, i))
		}
		ones := make([]int, rank-1)
		for i := range ones {
			ones[i] = 1
		}
		h0 = b.Op("Expand", nil, b.Const(store(f, []float64{0}, ones...)), b.concat(0, shape...))
	}
	// A decay that is the same in every token is not scanned but seen from the body.
	xs, same := []*graph.Value{u, a}, a.Type.Shape[1].Is(1) && !u.Type.Shape[1].Is(1)
	if same {
		xs = xs[:1]
		a = b.Op("Squeeze", nil, a, b.Ints(1))
	}
	var out []*graph.Value
	if n.Attrs.Int("complex", 0) != 0 {
		out = b.complexScan(h0, u, a, same)
	} else {
		out = b.scan([]*graph.Value{h0}, xs, func(b write, s, x []*graph.Value) ([]*graph.Value, []*graph.Value) {
			decay := a
			if !same {
				decay = x[1]
			}
			h := b.add(b.mul(s[0], decay), x[0])
			return []*graph.Value{h}, []*graph.Value{b.Op("Identity", nil, h)}
		})
	}
	if b.Err != nil {
		return nil, b.Err
	}
	res := []*graph.Value{b.cast(out[1], d), nil}
	if n.Output(1) != nil {
		res[1] = b.cast(out[0], n.Out[1].Type.DType)
	}
	return res[:len(n.Out)], nil
}

// complexScan carries real and imaginary parts, which are the last axis, as two
// states, and puts them together again.
func (b write) complexScan(h0, u, a *graph.Value, same bool) []*graph.Value {
	part := func(v *graph.Value, i int64) *graph.Value {
		return b.Op("Squeeze", nil, b.slice(v, -1, i, i+1), b.Ints(-1))
	}
	are, aim := part(a, 0), part(a, 1)
	xs := []*graph.Value{part(u, 0), part(u, 1)}
	if !same {
		xs = append(xs, are, aim)
	}
	out := b.scan([]*graph.Value{part(h0, 0), part(h0, 1)}, xs, func(b write, s, x []*graph.Value) ([]*graph.Value, []*graph.Value) {
		re, im := are, aim
		if !same {
			re, im = x[2], x[3]
		}
		hr := b.add(b.Op("Sub", nil, b.mul(s[0], re), b.mul(s[1], im)), x[0])
		hi := b.add(b.add(b.mul(s[1], re), b.mul(s[0], im)), x[1])
		return []*graph.Value{hr, hi}, []*graph.Value{b.Op("Identity", nil, hr), b.Op("Identity", nil, hi)}
	})
	if b.Err != nil {
		return nil
	}
	pair := func(re, im *graph.Value) *graph.Value { return b.concat(-1, b.unsqueeze(re, -1), b.unsqueeze(im, -1)) }
	return []*graph.Value{pair(out[0], out[1]), pair(out[2], out[3])}
}

// scan writes an ONNX Scan over axis 1 of xs. step gets the states and one
// token, and gives the new states and the outputs.
func (b write) scan(states, xs []*graph.Value, step func(b write, s, x []*graph.Value) (next, out []*graph.Value)) []*graph.Value {
	if b.Err != nil {
		return nil
	}
	id, err := b.Resolve("", "Scan")
	if err != nil {
		b.Err = err
		return nil
	}
	label := b.From
	if label == "" {
		label = "scan"
	}
	in := append(append([]*graph.Value{}, states...), xs...)
	n := b.Graph.Add(id, graph.Attrs{"num_scan_inputs": int64(len(xs))}, in, 0, "")
	n.From = b.From
	body := n.AddBody("body", label+"_body")
	inner := write{&graph.Builder{Graph: body, From: b.From, Resolve: b.Resolve, Infer: b.Infer}}
	var s, x []*graph.Value
	for _, v := range states {
		s = append(s, body.AddInput(label+"_state", v.Type))
	}
	axes := make([]int64, len(xs))
	for i, v := range xs {
		shape := append(append([]graph.Dim{}, v.Type.Shape[:1]...), v.Type.Shape[2:]...)
		x = append(x, body.AddInput(label+"_token", graph.T(v.Type.DType, shape...)))
		axes[i] = 1
	}
	next, out := step(inner, s, x)
	if b.Err = inner.Err; b.Err != nil {
		return nil
	}
	n.Attrs["scan_input_axes"] = axes
	outAxes := make([]int64, len(out))
	for i := range outAxes {
		outAxes[i] = 1
	}
	n.Attrs["scan_output_axes"] = outAxes
	for _, v := range append(next, out...) {
		body.AddOutput(v)
		n.Out = append(n.Out, &graph.Value{Name: b.Graph.UniqueName(label), Def: n})
	}
	if b.Err = b.Infer(n); b.Err != nil {
		return nil
	}
	return n.Out
}
