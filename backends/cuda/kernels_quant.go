package cuda

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/backends"
	panels "github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Products with matrices in fewer bits (quantised.go, kernels/quant.cu). Few rows in 16 bits are streamed as other matrices are
// (kernels_decode.go); few rows in f32 have a kernel of their own; for many rows the weights are written out in the type of the
// operands, which costs less than the product, and multiplied like others.

// tiedName is the kernel for rows of a table that is a product's matrix as well.
const tiedName = "panels"

// spreadFrom is how many rows it takes for the weights to be written out: below, reading them once for every 16 rows moves fewer bytes.
const spreadFrom = 49

func quantKernels() []*Kernel {
	return []*Kernel{{
		Op: onnxOp("Gather", 1), Name: tiedName, Lower: lowerTiedGather,
		Accepts: func(n *graph.Node, t backends.Target) error {
			if t.Weights == "" || t.Weights == panels.F32.String() {
				return fmt.Errorf("weights are stored as they are")
			}
			c := n.In[0].Const
			if c == nil || len(c.Shape) != 2 || !isReal(c.DType) || n.Attrs.Int("axis", 0) != 0 {
				return fmt.Errorf("not rows of a constant float matrix")
			}
			if d := n.In[1].Type.DType; d != tensor.Int64 && d != tensor.Int32 || !n.In[1].Type.Ranked() || n.In[1].Const != nil {
				return fmt.Errorf("indices are %s", n.In[1].Type)
			}
			// A plan read from an artifact has only the packed form left: it was tied.
			if len(c.Data) == c.DType.Bytes(c.Len()) && !tied(n.Graph, c) {
				return fmt.Errorf("no product has its transpose as a constant matrix")
			}
			return nil
		},
	}}
}

// tied reports whether a product of g multiplies by the transpose of c.
func tied(g *graph.Graph, c *tensor.Tensor) bool {
	return slices.ContainsFunc(g.Nodes, func(m *graph.Node) bool {
		v, transposed, ok := productMatrix(m)
		if !ok || v.Const == nil {
			return false
		}
		b := v.Const
		if transposed {
			return b == c
		}
		return b.DType == c.DType && len(b.Shape) == 2 && b.Shape[0] == c.Shape[1] && b.Shape[1] == c.Shape[0] && len(b.Data) == len(c.Data) && transposes(b, c)
	})
}

// transposes compares b[k,n] with c[n,k], by rows of c that stay in cache.
func transposes(b, c *tensor.Tensor) bool {
	k, n, size := b.Shape[0], b.Shape[1], b.DType.Size()
	const block = 64
	for j0 := 0; j0 < n; j0 += block {
		for i := range k {
			for j := j0; j < min(j0+block, n); j++ {
				if string(b.Data[(i*n+j)*size:][:size]) != string(c.Data[(j*k+i)*size:][:size]) {
					return false
				}
			}
		}
	}
	return true
}

func lowerTiedGather(b *Bind, n *graph.Node) error {
	q, err := b.b.e.matrixOf(b.b.e.matrices[n])
	if err != nil {
		return err
	}
	ids, err := b.Dense(1)
	if err != nil {
		return err
	}
	if q.dense != nil {
		return b.gatherFrom(q.dense, ids)
	}
	out := b.Out(0)
	p := (&params{}).blocks(q).tensor(ids).tensor(out).i64(ids.Len(), q.n, q.k).ptr(b.b.badIndex())
	return b.Launch("quant", "quant_rows", ceilDiv(ids.Len()*ceilDiv(q.k, 8), 256), 256, 0, p)
}

// matmulBlocks multiplies by a matrix in fewer bits.
func (b *Bind) matmulBlocks(g gemm, x *Mem, m *matrix) error {
	q, err := b.b.e.matrixOf(m)
	if err != nil {
		return err
	}
	d := x.DType
	if b.set().compute == "bf16" && d == tensor.Float32 || q.dense != nil {
		d = tensor.BFloat16
	}
	if err := b.rows(&g, x, d, q.n, q.k); err != nil {
		return err
	}
	if q.dense != nil {
		g.b, g.ldb, g.transB = q.dense, q.k, true
		return b.product(g)
	}
	if g.m >= spreadFrom {
		w := b.Scratch(d, q.n, q.k)
		p := (&params{}).blocks(q).tensor(w).i64(q.n, q.k)
		if err := b.Launch("quant", "quant_spread", q.lanes(), 256, 0, p); err != nil {
			return err
		}
		g.b, g.ldb, g.transB = w, q.k, true
		return b.product(g)
	}
	g.q = q
	for rows, at := streamRows, 0; at < g.m; at += rows {
		pass := g.rowsFrom(at, min(rows, g.m-at))
		for rows > 8 && !pass.streams(b.dev().streamLimit()) {
			rows = 8
			pass = g.rowsFrom(at, min(rows, g.m-at))
		}
		if pass.streams(b.dev().streamLimit()) {
			err = b.stream(pass)
		} else {
			rows = 8
			err = b.thinBlocks(g.rowsFrom(at, min(rows, g.m-at)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rowsFrom is the product of count rows from at on.
func (g gemm) rowsFrom(at, count int) gemm {
	if at == 0 && count == g.m {
		return g
	}
	part := func(m *Mem, ld int) *Mem {
		if m == nil {
			return nil
		}
		return m.view([]int{count, m.Len() / g.m}, []int{ld, 1}, at*ld)
	}
	p := g
	p.m, p.part = count, true
	p.a, p.c, p.residual = part(g.a, g.lda), part(g.c, g.ldc), part(g.residual, g.ldc)
	return p
}

// thinBlocks submits a product of up to 8 rows of any type, in f32.
func (b *Bind) thinBlocks(g gemm) error {
	rows := 1
	for _, r := range []int{4, 8} {
		if g.m > rows {
			rows = r
		}
	}
	p := (&params{}).tensor(g.a).tensor(g.c).tensor(g.bias).tensor(g.residual).blocks(g.q).i64(g.m, g.n, g.k, g.lda, g.ldc, g.act).f32(g.alpha, 0)
	return b.Launch("quant", fmt.Sprint("quant_thin_", rows), g.q.tiles(), 256, 8*rows*16*4, p)
}
