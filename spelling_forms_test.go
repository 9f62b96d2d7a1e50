package ssdc_test

import (
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// write puts the recurrence into its form. y has its time axis at pos.
func (s *speller) write(p *parts) (y, final *graph.Value) {
	switch s.form {
	case "Loop":
		return s.loop(p)
	case "Scan":
		return s.scanNode(p)
	case "unrolled":
		return s.unrolled(p)
	case "step":
		return s.step(p)
	case "quadratic":
		return s.quadratic(p), nil
	}
	return s.chunked(p)
}

// timed: parameters have no time axis.
func timed(name string) bool { return name != "A" && name != "gamma" }

func names(p *parts) []string { return slices.Sorted(maps.Keys(p.seqs)) }

// element is the type of v without its time axis.
func element(t graph.Type, axis int) graph.Type {
	return graph.Type{DType: t.DType, Shape: slices.Delete(slices.Clone(t.Shape), axis, axis+1)}
}

// moved puts the time axis of a sequence elsewhere: 0, 1 or last.
func (s *speller) moved(v *graph.Value) (*graph.Value, int) {
	rank := v.Type.Rank()
	to := []int{s.pos, s.pos, 1 - s.pos, rank - 1}[s.r.IntN(4)]
	return s.move(v, s.pos, to), to
}

func (s *speller) move(v *graph.Value, from, to int) *graph.Value {
	if from == to {
		return v
	}
	var perm []int64
	for a := range v.Type.Rank() {
		if a != from {
			perm = append(perm, int64(a))
		}
	}
	return s.op("Transpose", graph.Attrs{"perm": slices.Insert(perm, to, int64(from))}, v)
}

// body starts a node with a body.
func (s *speller) body(name string) (*graph.Node, *graph.Graph) {
	row := s.set.Registry.Table.Resolve("", name, 0)
	n := s.g.Add(row.ID, graph.Attrs{}, nil, 0, "")
	return n, n.AddBody("body", "step")
}

// complete connects a node whose body is complete.
func (s *speller) complete(n *graph.Node, outs int, in ...*graph.Value) {
	for i, v := range in {
		n.In = append(n.In, nil)
		n.SetIn(i, v)
	}
	for range outs {
		n.Out = append(n.Out, &graph.Value{Name: s.g.UniqueName(n.Op.Name), Def: n})
	}
	if s.b.Err == nil {
		s.b.Err = ops.InferNode(s.set.Registry.Table, n)
	}
}

func (s *speller) inside(body *graph.Graph, f func()) {
	outer := s.b
	s.b = ops.NewBuilder(s.set.Registry.Table, body)
	s.b.Err = outer.Err
	f()
	outer.Err = s.b.Err
	s.b = outer
}

func (s *speller) scanNode(p *parts) (y, final *graph.Value) {
	h0 := s.start(p)
	e := map[string]*graph.Value{}
	in := []*graph.Value{h0}
	var axes []int64
	for _, k := range names(p) {
		if timed(k) {
			v, axis := s.moved(p.seqs[k])
			axes = append(axes, int64(axis))
			in = append(in, v)
			e[k] = v
		} else {
			e[k] = p.seqs[k]
		}
	}
	if s.b.Err != nil {
		return h0, h0
	}
	n, body := s.body("Scan")
	h := body.AddInput("h", h0.Type)
	i := 0
	for _, k := range names(p) {
		if timed(k) {
			e[k] = body.AddInput(k+"_t", element(e[k].Type, int(axes[i])))
			i++
		}
	}
	s.inside(body, func() {
		h2, yt := s.next(e, h)
		body.AddOutput(h2)
		body.AddOutput(s.op("Identity", nil, yt))
	})
	at := s.r.IntN(2)
	n.Attrs["num_scan_inputs"], n.Attrs["scan_input_axes"], n.Attrs["scan_output_axes"] = int64(len(axes)), axes, []int64{int64(at)}
	s.complete(n, 2, in...)
	return s.move(n.Out[1], at, s.pos), n.Out[0]
}

func (s *speller) loop(p *parts) (y, final *graph.Value) {
	h0 := s.start(p)
	e, axes := map[string]*graph.Value{}, map[string]int{}
	for _, k := range names(p) {
		e[k] = p.seqs[k]
		if timed(k) {
			e[k], axes[k] = s.moved(p.seqs[k])
		}
	}
	shape := s.op("Shape", nil, s.g.Inputs[0])
	trip := s.op("Gather", nil, shape, s.b.Const(tensor.Scalar(int64(s.pos))))
	if s.coin() {
		trip = s.op("Gather", nil, shape, s.b.Ints(int64(s.pos)))
	}
	yes := tensor.New(tensor.Bool)
	yes.SetIntAt(0, 1)
	cond := s.b.Const(yes)
	if s.b.Err != nil {
		return h0, h0
	}
	n, body := s.body("Loop")
	i := body.AddInput("i", graph.T(tensor.Int64))
	c := body.AddInput("go_on", graph.T(tensor.Bool))
	h := body.AddInput("h", h0.Type)
	s.inside(body, func() {
		for _, k := range names(p) {
			if timed(k) {
				e[k] = s.at(e[k], axes[k], i)
			}
		}
		h2, yt := s.next(e, h)
		body.AddOutput(s.op("Identity", nil, c))
		body.AddOutput(h2)
		body.AddOutput(s.op("Identity", nil, yt))
	})
	s.complete(n, 2, trip, cond, h0)
	return s.move(n.Out[1], 0, s.pos), n.Out[0]
}

// at reads element i, a scalar, of a sequence.
func (s *speller) at(v *graph.Value, axis int, i *graph.Value) *graph.Value {
	switch s.r.IntN(3) {
	case 0:
		u := s.op("Gather", graph.Attrs{"axis": int64(axis)}, v, s.unsq(i, 0))
		return s.op("Squeeze", nil, u, s.b.Ints(int64(axis)))
	case 1:
		one := s.b.Const(tensor.Scalar(int64(1)))
		u := s.op("Slice", nil, v, s.unsq(i, 0), s.unsq(s.op("Add", nil, i, one), 0), s.b.Ints(int64(axis)))
		return s.op("Squeeze", nil, u, s.b.Ints(int64(axis)))
	}
	return s.op("Gather", graph.Attrs{"axis": int64(axis)}, v, i)
}

func (s *speller) unrolled(p *parts) (y, final *graph.Value) {
	steps, _ := s.length.Const()
	read := map[string]func(t int64) *graph.Value{}
	for _, k := range names(p) {
		if !timed(k) {
			read[k] = func(int64) *graph.Value { return p.seqs[k] }
			continue
		}
		v, axis := s.moved(p.seqs[k])
		sq := s.b.Ints(int64(axis))
		switch s.r.IntN(3) {
		case 0:
			read[k] = func(t int64) *graph.Value {
				return s.op("Gather", graph.Attrs{"axis": int64(axis)}, v, s.b.Const(tensor.Scalar(t)))
			}
		case 1:
			read[k] = func(t int64) *graph.Value {
				return s.op("Squeeze", nil, s.op("Slice", nil, v, s.b.Ints(t), s.b.Ints(t+1), s.b.Ints(int64(axis))), sq)
			}
		default:
			n := s.b.Node("", "Split", graph.Attrs{"axis": int64(axis), "num_outputs": steps}, int(steps), v)
			read[k] = func(t int64) *graph.Value {
				if n == nil {
					return v
				}
				return s.op("Squeeze", nil, n.Out[t], sq)
			}
		}
	}
	var h *graph.Value
	if s.initial || s.early || s.coin() {
		h = s.start(p)
	}
	at := s.r.IntN(2)
	grow := s.r.IntN(4) == 0
	var ys []*graph.Value
	sub, alike := s.r.Uint64(), s.r.IntN(4) > 0 // every step in the same spelling, or each in its own
	for t := range steps {
		if s.b.Err != nil {
			return p.seqs["x"], h
		}
		e := map[string]*graph.Value{}
		for _, k := range names(p) {
			e[k] = read[k](t)
		}
		outer := s.r
		if alike {
			s.r = rand.New(rand.NewPCG(sub, 1))
		}
		var yt *graph.Value
		h, yt = s.next(e, h)
		s.r = outer
		yt = s.unsq(yt, int64(at))
		if grow && t > 0 {
			y = s.op("Concat", graph.Attrs{"axis": int64(at)}, y, yt)
		} else if grow {
			y = yt
		}
		ys = append(ys, yt)
	}
	if !grow {
		y = s.op("Concat", graph.Attrs{"axis": int64(at)}, ys...)
	}
	return s.move(y, at, s.pos), h
}

func (s *speller) step(p *parts) (y, final *graph.Value) {
	e := map[string]*graph.Value{}
	for _, k := range names(p) {
		e[k] = p.seqs[k]
		if timed(k) {
			e[k] = s.op("Squeeze", nil, e[k], s.b.Ints(int64(s.pos)))
		}
	}
	h, yt := s.next(e, s.start(p))
	return s.unsq(yt, int64(s.pos)), h
}
