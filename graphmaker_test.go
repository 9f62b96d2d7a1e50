package ssdc_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// graphMaker builds small random graphs out of the operators that exporters
// use, with symbolic batch and length. Values stay of moderate size, and
// comparisons have thresholds that no value meets exactly.
type graphMaker struct {
	r    *rand.Rand
	b    *graph.Builder
	g    *graph.Graph
	vals []*graph.Value // float32
	ints []*graph.Value // int64, of rank 0 or 1: lengths and what is made of them
}

func newGraphMaker(table *ops.Table, seed uint64) *graphMaker {
	m := &graphMaker{r: rand.New(rand.NewPCG(seed, 17)), g: graph.New("random")}
	m.b = ops.NewBuilder(table, m.g)
	batch, seq := graph.Sym("batch"), graph.Sym("seq")
	shapes := [][]graph.Dim{
		{batch, seq, graph.D(4)}, {batch, seq}, {graph.D(2), graph.D(3), graph.D(4)}, {batch, graph.D(1), graph.D(4)},
		{seq}, {graph.D(4)}, {}, {batch, graph.D(2), seq, graph.D(2)}, {graph.D(1), seq, graph.D(1)},
	}
	for i := range 1 + m.r.IntN(3) {
		s := shapes[0]
		if i > 0 {
			s = shapes[m.r.IntN(len(shapes))]
		}
		m.vals = append(m.vals, m.g.AddInput(fmt.Sprintf("x%d", i), graph.T(tensor.Float32, s...)))
	}
	for range 3 + m.r.IntN(18) {
		m.step()
	}
	return m
}

// pick prefers recent values.
func (m *graphMaker) pick() *graph.Value {
	if m.r.IntN(3) == 0 {
		return m.vals[m.r.IntN(len(m.vals))]
	}
	return m.vals[len(m.vals)-1-m.r.IntN(min(len(m.vals), 4))]
}

// like is a value that broadcasts with v: of the same type, a constant or any.
func (m *graphMaker) like(v *graph.Value) *graph.Value {
	switch m.r.IntN(5) {
	case 0, 1:
		return m.constant(v.Type)
	case 2:
		return m.pick()
	}
	for range 8 {
		if w := m.vals[m.r.IntN(len(m.vals))]; w.Type.Equal(v.Type) {
			return w
		}
	}
	return v
}

// constant broadcasts with t: random, uniform or repeating along some axes.
func (m *graphMaker) constant(t graph.Type) *graph.Value {
	var shape []int
	for _, d := range t.Shape {
		n, ok := d.Const()
		if !ok || m.r.IntN(3) == 0 {
			n = 1
		}
		shape = append(shape, int(n))
	}
	shape = shape[m.r.IntN(len(shape)+1):]
	c := tensor.New(tensor.Float32, shape...)
	kind := m.r.IntN(6)
	if len(shape) == 0 && kind == 2 {
		kind = 3
	}
	for i := range c.Len() {
		switch kind {
		case 0:
			c.SetAt(i, 0)
		case 1:
			c.SetAt(i, 1)
		case 2: // constant along the last axis
			c.SetAt(i, float64(1+i/shape[len(shape)-1])*0.37)
		default:
			c.SetAt(i, m.r.NormFloat64())
		}
	}
	return m.b.Const(c)
}

// op adds a node; what inference refuses is taken back.
func (m *graphMaker) op(name string, attrs graph.Attrs, nOut int, in ...*graph.Value) []*graph.Value {
	if slices.Contains(in[:1], nil) {
		return nil
	}
	before := len(m.g.Nodes)
	n := m.b.Node("", name, attrs, nOut, in...)
	if m.b.Err != nil {
		m.b.Err = nil
		for _, bad := range m.g.Nodes[before:] {
			for i := range bad.In {
				bad.SetIn(i, nil)
			}
		}
		m.g.Nodes = m.g.Nodes[:before]
		return nil
	}
	for _, v := range n.Out {
		if v.Type.Rank() > 5 {
			return n.Out // no further use
		}
		switch v.Type.DType {
		case tensor.Float32:
			m.vals = append(m.vals, v)
		case tensor.Int64:
			if v.Type.Rank() <= 1 {
				m.ints = append(m.ints, v)
			}
		}
	}
	return n.Out
}

func (m *graphMaker) one(name string, attrs graph.Attrs, in ...*graph.Value) *graph.Value {
	if out := m.op(name, attrs, 1, in...); out != nil {
		return out[0]
	}
	return nil
}

// axis of a value of some rank, sometimes counted from the end, rarely wrong.
func (m *graphMaker) axis(rank int) int64 {
	if rank == 0 {
		return int64(m.r.IntN(2) - 1)
	}
	a := int64(m.r.IntN(rank))
	if m.r.IntN(3) == 0 {
		a -= int64(rank)
	}
	return a
}

func (m *graphMaker) oneOf(names ...string) string { return names[m.r.IntN(len(names))] }

func (m *graphMaker) bit() int64 { return int64(m.r.IntN(2)) }

func (m *graphMaker) step() {
	b, r := m.b, m.r
	v := m.pick()
	rank := v.Type.Rank()
	switch r.IntN(34) {
	case 0:
		m.one(m.oneOf("Neg", "Relu", "Sigmoid", "Tanh", "Abs", "Softplus", "Erf", "Gelu", "Swish", "HardSwish", "Identity", "Elu", "Selu"), nil, v)
	case 1:
		if s := m.one("Sigmoid", nil, v); s != nil {
			m.one("Mul", nil, s, v)
		}
	case 2:
		if n := m.one("Neg", nil, m.one("Abs", nil, v)); n != nil {
			m.one("Exp", nil, n)
		}
	case 3, 4, 5:
		in := []*graph.Value{v, m.like(v)}
		r.Shuffle(2, func(i, j int) { in[i], in[j] = in[j], in[i] })
		m.one(m.oneOf("Add", "Sub", "Mul", "Max", "Min", "Add", "Mul"), nil, in...)
	case 6:
		d := m.one("Add", nil, m.one("Abs", nil, v), b.Const(tensor.Scalar(float32(0.5))))
		if d == nil {
			return
		}
		switch r.IntN(4) {
		case 0:
			m.one("Div", nil, b.Const(tensor.Scalar(float32(1))), d)
		case 1:
			m.one("Div", nil, m.like(v), d)
		case 2:
			m.one("Pow", nil, d, b.Const(tensor.Scalar(float32([]float64{0.5, 2, -0.5, 1, 0, 3}[r.IntN(6)]))))
		case 3:
			m.one(m.oneOf("Sqrt", "Log", "Reciprocal"), nil, d)
		}
	case 7:
		cond := m.one(m.oneOf("Greater", "Less", "GreaterOrEqual", "LessOrEqual"), nil, v, b.Const(tensor.Scalar(float32(r.NormFloat64()))))
		if cond == nil {
			return
		}
		if r.IntN(2) == 0 {
			cond = m.one("Not", nil, cond)
		}
		m.one("Where", nil, cond, m.like(v), m.like(v))
	case 8:
		m.one("Clip", nil, v, b.Const(tensor.Scalar(float32(-r.Float64()))), b.Const(tensor.Scalar(float32(r.Float64()*2))))
	case 9, 10:
		m.one("Reshape", graph.Attrs{"allowzero": int64(0)}, v, m.target(v))
	case 11:
		perm := make([]int64, rank)
		for i, p := range r.Perm(rank) {
			perm[i] = int64(p)
		}
		if r.IntN(4) == 0 {
			m.one("Transpose", nil, v)
		} else {
			m.one("Transpose", graph.Attrs{"perm": perm}, v)
		}
	case 12, 13:
		lo := int64(r.IntN(7) - 3)
		hi := []int64{1, 2, 3, -1, -2, math.MaxInt64, math.MinInt64, 1 << 31, 0, 8}[r.IntN(10)]
		step := []int64{1, 1, 1, 1, 2, -1, -2}[r.IntN(7)]
		in := []*graph.Value{v, b.Ints(lo), b.Ints(hi), b.Ints(m.axis(rank))}
		if len(m.ints) > 0 && r.IntN(3) == 0 {
			in[1+r.IntN(2)] = m.intVec()
		}
		if step != 1 || r.IntN(2) == 0 {
			in = append(in, b.Ints(step))
		}
		m.one("Slice", nil, in...)
	case 14:
		if rank > 0 {
			m.one("Slice", nil, v, b.Ints(-1), b.Ints(math.MinInt64), b.Ints(m.axis(rank)), b.Ints(-1)) // reversal
		}
	case 15, 16:
		in := []*graph.Value{v}
		for range r.IntN(3) {
			in = append(in, m.like(v))
		}
		m.one("Concat", graph.Attrs{"axis": m.axis(rank)}, in...)
	case 17, 18:
		name := m.oneOf("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean")
		attrs := graph.Attrs{"keepdims": m.bit()}
		switch r.IntN(6) {
		case 0:
			attrs["noop_with_empty_axes"] = m.bit()
			m.one(name, attrs, v)
		case 1:
			m.one(name, attrs, v, b.Ints(m.axis(rank), m.axis(rank)))
		default:
			m.one(name, attrs, v, b.Ints(m.axis(rank)))
		}
	case 19:
		if rank > 0 {
			if k, ok := v.Type.Shape[rank-1].Const(); ok && r.IntN(3) > 0 {
				m.one("MatMul", nil, v, b.Const(m.randn(int(k), 1+r.IntN(4))))
			} else {
				m.one("MatMul", nil, v, m.like(v))
			}
		}
	case 20:
		m.one("Expand", nil, v, m.intsFor(v))
	case 21:
		reps := make([]int64, rank)
		for i := range reps {
			reps[i] = []int64{1, 1, 2, 3, 0}[r.IntN(5)]
		}
		m.one("Tile", nil, v, b.Ints(reps...))
	case 22:
		if rank == 0 {
			return
		}
		a := m.axis(rank)
		if k, ok := v.Type.Shape[(int(a)+rank)%rank].Const(); ok && k > 0 {
			p := int64(r.IntN(int(k) + 1))
			m.op("Split", graph.Attrs{"axis": a}, 2, v, b.Ints(p, k-p))
		} else {
			m.op("Split", graph.Attrs{"axis": a, "num_outputs": int64(2)}, 2, v)
		}
	case 23, 24:
		idx := [][]int{{}, {1}, {2}, {1, 1}, {2, 1}, {0}}[r.IntN(6)]
		c := tensor.New(tensor.Int64, idx...)
		for i := range c.Len() {
			c.SetIntAt(i, int64(r.IntN(4)-2))
		}
		m.one("Gather", graph.Attrs{"axis": m.axis(rank)}, v, b.Const(c))
	case 25:
		m.one(m.oneOf("Softmax", "LogSoftmax"), graph.Attrs{"axis": m.axis(rank)}, v)
	case 26:
		m.one("CumSum", graph.Attrs{"exclusive": m.bit(), "reverse": m.bit()}, v, b.Const(tensor.Scalar(m.axis(rank))))
	case 27:
		if rank == 0 {
			return
		}
		if k, ok := v.Type.Shape[rank-1].Const(); ok && k > 1 {
			in := []*graph.Value{v, b.Const(m.randn(int(k)))}
			name := m.oneOf("RMSNormalization", "LayerNormalization")
			if name == "LayerNormalization" && r.IntN(2) == 0 {
				in = append(in, b.Const(m.randn(int(k))))
			}
			m.one(name, graph.Attrs{"axis": int64(-1), "epsilon": float32(0.01)}, in...)
		}
	case 28:
		m.one("Unsqueeze", nil, v, b.Ints(m.axis(rank+1)))
	case 29:
		if r.IntN(3) == 0 {
			m.one("Squeeze", nil, v)
		} else {
			m.one("Squeeze", nil, v, b.Ints(m.axis(rank)))
		}
	case 30:
		pads := make([]int64, 2*rank)
		for i := range pads {
			pads[i] = []int64{0, 0, 0, 1, 2, -1}[r.IntN(6)]
		}
		if p := m.one("Pad", graph.Attrs{"mode": m.oneOf("constant", "constant", "edge", "reflect", "wrap")}, v, b.Ints(pads...)); p != nil && rank > 0 && r.IntN(2) == 0 {
			a := m.axis(rank)
			m.one("Slice", nil, p, b.Ints(0), m.oneInt(m.one("Shape", nil, v), a), b.Ints(a))
		}
	case 31:
		switch r.IntN(4) {
		case 0:
			m.one("Trilu", graph.Attrs{"upper": m.bit()}, v, b.Const(tensor.Scalar(int64(r.IntN(3)-1))))
		case 1:
			m.one("Flatten", graph.Attrs{"axis": m.axis(rank)}, v)
		case 2:
			if d := m.one("Cast", graph.Attrs{"to": int64(tensor.Float64)}, v); d != nil {
				m.one("Cast", graph.Attrs{"to": int64(tensor.Float32)}, m.one("Neg", nil, d))
			}
		case 3:
			m.one("Dropout", nil, v)
		}
	case 32:
		if rank == 0 {
			return
		}
		if r.IntN(2) == 0 {
			m.one("ScatterND", nil, v, b.Const(tensor.From([]int64{int64(r.IntN(3) - 1)}, 1, 1)), m.like(v))
		} else {
			e := m.one("Expand", nil, b.Const(tensor.Scalar(int64(r.IntN(2)))), m.one("Shape", nil, m.like(v)))
			if e != nil {
				m.one("ScatterElements", graph.Attrs{"axis": m.axis(rank)}, v, e, m.like(v))
			}
		}
	case 33:
		m.length(v)
	}
}

func (m *graphMaker) randn(shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, shape...)
	for i := range t.Len() {
		t.SetAt(i, m.r.NormFloat64())
	}
	return t
}

// length makes arithmetic on shapes.
func (m *graphMaker) length(v *graph.Value) {
	b := m.b
	s := m.one("Shape", nil, v)
	if s == nil || v.Type.Rank() == 0 {
		return
	}
	x := m.oneInt(s, m.axis(v.Type.Rank()))
	if x == nil {
		return
	}
	switch m.r.IntN(6) {
	case 0:
		m.one("Add", nil, x, b.Ints(int64(m.r.IntN(3)-1)))
	case 1:
		m.one("Div", nil, x, b.Ints(2))
	case 2:
		m.one("Mul", nil, x, b.Ints(2))
	case 3:
		m.one("Sub", nil, b.Ints(0), x)
	case 4: // positions 0, 1, 2... as floats
		if q := m.one("Squeeze", nil, x); q != nil {
			rg := m.one("Range", nil, b.Const(tensor.Scalar(int64(0))), q, b.Const(tensor.Scalar(int64(1))))
			if rg != nil {
				m.one("Cast", graph.Attrs{"to": int64(tensor.Float32)}, rg)
			}
		}
	case 5:
		m.one("ConstantOfShape", graph.Attrs{"value": tensor.From([]float32{0.5}, 1)}, m.one("Concat", graph.Attrs{"axis": int64(0)}, x, b.Ints(2)))
	}
}

func (m *graphMaker) oneInt(s *graph.Value, axis int64) *graph.Value {
	if s == nil {
		return nil
	}
	return m.one("Gather", nil, s, m.b.Ints(axis))
}

// intVec is a vector of one integer.
func (m *graphMaker) intVec() *graph.Value {
	for range 8 {
		if v := m.ints[m.r.IntN(len(m.ints))]; v.Type.Rank() == 1 && v.Type.Shape[0].Is(1) {
			return v
		}
	}
	return m.b.Ints(1)
}

// intsFor is the target of an Expand of v: its shape with ones exchanged, or another value's.
func (m *graphMaker) intsFor(v *graph.Value) *graph.Value {
	if m.r.IntN(2) == 0 {
		if s := m.one("Shape", nil, m.pick()); s != nil {
			return s
		}
	}
	var c []int64
	for _, d := range v.Type.Shape {
		if d.Is(1) && m.r.IntN(2) == 0 {
			c = append(c, int64(2+m.r.IntN(2)))
		} else if n, ok := d.Const(); ok && m.r.IntN(2) == 0 {
			c = append(c, n)
		} else {
			c = append(c, 1)
		}
	}
	if m.r.IntN(3) == 0 {
		c = append([]int64{1 + m.bit()}, c...)
	}
	return m.b.Ints(c...)
}

// target of a Reshape: numbers, zeros and -1, lengths computed from shapes.
func (m *graphMaker) target(v *graph.Value) *graph.Value {
	b, r, shape := m.b, m.r, v.Type.Shape
	switch r.IntN(6) {
	case 0:
		return b.Ints(-1)
	case 1:
		if s := m.one("Shape", nil, m.like(v)); s != nil {
			return s
		}
	case 2: // merge two axes
		if len(shape) >= 2 {
			i := r.IntN(len(shape) - 1)
			t := make([]int64, 0, len(shape))
			for j := range shape {
				switch {
				case j < i:
					t = append(t, 0)
				case j == i:
					t = append(t, -1)
				case j > i+1:
					n, ok := shape[j].Const()
					if !ok {
						return b.Ints(-1, 1)
					}
					t = append(t, n)
				}
			}
			return b.Ints(t...)
		}
	case 3: // split the last axis
		if len(shape) > 0 {
			t := make([]int64, len(shape)-1)
			k, ok := shape[len(shape)-1].Const()
			if ok && k%2 == 0 {
				return b.Ints(append(t, 2, k/2)...)
			}
			return b.Ints(append(t, -1, 1)...)
		}
	case 4: // an axis of length 1 more
		var t []int64
		for j := range shape {
			if j == len(shape)/2 {
				t = append(t, 1)
			}
			n, ok := shape[j].Const()
			if !ok {
				n = -1
			}
			t = append(t, n)
		}
		return b.Ints(t...)
	case 5: // computed lengths
		if s := m.one("Shape", nil, v); s != nil && len(shape) > 0 {
			if x := m.oneInt(s, m.axis(len(shape))); x != nil {
				parts := []*graph.Value{x, b.Ints(-1)}
				r.Shuffle(2, func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
				if c := m.one("Concat", graph.Attrs{"axis": int64(0)}, parts...); c != nil {
					return c
				}
			}
		}
	}
	return b.Ints(-1)
}
