package cuda

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// The scans and the convolution. States are updated in place when nobody else reads them.

func ssmKernels() []*Kernel {
	return []*Kernel{
		{Op: ssmOp("CausalConv"), Name: "conv", Accepts: reals(), Lower: lowerConv, Over: map[int]int{1: 3}},
		{Op: ssmOp("SSD"), Name: "ssd", Accepts: func(n *graph.Node, t backends.Target) error {
			if v := n.Input(9); v != nil && v.Type.DType != tensor.Int32 {
				return fmt.Errorf("seq_idx is %s", v.Type)
			}
			return reals(0, 1, 2, 3, 4, 5, 6, 7, 8)(n, t)
		}, Lower: lowerSSD, Over: map[int]int{1: 8}},
		{Op: ssmOp("SelectiveScan"), Name: "selective", Accepts: reals(), Lower: lowerSelective, Over: map[int]int{1: 8}},
		{Op: ssmOp("LinearScan"), Name: "linear", Accepts: func(n *graph.Node, t backends.Target) error {
			if n.Attrs.Int("complex", 0) != 0 {
				return fmt.Errorf("it is complex")
			}
			return reals()(n, t)
		}, Lower: lowerLinearScan, Over: map[int]int{1: 2}},
	}
}

// half16 names the 16-bit types as kernels do.
var half16 = map[tensor.DType]string{tensor.BFloat16: "bf16", tensor.Float16: "f16"}

// outPart is a range of channels that goes to a tensor of its own.
type outPart struct {
	m            *Mem
	first, count int
}

// splitBehind finds the Split that alone reads the channels of a convolution, and gives its parts memory of their own.
func (b *Bind) splitBehind(n *graph.Node) []outPart {
	y := n.Out[0]
	if y == nil || b.b.uses[y] != 1 || y.IsOutput() {
		return nil
	}
	var split *graph.Node
	for _, u := range y.Uses {
		if _, runs := b.b.at[u.Node]; runs {
			split = u.Node
		}
	}
	if split == nil || !split.Op.Is("", "Split") || split.In[0] != y || len(split.Out) > 4 || b.b.dynamic(split) {
		return nil
	}
	if axis, ok := axisOf(split.Attrs.Int("axis", 0), 3); !ok || axis != 2 {
		return nil
	}
	var parts []outPart
	first := 0
	for _, v := range split.Out {
		if v == nil {
			return nil
		}
		shape, ok := b.b.typeOf(v).Static()
		if !ok || len(shape) != 3 {
			return nil
		}
		parts = append(parts, outPart{first: first, count: shape[2]})
		first += shape[2]
	}
	for j, v := range split.Out {
		shape, _ := b.b.typeOf(v).Static()
		m := b.b.arenaMem(b.b.storage(v), shape, b.i)
		m.root.last = max(b.b.alive[v], b.i)
		b.b.mem[v], parts[j].m = m, m
	}
	b.b.done[split] = true
	return parts
}

func lowerConv(b *Bind, n *graph.Node) error {
	x, err := b.Steps(0)
	if err != nil {
		return err
	}
	w, err := b.Dense(1)
	if err != nil {
		return err
	}
	bias, err := b.Dense(2)
	if err != nil {
		return err
	}
	state, err := b.Dense(3)
	if err != nil {
		return err
	}
	y, stateOut := b.Out(0), b.Out(1)
	B, L, C, K := x.Shape[0], x.Shape[1], x.Shape[2], w.Shape[1]
	if L == 0 || K < 1 || y == nil {
		return ErrFallback
	}
	in, width := 0, 0
	if state != nil {
		if in = state.Shape[2]; in < K-1 {
			return fmt.Errorf("state holds %d columns, a kernel of %d needs %d", in, K, K-1)
		}
	}
	if stateOut != nil {
		width = stateOut.Shape[2]
		if state != nil && state.root == stateOut.root && in != width {
			return ErrFallback
		}
	}
	if L == 1 && b.convBehind(n, x, state, stateOut, K) {
		return nil
	}
	parts := b.splitBehind(n)
	if parts == nil {
		parts = []outPart{{y, 0, C}}
	}
	silu := 0
	if n.Attrs.Str("activation", "none") == "silu" {
		silu = 1
	}
	args := func() *params {
		p := (&params{}).seq(x).tensor(w).tensor(bias).tensor(state).tensor(stateOut)
		for i := range 4 {
			if i < len(parts) {
				p.tensor(parts[i].m).i64(parts[i].first, parts[i].count)
			} else {
				p.i64(0, 0, 0, 0)
			}
		}
		return p.i64(len(parts), B, L, C, K, silu, in, width)
	}
	if L == 1 && stateOut != nil {
		return b.Launch("conv", "conv_step", ceilDiv(B*C, 256), 256, 0, args())
	}
	fours := K == 4 && C%4 == 0 && x.Strides[0]%4 == 0 && x.Strides[1]%4 == 0
	for _, m := range []*Mem{x, w, bias} {
		fours = fours && (m == nil || m.aligned(4*m.DType.Size()))
	}
	for _, part := range parts {
		fours = fours && part.first%4 == 0 && part.count%4 == 0 && part.m.aligned(16)
	}
	name, half := half16[x.DType]
	eights := fours && half && C%8 == 0 && x.Strides[0]%8 == 0 && x.Strides[1]%8 == 0 && x.aligned(16)
	for _, part := range parts {
		eights = eights && part.first%8 == 0 && part.count%8 == 0 && part.m.DType == x.DType
	}
	if eights {
		err = b.Launch("conv", "conv_4x8_"+name, ceilDiv(B*ceilDiv(L, 32)*C/8, 128), 128, 0, args())
	} else if fours {
		err = b.Launch("conv", "conv_4x4", ceilDiv(C/4, 128)*ceilDiv(L, 16)*B, 128, 0, args())
	} else if K >= 2 && K <= 4 {
		err = b.Launch("conv", fmt.Sprint("conv_", K), ceilDiv(C, 256)*ceilDiv(L, 16)*B, 256, 0, args())
	} else {
		err = b.Launch("conv", "conv_any", ceilDiv(B*L*C, 256), 256, 0, args())
	}
	if err != nil || stateOut == nil || stateOut.Len() == 0 {
		return err
	}
	return b.Launch("conv", "conv_state", ceilDiv(B*C, 256), 256, 0, args())
}

// ssdArgs are the operands of a scan.
type ssdArgs struct {
	x, dt, a, bm, cm, d, z, bias, h0, seq, y, hT *Mem
	B, L, H, P, G, N                             int
	softplus                                     int
	low, high                                    float32
}

func lowerSSD(b *Bind, n *graph.Node) error {
	s := ssdArgs{y: b.Out(0), hT: b.Out(1), low: n.Attrs.Float("dt_min", float32(math.Inf(-1))), high: n.Attrs.Float("dt_max", float32(math.Inf(1)))}
	for i, to := range []**Mem{&s.x, &s.dt, nil, &s.bm, &s.cm, nil, &s.z} {
		if to == nil {
			continue
		}
		m, err := b.Steps(i)
		if err != nil {
			return err
		}
		*to = m
	}
	var err error
	if len(n.In[2].Type.Shape) == 3 {
		s.a, err = b.Steps(2)
	} else {
		s.a, err = b.Dense(2)
	}
	for i, to := range map[int]**Mem{5: &s.d, 7: &s.bias, 8: &s.h0, 9: &s.seq} {
		if err == nil {
			*to, err = b.Dense(i)
		}
	}
	if err != nil {
		return err
	}
	if s.y == nil {
		return ErrFallback
	}
	s.B, s.L, s.H, s.P, s.G, s.N = s.x.Shape[0], s.x.Shape[1], s.x.Shape[2], s.x.Shape[3], s.bm.Shape[2], s.bm.Shape[3]
	if s.L == 0 || s.N == 0 || s.G == 0 || s.H%s.G != 0 {
		return ErrFallback
	}
	if n.Attrs.Int("dt_softplus", 0) != 0 {
		s.softplus = 1
	}
	if ok, err := b.ssdTensor(n, &s); ok || err != nil {
		return err
	}
	if s.N > 256 {
		return ErrFallback
	}
	logDecay, perRow := 0, 0
	if len(s.a.Shape) == 3 {
		logDecay = 1
	}
	if s.d != nil && len(s.d.Shape) == 2 {
		perRow = 1
	}
	strips := 1 // blocks of a head, for one position
	set := func(z *Mem) *params {
		p := (&params{}).seq(s.x).seq(s.dt)
		if logDecay == 1 {
			p.seq(s.a)
		} else {
			p.tensor(s.a).i64(0, 0)
		}
		p.seq(s.bm).seq(s.cm).seq(z).tensor(s.d).tensor(s.bias).tensor(s.h0).tensor(s.hT).seq(s.y).ptr(s.seq)
		return p.i64(s.B, s.L, s.H, s.P, s.G, s.N, s.softplus, perRow, logDecay, strips).f32(s.low, s.high)
	}
	if name := s.step(); name != "" {
		for in, to := range map[int]**Mem{2: &s.a, 5: &s.d, 7: &s.bias} {
			if in == 2 && logDecay == 1 {
				continue
			}
			if *to, err = b.As(in, tensor.Float32); err != nil {
				return err
			}
		}
		f, err := b.dev().function("scan", name, 0)
		if err != nil {
			return err
		}
		strip := 256 / min(s.N/4, 32) * min(4, 512/s.N) // rows at once
		if s.B*s.H < 2*b.dev().Info.Multiprocessors {
			strips = ceilDiv(s.P, strip)
		}
		l := &launch{f, s.B * s.H * strips, 256, 0, set(s.z)}
		b.submit(b.name, l)
		scan := &ssdStep{at: b.i, launch: l, y: s.y, set: set, args: s}
		b.b.decodes[l] = scan
		if s.z == nil && s.y.Dense() {
			b.b.scans[n] = scan
		}
		return nil
	}
	p := set(s.z)
	size := 32
	for size < s.N {
		size *= 2
	}
	shared := (2*32*size + 2*32*16 + 2*32) * 4
	return b.Launch("scan", fmt.Sprint("ssd_scan_", size), s.B*s.H*ceilDiv(s.P, 16), 128, shared, p)
}

// step names the kernel for one position, "" where it does not serve.
func (s *ssdArgs) step() string {
	t := map[tensor.DType]string{tensor.Float32: "f32", tensor.BFloat16: "bf16", tensor.Float16: "f16"}[s.x.DType]
	power := s.N >= 16 && s.N&(s.N-1) == 0
	f32 := func(m *Mem) bool { return m == nil || m.DType == tensor.Float32 && m.aligned(16) }
	if t == "" || s.L != 1 || !power || s.seq != nil || s.hT == nil || !f32(s.hT) || !f32(s.h0) {
		return ""
	}
	for _, m := range []*Mem{s.bm, s.cm, s.y, s.z} {
		if m != nil && m.DType != s.x.DType {
			return ""
		}
	}
	for _, m := range []*Mem{s.bm, s.cm} {
		if !m.aligned(4*m.DType.Size()) || s.B > 1 && m.Strides[0]%4 != 0 {
			return ""
		}
	}
	return fmt.Sprint("ssd_step_", t, "_", s.N)
}

func lowerSelective(b *Bind, n *graph.Node) error {
	m := make([]*Mem, 9)
	var err error
	for i := range m {
		switch i {
		case 0, 1, 3, 4, 6:
			m[i], err = b.Steps(i)
		default:
			m[i], err = b.Dense(i)
		}
		if err != nil {
			return err
		}
	}
	y, hT := b.Out(0), b.Out(1)
	B, L, D, N := m[0].Shape[0], m[0].Shape[1], m[0].Shape[2], m[2].Shape[1]
	if y == nil || L == 0 || N == 0 || N > 256 {
		return ErrFallback
	}
	var size, lanes, steps int // columns of a state, threads of a channel, positions at once
	for _, c := range [][3]int{{256, 16, 16}, {128, 8, 16}, {64, 8, 32}, {32, 4, 32}, {16, 4, 64}, {8, 4, 64}} {
		if N <= c[0] {
			size, lanes, steps = c[0], c[1], c[2]
		}
	}
	softplus := 0
	if n.Attrs.Int("dt_softplus", 0) != 0 {
		softplus = 1
	}
	p := (&params{}).seq(m[0]).seq(m[1]).seq(m[3]).seq(m[4]).seq(m[6]).seq(y).tensor(m[2]).tensor(m[5]).tensor(m[7]).tensor(m[8]).tensor(hT).i64(B, L, D, N, softplus)
	channels := 128 / lanes
	return b.Launch("scan", fmt.Sprint("selective_", size), B*ceilDiv(D, channels), 128, (2*size+3*channels)*steps*4, p)
}

func lowerLinearScan(b *Bind, n *graph.Node) error {
	a, err := b.In(0)
	if err != nil {
		return err
	}
	u, err := b.Steps(1)
	if err != nil {
		return err
	}
	h0, err := b.Dense(2)
	if err != nil {
		return err
	}
	y := b.Out(0)
	if y == nil || y.Len() == 0 {
		return ErrFallback
	}
	if a = broadcastTo(a, u.Shape); a == nil { // one decay may serve several channels
		return ErrFallback
	}
	if !a.denseFrom(2) {
		if a, err = b.dense(a); err != nil {
			return err
		}
	}
	B, L, C := u.Shape[0], u.Shape[1], product(u.Shape[2:])
	p := (&params{}).seq(a).seq(u).seq(y).tensor(h0).tensor(b.Out(1)).i64(B, L, C)
	return b.Launch("scan", "linear_scan", ceilDiv(B*C, 128), 128, 0, p)
}
