package cuda

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Attention without the matrix of scores: kernels/flash.cu on tensor cores, kernels/attention.cu for what that does not take.

func attentionKernels() []*Kernel {
	return []*Kernel{{
		Op: onnxOp("Attention", 23), Name: "flash", Lower: lowerAttention,
		Accepts: func(n *graph.Node, t backends.Target) error {
			if n.Output(3) != nil && !n.Output(3).Unused() {
				return fmt.Errorf("the scores are asked for")
			}
			if n.Input(6) != nil || n.Attrs.Int("left_window_size", -1) >= 0 || n.Attrs.Int("right_window_size", -1) >= 0 {
				return fmt.Errorf("windows or padded lengths")
			}
			if m := n.Input(3); m != nil && m.Type.DType != tensor.Bool && !isReal(m.Type.DType) {
				return fmt.Errorf("the mask is %s", m.Type)
			}
			return reals(0, 1, 2, 4, 5)(n, t)
		},
	}}
}

// heads sees m as [B,H,S,d].
func heads(m *Mem, h int) *Mem {
	if len(m.Shape) == 4 {
		return m
	}
	if len(m.Shape) != 3 || h < 1 || m.Shape[2]%h != 0 {
		return nil
	}
	d := m.Shape[2] / h
	return m.view([]int{m.Shape[0], h, m.Shape[1], d}, []int{m.Strides[0], d * m.Strides[2], m.Strides[1], m.Strides[2]}, 0)
}

func lowerAttention(b *Bind, n *graph.Node) error {
	counts := []int{int(n.Attrs.Int("q_num_heads", 0)), int(n.Attrs.Int("kv_num_heads", 0)), int(n.Attrs.Int("kv_num_heads", 0))}
	qkv := make([]*Mem, 3)
	for i := range qkv {
		m, err := b.In(i)
		if err != nil {
			return err
		}
		if m.Strides[len(m.Shape)-1] != 1 {
			if m, err = b.dense(m); err != nil {
				return err
			}
		}
		if qkv[i] = heads(m, counts[i]); qkv[i] == nil {
			return ErrFallback
		}
	}
	past := 0
	for i, in := range []int{4, 5} { // the past goes before the new keys and values
		if n.Input(in) == nil {
			continue
		}
		old, err := b.In(in)
		if err != nil {
			return err
		}
		past = old.Shape[2]
		all := b.Out(1 + i)
		cur := qkv[1+i]
		if all == nil {
			all = b.Scratch(cur.DType, cur.Shape[0], cur.Shape[1], past+cur.Shape[2], cur.Shape[3])
		}
		if err := b.copy(all.view(old.Shape, all.Strides, 0), old); err != nil {
			return err
		}
		if err := b.copy(all.view(cur.Shape, all.Strides, past*all.Strides[2]), cur); err != nil {
			return err
		}
		qkv[1+i] = all
	}
	q, k, v := qkv[0], qkv[1], qkv[2]
	if past == 0 {
		for i, m := range []*Mem{k, v} {
			if o := b.Out(1 + i); o != nil && n.Input(4+i) == nil {
				if err := b.copy(o, m); err != nil {
					return err
				}
			}
		}
	}
	y := heads(b.Out(0), counts[0])
	B, H, S, D, KH, T, E := q.Shape[0], q.Shape[1], q.Shape[2], q.Shape[3], k.Shape[1], k.Shape[2], v.Shape[3]
	if KH == 0 || H%KH != 0 || D > 256 || E > 256 || T == 0 {
		return ErrFallback
	}
	mask, err := b.In(3)
	if err != nil {
		return err
	}
	ms := []int{0, 0, 0, 0}
	if mask != nil {
		if last := mask.Shape[len(mask.Shape)-1]; last != T && last != 1 {
			return ErrFallback // shorter masks mean more than a broadcast
		}
		m := broadcastTo(mask, []int{B, H, S, T})
		if m == nil {
			return ErrFallback
		}
		mask, ms = m, m.Strides
	}
	scale := n.Attrs.Float("scale", 0)
	if scale == 0 {
		scale = float32(1 / math.Sqrt(float64(D)))
	}
	a := &attention{q: q, k: k, v: v, y: y, mask: mask, dims: []int{B, H, KH, S, T, D, E}, maskStrides: ms, causal: int(n.Attrs.Int("is_causal", 0)), past: past, scale: scale, softcap: n.Attrs.Float("softcap", 0)}
	if a.tensorCores() {
		return b.flash(a)
	}
	shared := (16*(D+1) + 32*(D+1) + 32*(E+1) + 16*32) * 4
	return b.Launch("attention", "attention", B*H*ceilDiv(S, 16), 128, shared, a.params(1, nil))
}

// attention is an attention with everything settled: operands [B,H,S,d], dims B, heads, key heads, S, keys, sizes of q and v.
type attention struct {
	q, k, v, y, mask  *Mem
	dims, maskStrides []int
	causal, past      int
	scale, softcap    float32
}

func (a *attention) params(splits int, partial *Mem) *params {
	row := func(m *Mem) []int { return m.Strides[:3] }
	p := (&params{}).tensor(a.q).tensor(a.k).tensor(a.v).tensor(a.y).tensor(a.mask).i64(a.dims...)
	return p.i64(row(a.q)...).i64(row(a.k)...).i64(row(a.v)...).i64(row(a.y)...).i64(a.maskStrides...).i64(a.causal, a.past, splits).ptr(partial).f32(a.scale, a.softcap)
}

// tensorCores reports whether kernels/flash.cu takes the operands: 16 bits, rows that start on 16 bytes, heads of up to 128.
func (a *attention) tensorCores() bool {
	for _, m := range []*Mem{a.q, a.k, a.v, a.y} {
		if half16[m.DType] == "" || m.DType != a.q.DType || !m.aligned(16) || m.Shape[3]%8 != 0 || m.Shape[3] > 128 {
			return false
		}
		for axis, s := range m.Strides[:3] {
			if m.Shape[axis] > 1 && s%8 != 0 {
				return false
			}
		}
	}
	B, KH, S, T := a.dims[0], a.dims[2], a.dims[3], a.dims[4]
	return max(S*a.dims[1]/KH, T, B*a.dims[1]) < 1<<30
}

// flash submits an attention on tensor cores. With up to 16 rows to a key head, as when decoding, warps share the keys; else blocks do
// where there are few.
func (b *Bind) flash(a *attention) error {
	B, H, KH, S, T, D, E := a.dims[0], a.dims[1], a.dims[2], a.dims[3], a.dims[4], a.dims[5], a.dims[6]
	size := 128
	for _, s := range []int{96, 64} {
		if max(D, E) <= s {
			size = s
		}
	}
	rows, processors := S*H/KH, b.dev().Info.Multiprocessors
	halves := ceilDiv(size, 64)
	name := fmt.Sprint("flash_", half16[a.q.DType], "_", size)
	tile, step, parts, most := 128, 64, 1, 8
	if a.mask != nil || a.softcap != 0 || !(a.scale > 0) {
		name, tile, step = name+"_general", 64, 32
	}
	blocks, shared := B*KH*ceilDiv(rows, tile), (tile+4*step)*halves*128
	if rows <= 16 {
		name, step, parts, most = fmt.Sprint("flash_", half16[a.q.DType], "_", size, "_apart"), 32, 4, 64
		blocks, shared = B*KH, 4*(16+6*step)*halves*128
	}
	// By blocks: as many as run at a time.
	splits := max(1, min((224<<10)/(shared+1<<10)*processors/blocks, ceilDiv(T, 4*step*parts), most))
	var partial *Mem
	if parts*splits > 1 {
		partial = b.Scratch(tensor.Float32, parts*splits, B, H, S, E+2)
	}
	p := a.params(parts*splits, partial)
	if err := b.Launch("flash", name, blocks*splits, 128, shared, p); err != nil || partial == nil {
		return err
	}
	return b.Launch("flash", "flash_combine", B*H*S, 512, (parts*splits+512+32)*4, a.params(parts*splits, partial))
}
