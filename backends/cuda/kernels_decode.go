package cuda

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Decoding: products of up to 16 rows in 16 bits (kernels/decode.cu) and what they take over from their neighbours. With few rows a
// launch costs as much as the weights of its operator, so that a block of a model wants few of them: three for Mamba-2.
//
//	x -> RMSNormalization -> Linear -> Split -> CausalConv -> SSD -> GatedRMSNorm -> Linear
//	     \__________ one product __________________/      \_ one _/ \_ scale and weight of the next product
//
// Takeovers happen while nodes are lowered, in order: a step that turns out to be another's part is removed, or a launch gets
// more parameters. They need values that nobody else reads.

// streamRows is how many rows a streamed product may have.
const streamRows = 16

// streamed is a product that reads its matrix once through a ring of copies.
type streamed struct {
	g      gemm
	at     int // index of its node
	launch *launch
	norm   *normed
	conv   *convStep
	format string
}

// normed is an RMS normalisation that a product may take over: x times 1/rms, times weight.
type normed struct {
	node      *graph.Node
	x, weight *Mem
	epsilon   float32
}

// convStep is the convolution of one position behind a product, in place on some of its columns.
type convStep struct {
	w, bias, in, out         *Mem
	first, count, taps, silu int
}

// ssdStep is the launch of one position of a scan; set makes its parameters with a gate.
type ssdStep struct {
	at     int
	launch *launch
	y      *Mem
	set    func(z *Mem) *params
	args   ssdArgs
}

// streams reports whether a product of g's shape can be streamed.
func (g *gemm) streams(limit int) bool {
	if g.q == nil && (g.b.DType != g.a.DType || !g.transB || !g.b.aligned(16) || g.ldb%8 != 0) {
		return false
	}
	return (g.a.DType == tensor.BFloat16 || g.a.DType == tensor.Float16) && g.m <= streamRows && (g.residual == nil || g.residual.DType == g.a.DType) && g.batch*g.batch2 == 1 &&
		g.a.aligned(16) && g.k%8 == 0 && g.lda%8 == 0 && streamShared(g.m, g.k, g.ring().one) <= limit
}

// ring is what a warp of a streamed product copies ahead, in bytes: with several blocks on a multiprocessor and with one. A part of it
// takes 16 columns and 64 of K; see SSDC_STREAM.
type ring struct {
	format    string
	many, one int
}

func (g *gemm) ring() ring {
	switch {
	case g.q == nil:
		return ring{"", 5 * 2048, 3 * 2048}
	case g.q.bits == 8:
		return ring{"int8_", 5 * 1024, 8 * 1024}
	}
	return ring{"int4_", 6 * 672, 10 * 672}
}

// streamShared is the shared memory of a streamed product: partial sums, sums of squares, rings of 8 warps, rows.
func streamShared(m, k, ring int) int {
	rows := 8 * ceilDiv(m, 8)
	return 2*8*rows*20*4 + rows*32 + 8*ring + m*(alignUp(k, 64)*2+64)
}

// streamLimit is the shared memory that a block of a streamed product may take.
func (d *device) streamLimit() int { return min(d.Info.SharedBytes, 160<<10) }

// stream submits g as a streamed product.
func (b *Bind) stream(g gemm) error {
	if g.bias != nil && g.bias.DType != tensor.Float32 {
		wide := b.Scratch(tensor.Float32, g.bias.Shape...)
		if v := b.n.Input(2); v != nil && b.b.contents(v) != nil {
			m, err := b.b.constant(v, b.b.contents(v), tensor.Float32, false)
			if err != nil {
				return err
			}
			wide = m
		} else if err := b.copy(wide, g.bias); err != nil {
			return err
		}
		g.bias = wide
	}
	s := &streamed{g: g, at: b.i, format: g.ring().format + half16[g.a.DType]}
	return b.submitStream(s)
}

func (b *Bind) submitStream(s *streamed) error {
	g := &s.g
	if n := b.b.normBefore(b.n.In[0], g); n != nil && !g.part {
		s.norm = n
		rows, _, ld, _ := n.x.matrix()
		g.a, g.m, g.lda = n.x, rows, ld
		b.b.remove(n.node)
		b.b.mem[n.node.Out[0]].root.size = 0
		b.b.keep(n.x, b.i)
		if n.weight != nil {
			b.b.keep(n.weight, b.i)
		}
	}
	r := g.ring()
	name, ahead := "stream_"+s.format+"_8", r.one
	if g.m > 8 {
		name = "stream_" + s.format + "_16"
	} else if streamShared(g.m, g.k, r.many) <= 112<<10 { // two such blocks fit, so that the next product may begin
		name, ahead = name+"_deep", r.many
	}
	shared := streamShared(g.m, g.k, ahead)
	blocks := b.dev().Info.Multiprocessors
	if g.q != nil || g.m == 1 { // 8 warps wait for each other at the end of tiles, and turn bytes into operands more slowly than memory gives them
		blocks *= max(1, min(3, (224<<10)/(shared+1<<10)))
	}
	f, err := b.dev().function("decode", name, b.dev().streamLimit()) // one handle, whatever the launch takes
	if err != nil {
		return err
	}
	s.launch = &launch{f, min(ceilDiv(g.n, 16), blocks), 256, shared, s.params()}
	b.submit(b.name, s.launch)
	b.b.decodes[s.launch] = s
	if g.c.root.kind == inArena && !g.part {
		b.b.streams[g.c.root] = s
	}
	return nil
}

func (s *streamed) params() *params {
	g := &s.g
	var weight *Mem
	epsilon := float32(0)
	if s.norm != nil {
		weight, epsilon = s.norm.weight, s.norm.epsilon
	}
	c := s.conv
	if c == nil {
		c = &convStep{}
	}
	width := 0
	if c.in != nil {
		width = c.in.Shape[2]
	}
	return (&params{}).tensor(g.a).tensor(g.b).tensor(g.c).tensor(g.residual).blocks(g.q).ptr(g.bias).ptr(weight).
		ptr(c.w).ptr(c.bias).ptr(c.in).ptr(c.out).i64(g.m, g.n, g.k, g.lda, g.ldb, g.ldc, g.act, c.first, c.count, c.taps, width, c.silu).f32(g.alpha, epsilon)
}

// remove takes back the steps of a node.
func (b *binder) remove(n *graph.Node) {
	kept := b.p.steps[:0]
	for _, st := range b.p.steps {
		if st.node != n {
			kept = append(kept, st)
		}
	}
	b.p.steps = kept
}

// keep lets m live until step i.
func (b *binder) keep(m *Mem, i int) { m.root.last = max(m.root.last, i) }

// maker walks back from a value over views that nobody else reads to the node that computes it, nil when others read it.
func (b *binder) maker(v *graph.Value) *graph.Node {
	for v != nil && v.Def != nil && b.uses[v] == 1 && !v.IsOutput() {
		row, err := b.e.ops.Of(v.Def)
		if err != nil {
			return nil
		}
		if row.Traits&ops.View == 0 {
			return v.Def
		}
		v = v.Def.In[0]
	}
	return nil
}

// normBefore is the normalisation that alone stands between the product g of value v and its rows.
func (b *binder) normBefore(v *graph.Value, g *gemm) *normed {
	n := b.norms[b.maker(v)]
	if n == nil || n.weight == nil || n.weight.DType != tensor.Float32 || n.x.DType != g.a.DType || n.x.root.kind == inState || b.mem[n.node.Out[0]].root != g.a.root || !n.weight.aligned(16) || !n.x.aligned(16) {
		return nil
	}
	rows, cols, ld, ok := n.x.matrix()
	if !ok || rows != g.m || cols != g.k || ld%8 != 0 {
		return nil
	}
	return n
}

// convBehind lets the streamed product that makes x run the convolution of one position, in place. y then is x.
func (b *Bind) convBehind(n *graph.Node, x, state, stateOut *Mem, taps int) bool {
	s := b.b.streams[x.root]
	if s == nil || s.conv != nil || s.g.residual != nil || state == nil || stateOut == nil || x.Shape[1] != 1 || x.DType != s.g.a.DType || x.DType != s.g.c.DType || state.DType != x.DType {
		return false
	}
	width := state.Shape[2]
	if taps < 2 || taps > 4 || width < taps-1 || width > 4 || stateOut.Shape[2] != width || state.root != stateOut.root || b.b.uses[n.In[0]] != 1 || n.In[0].IsOutput() || n.Out[0].IsOutput() {
		return false
	}
	for i := 1; i <= 2; i++ {
		if v := n.Input(i); v != nil && b.b.contents(v) == nil {
			return false // it may come later than the product
		}
	}
	w, err := b.As(1, tensor.Float32)
	if err != nil {
		return false
	}
	bias, err := b.As(2, tensor.Float32)
	if err != nil {
		return false
	}
	first := (x.off - s.g.c.off) / x.DType.Size()
	if x.Shape[0] != s.g.m || x.Shape[0] > 1 && x.Strides[0] != s.g.ldc || x.Strides[2] != 1 || first < 0 || first+x.Shape[2] > s.g.n || (x.off-s.g.c.off)%x.DType.Size() != 0 {
		return false
	}
	// Nothing else may see the columns that change: the value is cut from the product by a Split.
	split := n.In[0].Def
	if split == nil || !split.Op.Is("", "Split") || b.b.maker(split.In[0]) != b.b.nodes[s.at] || n.In[3].Def != nil || b.b.uses[n.In[3]] != 1 {
		return false
	}
	s.conv = &convStep{w: w, bias: bias, in: state, out: stateOut, first: first, count: x.Shape[2], taps: taps}
	if n.Attrs.Str("activation", "none") == "silu" {
		s.conv.silu = 1
	}
	s.launch.p = s.params()
	for _, m := range []*Mem{w, bias} {
		if m != nil {
			b.b.keep(m, s.at)
		}
	}
	b.b.mem[n.Out[0]].root.size = 0
	b.b.mem[n.Out[0]] = x
	b.b.keep(x, max(b.b.alive[n.Out[0]], b.i))
	return true
}

// gateBefore lets the scan of one position that makes v multiply by SiLU(z), which a normalisation would begin with. Not in
// float16, whose range the product may leave before it is normalised.
func (b *Bind) gateBefore(v *graph.Value, z *Mem, rows, ldz int) bool {
	s := b.b.scans[b.b.maker(v)]
	if s == nil || s.y.DType == tensor.Float16 || z.root.kind == inArena && z.root.first > s.at || z.root.kind == inState || rows != s.y.Shape[0] {
		return false
	}
	if producer := b.b.streams[z.root]; producer != nil && producer.at > s.at {
		return false
	}
	gate := z.view(s.y.Shape, []int{ldz, ldz, s.y.Shape[3], 1}, 0)
	s.launch.p = s.set(gate)
	s.args.z = gate
	return true
}
