package ssdc_test

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// logDecay is the logarithm of the decay of every step [B,L,H], nil for none.
func (s *speller) logDecay(p *parts) *graph.Value {
	if v := p.seqs["log"]; v != nil {
		return v
	}
	gamma := p.seqs["gamma"]
	if gamma == nil || gamma.Const == nil {
		return nil
	}
	t := gamma.Const.Clone()
	for i := range t.Len() {
		t.SetAt(i, math.Log(t.At(i)))
	}
	lead := s.op("Shape", graph.Attrs{"start": int64(0), "end": int64(2)}, s.g.Inputs[0])
	dims := s.op("Concat", graph.Attrs{"axis": int64(0)}, lead, s.b.Ints(int64(s.h)))
	return s.op("Expand", nil, s.b.Const(t), dims)
}

func (s *speller) transpose(v *graph.Value, perm ...int64) *graph.Value {
	return s.op("Transpose", graph.Attrs{"perm": perm}, v)
}

// lower is a boolean square of the last axis of v, true on and below the diagonal.
func (s *speller) lower(v *graph.Value) *graph.Value {
	last := v.Type.Shape[v.Type.Rank()-1]
	if n, ok := last.Const(); ok && s.coin() {
		t := tensor.New(tensor.Bool, int(n), int(n))
		for i := range int(n) {
			for j := range i + 1 {
				t.SetIntAt(i*int(n)+j, 1)
			}
		}
		return s.b.Const(t)
	}
	n := s.op("Shape", graph.Attrs{"start": int64(-1)}, v)
	square := s.op("Concat", graph.Attrs{"axis": int64(0)}, n, n)
	one := tensor.New(tensor.Float32, 1)
	one.SetAt(0, 1)
	ones := s.op("ConstantOfShape", graph.Attrs{"value": one}, square)
	return s.op("Cast", graph.Attrs{"to": int64(tensor.Bool)}, s.op("Trilu", graph.Attrs{"upper": int64(0)}, ones))
}

// decays is exp of the sum of v between two positions, 0 above the diagonal.
func (s *speller) decays(v *graph.Value) *graph.Value {
	cum := s.op("CumSum", nil, v, s.b.Const(tensor.Scalar(int64(v.Type.Rank()-1))))
	diff := s.op("Sub", nil, s.unsq(cum, -1), s.unsq(cum, -2))
	if s.coin() {
		return s.op("Exp", nil, s.op("Where", nil, s.lower(cum), diff, s.minusInf()))
	}
	return s.op("Trilu", graph.Attrs{"upper": int64(0)}, s.op("Exp", nil, diff))
}

func (s *speller) quadratic(p *parts) *graph.Value {
	x, b, c := s.transpose(p.seqs["x"], 0, 2, 1, 3), p.seqs["b"], s.transpose(p.seqs["c"], 0, 2, 1, 3)
	var scores *graph.Value
	if s.coin() {
		scores = s.op("MatMul", nil, c, s.transpose(b, 0, 2, 3, 1))
	} else {
		scores = s.op("Einsum", graph.Attrs{"equation": "bhln,bshn->bhls"}, c, b)
	}
	if log := s.logDecay(p); log != nil {
		scores = s.mul(scores, s.decays(s.transpose(log, 0, 2, 1)))
	} else if s.coin() {
		scores = s.op("Trilu", graph.Attrs{"upper": int64(0)}, scores)
	} else {
		scores = s.op("Where", nil, s.lower(scores), scores, s.scalar(0))
	}
	return s.transpose(s.op("MatMul", nil, scores, x), 0, 2, 1, 3)
}

// chunked is the paper's minimal algorithm.
func (s *speller) chunked(p *parts) (y, final *graph.Value) {
	q := int64(s.chunk)
	split := func(v *graph.Value, rest ...int64) *graph.Value {
		return s.op("Reshape", nil, v, s.b.Ints(append([]int64{0, -1, q}, rest...)...))
	}
	h, n, pp := int64(s.h), int64(s.n), int64(s.p)
	x, b, c := split(p.seqs["x"], h, pp), split(p.seqs["b"], h, n), split(p.seqs["c"], h, n)
	log := s.logDecay(p)
	if log == nil { // no decay at all
		zero := s.op("Mul", nil, p.seqs["x"], s.scalar(0))
		log = s.op("ReduceSum", graph.Attrs{"keepdims": int64(0)}, zero, s.b.Ints(-1))
	}
	a := s.transpose(split(log, h), 0, 3, 1, 2) // [B,H,c,Q]
	cum := s.op("CumSum", nil, a, s.b.Const(tensor.Scalar(int64(3))))
	einsum := func(eq string, in ...*graph.Value) *graph.Value {
		return s.op("Einsum", graph.Attrs{"equation": eq}, in...)
	}
	var yd *graph.Value
	if s.coin() {
		yd = einsum("bclhn,bcshn,bhcls,bcshp->bclhp", c, b, s.decays(a), x)
	} else {
		g := einsum("bclhn,bcshn->bhcls", c, b)
		yd = einsum("bhcls,bcshp->bclhp", s.mul(g, s.decays(a)), x)
	}
	last := s.op("Slice", nil, cum, s.b.Ints(-1), s.b.Ints(math.MaxInt64), s.b.Ints(3))
	toEnd := s.op("Exp", nil, s.op("Sub", nil, last, cum))
	states := einsum("bclhn,bhcl,bclhp->bchpn", b, toEnd, x)
	first := s.unsq(s.start(p), 1)
	states = s.op("Concat", graph.Attrs{"axis": int64(1)}, first, states)
	pad := s.op("Pad", nil, s.op("Squeeze", nil, last, s.b.Ints(3)), s.b.Ints(0, 0, 1, 0, 0, 0))
	next := einsum("bhzc,bchpn->bzhpn", s.decays(pad), states)
	before := s.op("Slice", nil, next, s.b.Ints(0), s.b.Ints(-1), s.b.Ints(1))
	final = s.op("Gather", graph.Attrs{"axis": int64(1)}, next, s.b.Const(tensor.Scalar(int64(-1))))
	yo := einsum("bclhn,bchpn,bhcl->bclhp", c, before, s.op("Exp", nil, cum))
	return s.op("Reshape", nil, s.add(yd, yo), s.b.Ints(0, int64(-1), h, pp)), final
}
