package cuda

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// The joined launch (kernels_step.go) for matrices in fewer bits, kernels/step_bits.cu.

// bitsStripBytes is what blocks of threads divide states into.
const bitsStripBytes = 4096

// bitsTile is how many rows of a matrix are in a block.
const bitsTile = 16

// bitsShape is what the blocks of one launch have in common.
type bitsShape struct {
	rows, width, columns, inner, heads, headDim, groups, state      int
	convFirst, convCount, convTaps, convWidth, silu, z, x, b, c, dt int
	softplus                                                        int
	low, high                                                       float32
	bits, size, scaleType                                           int // as blocks has them
}

// bitsBlock is one block of a model: its three launches, its norms' weights in the type of the model.
type bitsBlock struct {
	bitsShape
	in, out         *streamed
	scan            *ssdStep
	inNorm, outNorm *Mem
}

// joinBits puts runs of blocks in one launch each.
func (b *binder) joinBits() error {
	d := b.e.dev
	if !b.e.set.blocks || d.Info.Driver < 12010 || d.Info.Multiprocessors > stepGrid { // the parameters are beyond 4 KiB, which older drivers refuse
		return nil
	}
	var steps []step
	for i := 0; i < len(b.p.steps); {
		var run []*bitsBlock
		for i+3*len(run)+3 <= len(b.p.steps) && len(run) < stepBlocks {
			next := b.bitsBlock(b.p.steps[i+3*len(run):])
			if next == nil || len(run) > 0 && next.bitsShape != run[0].bitsShape {
				break
			}
			run = append(run, next)
		}
		joined, err := b.bitsLaunch(run)
		if err != nil {
			return err
		}
		if joined == nil {
			steps = append(steps, b.p.steps[i])
			i++
			continue
		}
		steps = append(steps, joined...)
		i += 3 * len(run)
	}
	b.p.steps = steps
	return nil
}

// bitsBlock reads the first three steps as a block, nil when they are none that the launch can take.
func (b *binder) bitsBlock(steps []step) *bitsBlock {
	part := func(i int) any { return b.decodes[steps[i].launch] }
	in, ok1 := part(0).(*streamed)
	scan, ok2 := part(1).(*ssdStep)
	out, ok3 := part(2).(*streamed)
	if !ok1 || !ok2 || !ok3 || in.norm == nil || in.conv == nil || in.g.residual != nil || out.norm == nil || out.conv != nil {
		return nil
	}
	a := &scan.args
	k := &bitsBlock{in: in, out: out, scan: scan}
	for _, s := range []*streamed{in, out} {
		g := &s.g
		if g.q == nil || g.q.zeros != 0 || g.a.DType != tensor.BFloat16 || g.m != in.g.m || g.m > stepRows || g.bias != nil || g.act != 0 || g.alpha != 1 || g.n%8 != 0 || g.k%64 != 0 || g.ldc != g.n || g.m > 1 && g.lda != g.k || g.c.DType != tensor.BFloat16 || !g.c.Dense() {
			return nil
		}
	}
	if !same(out.g.a, a.y) || !same(out.g.residual, in.g.a) || out.g.n != in.g.k || a.z == nil || a.seq != nil || a.dt == nil || len(a.a.Shape) != 1 || !same(a.h0, a.hT) || a.N < 64 || a.P%(bitsStripBytes/4/a.N) != 0 || a.d != nil && len(a.d.Shape) != 1 || a.H%4 != 0 || in.conv.first%8 != 0 || in.conv.count%8 != 0 || a.H*a.P != out.g.k || a.B != in.g.m || !a.hT.aligned(16) {
		return nil
	}
	k.bitsShape = bitsShape{
		rows: in.g.m, width: in.g.k, columns: in.g.n, inner: out.g.k, heads: a.H, headDim: a.P, groups: a.G, state: a.N,
		convFirst: in.conv.first, convCount: in.conv.count, convTaps: in.conv.taps, convWidth: in.conv.in.Shape[2], silu: in.conv.silu,
		softplus: a.softplus, low: a.low, high: a.high,
	}
	q, p := in.g.q, out.g.q
	if q.bits != p.bits || q.size != p.size || q.scaleType != p.scaleType {
		return nil
	}
	if k.bits, k.size = q.bits, q.size; q.bits == 4 {
		k.scaleType = q.scaleType
	}
	for _, part := range []struct {
		m  *Mem
		to *int
	}{{a.z, &k.z}, {a.x, &k.x}, {a.bm, &k.b}, {a.cm, &k.c}, {a.dt, &k.dt}} {
		m := part.m
		if m.root != in.g.c.root || m.DType != tensor.BFloat16 || a.B > 1 && m.Strides[0] != in.g.n || m.off < in.g.c.off {
			return nil
		}
		*part.to = (m.off - in.g.c.off) / 2
	}
	for _, m := range []*Mem{in.conv.in, in.conv.out, a.hT, a.y} {
		if !m.Dense() {
			return nil
		}
	}
	if k.inNorm = b.stepNorm(in.norm); k.inNorm == nil {
		return nil
	}
	if k.outNorm = b.stepNorm(out.norm); k.outNorm == nil {
		return nil
	}
	return k
}

// bitsLayout is how a launch is laid out on the device.
type bitsLayout struct {
	slots, slot, area, shared int
	inPart, outPart           int    // blocks of the matrices in a slot
	beside                    [3]int // bytes that the phases read beside
	firstIn, firstOut         []int  // tiles of the matrices, of each block of threads; the last is where all end
}

// layout finds one, ok when everything fits.
func (k *bitsShape) layout(multiprocessors, limit int) (l bitsLayout, ok bool) {
	if ceilDiv(k.width, 64*stepWarps) > stepInSlices || ceilDiv(k.inner, 64*stepWarps) > stepOutSlices {
		return l, false
	}
	// part gives the blocks of a tile that a slot holds, the slots of a tile and the bytes in one.
	part := func(width int) (n, slots, bytes int) {
		blocks := width / 64
		slots = ceilDiv(blocks*k.size, stepSlot)
		n = ceilDiv(blocks, slots)
		return n, ceilDiv(blocks, n), n * k.size
	}
	var inSlots, outSlots, inBytes, outBytes int
	l.inPart, inSlots, inBytes = part(k.width)
	l.outPart, outSlots, outBytes = part(k.inner)
	l.slot = alignUp(max(inBytes, outBytes, bitsStripBytes), 128)
	l.firstIn, l.firstOut = k.share(multiprocessors)
	most := func(first []int) int {
		n := 0
		for c := range multiprocessors {
			n = max(n, first[c+1]-first[c])
		}
		return n
	}
	in, out := most(l.firstIn), most(l.firstOut)
	strip := bitsStripBytes / 4 / k.state
	states := ceilDiv(k.rows*k.inner/strip, multiprocessors) * strip
	spans := ceilDiv(states, k.inner/k.groups) + 1
	l.area = alignUp(max(4*stepWarps*bitsTile*k.rows*max(in, out), 16*states+4*2*k.state*spans), 128)
	scales := 0 // of a tile
	if k.bits == 8 {
		scales = 4 * bitsTile
	}
	l.beside = [3]int{alignUp(2*k.width+in*(scales+bitsTile*(4*(k.convTaps+1)+2*k.rows*k.convWidth)), 128), alignUp(3*4*k.heads, 128), alignUp(2*k.inner+out*scales, 128)}
	used := stepTable + l.area + l.beside[0] + l.beside[1] + l.beside[2]
	l.slots = min((limit-used)/l.slot, stepBarriers-3)
	l.shared = used + l.slots*l.slot
	return l, l.slots >= max(2, inSlots, outSlots)
}

// share divides both matrices, in tiles, so that every multiprocessor reads as much: where it has more of one it gets less of
// the other.
func (k *bitsShape) share(multiprocessors int) (in, out []int) {
	ins, outs := ceilDiv(k.columns, bitsTile), k.width/bitsTile
	all := ins*k.width + outs*k.inner
	for c := range multiprocessors + 1 {
		out = append(out, c*outs/multiprocessors)
		first := min((c*all/multiprocessors-out[c]*k.inner+k.width/2)/k.width, ins)
		if c == multiprocessors {
			first = ins
		}
		in = append(in, first)
	}
	if !slices.IsSorted(in) {
		for c := range in {
			in[c] = c * ins / multiprocessors
		}
	}
	return in, out
}

// bitsLaunch makes the steps for a run of blocks: none when they do not fit.
func (b *binder) bitsLaunch(run []*bitsBlock) ([]step, error) {
	if len(run) == 0 {
		return nil, nil
	}
	d, k := b.e.dev, &run[0].bitsShape
	if k.state != 64 && k.state != 128 {
		return nil, nil
	}
	blocks := d.Info.Multiprocessors
	l, ok := k.layout(blocks, d.Info.SharedBytes)
	if !ok {
		return nil, nil
	}
	serves, err := d.number("step_bits", "step_bits_serves")
	if err != nil || serves == 0 {
		return nil, err
	}
	f, err := d.function("step_bits", fmt.Sprintf("step_bits_%d_%d", k.state, 4*ceilDiv(k.rows, 4)), d.Info.SharedBytes)
	if err != nil {
		return nil, err
	}
	threads := 32 * (stepWarps + 4)
	if n, err := f.Fits(threads, l.shared); err != nil || n < 1 {
		return nil, err
	}
	first, last := run[0].in.at, run[len(run)-1].out.at
	arrived := b.arenaMem(tensor.Int32, []int{1}, first)
	arrived.root.last = last
	p := (&params{}).ptr(arrived)
	p.i32(len(run), k.rows, k.width, k.columns, k.inner, k.heads, k.headDim, k.groups, k.convFirst, k.convCount, k.convTaps, k.convWidth, k.silu,
		k.z, k.x, k.b, k.c, k.dt, k.softplus, l.slots, min(stepAhead, l.slots), l.slot, l.inPart, l.outPart, k.size, k.scaleType, l.area).i32(l.beside[:]...).f32(k.low, k.high)
	for _, first := range [][]int{l.firstIn, l.firstOut} {
		p.i32(first...).i32(make([]int, stepGrid+1-len(first))...)
	}
	for _, s := range run {
		a := &s.scan.args
		p.ptr(s.in.g.q.data).ptr(s.out.g.q.data).ptr(s.in.g.q.scale).ptr(s.out.g.q.scale).
			ptr(s.inNorm).ptr(s.outNorm).ptr(s.in.g.a).ptr(s.in.g.c).ptr(a.y).ptr(s.out.g.c).ptr(s.in.conv.out).
			ptr(s.in.conv.w).ptr(s.in.conv.bias).ptr(a.a).ptr(a.d).ptr(a.bias).ptr(a.hT).f32(s.in.norm.epsilon, s.out.norm.epsilon)
	}
	const block = 18 * 8
	p.b = append(p.b, make([]byte, (stepBlocks-len(run))*block)...)
	at := &Bind{b, b.nodes[first], first, "blocks"}
	kept := b.p.steps
	b.p.steps = nil
	at.Do("blocks", p.place, func(s *session) error {
		if err := s.stream.Set(arrived.addr(), 0, 4); err != nil {
			return err
		}
		return s.stream.LaunchTogether(f, blocks, threads, l.shared, p.b)
	})
	joined := b.p.steps
	b.p.steps = kept
	return joined, nil
}
