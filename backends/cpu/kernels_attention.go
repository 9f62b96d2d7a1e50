package cpu

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/attention"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Softmax attention. Queries, keys and values may be ranges of wider rows, as in
// a projection to all three.

func attentionKernels() []*Kernel {
	return []*Kernel{{
		Op: onnxOp("Attention", 23), Name: "flash", Rows: anyRows(0, 1, 2), Lower: lowerAttention,
		Accepts: func(n *graph.Node, t backends.Target) error {
			if s := n.Output(3); s != nil && !s.Unused() {
				return fmt.Errorf("the scores are asked for")
			}
			if m := n.Input(3); m != nil && (m.Type.DType != tensor.Bool && m.Type.DType != tensor.Float32 || m.Type.Rank() < 1) {
				return fmt.Errorf("the mask is %s", m.Type)
			}
			return floats(0, 1, 2, 4, 5)(n, t)
		},
	}}
}

// headsOf sees m, [B,H,S,d] or [B,S,H*d], as heads; shape is [B,H,S,d].
func headsOf(m *Mem, heads int) (x attention.Heads, shape [4]int, ok bool) {
	st := m.strides()
	switch {
	case len(m.Shape) == 4:
		return attention.Heads{StrideB: st[0], StrideH: st[1], StrideS: st[2]}, [4]int(m.Shape), true
	case len(m.Shape) != 3 || heads < 1 || m.Shape[2]%heads != 0:
		return x, shape, false
	}
	d := m.Shape[2] / heads
	return attention.Heads{StrideB: st[0], StrideH: d, StrideS: st[1]}, [4]int{m.Shape[0], heads, m.Shape[1], d}, true
}

func lowerAttention(b *Bind, n *graph.Node) (Step, error) {
	y := b.Out(0)
	if y == nil || y.Len() == 0 {
		return nil, ErrFallback
	}
	hq, hkv := int(n.Attrs.Int("q_num_heads", 0)), int(n.Attrs.Int("kv_num_heads", 0))
	args := &attention.Args{
		Causal: n.Attrs.Int("is_causal", 0) != 0, Softcap: n.Attrs.Float("softcap", 0), Scale: n.Attrs.Float("scale", 0),
		Left: int(n.Attrs.Int("left_window_size", -1)), Right: int(n.Attrs.Int("right_window_size", -1)),
	}
	q := b.In(0)
	var shape [4]int
	var ok bool
	if args.Q, shape, ok = headsOf(q, hq); !ok {
		return nil, ErrFallback
	}
	args.B, args.HQ, args.S, args.D = shape[0], shape[1], shape[2], shape[3]
	if args.O, _, ok = headsOf(y, args.HQ); !ok {
		return nil, ErrFallback
	}
	keys, ok := newCache(b, 1, hkv)
	values, ok2 := newCache(b, 2, hkv)
	if !ok || !ok2 {
		return nil, ErrFallback
	}
	args.HKV, args.T, args.DV, args.Offset = keys.shape[1], keys.shape[2], values.shape[3], keys.past
	if keys.shape[0] != args.B || keys.shape[3] != args.D || [3]int(values.shape[:3]) != [3]int(keys.shape[:3]) || args.HKV == 0 || args.HQ%args.HKV != 0 {
		return nil, fmt.Errorf("query %v, keys %v and values %v (heads first, with the past) do not fit each other", shape, keys.shape, values.shape)
	}
	if !n.Attrs.Has("scale") {
		args.Scale = float32(1 / math.Sqrt(float64(max(args.D, 1))))
	}
	mask := b.In(3)
	if mask != nil {
		if args.Mask, ok = maskOf(mask, args); !ok {
			return nil, ErrFallback
		}
	}
	valid := b.In(6)
	if valid != nil {
		if valid.DType != tensor.Int64 || valid.Len() != args.B {
			return nil, ErrFallback
		}
		args.Valid = make([]int, args.B)
		if b.In(4) == nil {
			args.Offsets = make([]int, args.B)
		}
	}
	s := args.Shape()
	ws := b.Workspace(fmt.Sprint("attention", s), func(workers int) any { return attention.NewWorkspace(workers, s) }).(*attention.Workspace)
	packed := b.Scratch(tensor.Float32, s.PackSize())
	flags := b.Scratch(tensor.Uint8, s.FlagSize())
	p, kv := b.Pool(), &caches{keys, values}
	return func() error {
		kv.gather(p)
		args.K, args.V = keys.read(), values.read()
		args.Q.Data, args.O.Data = q.F32, y.F32
		if mask != nil {
			args.Mask.F, args.Mask.Bool = mask.F32, nil
			if mask.DType == tensor.Bool {
				args.Mask.Bool = mask.Raw
			}
		}
		if valid != nil {
			for i, v := range View[int64](valid) {
				args.Valid[i] = int(min(max(v, 0), int64(args.T)))
				if args.Offsets != nil {
					args.Offsets[i] = args.Valid[i] - args.S
				}
			}
		}
		ws.Packed, ws.Flags = packed.F32, flags.Raw
		return attention.Run(p, args, ws)
	}, nil
}

// maskOf reads the strides of a mask that broadcasts to [B,HQ,S,T], or ends early.
func maskOf(m *Mem, a *attention.Args) (x attention.Mask, ok bool) {
	if len(m.Shape) > 4 {
		return x, false
	}
	full, st := [4]int{a.B, a.HQ, a.S, a.T}, denseStrides(m.Shape)
	out := [4]*int{&x.StrideB, &x.StrideH, &x.StrideS, &x.StrideT}
	for i := range 4 {
		at := i - (4 - len(m.Shape))
		if at < 0 {
			continue
		}
		switch l := m.Shape[at]; {
		case i == 3 && l < a.T && l != 1:
			*out[i] = 1
		case l == full[i] && l != 1:
			*out[i] = st[at]
		case l != 1:
			return x, false
		}
	}
	x.Len = a.T
	if l := m.Dim(-1); l != 1 {
		x.Len = l
	}
	return x, true
}

// cache is the keys or the values of one call, those of the past before them.
type cache struct {
	fresh, old *Mem
	all        *Mem   // [B,H,T,d], nil when fresh is read where it is
	shape      [4]int // of all
	past       int    // tokens in old
	from, to   attention.Heads
}

// newCache reads input i with the past of input i+3; output i is what both make.
func newCache(b *Bind, i, heads int) (*cache, bool) {
	c := &cache{fresh: b.In(i), old: b.In(i + 3), all: b.Out(i)}
	var ok bool
	if c.from, c.shape, ok = headsOf(c.fresh, heads); !ok {
		return nil, false
	}
	if c.old != nil {
		s := c.old.Shape
		if len(s) != 4 || s[0] != c.shape[0] || s[1] != c.shape[1] || s[3] != c.shape[3] {
			return nil, false
		}
		c.past = s[2]
		c.shape[2] += c.past
	}
	if c.all == nil && c.old != nil {
		c.all = b.Scratch(c.fresh.DType, product(c.shape[:]))
	}
	d, t := c.shape[3], c.shape[2]
	c.to = attention.Heads{StrideB: c.shape[1] * t * d, StrideH: t * d, StrideS: d}
	return c, true
}

// read is where attention finds the heads.
func (c *cache) read() attention.Heads {
	if c.all == nil {
		c.from.Data = c.fresh.F32
		return c.from
	}
	c.to.Data = c.all.F32
	return c.to
}

// caches are keys and values; as a task they bring past and fresh together, one
// head at a time.
type caches [2]*cache

// gather fills what is not read where it is.
func (cs *caches) gather(p *pool.Pool) {
	if cs[0].all == nil && cs[1].all == nil {
		return
	}
	n := 2 * cs[0].shape[0] * cs[0].shape[1]
	if product(cs[0].shape[:]) < lightGrain {
		for i := range n {
			cs.Do(0, i)
		}
		return
	}
	p.Run(n, cs)
}

// Do implements pool.Task.
func (cs *caches) Do(_, i int) {
	c := cs[i%2]
	if c.all == nil {
		return
	}
	b, h := i/2/c.shape[1], i/2%c.shape[1]
	d, n := c.shape[3], c.shape[2]-c.past
	dst := c.all.F32[b*c.to.StrideB+h*c.to.StrideH:]
	if c.past > 0 {
		copy(dst[:c.past*d], c.old.F32[(b*c.shape[1]+h)*c.past*d:])
	}
	if n > 0 {
		vec.Copy2D(dst[c.past*d:], d, c.fresh.F32[b*c.from.StrideB+h*c.from.StrideH:], c.from.StrideS, n, d)
	}
}
