package cpu

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/selscan"
	"github.com/ssdc-go/ssdc/backends/cpu/ssd"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// The scans. Their [B,L,...] operands may be ranges of wider rows; the state is
// updated in place when nobody else reads it.

func ssmKernels() []*Kernel {
	return []*Kernel{
		{
			Op: ssmOp("SSD"), Name: "ssd", Settings: []string{"ssd-chunk", "ssd-algo"}, Over: map[int][]int{1: {8}}, Lower: lowerSSD,
			Accepts: func(n *graph.Node, t backends.Target) error {
				if v := n.Input(9); v != nil && v.Type.DType != tensor.Int32 {
					return fmt.Errorf("seq_idx is %s", v.Type)
				}
				return floats(0, 1, 2, 3, 4, 5, 6, 7, 8)(n, t)
			},
			Rows: func(n *graph.Node, i int) int {
				switch {
				case i == 0, i == 1, i == 3, i == 4, i == 6, i == 2 && n.In[2].Type.Rank() == 3:
					return 2
				}
				return -1
			},
		},
		{
			Op: ssmOp("SelectiveScan"), Name: "selscan", Over: map[int][]int{0: {0, 1, 6}, 1: {8}}, Lower: lowerSelectiveScan,
			Accepts: floats(),
			Rows: func(n *graph.Node, i int) int {
				switch i {
				case 0, 1, 3, 4, 6:
					return 2
				}
				return -1
			},
		},
		{
			Op: ssmOp("LinearScan"), Name: "selscan", Over: map[int][]int{0: {1, 0}, 1: {2}}, Lower: lowerLinearScan,
			Accepts: floats(),
			Rows: func(n *graph.Node, i int) int {
				if i < 2 {
					return 2
				}
				return -1
			},
		},
	}
}

// steps gives the strides of a [B,L,...] operand over batch and length.
func (m *Mem) steps() (sb, sl int) {
	s := m.strides()
	return s[0], s[1]
}

// data is the memory of an operand, nil when it is omitted.
func data(m *Mem) []float32 {
	if m == nil {
		return nil
	}
	return m.F32
}

func ssdSeq(m *Mem) ssd.Seq {
	if m == nil {
		return ssd.Seq{}
	}
	sb, sl := m.steps()
	return ssd.Seq{StrideB: sb, StrideL: sl}
}

func selSeq(m *Mem) selscan.Seq {
	if m == nil {
		return selscan.Seq{}
	}
	sb, sl := m.steps()
	return selscan.Seq{StrideB: sb, StrideL: sl}
}

func lowerSSD(b *Bind, n *graph.Node) (Step, error) {
	x, dt, a, bm, cm := b.In(0), b.In(1), b.In(2), b.In(3), b.In(4)
	d, z, bias, h0, seq := b.In(5), b.In(6), b.In(7), b.In(8), b.In(9)
	y, hT := b.Out(0), b.Out(1)
	args := &ssd.Args{
		B: x.Shape[0], L: x.Shape[1], H: x.Shape[2], P: x.Shape[3], G: bm.Shape[2], N: bm.Shape[3],
		X: ssdSeq(x), Dt: ssdSeq(dt), BMat: ssdSeq(bm), CMat: ssdSeq(cm), Z: ssdSeq(z), Y: ssdSeq(y),
		DtSoftplus: n.Attrs.Int("dt_softplus", 0) != 0,
		DtLo:       n.Attrs.Float("dt_min", float32(math.Inf(-1))), DtHi: n.Attrs.Float("dt_max", float32(math.Inf(1))),
	}
	if args.DtLo == 0 && args.DtHi == 0 || args.B == 0 || args.L == 0 || y == nil {
		return nil, ErrFallback // zero limits mean "none" to the kernel
	}
	if !slices.Equal(bm.Shape, cm.Shape) || !slices.Equal(bm.Shape[:2], x.Shape[:2]) {
		return nil, fmt.Errorf("x is %v, B %v and C %v", x.Shape, bm.Shape, cm.Shape)
	}
	if err := forceSSD(b, args); err != nil {
		return nil, err
	}
	perStep := len(a.Shape) == 3
	if perStep {
		args.LogDecay = ssdSeq(a)
	}
	ws := b.Workspace(fmt.Sprint("ssd", args.Shape()), func(workers int) any { return ssd.NewWorkspace(workers, args.Shape()) }).(*ssd.Workspace)
	p := b.Pool()
	return func() error {
		args.X.Data, args.BMat.Data, args.CMat.Data, args.Y.Data = x.F32, bm.F32, cm.F32, y.F32
		args.Dt.Data, args.Z.Data = data(dt), data(z)
		if perStep {
			args.LogDecay.Data = a.F32
		} else {
			args.A = a.F32
		}
		args.D, args.DtBias, args.H0, args.HT = data(d), data(bias), data(h0), data(hT)
		if seq != nil {
			args.SeqIdx = View[int32](seq)
		}
		return ssd.Run(p, args, ws)
	}, nil
}

// forceSSD applies the target's options ssd-algo and ssd-chunk. The chunk_size
// of the model, a property of the program that wrote it, is not followed: the
// kernel's own choice was measured here.
func forceSSD(b *Bind, args *ssd.Args) error {
	if s := b.Option("ssd-chunk"); s != "" {
		q, err := strconv.Atoi(s)
		if err != nil || q < 1 {
			return fmt.Errorf("option ssd-chunk=%s: expected a positive number", s)
		}
		args.ChunkSize = q
	}
	if s := b.Option("ssd-algo"); s != "" {
		for a := ssd.Auto; a <= ssd.Quadratic; a++ {
			if a.String() == s {
				args.Algo = a
				return nil
			}
		}
		return fmt.Errorf("option ssd-algo=%s: expected %v, %v, %v or %v", s, ssd.Auto, ssd.Recurrent, ssd.Chunked, ssd.Quadratic)
	}
	return nil
}

func lowerSelectiveScan(b *Bind, n *graph.Node) (Step, error) {
	u, dt, a, bm, cm := b.In(0), b.In(1), b.In(2), b.In(3), b.In(4)
	d, z, bias, h0 := b.In(5), b.In(6), b.In(7), b.In(8)
	y, hT := b.Out(0), b.Out(1)
	if y == nil || u.Len() == 0 {
		return nil, ErrFallback
	}
	args := &selscan.Args{
		B: u.Shape[0], L: u.Shape[1], D: u.Shape[2], N: a.Shape[1],
		U: selSeq(u), Dt: selSeq(dt), BMat: selSeq(bm), CMat: selSeq(cm), Z: selSeq(z), Y: selSeq(y),
		DtSoftplus: n.Attrs.Int("dt_softplus", 0) != 0,
	}
	ws := b.Workspace(fmt.Sprint("selscan", args.Shape()), func(workers int) any { return selscan.NewWorkspace(workers, args.Shape()) }).(*selscan.Workspace)
	p := b.Pool()
	return func() error {
		args.U.Data, args.Dt.Data, args.BMat.Data, args.CMat.Data, args.Y.Data = u.F32, dt.F32, bm.F32, cm.F32, y.F32
		args.A, args.Z.Data = a.F32, data(z)
		args.Skip, args.DtBias, args.H0, args.HT = data(d), data(bias), data(h0), data(hT)
		return selscan.Run(p, args, ws)
	}, nil
}

func lowerLinearScan(b *Bind, n *graph.Node) (Step, error) {
	a, u, h0 := b.In(0), b.In(1), b.In(2)
	y, hT := b.Out(0), b.Out(1)
	if y == nil || u.Len() == 0 || !slices.Equal(a.Shape[2:], u.Shape[2:]) {
		return nil, ErrFallback
	}
	args := &selscan.LinArgs{
		B: u.Shape[0], L: u.Shape[1], C: product(u.Shape[2:]), Complex: n.Attrs.Int("complex", 0) != 0,
		A: selSeq(a), U: selSeq(u), Y: selSeq(y),
	}
	if a.Shape[0] == 1 { // one decay for all rows, or all tokens
		args.A.StrideB = 0
	}
	if a.Shape[1] == 1 {
		args.A.StrideL = 0
	}
	ws := b.SessionWorkspace("linscan", func(workers int) any { return selscan.NewLinWorkspace(workers) }).(*selscan.LinWorkspace)
	p := b.Pool()
	return func() error {
		args.A.Data, args.U.Data, args.Y.Data = a.F32, u.F32, y.F32
		args.H0, args.HT = data(h0), data(hT)
		return selscan.RunLinear(p, args, ws)
	}, nil
}
