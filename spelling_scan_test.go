package ssdc_test

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/plugin"
)

// speller writes one random recurrence in one random spelling.
type speller struct {
	set  *plugin.Set
	r    *rand.Rand
	b    *graph.Builder // of the graph, or of the body at hand
	g    *graph.Graph
	kind string
	form string

	dtype         tensor.DType
	batch, length graph.Dim
	h, p, n, gr   int // heads, channels per head, states, groups; Mamba-1 has p channels and no heads
	initial       bool
	final         bool
	pos           int  // time axis of sequences: 0 or 1
	cut           bool // the state's last two axes are exchanged: [.., N, P]
	outside       bool // decay and input are computed for all steps before the loop
	chunk         int
	tied          bool // the decay of RetNet, a constant; of linear attention, 1
	early         bool // y reads the state before the step's token is written
}

var (
	spellingKinds = []string{"SSD", "selective", "linear", "attention"}
	spellingForms = []string{"Loop", "Scan", "unrolled", "step", "quadratic", "chunked"}
)

// spell draws a graph. Its name tells kind and form.
func spell(set *plugin.Set, seed uint64) (*speller, error) {
	r := rand.New(rand.NewPCG(seed, 97))
	s := &speller{set: set, r: r, kind: spellingKinds[r.IntN(4)], form: spellingForms[r.IntN(6)], dtype: tensor.Float32}
	if s.kind != "SSD" && s.kind != "attention" && (s.form == "quadratic" || s.form == "chunked") {
		s.form = spellingForms[r.IntN(4)]
	}
	if r.IntN(3) == 0 {
		s.dtype = tensor.Float64
	}
	s.g = graph.New(s.kind + "_" + s.form)
	s.b = ops.NewBuilder(set.Registry.Table, s.g)
	s.gr = 1 + r.IntN(2)
	s.h, s.p, s.n = s.gr*(1+r.IntN(3)), 2+r.IntN(4), 2+r.IntN(5)
	s.batch, s.length = graph.Sym("batch"), graph.Sym("seq")
	if r.IntN(3) == 0 {
		s.batch = graph.D(int64(1 + r.IntN(3)))
	}
	if r.IntN(3) == 0 || s.form == "unrolled" {
		s.length = graph.D(int64(2 + r.IntN(6)))
	}
	if s.form == "step" {
		s.length = graph.D(1)
	}
	s.initial, s.final, s.pos, s.cut, s.outside, s.tied = r.IntN(2) == 0 || s.form == "step", r.IntN(2) == 0, r.IntN(2), r.IntN(3) == 0, r.IntN(2) == 0, r.IntN(2) == 0
	switch s.form {
	case "quadratic":
		s.initial, s.final, s.pos = false, false, 1
	case "chunked":
		s.pos, s.cut, s.chunk = 1, false, 2+r.IntN(3)
		s.length = graph.D(int64(s.chunk)).Mul(graph.Sym("chunks"))
		if r.IntN(3) == 0 {
			s.length = graph.D(int64(s.chunk * (1 + r.IntN(4))))
		}
	}
	loops := s.form == "Loop" || s.form == "Scan" || s.form == "unrolled"
	s.early = loops && rand.New(rand.NewPCG(seed, 11)).IntN(5) == 0
	s.scan()
	if s.b.Err != nil {
		return s, s.b.Err
	}
	if err := s.g.Sort(); err != nil {
		return s, err
	}
	s.noise()
	if s.b.Err != nil {
		return s, s.b.Err
	}
	if err := s.g.Sort(); err != nil {
		return s, err
	}
	s.g.Sweep()
	if err := ops.InferGraph(set.Registry.Table, s.g); err != nil {
		return s, err
	}
	return s, ops.Verify(set.Registry.Table, s.g)
}

func (s *speller) coin() bool { return s.r.IntN(2) == 0 }

func (s *speller) op(name string, attrs graph.Attrs, in ...*graph.Value) *graph.Value {
	if v := s.b.Op(name, attrs, in...); v != nil {
		return v
	}
	return in[0]
}

// mul and add take their operands in any order.
func (s *speller) mul(a, b *graph.Value) *graph.Value { return s.commute("Mul", a, b) }
func (s *speller) add(a, b *graph.Value) *graph.Value { return s.commute("Add", a, b) }

func (s *speller) commute(name string, a, b *graph.Value) *graph.Value {
	if s.coin() {
		a, b = b, a
	}
	return s.op(name, nil, a, b)
}

func (s *speller) unsq(v *graph.Value, axes ...int64) *graph.Value {
	return s.op("Unsqueeze", nil, v, s.b.Ints(axes...))
}

func (s *speller) scalar(x float64) *graph.Value { return s.param(func() float64 { return x }) }

// param makes a constant of the scan's type.
func (s *speller) param(f func() float64, shape ...int) *graph.Value {
	t := tensor.New(s.dtype, shape...)
	for i := range t.Len() {
		t.SetAt(i, f())
	}
	return s.b.Const(t)
}

// seq is an input with its time axis where sequences have it.
func (s *speller) seq(name string, dims ...int) *graph.Value {
	shape := []graph.Dim{s.batch, s.length}
	if s.pos == 0 {
		shape = []graph.Dim{s.length, s.batch}
	}
	for _, d := range dims {
		shape = append(shape, graph.D(int64(d)))
	}
	return s.g.AddInput(name, graph.T(s.dtype, shape...))
}

// parts are what the steps read, [B,...] per step, and how the state looks.
type parts struct {
	seqs  map[string]*graph.Value // per name, with a time axis at pos
	state []int                   // the state's shape without batch
}

// scan writes the whole model: what stands before the loop, the loop, and what
// stands behind it.
func (s *speller) scan() {
	p := &parts{seqs: map[string]*graph.Value{}}
	var x *graph.Value
	switch s.kind {
	case "SSD":
		x = s.seq("x", s.h, s.p)
		dt := s.seq("dt", s.h)
		if s.coin() {
			dt = s.add(dt, s.param(s.r.NormFloat64, s.h))
		}
		dt = s.op("Softplus", nil, dt)
		a := s.param(func() float64 { return -0.1 - s.r.Float64() }, s.h)
		p.seqs["b"], p.seqs["c"] = s.heads(s.seq("B", s.gr, s.n)), s.heads(s.seq("C", s.gr, s.n))
		if s.outside || s.matrix() {
			p.seqs["log"] = s.mul(dt, a)
			p.seqs["x"] = s.mul(s.unsq(dt, -1), x)
		} else {
			p.seqs["dt"], p.seqs["x"] = dt, x
			p.seqs["A"] = a
		}
		p.state = []int{s.h, s.p, s.n}
	case "attention":
		x = s.seq("v", s.h, s.p)
		p.seqs["x"] = x
		p.seqs["b"], p.seqs["c"] = s.seq("k", s.h, s.n), s.seq("q", s.h, s.n)
		if s.coin() {
			p.seqs["c"] = s.mul(p.seqs["c"], s.scalar(0.5))
		}
		if !s.tied {
			p.seqs["log"] = s.op("Neg", nil, s.op("Softplus", nil, s.seq("g", s.h)))
		} else if s.matrix() || s.coin() {
			p.seqs["gamma"] = s.param(func() float64 { return 0.5 + 0.5*s.r.Float64() }, s.h)
		}
		p.state = []int{s.h, s.p, s.n}
	case "selective":
		x = s.seq("u", s.p)
		dt := s.op("Softplus", nil, s.seq("dt", s.p))
		a := s.param(func() float64 { return -0.1 - s.r.Float64() }, s.p, s.n)
		b := s.seq("B", s.n)
		p.seqs["c"] = s.seq("C", s.n)
		if s.outside {
			p.seqs["decay"] = s.op("Exp", nil, s.mul(s.unsq(dt, -1), a))
			p.seqs["update"] = s.mul(s.mul(s.unsq(dt, -1), s.unsq(b, 2)), s.unsq(x, -1))
			if s.coin() {
				p.seqs["update"] = s.mul(s.unsq(s.mul(dt, x), -1), s.unsq(b, -2))
			}
		} else {
			p.seqs["dt"], p.seqs["x"], p.seqs["b"], p.seqs["A"] = dt, x, b, a
		}
		p.state = []int{s.p, s.n}
	case "linear":
		x = s.seq("x", s.p)
		z := s.op("Sigmoid", nil, s.seq("z", s.p))
		keep := s.op("Sub", nil, s.scalar(1), z)
		switch s.r.IntN(3) {
		case 0:
			p.seqs["decay"], p.seqs["update"] = keep, s.mul(z, x)
		case 1:
			p.seqs["z"], p.seqs["x"] = z, x // h + z*(x-h)
		default:
			p.seqs["decay"], p.seqs["update"] = z, s.op("Tanh", nil, x)
		}
		p.state = []int{s.p}
	}
	if s.b.Err != nil {
		return
	}
	y, final := s.write(p)
	if s.b.Err != nil {
		return
	}
	if s.kind == "SSD" && s.coin() && s.form != "step" { // D skip and gate
		y = s.add(y, s.mul(x, s.param(s.r.NormFloat64, s.h, 1)))
		if s.coin() {
			z := s.seq("z", s.h, s.p)
			y = s.mul(y, s.mul(z, s.op("Sigmoid", nil, z)))
		}
	}
	s.g.AddOutput(s.op("Identity", nil, y))
	if final != nil && s.final || s.form == "step" {
		s.g.AddOutput(s.op("Identity", nil, final))
	}
}

func (s *speller) matrix() bool { return s.form == "quadratic" || s.form == "chunked" }

// heads repeats groups to heads.
func (s *speller) heads(v *graph.Value) *graph.Value {
	k := s.h / s.gr
	if k == 1 {
		return v
	}
	if s.coin() {
		idx := make([]int64, s.h)
		for i := range idx {
			idx[i] = int64(i / k)
		}
		return s.op("Gather", graph.Attrs{"axis": int64(2)}, v, s.b.Ints(idx...))
	}
	e := s.op("Expand", nil, s.unsq(v, 3), s.b.Ints(1, 1, 1, int64(k), 1))
	return s.op("Reshape", nil, e, s.b.Ints(0, 0, int64(s.h), int64(s.n)))
}

// start is the state before the first step, or nil for zeros that are folded away.
func (s *speller) start(p *parts) *graph.Value {
	shape := []graph.Dim{s.batch}
	for _, d := range s.layout(p) {
		shape = append(shape, graph.D(int64(d)))
	}
	if s.initial {
		return s.g.AddInput("past", graph.T(s.dtype, shape...))
	}
	if k, ok := s.batch.Const(); ok && s.coin() {
		return s.param(func() float64 { return 0 }, append([]int{int(k)}, s.layout(p)...)...)
	}
	b := s.op("Shape", graph.Attrs{"start": int64(1 - s.pos), "end": int64(2 - s.pos)}, s.g.Inputs[0])
	rest := make([]int64, len(s.layout(p)))
	for i, d := range s.layout(p) {
		rest[i] = int64(d)
	}
	dims := s.op("Concat", graph.Attrs{"axis": int64(0)}, b, s.b.Ints(rest...))
	if s.coin() {
		return s.op("Expand", nil, s.scalar(0), dims)
	}
	return s.op("ConstantOfShape", graph.Attrs{"value": tensor.New(s.dtype, 1)}, dims)
}

// layout is the state's shape as the loop keeps it.
func (s *speller) layout(p *parts) []int {
	if s.cut && len(p.state) == 3 {
		return []int{p.state[0], p.state[2], p.state[1]}
	}
	return p.state
}

// next writes one step: e are the elements that it reads; nil h is zero.
func (s *speller) next(e map[string]*graph.Value, h *graph.Value) (state, y *graph.Value) {
	var decay, update *graph.Value
	switch {
	case e["z"] != nil: // h + z*(x-h)
		if h == nil {
			h = s.mul(e["z"], e["x"])
			return h, h
		}
		next := s.add(h, s.mul(e["z"], s.op("Sub", nil, e["x"], h)))
		if s.early {
			return next, h
		}
		return next, next
	case e["update"] != nil:
		decay, update = e["decay"], e["update"]
	case s.kind == "selective":
		decay = s.op("Exp", nil, s.mul(s.unsq(e["dt"], -1), e["A"]))
		update = s.outer(s.mul(e["dt"], e["x"]), e["b"], false)
	default:
		x := e["x"]
		if e["dt"] != nil {
			decay = s.op("Exp", nil, s.mul(e["dt"], e["A"]))
			x = s.mul(s.unsq(e["dt"], -1), x)
		} else if e["log"] != nil {
			decay = s.op("Exp", nil, e["log"])
		} else {
			decay = e["gamma"]
		}
		if decay != nil {
			decay = s.unsq(decay, -1, -2)
		}
		update = s.outer(x, e["b"], s.cut)
	}
	read := h
	switch {
	case h == nil:
		h = update
	case decay == nil:
		h = s.add(h, update)
	default:
		h = s.add(s.mul(decay, h), update)
	}
	if !s.early {
		read = h
	}
	if e["c"] == nil {
		return h, read
	}
	return h, s.readout(read, e["c"])
}

// outer is x (P) times b (N) at the end.
func (s *speller) outer(x, b *graph.Value, cut bool) *graph.Value {
	if cut {
		x, b = b, x
	}
	switch s.r.IntN(3) {
	case 0:
		return s.op("MatMul", nil, s.unsq(x, -1), s.unsq(b, -2))
	case 1:
		if s.kind != "selective" {
			return s.op("Einsum", graph.Attrs{"equation": "bhp,bhn->bhpn"}, x, b)
		}
	}
	return s.mul(s.unsq(x, -1), s.unsq(b, -2))
}

// readout contracts the state with c over N.
func (s *speller) readout(h, c *graph.Value) *graph.Value {
	cut := s.cut && s.kind != "selective"
	long, at := int64(-2), int64(-1) // where c gets an axis, and N
	if cut {
		long, at = -1, -2
	}
	switch s.r.IntN(3) {
	case 0:
		if cut {
			return s.op("Squeeze", nil, s.op("MatMul", nil, s.unsq(c, -2), h), s.b.Ints(-2))
		}
		return s.op("Squeeze", nil, s.op("MatMul", nil, h, s.unsq(c, -1)), s.b.Ints(-1))
	case 1:
		eq := "bhpn,bhn->bhp"
		if s.kind == "selective" {
			eq = "bdn,bn->bd"
		} else if cut {
			eq = "bhnp,bhn->bhp"
		}
		return s.op("Einsum", graph.Attrs{"equation": eq}, h, c)
	}
	return s.op("ReduceSum", graph.Attrs{"keepdims": int64(0)}, s.mul(h, s.unsq(c, long)), s.b.Ints(at))
}

func (s *speller) String() string {
	return fmt.Sprintf("%s as %s", s.kind, s.form)
}

// minusInf is how masks spell "nothing".
func (s *speller) minusInf() *graph.Value {
	return s.scalar([]float64{math.Inf(-1), -1e9, -3e38}[s.r.IntN(3)])
}
