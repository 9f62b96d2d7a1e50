package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// matmulRows are the matrix products.
func matmulRows() []*ops.Op {
	a := tensor.From([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	b := tensor.From([]float32{1, 0, 0, 1, 1, 1}, 3, 2)
	ab := one(tensor.From([]float32{4, 5, 10, 11}, 2, 2))
	rows := versions("MatMul", []int{1, 9, 13}, ops.Op{
		Doc: "numpy.matmul: A[...,M,K] times B[...,K,N], leading axes broadcast; a vector is a row on the left and a column on the right",
		In:  params("A", "B"), Out: params("Y"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			if err := same(c, numberTypes, 0, 1); err != nil {
				return err
			}
			shape, err := matmulShape(c)
			if err != nil {
				return err
			}
			c.Out(0, graph.Type{DType: c.Type(0).DType, Shape: shape})
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x, y := c.In[0], c.In[1]
			if x.DType.IsFloat() {
				v, shape, err := matmul(x, y, floatsOf(x), floatsOf(y))
				if err != nil {
					return nil, err
				}
				return one(fromFloats(x.DType, v, shape...)), nil
			}
			v, shape, err := matmul(x, y, intsOf(x), intsOf(y))
			if err != nil {
				return nil, err
			}
			return one(fromInts(x.DType, v, shape...)), nil
		},
		Cases: []ops.Case{{Name: "2x3x2", In: []*tensor.Tensor{a, b}, Want: ab},
			{Name: "vector on the left", In: []*tensor.Tensor{tensor.From([]float32{1, 2, 3}, 3), b}, Want: one(tensor.From([]float32{4, 5}, 2))},
			{Name: "batch broadcasts", In: []*tensor.Tensor{tensor.From([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 2, 1, 2, 3), b}}},
	})
	gemmOp := ops.Op{
		Doc: "alpha*A'*B' + beta*C with A' and B' optionally transposed matrices; C broadcasts to [M,N]",
		In:  params("A", "B", "C?"), Out: params("Y"),
		Attrs: []ops.Attr{attr("alpha", float32(1)), attr("beta", float32(1)), attr("transA", int64(0)), attr("transB", int64(0))},
		Infer: inferGemm, Eval: evalGemm,
		Cases: []ops.Case{{Name: "no C", In: []*tensor.Tensor{a, b}, Want: ab},
			{Name: "all attributes", Attrs: graph.Attrs{"alpha": float32(2), "beta": float32(3), "transA": int64(1), "transB": int64(1)},
				In: []*tensor.Tensor{a, tensor.From([]float32{1, 1, 0, 2}, 2, 2), tensor.From([]float32{1, -1}, 2)},
				// A' = [[1,4],[2,5],[3,6]], B' = [[1,0],[1,2]]
				Want: one(tensor.From([]float32{13, 13, 17, 17, 21, 21}, 3, 2))}},
	}
	old := gemmOp
	old.In = params("A", "B", "C")
	old.Cases = gemmOp.Cases[1:]
	rows = append(rows, versions("Gemm", []int{7, 9}, old)...)
	return append(rows, versions("Gemm", []int{11, 13}, gemmOp)...)
}

// matmulShape is the shape of input 0 times input 1; nil when a rank is unknown.
func matmulShape(c *ops.Infer) ([]graph.Dim, error) { return matmulDims(c, c.Type(0), c.Type(1)) }

func matmulDims(c *ops.Infer, a, b graph.Type) ([]graph.Dim, error) {
	if !a.Ranked() || !b.Ranked() {
		return nil, nil
	}
	if a.Rank() == 0 || b.Rank() == 0 {
		return nil, c.Errorf("cannot multiply %s by %s: want rank 1 or more", a, b)
	}
	as, bs := a.Shape, b.Shape
	if a.Rank() == 1 {
		as = []graph.Dim{graph.D(1), as[0]}
	}
	if b.Rank() == 1 {
		bs = []graph.Dim{bs[0], graph.D(1)}
	}
	m, n := len(as)-2, len(bs)-1
	if ka, kb := as[m+1], bs[n-1]; ka != kb && ka.IsConst() && kb.IsConst() {
		return nil, c.Errorf("cannot multiply %s by %s: inner lengths %v and %v", a, b, ka, kb)
	}
	shape, err := broadcastShapes(as[:m], bs[:n-1])
	if err != nil {
		return nil, err
	}
	if a.Rank() > 1 {
		shape = append(shape, as[m])
	}
	if b.Rank() > 1 {
		shape = append(shape, bs[n])
	}
	return shape, nil
}

// matmul multiplies with numpy's rules; av and bv are the elements of a and b.
func matmul[T accumulator](a, b *tensor.Tensor, av, bv []T) ([]T, []int, error) {
	as, bs := a.Shape, b.Shape
	if len(as) == 0 || len(bs) == 0 {
		return nil, nil, fmt.Errorf("cannot multiply %s by %s: want rank 1 or more", a.TypeString(), b.TypeString())
	}
	if len(as) == 1 {
		as = []int{1, as[0]}
	}
	if len(bs) == 1 {
		bs = []int{bs[0], 1}
	}
	ra, rb := len(as), len(bs)
	m, k, n := as[ra-2], as[ra-1], bs[rb-1]
	if bs[rb-2] != k {
		return nil, nil, fmt.Errorf("cannot multiply %s by %s: inner lengths %d and %d", a.TypeString(), b.TypeString(), k, bs[rb-2])
	}
	batch, err := broadcastSizes(as[:ra-2], bs[:rb-2])
	if err != nil {
		return nil, nil, err
	}
	out := make([]T, product(batch)*m*n)
	oa, ob := offsets(batch, broadcastStrides(as[:ra-2], batch)), offsets(batch, broadcastStrides(bs[:rb-2], batch))
	for i := range oa {
		gemm(m, n, k, av[oa[i]*m*k:(oa[i]+1)*m*k], bv[ob[i]*k*n:(ob[i]+1)*k*n], out[i*m*n:(i+1)*m*n])
	}
	shape := batch
	if a.Rank() > 1 {
		shape = append(shape, m)
	}
	if b.Rank() > 1 {
		shape = append(shape, n)
	}
	return out, shape, nil
}

func inferGemm(c *ops.Infer) error {
	if err := same(c, numberTypes, 0, 1, 2); err != nil {
		return err
	}
	for i := range 2 {
		if err := rankIs(c, i, 2); err != nil {
			return err
		}
	}
	a, b := c.Type(0), c.Type(1)
	if !a.Ranked() || !b.Ranked() {
		c.Out(0, unranked(a.DType))
		return nil
	}
	ta, tb := c.Node.Attrs.Int("transA", 0) != 0, c.Node.Attrs.Int("transB", 0) != 0
	m, ka := a.Shape[0], a.Shape[1]
	if ta {
		m, ka = ka, m
	}
	kb, n := b.Shape[0], b.Shape[1]
	if tb {
		kb, n = n, kb
	}
	if ka != kb && ka.IsConst() && kb.IsConst() {
		return c.Errorf("cannot multiply %s (transA=%v) by %s (transB=%v): inner lengths %v and %v", a, ta, b, tb, ka, kb)
	}
	out := graph.T(a.DType, m, n)
	if t := c.Type(2); c.Has(2) && t.Ranked() {
		if t.Rank() > 2 {
			return c.Errorf("C %s does not broadcast to %s", t, out)
		}
		for i, d := range t.Shape {
			o := out.Shape[2-t.Rank()+i]
			if !d.Is(1) && d.IsConst() && o.IsConst() && d != o {
				return c.Errorf("C %s does not broadcast to %s", t, out)
			}
		}
	}
	c.Out(0, out)
	return nil
}

func evalGemm(c *ops.Call) ([]*tensor.Tensor, error) {
	x, y, z, at := c.In[0], c.In[1], c.Arg(2), c.Node.Attrs
	m, ka := x.Shape[0], x.Shape[1]
	ta, tb := at.Int("transA", 0) != 0, at.Int("transB", 0) != 0
	if ta {
		m, ka = ka, m
	}
	kb, n := y.Shape[0], y.Shape[1]
	if tb {
		kb, n = n, kb
	}
	if ka != kb {
		return nil, fmt.Errorf("cannot multiply %s by %s: inner lengths %d and %d", x.TypeString(), y.TypeString(), ka, kb)
	}
	alpha, beta := float64(at.Float("alpha", 1)), float64(at.Float("beta", 1))
	var cOff []int
	if z != nil {
		if s, err := broadcastSizes(z.Shape, []int{m, n}); err != nil || len(s) != 2 || s[0] != m || s[1] != n {
			return nil, fmt.Errorf("bias C %s does not broadcast to [%d,%d]", z.TypeString(), m, n)
		}
		cOff = offsets([]int{m, n}, broadcastStrides(z.Shape, []int{m, n}))
	}
	if !x.DType.IsFloat() && alpha == 1 && (z == nil || beta == 1) {
		acc := gemmOriented(ta, tb, m, n, ka, intsOf(x), intsOf(y))
		for i, o := range cOff {
			acc[i] += z.IntAt(o)
		}
		return one(fromInts(x.DType, acc, m, n)), nil
	}
	acc := gemmOriented(ta, tb, m, n, ka, floatsOf(x), floatsOf(y))
	for i := range acc {
		acc[i] *= alpha
	}
	for i, o := range cOff {
		acc[i] += beta * z.At(o)
	}
	return one(fromFloats(x.DType, acc, m, n)), nil
}

func gemmOriented[T accumulator](ta, tb bool, m, n, k int, a, b []T) []T {
	if ta {
		a = transposed(k, m, a)
	}
	if tb {
		b = transposed(n, k, b)
	}
	c := make([]T, m*n)
	gemm(m, n, k, a, b, c)
	return c
}
