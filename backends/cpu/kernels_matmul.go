package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Matrix products. A constant right operand is stored in panels (package gemm)
// and nowhere else; two activations are packed as they are multiplied.

var epilogues = map[string]gemm.Activation{
	"none": gemm.None, "relu": gemm.ReLU, "silu": gemm.SiLU, "gelu": gemm.GELUErf, "gelu_tanh": gemm.GELUTanh,
	"sigmoid": gemm.Sigmoid, "softplus": gemm.Softplus,
}

func matmulKernels() []*Kernel {
	constB := func(n *graph.Node, t backends.Target) error {
		b := n.Input(1)
		if b == nil || b.Const == nil || b.Type.Rank() != 2 {
			return fmt.Errorf("the right operand is not a constant matrix")
		}
		if n.In[0].Type.Rank() < 1 {
			return fmt.Errorf("the left operand has no axes or an unknown number")
		}
		return floats()(n, t)
	}
	linear := func(name string, over map[int][]int, takes func(act gemm.Activation) bool) *Kernel {
		return &Kernel{
			Op: ssmOp("Linear"), Name: name, Rows: anyRows(0, 3), Over: over,
			Accepts: func(n *graph.Node, t backends.Target) error {
				act, ok := epilogues[n.Attrs.Str("activation", "none")]
				if !ok || !takes(act) {
					return fmt.Errorf("activation %q", n.Attrs.Str("activation", "none"))
				}
				return constB(n, t)
			},
			Pack: packB(false),
			Lower: func(b *Bind, n *graph.Node) (Step, error) {
				return lowerDense(b, dense{bias: b.In(2), residual: b.In(3), act: epilogues[n.Attrs.Str("activation", "none")]})
			},
		}
	}
	return []*Kernel{
		{
			Op: onnxOp("MatMul", 1), Name: "gemm", Accepts: constB, Pack: packB(false), Rows: anyRows(0),
			Lower: func(b *Bind, n *graph.Node) (Step, error) { return lowerDense(b, dense{}) },
		},
		{
			Op: onnxOp("MatMul", 1), Name: "gemm-strided", Rows: lastAxisRows,
			Accepts: func(n *graph.Node, t backends.Target) error {
				for i, v := range n.In {
					if v.Type.Rank() < 2 {
						return fmt.Errorf("operand %d has fewer than two axes", i)
					}
				}
				return floats()(n, t)
			},
			Lower: func(b *Bind, n *graph.Node) (Step, error) { return lowerStrided(b, b.In(0), b.In(1), false, false) },
		},
		{
			Op: onnxOp("Gemm", 7), Name: "gemm", Rows: anyRows(0),
			Accepts: func(n *graph.Node, t backends.Target) error {
				if n.Attrs.Int("transA", 0) != 0 || n.Attrs.Float("alpha", 1) == 0 {
					return fmt.Errorf("the left operand is transposed or vanishes")
				}
				if err := constB(n, t); err != nil {
					return err
				}
				return gemmBias(n)
			},
			Pack: func(n *graph.Node, t backends.Target) []Packing { return packB(n.Attrs.Int("transB", 0) != 0)(n, t) },
			Lower: func(b *Bind, n *graph.Node) (Step, error) {
				return lowerDense(b, dense{bias: b.In(2), alpha: n.Attrs.Float("alpha", 1), transB: n.Attrs.Int("transB", 0) != 0})
			},
		},
		{
			Op: onnxOp("Gemm", 7), Name: "gemm-strided", Rows: anyRows(0, 1),
			Accepts: func(n *graph.Node, t backends.Target) error {
				if err := floats()(n, t); err != nil {
					return err
				}
				if n.Attrs.Float("alpha", 1) != 1 {
					return fmt.Errorf("alpha is not 1")
				}
				return gemmBias(n)
			},
			Lower: func(b *Bind, n *graph.Node) (Step, error) {
				return lowerStrided(b, b.In(0), b.In(1), n.Attrs.Int("transA", 0) != 0, n.Attrs.Int("transB", 0) != 0)
			},
		},
		// The residual may be overwritten only if nothing stands between the
		// product and the sum.
		linear("gemm", map[int][]int{0: {3}}, func(a gemm.Activation) bool { return a == gemm.None }),
		linear("gemm-act", nil, func(a gemm.Activation) bool { return a != gemm.None }),
	}
}

// gemmBias accepts a C of Gemm that is one row, unscaled.
func gemmBias(n *graph.Node) error {
	c := n.Input(2)
	if c == nil {
		return nil
	}
	r, s := c.Type.Rank(), c.Type.Shape
	nAxis := n.Out[0].Type.Shape
	if n.Attrs.Float("beta", 1) != 1 || r < 1 || r == 2 && !s[0].Is(1) || len(nAxis) != 2 || s[r-1] != nAxis[1] {
		return fmt.Errorf("the bias C is %s with beta %g, not one row", c.Type, n.Attrs.Float("beta", 1))
	}
	return nil
}

// dense is the epilogue of a product with packed B.
type dense struct {
	bias, residual *Mem
	act            gemm.Activation
	alpha          float32
	transB         bool
}

func lowerDense(b *Bind, e dense) (Step, error) {
	c, a, w := b.Out(0), b.In(0), b.In(1)
	k, n := w.Shape[0], w.Shape[1]
	if e.transB {
		k, n = n, k
	}
	if a.Dim(-1) != k || c.Dim(-1) != n {
		return nil, fmt.Errorf("cannot multiply %v by %v", a.Shape, w.Shape)
	}
	if c.Len() == 0 {
		return func() error { return nil }, nil
	}
	m := c.Len() / n
	lda, ok := rowsOf(a, m, k)
	args := &gemm.Args{M: m, N: n, K: k, Lda: lda, Ldc: n, Act: e.act, Alpha: e.alpha}
	if e.residual != nil {
		var okr bool
		args.Ldr, okr = rowsOf(e.residual, m, n)
		if e.residual.Len() != c.Len() {
			return nil, fmt.Errorf("the residual is %v, the product %v", e.residual.Shape, c.Shape)
		}
		ok = ok && okr
	}
	if e.bias != nil && e.bias.Len() != n {
		return nil, fmt.Errorf("the bias is %v, the product %v", e.bias.Shape, c.Shape)
	}
	if !ok {
		return nil, fmt.Errorf("rows of %v lie in no regular distance", a.Shape)
	}
	ws, p := gemmWorkspace(b), b.Pool()
	if args.Format = b.weightFormat(); args.Format == gemm.F32 {
		args.B = tensor.Of[float32](b.Packed(1))
	} else {
		args.Q = b.Packed(1).Data
		ws.Reserve(args.Format, k)
	}
	return func() error {
		args.A, args.C = a.F32, c.F32
		if e.bias != nil {
			args.Bias = e.bias.F32
		}
		if e.residual != nil {
			args.Residual = e.residual.F32
		}
		gemm.Run(p, args, ws)
		return nil
	}, nil
}

func gemmWorkspace(b *Bind) *gemm.Workspace {
	return b.SessionWorkspace("gemm", func(workers int) any { return gemm.NewWorkspace(workers) }).(*gemm.Workspace)
}

// lowerStrided multiplies two activations, batched and broadcast; input 2, if
// any, is a bias.
func lowerStrided(b *Bind, x, y *Mem, transX, transY bool) (Step, error) {
	c := b.Out(0)
	rank := len(c.Shape)
	xs, ys := x.strides(), y.strides()
	rx, ry := len(x.Shape), len(y.Shape)
	m, n := c.Dim(-2), c.Dim(-1)
	args := &gemm.StridedArgs{M: m, N: n, Ldc: n, ARow: xs[rx-2], ACol: xs[rx-1], BRow: ys[ry-2], BCol: ys[ry-1]}
	args.K = x.Dim(-1)
	xm, yk, yn := x.Dim(-2), y.Dim(-2), y.Dim(-1)
	if transX {
		args.K, xm = xm, args.K
		args.ARow, args.ACol = args.ACol, args.ARow
	}
	if transY {
		yk, yn = yn, yk
		args.BRow, args.BCol = args.BCol, args.BRow
	}
	if xm != m || yk != args.K || yn != n {
		return nil, fmt.Errorf("cannot multiply %v by %v into %v", x.Shape, y.Shape, c.Shape)
	}
	cs := denseStrides(c.Shape)
	batchStride := func(s, shape []int, a int) (int, error) {
		i := a - (rank - len(shape))
		switch {
		case i < 0 || shape[i] == 1:
			return 0, nil
		case shape[i] != c.Shape[a]:
			return 0, fmt.Errorf("cannot broadcast %v to %v", shape, c.Shape)
		}
		return s[i], nil
	}
	for a := range rank - 2 {
		if c.Shape[a] == 1 {
			continue
		}
		sx, err := batchStride(xs, x.Shape, a)
		if err != nil {
			return nil, err
		}
		sy, err := batchStride(ys, y.Shape, a)
		if err != nil {
			return nil, err
		}
		args.Batch = append(args.Batch, c.Shape[a])
		args.ABatch, args.BBatch, args.CBatch = append(args.ABatch, sx), append(args.BBatch, sy), append(args.CBatch, cs[a])
	}
	// One right operand for all: the batch is more rows.
	if len(args.Batch) == 1 && args.BBatch[0] == 0 && args.ABatch[0] == args.M*args.ARow {
		args.M *= args.Batch[0]
		args.Batch, args.ABatch, args.BBatch, args.CBatch = nil, nil, nil, nil
	}
	bias := b.In(2)
	if bias != nil && bias.Len() != n {
		return nil, ErrFallback
	}
	ws, p := gemmWorkspace(b), b.Pool()
	if c.Len() == 0 {
		return func() error { return nil }, nil
	}
	return func() error {
		args.A, args.B, args.C = x.F32, y.F32, c.F32
		if bias != nil {
			args.Bias = bias.F32
		}
		gemm.RunStrided(p, args, ws)
		return nil
	}, nil
}
