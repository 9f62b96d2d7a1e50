package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// What stands before attention in language models: rotary positions, and the
// write of new keys and values into a cache.

func cacheKernels() []*Kernel {
	return []*Kernel{
		{
			Op: onnxOp("RotaryEmbedding", 23), Name: "pairs", Rows: anyRows(0), Lower: lowerRotary,
			Accepts: func(n *graph.Node, t backends.Target) error {
				if id := n.Input(3); id != nil && id.Type.DType != tensor.Int64 && id.Type.DType != tensor.Int32 {
					return fmt.Errorf("positions are %s", id.Type)
				}
				return floats(0, 1, 2)(n, t)
			},
		},
		{
			Op: onnxOp("TensorScatter", 24), Name: "rows", Over: map[int][]int{0: {0}}, Lower: lowerCacheWrite,
			Accepts: func(n *graph.Node, t backends.Target) error {
				if at := n.Input(2); at != nil && at.Type.DType != tensor.Int64 {
					return fmt.Errorf("positions are %s", at.Type)
				}
				if n.In[0].Type.DType == tensor.String || !n.In[0].Type.Ranked() || n.In[0].Type.DType.Size() == 0 {
					return fmt.Errorf("the cache is %s", n.In[0].Type)
				}
				return nil
			},
		},
	}
}

func lowerRotary(b *Bind, n *graph.Node) (Step, error) {
	y, x, cos, sin, ids := b.Out(0), b.In(0), b.In(1), b.In(2), b.In(3)
	from, s, ok := headsOf(x, int(n.Attrs.Int("num_heads", 0)))
	to, _, ok2 := headsOf(y, s[1])
	if !ok || !ok2 || x.Len() == 0 {
		return nil, ErrFallback
	}
	batch, heads, seq, d := s[0], s[1], s[2], s[3]
	rot := int(n.Attrs.Int("rotary_embedding_dim", 0))
	if rot == 0 {
		rot = d
	}
	half := rot / 2
	places := batch * seq
	if ids != nil {
		places = cos.Shape[0]
	}
	if rot > d || rot%2 != 0 || cos.Dim(-1) != half || sin.Dim(-1) != half || cos.Len() < places*half || sin.Len() < places*half || ids != nil && ids.Len() != batch*seq {
		return nil, fmt.Errorf("input X is %v, caches %v and %v, rotary_embedding_dim %d, positions %v", x.Shape, cos.Shape, sin.Shape, rot, b.Shape(3))
	}
	interleaved := n.Attrs.Int("interleaved", 0) != 0
	at := func(i int) int { return i }
	run := b.Split(batch*seq, max(1, heavyGrain/(heads*d)), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			bi, si, p := i/seq, i%seq, at(i)*half
			c, t := cos.F32[p:][:half], sin.F32[p:][:half]
			for h := range heads {
				src := x.F32[bi*from.StrideB+h*from.StrideH+si*from.StrideS:][:d]
				dst := y.F32[bi*to.StrideB+h*to.StrideH+si*to.StrideS:][:d]
				if interleaved {
					rotatePairs(dst, src, c, t)
				} else {
					rotateHalves(dst, src, c, t)
				}
				copy(dst[rot:], src[rot:])
			}
		}
	})
	if ids == nil {
		return run, nil
	}
	at = func(i int) int { return int(indexAt(ids, i)) }
	return func() error {
		for i := range ids.Len() {
			if j := indexAt(ids, i); j < 0 || j >= int64(places) {
				return fmt.Errorf("%s: position %d is outside the cache %v", n, j, cos.Shape)
			}
		}
		return run()
	}, nil
}

// rotateHalves turns the pairs (i, i+half).
func rotateHalves(dst, src, cos, sin []float32) {
	half := len(cos)
	a, b, da, db, sin := src[:half], src[half:2*half], dst[:half], dst[half:2*half], sin[:half]
	for i, c := range cos {
		s, u, v := sin[i], a[i], b[i]
		da[i], db[i] = c*u-s*v, s*u+c*v
	}
}

// rotatePairs turns the pairs (2i, 2i+1).
func rotatePairs(dst, src, cos, sin []float32) {
	for i, c := range cos {
		s, u, v := sin[i], src[2*i], src[2*i+1]
		dst[2*i], dst[2*i+1] = c*u-s*v, s*u+c*v
	}
}

func lowerCacheWrite(b *Bind, n *graph.Node) (Step, error) {
	y, past, fresh, at := b.Out(0), b.In(0), b.In(1), b.In(2)
	axis, ok := axisOf(n.Attrs.Int("axis", -2), len(past.Shape))
	if !ok || axis == 0 || len(fresh.Shape) != len(past.Shape) || y == nil {
		return nil, ErrFallback
	}
	length, steps, width := past.Shape[axis], fresh.Shape[axis], product(past.Shape[axis+1:])*past.DType.Size()
	rows, perBatch := product(past.Shape[:axis]), product(past.Shape[1:axis])
	if product(fresh.Shape[:axis]) != rows || product(fresh.Shape[axis+1:])*past.DType.Size() != width || at != nil && at.Len() != past.Shape[0] || past.Len() == 0 {
		return nil, ErrFallback
	}
	circular := n.Attrs.Str("mode", "linear") == "circular"
	if circular && steps > length {
		return nil, ErrFallback // later writes win, in order
	}
	start := func(row int) int64 {
		if at == nil {
			return 0
		}
		return View[int64](at)[row/perBatch]
	}
	run := b.Split(rows, max(1, 4*lightGrain/max(1, length*width)), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			dst := y.Raw[r*length*width:][:length*width]
			if src := past.Raw[r*length*width:][:length*width]; len(src) > 0 && &src[0] != &dst[0] {
				copy(dst, src)
			}
			new := fresh.Raw[r*steps*width:][:steps*width]
			p := start(r)
			if circular {
				p = (p%int64(length) + int64(length)) % int64(length)
			}
			k := copy(dst[int(p)*width:], new)
			copy(dst, new[k:]) // around the end
		}
	})
	return func() error {
		for i := 0; i < rows && !circular; i += perBatch {
			if p := start(i); p < 0 || p+int64(steps) > int64(length) {
				return fmt.Errorf("%s: %d tokens at position %d do not fit a cache of length %d", n, steps, p, length)
			}
		}
		return run()
	}, nil
}
