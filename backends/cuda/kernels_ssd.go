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
	if s.L == 1 || s.seq != nil || s.dt == nil || len(s.a.Shape) != 1 || s.d != nil && len(s.d.Shape) != 1 || s.P%8 != 0 || s.N%8 != 0 || s.N > 128 {
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
	name, size := half16[t], 128
	if s.N <= 64 {
		size = 64
	}
	wgmma := b.dev().arch == "sm_90a"
	fields := func(p *params) *params {
		p.ptr(x).ptr(dt).ptr(par[0]).ptr(bm).ptr(cm).ptr(par[1]).ptr(z).ptr(par[2]).ptr(s.h0).ptr(s.hT).ptr(s.y)
		return p.i32(s.B, s.L, s.H, s.P, s.G, s.N, typeCode[t], typeCode[dt.DType], s.softplus).f32(s.low, s.high).i32(0)
	}
	args := func(hand, ready, states, decay *Mem, count, chunks int) *params {
		return fields(&params{}).ptr(hand).ptr(ready).ptr(states).ptr(decay).i32(count, chunks)
	}
	perGroup := s.H / s.G * ceilDiv(s.P, 64)
	sequences := s.B * s.G * ceilDiv(perGroup, ssdHeads)
	most := b.dev().Info.Multiprocessors
	if per := splitChunks(s.L, sequences, most); per*ssdChunk < s.L {
		return true, b.ssdSplit(s, args, name, size, sequences, per, wgmma)
	}
	blocks := sequences
	var hand, ready *Mem
	if blocks > most {
		blocks = most
		hand, ready = b.Scratch(tensor.Float32, blocks*64*size*ssdHeads), b.Scratch(tensor.Int32, blocks*ssdHeads)
		b.Do("fill", nil, func(s *session) error { return s.stream.Set(ready.addr(), 0, 4*blocks*ssdHeads) })
	}
	switch d := b.dev().Device; {
	case wgmma && z == nil: // warpgroups in roles, bulk copies: kernels/ssd_tma.cuh
		p := (&params{}).boxes(d, x, s.B, s.L, s.H, s.P).boxes(d, s.y, s.B, s.L, s.H, s.P).boxes(d, bm, s.B, s.L, s.G, s.N).boxes(d, cm, s.B, s.L, s.G, s.N)
		p = fields(p).ptr(hand).ptr(ready)
		p.b = append(p.b, make([]byte, -len(p.b)&63)...) // descriptors align their struct to 64 bytes
		return true, b.ssdLaunch("ssd_tma_"+name, size, blocks, 512, p)
	case wgmma:
		return true, b.ssdLaunch("ssd_wgmma_"+name, size, blocks, 128*ssdHeads, args(hand, ready, nil, nil, 0, 0))
	}
	return true, b.ssdLaunch("ssd_mma_"+name, size, blocks, 128*ssdHeads, args(hand, ready, nil, nil, 0, 0))
}

func (b *Bind) ssdLaunch(kernel string, size, blocks, threads int, p *params) error {
	kernel += map[int]string{64: "_64", 128: "_128"}[size]
	shared, err := b.dev().number("ssd_entry", kernel+"_shared")
	if err != nil {
		return err
	}
	return b.Launch("ssd_entry", kernel, blocks, threads, shared, p)
}

// splitChunks is how many chunks a segment has when few long sequences are cut in time: the number that ends soonest when
// whole waves of blocks run, where a segment costs 8 chunks more. With enough sequences to fill the device they stay whole.
func splitChunks(length, sequences, most int) int {
	chunks := ceilDiv(length, ssdChunk)
	if sequences*2 > most || chunks < 16 {
		return chunks
	}
	best, least := 1, -1
	for n := 1; n <= 64 && n <= chunks; n++ {
		cost := ceilDiv(sequences*n, most) * (ceilDiv(chunks, n) + 8)
		if least < 0 || cost < least {
			least, best = cost, n
		}
	}
	return ceilDiv(chunks, best)
}

// ssdSplit submits the three launches of a pass cut in time.
func (b *Bind) ssdSplit(s *ssdArgs, args func(hand, ready, states, decay *Mem, count, chunks int) *params, name string, size, sequences, per int, wgmma bool) error {
	count := ceilDiv(ceilDiv(s.L, ssdChunk), per)
	all := s.B * s.H * s.P * s.N
	states, decay := b.Scratch(tensor.Float32, count*all), b.Scratch(tensor.Float32, count*s.B*s.H)
	collect, forward := "ssd_states_mma_"+name, "ssd_mma_"+name
	if wgmma {
		collect, forward = "ssd_states_wgmma_"+name, "ssd_wgmma_"+name
	}
	if count > 1 {
		if err := b.ssdLaunch(collect, size, sequences*(count-1), 128*ssdHeads, args(nil, nil, states, decay, count, per)); err != nil {
			return err
		}
	}
	if err := b.Launch("ssd_entry", "ssd_segments", ceilDiv(all, 512), 128, 0, args(nil, nil, states, decay, count, per)); err != nil {
		return err
	}
	return b.ssdLaunch(forward, size, sequences*count, 128*ssdHeads, args(nil, nil, states, decay, count, per))
}
