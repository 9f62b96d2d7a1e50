package cuda

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Matrix products: cuBLASLt where it is there, our own kernels (kernels/matmul.cu) where not and for the thin products of
// decoding. A constant right operand is kept as [N,K], once for all sessions, in the type it is multiplied in.

// activationCodes are those of kernels/device.cuh.
var activationCodes = map[string]int{"none": 0, "relu": 1, "silu": 2, "gelu": 3, "gelu_tanh": 4, "sigmoid": 5, "softplus": 6}

func matmulKernels() []*Kernel {
	ranks := func(n *graph.Node, t backends.Target) error {
		for i := range 2 {
			if n.In[i].Type.Rank() < 2 {
				return fmt.Errorf("operand %d has fewer than two axes", i)
			}
		}
		return reals(0, 1)(n, t)
	}
	return []*Kernel{
		{Op: onnxOp("MatMul", 1), Name: "gemm", Accepts: ranks, Lower: func(b *Bind, n *graph.Node) error { return b.matmul(matmulArgs{alpha: 1}) }},
		{Op: ssmOp("Linear"), Name: "gemm", Accepts: reals(), Lower: func(b *Bind, n *graph.Node) error {
			act, ok := activationCodes[n.Attrs.Str("activation", "none")]
			if !ok {
				return ErrFallback
			}
			return b.matmul(matmulArgs{alpha: 1, act: act, bias: n.Input(2), residual: n.Input(3)})
		}},
		{Op: onnxOp("Gemm", 7), Name: "gemm", Accepts: func(n *graph.Node, t backends.Target) error {
			if c := n.Input(2); c != nil && (n.Attrs.Float("beta", 1) != 1 || c.Type.Rank() < 1 || c.Type.Rank() == 2 && !c.Type.Shape[0].Is(1)) {
				return fmt.Errorf("the bias C is %s with beta %g, not one row", c.Type, n.Attrs.Float("beta", 1))
			}
			return reals(0, 1, 2)(n, t)
		}, Lower: func(b *Bind, n *graph.Node) error {
			return b.matmul(matmulArgs{alpha: n.Attrs.Float("alpha", 1), bias: n.Input(2), transA: n.Attrs.Int("transA", 0) != 0, transB: n.Attrs.Int("transB", 0) != 0})
		}},
	}
}

// matmulArgs is what the operators add to inputs 0 and 1.
type matmulArgs struct {
	alpha          float32
	act            int
	bias, residual *graph.Value
	transA, transB bool
}

// gemm is a product with everything settled. Strides are in elements; batch2 is the inner batch axis.
type gemm struct {
	a, b, c, bias, residual *Mem
	m, n, k                 int
	lda, ldb, ldc           int
	batch, batch2           int
	sa, sb, sc              [2]int
	transB                  bool
	act                     int
	alpha                   float32
	q                       *blocks // the right operand in fewer bits, in place of b
	part                    bool    // of a product in several passes
}

// operandType is the type that operands are multiplied in.
func (b *Bind) operandType(x, w *Mem) tensor.DType {
	if b.set().compute == "bf16" && (x.DType == tensor.BFloat16 || w.DType == tensor.BFloat16 || x.DType == tensor.Float32) {
		return tensor.BFloat16
	}
	if x.DType == w.DType {
		return x.DType
	}
	return tensor.Float32
}

func (b *Bind) matmul(o matmulArgs) error {
	out := b.Out(0)
	x, err := b.In(0)
	if err != nil {
		return err
	}
	if o.transA {
		if x, err = b.dense(x.view([]int{x.Shape[1], x.Shape[0]}, []int{x.Strides[1], x.Strides[0]}, 0)); err != nil {
			return err
		}
	}
	g := gemm{c: out, alpha: o.alpha, act: o.act, batch: 1, batch2: 1}
	for _, p := range []struct {
		v  *graph.Value
		to **Mem
	}{{o.bias, &g.bias}, {o.residual, &g.residual}} {
		if p.v == nil {
			continue
		}
		m, err := b.b.of(p.v)
		if err != nil {
			return err
		}
		if *p.to, err = b.dense(m); err != nil {
			return err
		}
	}
	if g.residual != nil && (g.residual.Len() != out.Len() || g.residual.DType != out.DType) {
		c := b.Scratch(out.DType, out.Shape...)
		if r := broadcastTo(g.residual, out.Shape); r == nil {
			return ErrFallback
		} else if err := b.copy(c, r); err != nil {
			return err
		}
		g.residual = c
	}
	if m := b.b.e.matrices[b.n]; m != nil {
		return b.matmulBlocks(g, x, m)
	}
	w := b.n.In[1]
	if t := b.b.contents(w); t != nil && len(t.Shape) == 2 {
		return b.matmulConst(g, x, w, t, o.transB)
	}
	y, err := b.In(1)
	if err != nil {
		return err
	}
	if o.transB {
		y = y.view([]int{y.Shape[1], y.Shape[0]}, []int{y.Strides[1], y.Strides[0]}, 0)
	}
	return b.matmulTwo(g, x, y)
}

// matmulConst multiplies by a constant matrix.
func (b *Bind) matmulConst(g gemm, x *Mem, w *graph.Value, t *tensor.Tensor, transposed bool) error {
	d := b.operandType(x, &Mem{DType: t.DType})
	m, err := b.b.constant(w, t, d, !transposed)
	if err != nil {
		return err
	}
	if err := b.rows(&g, x, d, m.Shape[0], m.Shape[1]); err != nil {
		return err
	}
	g.b, g.ldb, g.transB = m, g.k, true
	return b.product(g)
}

// rows makes x, in type d, the left operand of a product with n columns of k.
func (b *Bind) rows(g *gemm, x *Mem, d tensor.DType, n, k int) error {
	if x.DType != d {
		c := b.Scratch(d, x.Shape...)
		if err := b.copy(c, x); err != nil {
			return err
		}
		x = c
	}
	rows, cols, ld, ok := x.matrix()
	if !ok {
		var err error
		if x, err = b.dense(x); err != nil {
			return err
		}
		if rows, cols, ld, ok = x.matrix(); !ok {
			return ErrFallback
		}
	}
	g.a = x
	g.m, g.n, g.k = rows, n, k
	if cols != g.k || g.c.Len() != rows*g.n || g.bias != nil && g.bias.Len() != g.n {
		return ErrFallback
	}
	g.lda, g.ldc = ld, g.n
	return nil
}

// matmulTwo multiplies two activations with broadcast batch axes.
func (b *Bind) matmulTwo(g gemm, x, y *Mem) error {
	d := b.operandType(x, y)
	for _, m := range []**Mem{&x, &y} {
		if (*m).DType != d {
			c := b.Scratch(d, (*m).Shape...)
			if err := b.copy(c, *m); err != nil {
				return err
			}
			*m = c
		}
	}
	r := len(g.c.Shape)
	if r < 2 || len(x.Shape) < 2 || len(y.Shape) < 2 {
		return ErrFallback
	}
	batch := g.c.Shape[:r-2]
	grow := func(m *Mem) *Mem {
		return broadcastTo(m, append(append([]int{}, batch...), m.Shape[len(m.Shape)-2:]...))
	}
	xb, yb := grow(x), grow(y)
	if xb == nil || yb == nil {
		return ErrFallback
	}
	// Rows of the left operand, rows or columns of the right one, must be contiguous.
	var err error
	if k := xb.Shape[r-1]; k > 1 && xb.Strides[r-1] != 1 || xb.Strides[r-2] < k && xb.Shape[r-2] > 1 {
		if x, err = b.dense(x); err != nil {
			return err
		}
		xb = grow(x)
	}
	trans := false
	switch {
	case yb.Strides[r-1] == 1 || yb.Shape[r-1] == 1 && yb.Strides[r-2] != 1:
	case yb.Strides[r-2] == 1 || yb.Shape[r-2] == 1:
		trans = true
	default:
		if y, err = b.dense(y); err != nil {
			return err
		}
		yb = grow(y)
	}
	if !trans && (yb.Shape[r-1] > 1 && yb.Strides[r-1] != 1 || yb.Shape[r-2] > 1 && yb.Strides[r-2] < yb.Shape[r-1]) || trans && yb.Shape[r-1] > 1 && yb.Strides[r-1] < yb.Shape[r-2] {
		if y, err = b.dense(y); err != nil {
			return err
		}
		yb, trans = grow(y), false
	}
	g.a, g.b, g.transB = xb, yb, trans
	g.m, g.k, g.n = xb.Shape[r-2], xb.Shape[r-1], yb.Shape[r-1]
	if yb.Shape[r-2] != g.k || g.c.Shape[r-2] != g.m || g.c.Shape[r-1] != g.n {
		return ErrFallback
	}
	g.lda, g.ldb, g.ldc = max(xb.Strides[r-2], g.k), yb.Strides[r-2], g.n
	if trans {
		g.ldb = yb.Strides[r-1]
	}
	if g.ldb < 1 || !trans && g.ldb < g.n {
		g.ldb = g.n
	}
	if trans && g.ldb < g.k {
		g.ldb = g.k
	}
	// At most two batch axes after joining.
	views := []*Mem{g.c.view(batch, g.c.Strides[:r-2], 0), xb.view(batch, xb.Strides[:r-2], 0), yb.view(batch, yb.Strides[:r-2], 0)}
	if len(batch) > 0 && product(batch) > 1 {
		dims, s := merged(batch, views)
		switch len(dims) {
		case 1:
			g.batch, g.sc[0], g.sa[0], g.sb[0] = dims[0], s[0][0], s[1][0], s[2][0]
		case 2:
			g.batch, g.batch2 = dims[0], dims[1]
			g.sc, g.sa, g.sb = [2]int(s[0]), [2]int(s[1]), [2]int(s[2])
		default:
			return ErrFallback
		}
	}
	return b.product(g)
}

// product submits g on the way that suits it.
func (b *Bind) product(g gemm) error {
	if g.k == 0 {
		return ErrFallback
	}
	if g.streams(b.dev().streamLimit()) {
		return b.stream(g)
	}
	if name, ok := g.thin(); ok {
		return b.own(g, name, ceilDiv(g.n*32, 256), 0)
	}
	if b.dev().blas != nil && g.batch2 == 1 {
		return b.blas(g)
	}
	l, err := b.thick(g)
	if err == nil {
		b.submit(b.name, l)
	}
	return err
}

// thick makes the launch of our own kernel for products of many rows.
func (b *Bind) thick(g gemm) (*launch, error) {
	if name, ok := g.tensorCore(); ok {
		return b.ownLaunch(g, name, ceilDiv(g.m, 128)*ceilDiv(g.n, 128)*g.batch*g.batch2, 3*4*8192+1024)
	}
	return b.ownLaunch(g, "gemm_f32", ceilDiv(g.m, 64)*ceilDiv(g.n, 64)*g.batch*g.batch2, 2*16*68*4)
}

// thin names the kernel for products of up to 8 rows with a transposed matrix of any type.
func (g *gemm) thin() (string, bool) {
	if g.m > 8 || !g.transB || g.batch*g.batch2 != 1 || !g.a.aligned(16) || !g.b.aligned(16) || g.k%4 != 0 || g.lda%4 != 0 || g.ldb%4 != 0 {
		return "", false
	}
	rows := 1
	for _, r := range []int{4, 8} {
		if g.m > rows {
			rows = r
		}
	}
	return fmt.Sprint("thin_", rows), true
}

// tensorCore names our own tensor-core kernel, when rows start on 16 bytes.
func (g *gemm) tensorCore() (string, bool) {
	name := map[tensor.DType]string{tensor.BFloat16: "gemm_bf16", tensor.Float16: "gemm_f16"}[g.a.DType]
	even := g.k%8 == 0 && g.lda%8 == 0 && g.ldb%8 == 0 && g.a.aligned(16) && g.b.aligned(16)
	for i := range 2 {
		even = even && g.sa[i]%8 == 0 && g.sb[i]%8 == 0
	}
	if name == "" || g.a.DType != g.b.DType || !even || !g.transB && g.n%8 != 0 {
		return "", false
	}
	if g.transB {
		name += "_t"
	}
	return name, true
}

// own submits one of our kernels.
func (b *Bind) own(g gemm, name string, blocks, shared int) error {
	l, err := b.ownLaunch(g, name, blocks, shared)
	if err == nil {
		b.submit(b.name, l)
	}
	return err
}

func (b *Bind) ownLaunch(g gemm, name string, blocks, shared int) (*launch, error) {
	if blocks <= 0 || blocks > 1<<31-1 {
		return nil, ErrFallback
	}
	trans := 0
	if g.transB {
		trans = 1
	}
	p := (&params{}).tensor(g.a).tensor(g.b).tensor(g.c).tensor(g.bias).tensor(g.residual).i64(g.m, g.n, g.k, g.lda, g.ldb, g.ldc,
		g.batch, g.sa[0], g.sb[0], g.sc[0], g.batch2, g.sa[1], g.sb[1], g.sc[1], trans, g.act).f32(g.alpha, 0)
	f, err := b.dev().function("matmul", name, shared)
	return &launch{f, blocks, 256, shared, p}, err
}

var blasTypes = map[tensor.DType]driver.BLASType{tensor.Float32: driver.BLASF32, tensor.Float16: driver.BLASF16, tensor.BFloat16: driver.BLASBF16}

// blas submits cuBLASLt's product. Bias and residual are its own; an activation follows in a launch.
func (b *Bind) blas(g gemm) error {
	bias := g.bias
	if bias != nil && bias.DType != g.c.DType {
		c := b.Scratch(g.c.DType, bias.Shape...)
		if err := b.copy(c, bias); err != nil {
			return err
		}
		bias = c
	}
	e := b.b.e
	p := b.b.p
	p.blasBytes = workspaceBytes
	q := driver.Product{
		M: g.m, N: g.n, K: g.k, Type: blasTypes[g.a.DType], OutType: blasTypes[g.c.DType], TransB: g.transB, LdA: g.lda, LdB: g.ldb, LdC: g.ldc,
		Batch: g.batch, StrideA: int64(g.sa[0]), StrideB: int64(g.sb[0]), StrideC: int64(g.sc[0]), Alpha: g.alpha,
		FastTF32: e.set.compute == "tf32", Residual: g.residual != nil && g.act == 0, Bias: bias != nil,
	}
	// Where cuBLASLt has no algorithm, for an odd start of a view, say, our kernel serves.
	plain := g
	plain.act, plain.bias = 0, bias
	if g.act != 0 {
		plain.residual = nil
	}
	other, err := b.thick(plain)
	if err != nil {
		return err
	}
	var plan *driver.MatmulPlan
	b.Do("gemm", func() error {
		q.A, q.B, q.C = g.a.addr(), g.b.addr(), g.c.addr()
		if bias != nil {
			q.Vector = bias.addr()
		}
		if q.Residual {
			q.C0 = g.residual.addr()
		}
		choice := 0
		if e.set.search && g.batch == 1 {
			fill, right := 0, ((g.k-1)*g.ldb+g.n)*g.b.DType.Size()
			if g.a.root.kind == inArena {
				fill = ((g.m-1)*g.lda + g.k) * g.a.DType.Size()
			}
			if g.transB {
				right = ((g.n-1)*g.ldb + g.k) * g.b.DType.Size()
			}
			choice = e.dev.fastest(q, fill, right)
		}
		var err error
		if plan, err = e.dev.blas.Plan(q, workspaceBytes, choice); err != nil {
			plan = nil
			other.p.place()
			return nil
		}
		p.plans = append(p.plans, plan)
		return nil
	}, func(s *session) error {
		if plan == nil {
			return s.stream.Launch(other.f, other.blocks, other.threads, other.shared, other.p.b)
		}
		return plan.Run(s.stream, s.workspace, workspaceBytes)
	})
	if g.act == 0 {
		return nil
	}
	names := []string{"", "Relu", "Swish", "Gelu", "GeluTanh", "Sigmoid", "Softplus"}
	c := &chain{in: []*Mem{g.c}, code: []instruction{{code: unaryCodes[names[g.act]], constants: [2]float64{1}}}}
	if g.residual != nil {
		c.in = append(c.in, g.residual)
		c.code = append(c.code, instruction{code: binaryCodes["Add"], from: fromInput, index: 1})
	}
	return b.launchChain(c, g.c, "f32")
}
