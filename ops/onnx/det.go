package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// detRows: the determinant of square matrices.
func detRows() []*ops.Op {
	return versions("Det", []int{11, 22}, ops.Op{
		Doc: "determinant of the matrices X[...,M,M]", In: params("X"), Out: params("Y"), Attrs: noAttrs,
		Infer: func(c *ops.Infer) error {
			if err := want(c, 0, floatTypes); err != nil {
				return err
			}
			if err := rankAtLeast(c, 0, 2); err != nil {
				return err
			}
			t := c.Type(0)
			out := unranked(t.DType)
			if t.Ranked() {
				m, n := t.Shape[t.Rank()-2], t.Shape[t.Rank()-1]
				if m != n && m.IsConst() && n.IsConst() {
					return c.Errorf("X %s, want square matrices", t)
				}
				out.Shape = append([]graph.Dim{}, t.Shape[:t.Rank()-2]...)
			}
			c.Out(0, out)
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x := c.In[0]
			r := x.Rank()
			n := x.Shape[r-1]
			if x.Shape[r-2] != n {
				return nil, fmt.Errorf("input %s, want square matrices", x.TypeString())
			}
			v := append([]float64{}, floatsOf(x)...)
			out := tensor.New(x.DType, x.Shape[:r-2]...)
			for i := range out.Len() {
				out.SetAt(i, determinant(v[i*n*n:(i+1)*n*n], n))
			}
			return one(out), nil
		},
		Cases: []ops.Case{{Name: "2x2", In: one(tensor.From([]float32{0, 1, 2, 3}, 2, 2)), Want: one(tensor.Scalar(float32(-2)))}},
	})
}

// determinant eliminates with partial pivoting, in place.
func determinant(m []float64, n int) float64 {
	det := 1.0
	for k := range n {
		p := k
		for i := k + 1; i < n; i++ {
			if math.Abs(m[i*n+k]) > math.Abs(m[p*n+k]) {
				p = i
			}
		}
		if m[p*n+k] == 0 {
			return 0
		}
		if p != k {
			det = -det
			for j := range n {
				m[p*n+j], m[k*n+j] = m[k*n+j], m[p*n+j]
			}
		}
		det *= m[k*n+k]
		for i := k + 1; i < n; i++ {
			f := m[i*n+k] / m[k*n+k]
			for j := k; j < n; j++ {
				m[i*n+j] -= f * m[k*n+j]
			}
		}
	}
	return det
}
