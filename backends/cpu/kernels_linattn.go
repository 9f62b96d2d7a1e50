package cpu

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/linattn"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
)

// The recurrent operators of opset 27. Their [B,T,...] operands may be ranges of
// wider rows; states are updated in place when nobody else reads them.

func linattnKernels() []*Kernel {
	return []*Kernel{
		{
			Op: onnxOp("LinearAttention", 27), Name: "linattn", Over: map[int][]int{1: {3}}, Lower: lowerLinearAttention,
			Accepts: floats(),
			Rows: func(n *graph.Node, i int) int {
				if i == 3 {
					return -1
				}
				return 2
			},
		},
		{
			Op: onnxOp("CausalConvWithState", 27), Name: "channels", Over: map[int][]int{1: {3}}, Lower: lowerConvWithState,
			Accepts: func(n *graph.Node, t backends.Target) error {
				if w := n.In[1].Type; w.Rank() != 3 {
					return fmt.Errorf("weight is %s", w)
				}
				return floats()(n, t)
			},
		},
	}
}

func linattnSeq(m *Mem) linattn.Seq {
	if m == nil {
		return linattn.Seq{}
	}
	sb, st := m.steps()
	return linattn.Seq{StrideB: sb, StrideT: st}
}

func lowerLinearAttention(b *Bind, n *graph.Node) (Step, error) {
	q, k, v, s0, decay, beta := b.In(0), b.In(1), b.In(2), b.In(3), b.In(4), b.In(5)
	o, st := b.Out(0), b.Out(1)
	hq, hkv := int(n.Attrs.Int("q_num_heads", 0)), int(n.Attrs.Int("kv_num_heads", 0))
	if o == nil || o.Len() == 0 || hq < 1 || hkv < 1 || hq%hkv != 0 {
		return nil, ErrFallback
	}
	args := &linattn.Args{
		B: q.Shape[0], T: q.Shape[1], HQ: hq, HKV: hkv, DK: q.Shape[2] / hq, DV: v.Shape[2] / hkv,
		Q: linattnSeq(q), K: linattnSeq(k), V: linattnSeq(v), Decay: linattnSeq(decay), Beta: linattnSeq(beta), O: linattnSeq(o),
		Scale: n.Attrs.Float("scale", 0),
	}
	if k.Shape[2] != hkv*args.DK {
		return nil, fmt.Errorf("query is %v and key %v for %d and %d heads", q.Shape, k.Shape, hq, hkv)
	}
	if args.DK == 0 {
		return nil, ErrFallback
	}
	if args.Scale == 0 {
		args.Scale = float32(1 / math.Sqrt(float64(args.DK)))
	}
	if decay != nil {
		switch decay.Shape[2] {
		case hkv:
		case hkv * args.DK:
			args.PerKey = true
		default:
			return nil, fmt.Errorf("decay is %v, want a last axis of %d or %d", decay.Shape, hkv, hkv*args.DK)
		}
	}
	if beta != nil {
		args.BetaShared = beta.Shape[2] == 1 && hkv != 1
		if !args.BetaShared && beta.Shape[2] != hkv {
			return nil, fmt.Errorf("beta is %v, want a last axis of %d or 1", beta.Shape, hkv)
		}
	}
	state := func() []float32 { return st.F32 }
	if st == nil { // nobody wants the state, but it is worked on
		m := b.Scratch(o.DType, args.B*hkv*args.DK*args.DV)
		state = func() []float32 { return m.F32 }
	}
	ws := b.Workspace(fmt.Sprint("linattn", args.Shape()), func(workers int) any { return linattn.NewWorkspace(workers, args.Shape()) }).(*linattn.Workspace)
	p := b.Pool()
	return func() error {
		args.Q.Data, args.K.Data, args.V.Data, args.O.Data = q.F32, k.F32, v.F32, o.F32
		args.Decay.Data, args.Beta.Data, args.S0, args.ST = data(decay), data(beta), data(s0), state()
		return linattn.Run(p, args, ws)
	}, nil
}

// lowerConvWithState: x[B,C,L] with the last K-1 columns before it in the state
// [B,C,K-1]. Taps go over the length of a channel, which stays in cache.
func lowerConvWithState(b *Bind, n *graph.Node) (Step, error) {
	x, w, bias, past := b.In(0), b.In(1), b.In(2), b.In(3)
	y, next := b.Out(0), b.Out(1)
	batch, ch, length, k := x.Shape[0], x.Shape[1], x.Shape[2], w.Shape[2]
	if y == nil || y.Len() == 0 || k == 0 {
		return nil, ErrFallback
	}
	if w.Shape[0] != ch || w.Shape[1] != 1 || bias != nil && bias.Len() != ch || past != nil && past.Len() != batch*ch*(k-1) {
		return nil, fmt.Errorf("input is %v, weight %v, bias %v, past_state %v", x.Shape, w.Shape, b.Shape(2), b.Shape(3))
	}
	silu := n.Attrs.Str("activation", "none") != "none"
	width := k - 1
	return b.Split(batch*ch, max(1, heavyGrain/(length*k)), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			c := r % ch
			dst, src, taps := y.F32[r*length:][:length], x.F32[r*length:][:length], w.F32[c*k:][:k]
			start := float32(0)
			if bias != nil {
				start = bias.F32[c]
			}
			var old []float32
			if past != nil {
				old = past.F32[r*width:][:width]
			}
			convRow(dst, src, old, taps, start)
			if next != nil {
				shiftState(next.F32[r*width:][:width], old, src)
			}
		}
		if silu {
			out := y.F32[lo*length : hi*length]
			vec.SiLU(out, out)
		}
	}), nil
}

// convRow is dst[t] = start + sum_j taps[j] h[t+j], h being old (nil: zeros)
// followed by src.
func convRow(dst, src, old, taps []float32, start float32) {
	width := len(taps) - 1
	if len(dst) <= 2*width {
		for t := range dst {
			s := start
			for j, w := range taps {
				switch i := t + j - width; {
				case i >= 0:
					s += w * src[i]
				case old != nil:
					s += w * old[t+j]
				}
			}
			dst[t] = s
		}
		return
	}
	vec.Fill(dst, start)
	for j, w := range taps {
		before := width - j // outputs that this tap feeds from the state
		for t := range before {
			if old != nil {
				dst[t] += w * old[t+j]
			}
		}
		vec.Axpy(dst[before:], src[:len(src)-before], w)
	}
}

// shiftState leaves the last len(next) of old and src in next, which may be old.
func shiftState(next, old, src []float32) {
	for i := range next {
		switch from := len(src) + i - len(next); {
		case from >= 0:
			next[i] = src[from]
		case old == nil:
			next[i] = 0
		default: // element len(src)+i is not yet overwritten
			next[i] = old[len(src)+i]
		}
	}
}
