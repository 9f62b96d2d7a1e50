package cuda

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Joining decode steps: where blocks of a model have become three launches each (kernels_decode.go) and follow one another, all of them
// become one launch (kernels/step.cu), whose blocks of threads meet where a launch ended. What does not fit stays as it is.

// The limits of kernels/step.cu: rows of a step, warps that compute, slices of 64 elements of the products' rows for a warp, blocks of a
// model in a launch, blocks of threads; rows of states and of h that are not divided; bytes of the table before the work area; barriers in
// it, of which the ring leaves 3 to others.
const (
	stepRows                    = 8
	stepWarps                   = 8
	stepInSlices, stepOutSlices = 5, 10
	stepBlocks, stepGrid        = 128, 256
	stepUnit, stepTable         = 4, 1024
	stepBarriers                = 32
)

// stepAhead is how many copies of a block of threads are under way at most. One of 20 KiB from every multiprocessor nearly fills the
// memory's pipes; what waits in them beyond that keeps all other loads waiting.
const stepAhead = 2

// stepSlot is the size of a slot of the ring, about: whole rows of either matrix.
const stepSlot = 24 << 10

// stepShape is what the blocks of one launch have in common.
type stepShape struct {
	rows, width, inner, heads, headDim, groups, state int
	convFirst, convCount, convTaps, convWidth, silu   int
	z, x, side, sides, b, c, dt                       int // columns of the product; B, C and dt are in those from side on, and counted from there
	softplus                                          int
	low, high                                         float32
}

// stepBlock is one block of a model: its three launches, its norms' weights in the type of the model.
type stepBlock struct {
	stepShape
	in, out         *streamed
	scan            *ssdStep
	inNorm, outNorm *Mem
}

// joinBlocks puts runs of blocks in one launch each.
func (b *binder) joinBlocks() error {
	d := b.e.dev
	if !b.e.set.blocks || d.Info.Driver < 12010 || d.Info.Multiprocessors > stepGrid { // the parameters are beyond 4 KiB, which older drivers refuse
		return nil
	}
	var steps []step
	for i := 0; i < len(b.p.steps); {
		var run []*stepBlock
		for i+3*len(run)+3 <= len(b.p.steps) && len(run) < stepBlocks {
			next := b.stepBlock(b.p.steps[i+3*len(run):])
			if next == nil || len(run) > 0 && (next.stepShape != run[0].stepShape || !same(next.in.g.a, run[len(run)-1].out.g.c)) {
				break
			}
			run = append(run, next)
			if !b.passedOn(next.out) {
				break
			}
		}
		joined, err := b.stepLaunch(run)
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

// same reports whether two Mems are the same elements.
func same(a, b *Mem) bool {
	return a != nil && b != nil && a.root == b.root && a.off == b.off && a.DType == b.DType && a.Len() == b.Len()
}

// passedOn reports whether nobody but another block reads what a block makes: its normalisation and its sum.
func (b *binder) passedOn(s *streamed) bool {
	v := b.nodes[s.at].Out[0]
	return b.uses[v] == 2 && !v.IsOutput()
}

// stepBlock reads the first three steps as a block, nil when they are none that the launch can take.
func (b *binder) stepBlock(steps []step) *stepBlock {
	part := func(i int) any { return b.decodes[steps[i].launch] }
	in, ok1 := part(0).(*streamed)
	scan, ok2 := part(1).(*ssdStep)
	out, ok3 := part(2).(*streamed)
	if !ok1 || !ok2 || !ok3 || in.norm == nil || in.conv == nil || in.g.residual != nil || out.norm == nil || out.conv != nil {
		return nil
	}
	a := &scan.args
	k := &stepBlock{in: in, out: out, scan: scan}
	for _, s := range []*streamed{in, out} {
		g := &s.g
		if s.format != "bf16" || g.m != in.g.m || g.m > stepRows || g.bias != nil || g.act != 0 || g.alpha != 1 || g.n%8 != 0 || g.k%64 != 0 || g.ldb != g.k || g.ldc != g.n || g.m > 1 && g.lda != g.k || g.c.DType != tensor.BFloat16 || !g.c.Dense() {
			return nil
		}
	}
	if !same(out.g.a, a.y) || !same(out.g.residual, in.g.a) || out.g.n != in.g.k || a.z == nil || a.seq != nil || a.dt == nil || len(a.a.Shape) != 1 || !same(a.h0, a.hT) || a.N != 64 && a.N != 128 || a.P%stepUnit != 0 || a.d != nil && len(a.d.Shape) != 1 || a.H%4 != 0 || in.conv.first%8 != 0 || in.conv.count%8 != 0 || a.H*a.P != out.g.k || a.B != in.g.m || !a.hT.aligned(16) {
		return nil
	}
	k.stepShape = stepShape{
		rows: in.g.m, width: in.g.k, inner: out.g.k, heads: a.H, headDim: a.P, groups: a.G, state: a.N,
		convFirst: in.conv.first, convCount: in.conv.count, convTaps: in.conv.taps, convWidth: in.conv.in.Shape[2], silu: in.conv.silu,
		softplus: a.softplus, low: a.low, high: a.high,
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
	if !k.sideBySide(in.g.n) {
		return nil
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

// stepNorm is the weight of a normalisation in bfloat16, which the model has it in or is asked to compute in.
func (b *binder) stepNorm(n *normed) *Mem {
	v := n.node.In[1]
	if n.node.Op.Domain != "" {
		v = n.node.In[2]
	}
	t := b.contents(v)
	if t == nil || t.DType != tensor.BFloat16 && b.e.set.compute != "bf16" {
		return nil
	}
	m, err := b.constant(v, t, tensor.BFloat16, false)
	if err != nil {
		return nil
	}
	return m
}

// sideBySide finds the columns that have B, C and dt: all but those of z and x, and next to each other.
func (k *stepShape) sideBySide(columns int) bool {
	group := k.groups * k.state
	parts := [][2]int{{k.z, k.inner}, {k.x, k.inner}, {k.b, group}, {k.c, group}, {k.dt, k.heads}}
	slices.SortFunc(parts, func(p, q [2]int) int { return p[0] - q[0] })
	at := 0
	for _, p := range parts {
		if p[0] != at || p[0]%8 != 0 {
			return false
		}
		at += p[1]
	}
	k.side, k.sides = min(k.b, k.c, k.dt), 2*group+k.heads
	if at != columns || max(k.b+group, k.c+group, k.dt+k.heads)-k.side != k.sides || k.sides%8 != 0 {
		return false
	}
	k.b, k.c, k.dt = k.b-k.side, k.c-k.side, k.dt-k.side
	return true
}

// stepLayout is how a launch is laid out on the device.
type stepLayout struct {
	blocks, slots, slot, shared int
	inRows, outRows             int    // rows of the matrices in a slot
	area                        int    // bytes of the work area, which begins with partial sums
	parts                       [5]int // where its other parts begin: what rows of the scan need, y, B and C, what heads need, h
	beside                      [3]int // bytes that the phases read beside
	unit, side, out             []int  // of each block of threads: units of states, groups of 8 columns of B, C and dt, units of h; the last is where all end
}

// layout finds one, ok when everything fits.
func (k *stepShape) layout(multiprocessors, limit int) (l stepLayout, ok bool) {
	if ceilDiv(k.width, 64*stepWarps) > stepInSlices || ceilDiv(k.inner, 64*stepWarps) > stepOutSlices {
		return l, false
	}
	rows := func(width int) int {
		n := 8
		for n > 1 && n*width*2 > stepSlot {
			n /= 2
		}
		return n
	}
	l.inRows, l.outRows = rows(k.width), rows(k.inner)
	l.slot = alignUp(max(l.inRows*k.width*2, l.outRows*k.inner*2, stepUnit*k.state*4), 128)
	l.blocks = min(multiprocessors, k.inner/stepUnit, k.width/stepUnit) // everybody has some of each
	l.unit, l.side, l.out = k.share(l.blocks)
	unit, side, out, products := 0, 0, 0, 0
	for c := range l.blocks {
		u, s, o := l.unit[c+1]-l.unit[c], l.side[c+1]-l.side[c], l.out[c+1]-l.out[c]
		unit, side, out, products = max(unit, u), max(side, s), max(out, o), max(products, u+s, ceilDiv(o*stepUnit, 8))
	}
	most := func(of, all int) int { return min(ceilDiv(unit*stepUnit, of)+1, all) } // groups or heads that rows of states reach into
	at := 4 * stepWarps * 8 * k.rows * products
	for i, size := range []int{16 * k.rows * unit * stepUnit, 4 * k.rows * unit * stepUnit, 4 * k.rows * 2 * k.state * most(k.inner/k.groups, k.groups), 8 * k.rows * most(k.headDim, k.heads), 4 * k.rows * out * stepUnit} {
		l.parts[i] = at
		at += alignUp(size, 16)
	}
	l.area = alignUp(at, 128)
	columns := side*8 + alignUp(unit*stepUnit, 8) + 8
	l.beside = [3]int{alignUp(columns*(4*(k.convTaps+1)+2*k.rows*k.convWidth), 128), alignUp(3*4*k.heads+2*(unit*stepUnit+8), 128), alignUp(2*(out*stepUnit+8), 128)}
	used := stepTable + l.area + l.beside[0] + l.beside[1] + l.beside[2]
	l.slots = min((limit-used)/l.slot, stepBarriers-3)
	l.shared = used + l.slots*l.slot
	return l, l.slots >= max(2, 8/l.inRows, 8/l.outRows)
}

// share divides states, with the rows of the first matrix that make z and x for them, and the rows of the second evenly; those that make B,
// C and dt go where least of the first matrix is to be read, and of both.
func (k *stepShape) share(blocks int) (unit, side, out []int) {
	for c := range blocks + 1 {
		unit = append(unit, c*(k.inner/stepUnit)/blocks)
		out = append(out, c*(k.width/stepUnit)/blocks)
	}
	side = make([]int, blocks+1)
	in, load := make([]int, blocks), make([]int, blocks)
	for c := range blocks {
		in[c] = unit[c+1] - unit[c]
		load[c] = (unit[c+1]-unit[c])*2*stepUnit*k.width + (out[c+1]-out[c])*stepUnit*k.inner
	}
	for range k.sides / 8 {
		least := 0
		for c := range blocks {
			if in[c] < in[least] || in[c] == in[least] && load[c] < load[least] {
				least = c
			}
		}
		load[least] += 8 * k.width
		in[least]++
		side[least+1]++
	}
	for c := range blocks {
		side[c+1] += side[c]
	}
	return unit, side, out
}

// stepLaunch makes the steps for a run of blocks: none when they do not fit.
func (b *binder) stepLaunch(run []*stepBlock) ([]step, error) {
	if len(run) == 0 {
		return nil, nil
	}
	d, k := b.e.dev, &run[0].stepShape
	l, ok := k.layout(d.Info.Multiprocessors, d.Info.SharedBytes)
	if !ok {
		return nil, nil
	}
	serves, err := d.number("step", "step_serves")
	if err != nil || serves == 0 {
		return nil, err
	}
	f, err := d.function("step", fmt.Sprintf("step_bf16_%d_%d", k.state, 4*ceilDiv(k.rows, 4)), d.Info.SharedBytes)
	if err != nil {
		return nil, err
	}
	threads := 32 * (stepWarps + 4)
	if n, err := f.Fits(threads, l.shared); err != nil || n < 1 {
		return nil, err
	}
	first, last := run[0].in.at, run[len(run)-1].out.at
	shared := b.arenaMem(tensor.BFloat16, []int{k.rows*(2*k.width+3*k.inner+2*k.sides) + 5*l.blocks*alignUp(k.rows, 4)*2}, first)
	shared.root.last = last
	p := (&params{}).ptr(run[0].in.g.a).ptr(run[0].inNorm).ptr(run[len(run)-1].out.g.c).ptr(shared)
	p.i32(len(run), k.rows, k.width, k.inner, k.heads, k.headDim, k.groups, k.convFirst, k.convCount, k.convTaps, k.convWidth, k.silu,
		k.z, k.x, k.side, k.sides, k.b, k.c, k.dt, k.softplus, l.slots, min(stepAhead, l.slots), l.slot, l.inRows, l.outRows, l.area).i32(l.parts[:]...).i32(l.beside[:]...).f32(k.low, k.high)
	for _, first := range [][]int{l.unit, l.side, l.out} {
		p.i32(first...).i32(make([]int, stepGrid+1-len(first))...)
	}
	p.i32(0)
	for i, s := range run {
		a := &s.scan.args
		var next *Mem
		if i+1 < len(run) {
			next = run[i+1].inNorm
		}
		p.ptr(s.in.g.b).ptr(s.out.g.b).ptr(s.outNorm).ptr(next).ptr(s.in.conv.out).
			ptr(s.in.conv.w).ptr(s.in.conv.bias).ptr(a.a).ptr(a.d).ptr(a.bias).ptr(a.hT).f32(s.in.norm.epsilon, s.out.norm.epsilon)
	}
	const block = 12 * 8
	p.b = append(p.b, make([]byte, (stepBlocks-len(run))*block)...)
	at := &Bind{b, b.nodes[first], first, "blocks"}
	kept := b.p.steps
	b.p.steps = nil
	at.Do("blocks", p.place, func(s *session) error {
		if err := s.stream.Set(shared.addr(), 0xFF, shared.Bytes()); err != nil {
			return err
		}
		return s.stream.LaunchTogether(f, l.blocks, threads, l.shared, p.b)
	})
	joined := b.p.steps
	b.p.steps = kept
	return joined, nil
}
