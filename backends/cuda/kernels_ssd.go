package cuda

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// The tensor-core SSD kernels (kernels/ssd_fwd.cu): 16-bit operands, f32 sums and states. Grids and workspaces are those
// of the C interface in ssd.h.

const ssdChunk, ssdHeads = 64, 2 // positions of a chunk, strips of a block

// ssdTensor submits the fused kernel when it serves these operands; ok says that it did.
func (b *Bind) ssdTensor(n *graph.Node, s *ssdArgs) (ok bool, err error) {
	t := s.x.DType
	if t != tensor.BFloat16 && t != tensor.Float16 || s.bm.DType != t || s.cm.DType != t || s.y.DType != t || s.z != nil && s.z.DType != t {
		return false, nil
	}
	if s.L == 1 || s.dt == nil || len(s.a.Shape) != 1 || s.d != nil && len(s.d.Shape) != 1 || s.P%8 != 0 || s.N%8 != 0 || s.N > 256 {
		return false, nil
	}
	// Where a sequence begins anew, the kernels have an exponent that no sum of exponents at most 0 makes up for.
	if s.seq != nil && s.softplus == 0 && !(s.low >= 0) {
		return false, nil
	}
	if s.hT != nil && s.hT.DType != tensor.Float32 || s.h0 != nil && s.h0.DType != tensor.Float32 || !s.y.aligned(16) {
		return false, nil
	}
	// It wants everything dense, parameters in f32.
	x, err := b.dense(s.x)
	if err != nil {
		return false, err
	}
	dense := []*Mem{s.dt, s.bm, s.cm, s.z}
	for i, m := range dense {
		if m == nil {
			continue
		}
		if dense[i], err = b.dense(m); err != nil {
			return false, err
		}
	}
	dt, bm, cm, z := dense[0], dense[1], dense[2], dense[3]
	for _, m := range []*Mem{x, bm, cm, z} {
		if m != nil && !m.aligned(16) {
			return false, nil
		}
	}
	par := make([]*Mem, 3)
	for i, in := range []int{2, 5, 7} {
		if par[i], err = b.As(in, tensor.Float32); err != nil {
			return false, err
		}
	}
	typeCode := map[tensor.DType]int{tensor.BFloat16: 0, tensor.Float16: 1, tensor.Float32: 2}
	if dt.DType != t && dt.DType != tensor.Float32 {
		return false, nil
	}
	k := ssdKernels{b: b, s: s, name: half16[t], wgmma: b.dev().arch == "sm_90a"}
	// y is linear in the state: more than 128 columns of it are two passes, the second of which adds to y.
	for from := 0; from < s.N; from += 128 {
		cols, d, gate, more := min(128, s.N-from), par[1], z, s.N-from > 128
		if from > 0 {
			d = nil
		}
		if more {
			gate = nil
		}
		k.state, k.size, k.plain = cols, 128, s.N <= 128 && z == nil
		if cols <= 64 {
			k.size = 64
		}
		add := min(from, 1)
		k.fields = func(p *params) *params {
			p.ptr(x).ptr(dt).ptr(par[0]).ptrAt(bm, 2*from).ptrAt(cm, 2*from).ptr(d).ptr(gate).ptr(par[2]).ptrAt(s.h0, 4*from).ptrAt(s.hT, 4*from).ptr(s.y)
			p.i32(s.B, s.L, s.H, s.P, s.G, cols, typeCode[t], typeCode[dt.DType], s.softplus).f32(s.low, s.high)
			return p.i32(s.N).ptr(s.seq).i32(add, 0)
		}
		if dev := b.dev().Device; k.wgmma && k.plain {
			k.maps = func(p *params) *params {
				return p.boxes(dev, x, s.B, s.L, s.H, s.P).boxes(dev, s.y, s.B, s.L, s.H, s.P).boxes(dev, bm, s.B, s.L, s.G, s.N).boxes(dev, cm, s.B, s.L, s.G, s.N)
			}
		}
		if err := k.submit(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// ssdKernels submits the launches of one pass over up to 128 columns of the state.
type ssdKernels struct {
	b            *Bind
	s            *ssdArgs
	name         string // of the 16-bit type
	wgmma, plain bool   // plain: nothing that warpgroups in roles (kernels/ssd_tma.cuh) do not know
	state, size  int    // columns; rounded up to what kernels have
	fields, maps func(*params) *params
}

// ssdSegments is struct Segments: a sequence cut in time into fronts, and those into segments.
type ssdSegments struct {
	states, decay, behind   *Mem
	count, chunks, perFront int
}

func (k *ssdKernels) args(hand, ready *Mem, g ssdSegments) *params {
	p := &params{}
	if k.maps != nil {
		k.maps(p)
	}
	k.fields(p).ptr(hand).ptr(ready).ptr(g.states).ptr(g.decay).ptr(g.behind).i32(g.count, g.chunks, g.perFront, 0)
	if k.maps != nil {
		p.b = append(p.b, make([]byte, -len(p.b)&63)...) // descriptors align their struct to 64 bytes
	}
	return p
}

// forward launches the pass itself.
func (k *ssdKernels) forward(blocks int, hand, ready *Mem, g ssdSegments) error {
	switch {
	case k.maps != nil: // warpgroups in roles, bulk copies: kernels/ssd_tma.cuh
		return k.launch("ssd_tma_", blocks, 512, k.args(hand, ready, g))
	case k.wgmma:
		return k.launch("ssd_wgmma_", blocks, 128*ssdHeads, k.args(hand, ready, g))
	}
	return k.launch("ssd_mma_", blocks, 128*ssdHeads, k.args(hand, ready, g))
}

func (k *ssdKernels) submit() error {
	b, s := k.b, k.s
	sequences := s.B * s.G * ceilDiv(s.H/s.G*ceilDiv(s.P, 64), ssdHeads)
	most := b.dev().Info.Multiprocessors
	if fronts := splitFronts(s.L, sequences, most); fronts > 1 {
		return k.split(sequences, fronts, most)
	}
	if sequences <= most {
		return k.forward(sequences, nil, nil, ssdSegments{})
	}
	hand, ready := k.handoff(most)
	return k.forward(most, hand, ready, ssdSegments{})
}

// handoff is room for states that one block leaves to another, and its flags, all 0.
func (k *ssdKernels) handoff(slots int) (states, ready *Mem) {
	flags := 1 + ssdHeads*slots
	states, ready = k.b.Scratch(tensor.Float32, slots*64*k.size*ssdHeads), k.b.Scratch(tensor.Int32, flags)
	k.b.Do("fill", nil, func(s *session) error { return s.stream.Set(ready.addr(), 0, 4*flags) })
	return states, ready
}

func (k *ssdKernels) launch(kernel string, blocks, threads int, p *params) error {
	kernel += k.name + map[int]string{64: "_64", 128: "_128"}[k.size]
	shared, err := k.b.dev().number("ssd_entry", kernel+"_shared")
	if err != nil {
		return err
	}
	return k.b.Launch("ssd_entry", kernel, blocks, threads, shared, p)
}

// splitFronts is how many fronts few long sequences are cut into, so that all multiprocessors work: as many as fill them, where that pays,
// by the measure of kernels/ssd_split_host.cuh.
func splitFronts(length, sequences, most int) int {
	chunks := ceilDiv(length, ssdChunk)
	fronts := min(ceilDiv(most, sequences), chunks)
	if (10*fronts+8*(fronts-1))*sequences*chunks/fronts/most+300 < 8*chunks {
		return fronts
	}
	return 1
}

// split submits the launches of a pass cut in time: kernels/ssd_split.cuh.
func (k *ssdKernels) split(sequences, fronts, most int) error {
	b, s := k.b, k.s
	chunks := ceilDiv(s.L, ssdChunk)
	front := ceilDiv(chunks, fronts)
	g := ssdSegments{perFront: max(1, min(64, front/16, 256/fronts))}
	g.chunks = ceilDiv(front, g.perFront)
	g.count = ceilDiv(chunks, g.chunks)
	fronts = ceilDiv(g.count, g.perFront)
	all, heads, before := s.B*s.H*s.P*k.state, s.B*s.H, (fronts-1)*g.perFront
	g.states, g.decay, g.behind = b.Scratch(tensor.Float32, g.count*all), b.Scratch(tensor.Float32, g.count*heads), b.Scratch(tensor.Float32, g.count*heads)
	hand, ready := k.handoff(fronts * sequences)
	plain := *k
	plain.maps = nil
	collect := "ssd_states_mma_"
	if k.wgmma {
		collect = "ssd_states_wgmma_"
	}
	args := func() *params { return plain.args(nil, nil, g) }
	if before > 0 {
		if err := b.Launch("ssd_entry", "ssd_decays", before*s.B*ceilDiv(s.H, 32), 256, 1024, args()); err != nil {
			return err
		}
		if err := b.Launch("ssd_entry", "ssd_behind", ceilDiv(fronts*heads, 4), 128, 0, args()); err != nil {
			return err
		}
		if err := plain.launch(collect, sequences*before, 128*ssdHeads, args()); err != nil {
			return err
		}
	}
	if err := b.Launch("ssd_entry", "ssd_segments", ceilDiv(all, 512), 128, 0, args()); err != nil {
		return err
	}
	return k.forward(min(fronts*sequences, most), hand, ready, g)
}
