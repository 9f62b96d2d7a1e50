package ssdc_test

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// noise inserts, at random edges, what exporters and optimisers leave: nodes
// that change nothing.
func (s *speller) noise() {
	var edges []graph.Use
	s.g.Walk(func(n *graph.Node) {
		for i, v := range n.In {
			if v != nil && v.Type.DType == s.dtype && v.Type.Ranked() && v.Const == nil {
				edges = append(edges, graph.Use{Node: n, Index: i})
			}
		}
	})
	for range s.r.IntN(5) {
		e := edges[s.r.IntN(len(edges))]
		v := e.Node.In[e.Index]
		outer := s.b
		s.b = ops.NewBuilder(s.set.Registry.Table, e.Node.Graph)
		w := s.same(v)
		if s.b.Err == nil {
			e.Node.SetIn(e.Index, w)
		}
		outer.Err = s.b.Err
		s.b = outer
	}
}

// same computes v again by way of something.
func (s *speller) same(v *graph.Value) *graph.Value {
	rank := v.Type.Rank()
	switch s.r.IntN(8) {
	case 0:
		return s.op("Identity", nil, v)
	case 1: // there and back
		perm, back := make([]int64, rank), make([]int64, rank)
		for i, k := range s.r.Perm(rank) {
			perm[i], back[k] = int64(k), int64(i)
		}
		return s.transpose(s.transpose(v, perm...), back...)
	case 2:
		a := int64(s.r.IntN(rank + 1))
		return s.op("Squeeze", nil, s.unsq(v, a), s.b.Ints(a))
	case 3:
		if s.dtype == tensor.Float32 {
			w := s.op("Cast", graph.Attrs{"to": int64(tensor.Float64)}, v)
			return s.op("Cast", graph.Attrs{"to": int64(tensor.Float32)}, w)
		}
		return s.op("Cast", graph.Attrs{"to": int64(s.dtype)}, v)
	case 4:
		return s.mul(v, s.scalar(1))
	case 5:
		return s.op("Expand", nil, v, s.op("Shape", nil, v))
	case 6:
		return s.op("Reshape", nil, v, s.op("Shape", nil, v))
	}
	return s.op("Neg", nil, s.op("Neg", nil, v))
}

// widened makes every float of g a float64, so that results differ by what is
// computed and not by rounding.
func widened(t *ops.Table, g *graph.Graph) error {
	wide := func(d tensor.DType) tensor.DType {
		if d.IsFloat() {
			return tensor.Float64
		}
		return d
	}
	convert := func(x *tensor.Tensor) *tensor.Tensor {
		if !x.DType.IsFloat() {
			return x
		}
		c := tensor.New(tensor.Float64, x.Shape...)
		for i := range x.Len() {
			c.SetAt(i, x.At(i))
		}
		return c
	}
	for _, v := range g.Inputs {
		v.Type.DType = wide(v.Type.DType)
	}
	seen := map[*graph.Value]bool{}
	g.Walk(func(n *graph.Node) {
		for _, b := range n.Bodies {
			for _, v := range b.Inputs {
				v.Type.DType = wide(v.Type.DType)
			}
		}
		for _, v := range n.In {
			if v != nil && v.Const != nil && !seen[v] {
				seen[v] = true
				v.Const = convert(v.Const)
				v.Type = graph.TypeOf(v.Const)
			}
		}
		for k, a := range n.Attrs {
			switch a := a.(type) {
			case *tensor.Tensor:
				n.Attrs[k] = convert(a)
			case int64:
				if n.Op.Name == "Cast" && k == "to" {
					n.Attrs[k] = int64(wide(tensor.DType(a)))
				}
			}
		}
	})
	return ops.InferGraph(t, g)
}
