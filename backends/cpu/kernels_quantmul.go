package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/igemm"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Products and convolutions of bytes, exact in int32 (package igemm).

// layoutQuads is a matrix of signed bytes in panels of quads; layoutByteFilters
// a convolution's weight with padded rows.
const (
	layoutQuads       = "quads32.int8"
	layoutByteFilters = "filters.int8"
)

func quantMulKernels() []*Kernel {
	return []*Kernel{
		{Op: onnxOp("MatMulInteger", 10), Name: "quads", Pack: packQuads(1),
			Accepts: func(n *graph.Node, _ backends.Target) error { return acceptQuads(n, 1, 2, 3) },
			Lower: func(b *Bind, n *graph.Node) (Step, error) {
				m, err := newQuadProduct(b, b.In(0), b.In(1), b.In(2), b.In(3), b.Packed(1), false, b.Out(0))
				if err != nil {
					return nil, err
				}
				y := b.Out(0)
				m.whole = func() []int32 { return View[int32](y) }
				return m.step(b, func(row, col int, sums []int32) { copy(View[int32](y)[row*m.n+col:], sums) }), nil
			}},
		{Op: onnxOp("QLinearMatMul", 10), Name: "quads", Pack: packQuads(3),
			Accepts: func(n *graph.Node, _ backends.Target) error {
				if d := n.In[1].Type.DType; d != tensor.Float32 || !isByte(n.Out[0].Type.DType) {
					return fmt.Errorf("scales are %v and the result %s", d, n.Out[0].Type)
				}
				return acceptQuads(n, 3, 2, 5)
			},
			Lower: lowerQLinearMatMul},
		{Op: graph.OpID{Domain: "com.microsoft", Name: "QGemm", Since: 1}, Name: "quads", Pack: packQuads(3), Accepts: acceptQGemm, Lower: lowerQGemm},
		{Op: onnxOp("QLinearConv", 10), Name: "filters", Pack: packByteFilters, Accepts: acceptQLinearConv, Lower: lowerQLinearConv},
	}
}

// acceptQuads takes bytes times a matrix, or batches of them, of signed bytes.
func acceptQuads(n *graph.Node, w, za, zb int) error {
	a, b := n.In[0].Type, n.In[w].Type
	if !isByte(a.DType) || !isByte(b.DType) || a.Rank() < 2 || b.Rank() < 2 {
		return fmt.Errorf("operands are %s and %s", a, b)
	}
	for _, i := range []int{za, zb} {
		if v := n.Input(i); v != nil && !v.Type.Ranked() {
			return fmt.Errorf("zero point %d is %s", i, v.Type)
		}
	}
	return nil
}

// packQuads packs a constant matrix; unsigned bytes become signed ones by 128 less.
func packQuads(i int) func(*graph.Node, backends.Target) []Packing {
	return func(n *graph.Node, _ backends.Target) []Packing {
		c := n.In[i].Const
		if c == nil || c.Rank() != 2 || c.Len() == 0 {
			return nil
		}
		k, cols := c.Shape[0], c.Shape[1]
		row, col := cols, 1
		if n.Attrs.Int("transB", 0) != 0 {
			k, cols, row, col = cols, k, 1, cols
		}
		flip := byte(0)
		if c.DType == tensor.Uint8 {
			flip = 0x80
		}
		return []Packing{{
			In: i, Layout: layoutQuads, DType: tensor.Uint8, Shape: []int{igemm.PackedSize(k, cols)},
			Pack: func(src *tensor.Tensor) (*tensor.Tensor, error) {
				dst := tensor.New(tensor.Uint8, igemm.PackedSize(k, cols))
				igemm.Pack(dst.Data, flipped(src.Data, flip), k, cols, row, col)
				return dst, nil
			},
			Unpack: func(packed *tensor.Tensor, shape []int) (*tensor.Tensor, error) {
				dst := tensor.New(c.DType, shape...)
				for r := range k {
					for j := range cols {
						dst.Data[r*row+j*col] = packed.Data[j/igemm.Width*igemm.PanelSize(k)+r/4*4*igemm.Width+j%igemm.Width*4+r%4] ^ flip
					}
				}
				return dst, nil
			},
		}}
	}
}

func flipped(b []byte, flip byte) []byte {
	if flip == 0 {
		return b
	}
	out := make([]byte, len(b))
	for i, v := range b {
		out[i] = v ^ flip
	}
	return out
}

// quadProduct is A[batch,M,K] times B[batch,K,N], or times one B[K,N].
type quadProduct struct {
	batch, m, n, k int
	one            bool // B is shared: the batch is more rows
	trans          bool // B is [N,K]
	a, b, za, zb   *Mem
	flipA, flipB   byte
	packed         []uint8
	scratchA       *Mem    // rows of whole quads, unsigned
	scratchB       *Mem    // panels of each B
	columns        []int32 // sums of the columns of each B
	totals         []int32 // sums of the rows of A, where zero points of B ask for them
	worker         []quadScratch
	whole          func() []int32 // the result, where it is just the sums
}

type quadScratch struct {
	sums [igemm.MaxRows * igemm.Width]int32
}

func newQuadProduct(b *Bind, a, w, za, zb *Mem, packed *tensor.Tensor, trans bool, y *Mem) (*quadProduct, error) {
	p := &quadProduct{a: a, b: w, za: za, zb: zb, trans: trans, k: a.Dim(-1), n: w.Dim(-1), m: a.Dim(-2), batch: product(a.Shape[:len(a.Shape)-2])}
	k := w.Dim(-2)
	if trans {
		k, p.n = p.n, k
	}
	if k != p.k || y.Len() == 0 || p.k == 0 || za != nil && za.Len() != 1 || zb != nil && zb.Len() != 1 && zb.Len() != p.n {
		return nil, ErrFallback
	}
	switch batch := product(w.Shape[:len(w.Shape)-2]); {
	case batch == 1:
		p.one, p.m, p.batch = true, p.m*p.batch, 1
	case batch != p.batch || len(w.Shape) != len(a.Shape) || zb != nil && zb.Len() != 1:
		return nil, ErrFallback
	}
	if p.batch*p.m*p.n != y.Len() {
		return nil, ErrFallback
	}
	if a.DType == tensor.Int8 {
		p.flipA = 0x80
	}
	if w.DType == tensor.Uint8 {
		p.flipB = 0x80
	}
	if p.k%4 != 0 || p.flipA != 0 {
		p.scratchA = b.Scratch(tensor.Uint8, p.batch*p.m*4*igemm.Quads(p.k))
	}
	if packed != nil {
		p.packed = packed.Data
	} else {
		p.scratchB = b.Scratch(tensor.Uint8, p.batch*igemm.PackedSize(p.k, p.n))
	}
	p.columns, p.totals = make([]int32, p.batch*p.n), make([]int32, p.batch*p.m)
	p.worker = make([]quadScratch, b.Pool().Workers())
	if packed != nil {
		p.sumColumns(0)
	}
	return p, nil
}

// sumColumns adds up the columns of one B.
func (p *quadProduct) sumColumns(batch int) {
	size, sums := igemm.PanelSize(p.k), p.columns[batch*p.n:(batch+1)*p.n]
	b := p.packed[batch*igemm.PackedSize(p.k, p.n):]
	for j := range sums {
		sum, panel := int32(0), b[j/igemm.Width*size+j%igemm.Width*4:]
		for q := range igemm.Quads(p.k) {
			for _, v := range panel[q*4*igemm.Width:][:4] {
				sum += int32(int8(v))
			}
		}
		sums[j] = sum
	}
}

// rowGroup is how many rows of A a piece of work has, panelGroup how many panels.
const (
	rowGroup   = 2 * igemm.MaxRows
	panelGroup = 8
)

// step computes the product and gives every part of a row of sums, from column
// col on, to out.
func (p *quadProduct) step(b *Bind, out func(row, col int, sums []int32)) Step {
	groups, np := (p.m+rowGroup-1)/rowGroup, (p.n+igemm.Width-1)/igemm.Width
	cuts := (np + panelGroup - 1) / panelGroup
	pl := b.Pool()
	prepare := task(func(_, batch int) { p.prepare(batch) })
	total := task(func(_, i int) {
		batch, r := i/groups, i%groups*rowGroup
		p.sumRows(batch*p.m+r, batch*p.m+min(p.m, r+rowGroup))
	})
	multiply := task(func(worker, i int) {
		batch, c, r := i/(groups*cuts), i/groups%cuts*panelGroup, i%groups*rowGroup
		for panel := c; panel < min(np, c+panelGroup); panel++ {
			p.rows(&p.worker[worker], batch, r, min(p.m, r+rowGroup), panel, out)
		}
	})
	return func() error {
		if p.scratchA != nil || p.scratchB != nil {
			if p.scratchB != nil {
				p.packed = p.scratchB.Raw
			}
			pl.Run(p.batch, prepare)
		}
		if p.asymmetric() {
			pl.Run(p.batch*groups, total)
		}
		pl.Run(p.batch*groups*cuts, multiply)
		return nil
	}
}

// asymmetric reports that some zero point of B, as the kernels see it, is not 0.
func (p *quadProduct) asymmetric() bool {
	if p.zb == nil {
		return p.flipB != 0
	}
	for _, v := range p.zb.Raw {
		if v != p.flipB { // unsigned bytes are shifted by 128
			return true
		}
	}
	return false
}

// operand is A as the kernels read it, and the distance of its rows.
func (p *quadProduct) operand() ([]uint8, int) {
	if p.scratchA != nil {
		return p.scratchA.Raw, 4 * igemm.Quads(p.k)
	}
	return p.a.Raw, p.k
}

// sumRows adds up rows [r0,r1) of A.
func (p *quadProduct) sumRows(r0, r1 int) {
	a, lda := p.operand()
	for r := r0; r < r1; r++ {
		sum := int32(0)
		for _, v := range a[r*lda:][:p.k] {
			sum += int32(v)
		}
		p.totals[r] = sum
	}
}

// prepare brings one batch's operands into the form that the kernels want.
func (p *quadProduct) prepare(batch int) {
	if p.scratchA != nil {
		wide := 4 * igemm.Quads(p.k)
		for r := batch * p.m; r < (batch+1)*p.m; r++ {
			row := p.scratchA.Raw[r*wide : (r+1)*wide]
			for i, v := range p.a.Raw[r*p.k : (r+1)*p.k] {
				row[i] = v ^ p.flipA
			}
			clear(row[p.k:])
		}
	}
	if p.scratchB != nil {
		size := igemm.PackedSize(p.k, p.n)
		row, col := p.n, 1
		if p.trans {
			row, col = 1, p.k
		}
		igemm.Pack(p.packed[batch*size:(batch+1)*size], flipped(p.b.Raw[batch*p.k*p.n:(batch+1)*p.k*p.n], p.flipB), p.k, p.n, row, col)
		p.sumColumns(batch)
	}
}

// rows computes some rows by one panel: sum (a-za)*(b-zb) is the product of the
// bytes, less za times the sum of the column, less zb times that of the row,
// plus k*za*zb.
func (p *quadProduct) rows(ws *quadScratch, batch, r0, r1, panel int, out func(row, col int, sums []int32)) {
	ks, quads := igemm.Current(), igemm.Quads(p.k)
	a, lda := p.operand()
	size := igemm.PanelSize(p.k)
	b := p.packed[batch*igemm.PackedSize(p.k, p.n)+panel*size:][:size]
	col := panel * igemm.Width
	cols := min(igemm.Width, p.n-col)
	za := zeroAt(p.za, 0)
	if p.flipA != 0 {
		za += 128
	}
	var less [igemm.Width]int32 // per column
	var zb [igemm.Width]int32
	anyZero := false
	for j := range cols {
		if p.zb != nil {
			zb[j] = zeroAt(p.zb, (col+j)%p.zb.Len())
		}
		if p.flipB != 0 {
			zb[j] -= 128
		}
		less[j] = za * (p.columns[batch*p.n+col+j] - int32(p.k)*zb[j])
		anyZero = anyZero || zb[j] != 0
	}
	for r := r0; r < r1; {
		m := (r1 - r + (r1-r+ks.Rows-1)/ks.Rows - 1) / ((r1 - r + ks.Rows - 1) / ks.Rows) // even heights
		at := (batch*p.m + r) * lda
		c, ldc := ws.sums[:], igemm.Width
		direct := p.whole != nil && cols == igemm.Width && !anyZero
		if direct {
			c, ldc = p.whole()[(batch*p.m+r)*p.n+col:], p.n
		}
		ks.UnsignedA(m, quads, a[at:], lda, b, c, ldc)
		if !anyZero {
			igemm.SubtractRows(c, ldc, m, &less)
		}
		if direct {
			r += m
			continue
		}
		for i := range m {
			sums := ws.sums[i*igemm.Width:][:cols]
			if anyZero {
				total := p.totals[batch*p.m+r+i]
				for j := range sums {
					sums[j] -= zb[j]*total + less[j]
				}
			}
			out(batch*p.m+r+i, col, sums)
		}
		r += m
	}
}

func lowerQLinearMatMul(b *Bind, n *graph.Node) (Step, error) {
	y, sa, sb, sy, zy := b.Out(0), b.In(1), b.In(4), b.In(6), b.In(7)
	p, err := newQuadProduct(b, b.In(0), b.In(3), b.In(2), b.In(5), b.Packed(3), false, y)
	if err != nil {
		return nil, err
	}
	if sa.Len() != 1 || sy.Len() != 1 || zy.Len() != 1 || sb.Len() != 1 && sb.Len() != p.n {
		return nil, ErrFallback
	}
	scales := make([]float32, p.n)
	var o igemm.Output
	run := p.step(b, func(row, col int, sums []int32) {
		o.RequantizeColumns(y.Raw[row*p.n+col:][:len(sums)], sums, scales[col:])
	})
	return func() error {
		o = outputOf(y.DType, zeroAt(zy, 0))
		for j := range scales {
			scales[j] = sa.F32[0] * sb.F32[j%sb.Len()] / sy.F32[0]
		}
		return run()
	}, nil
}

// acceptQGemm takes what passes/quant makes: bytes to bytes, A as it stands.
func acceptQGemm(n *graph.Node, _ backends.Target) error {
	if n.Attrs.Int("transA", 0) != 0 || n.Attrs.Float("alpha", 1) != 1 || n.Input(7) == nil || !isByte(n.Out[0].Type.DType) {
		return fmt.Errorf("transA, alpha or a result in floats")
	}
	if c := n.Input(6); c != nil && c.Type.DType != tensor.Int32 {
		return fmt.Errorf("the bias is %s", c.Type)
	}
	return acceptQuads(n, 3, 2, 5)
}

func lowerQGemm(b *Bind, n *graph.Node) (Step, error) {
	y, sa, sb, c, sy, zy := b.Out(0), b.In(1), b.In(4), b.In(6), b.In(7), b.In(8)
	p, err := newQuadProduct(b, b.In(0), b.In(3), b.In(2), b.In(5), b.Packed(3), n.Attrs.Int("transB", 0) != 0, y)
	if err != nil {
		return nil, err
	}
	if sa.Len() != 1 || sy.Len() != 1 || zy != nil && zy.Len() != 1 || sb.Len() != 1 && sb.Len() != p.n || c != nil && c.Len() != p.n {
		return nil, ErrFallback
	}
	scales := make([]float32, p.n)
	var o igemm.Output
	run := p.step(b, func(row, col int, sums []int32) {
		if c != nil {
			for j, v := range View[int32](c)[col:][:len(sums)] {
				sums[j] += v
			}
		}
		o.RequantizeColumns(y.Raw[row*p.n+col:][:len(sums)], sums, scales[col:])
	})
	return func() error {
		o = outputOf(y.DType, zeroAt(zy, 0))
		for j := range scales {
			scales[j] = sa.F32[0] * sb.F32[j%sb.Len()] / sy.F32[0]
		}
		return run()
	}, nil
}
