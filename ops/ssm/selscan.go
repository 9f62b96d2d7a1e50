package ssm

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// SelectiveScan is Mamba-1's scan (Gu and Dao, arXiv 2312.00752, algorithm 2),
// channels last. For each batch and channel d:
//
//	dt' = softplus?(dt + dt_bias)
//	h_t[n] = exp(A[d,n]*dt'_t) * h_{t-1}[n] + dt'_t * B_t[n] * u_t
//	y_t = sum_n C_t[n] h_t[n] + D_d * u_t,  times silu(z_t) when z is given
var SelectiveScan = &ops.Op{
	ID:  id("SelectiveScan"),
	Doc: "Mamba-1 selective scan (arXiv 2312.00752), channels last, decay per channel and state.",
	In: []ops.Param{
		{Name: "u", Doc: "[B,L,D]"}, {Name: "dt", Doc: "[B,L,D]"}, {Name: "A", Doc: "[D,N]"},
		{Name: "B", Doc: "[B,L,N]"}, {Name: "C", Doc: "[B,L,N]"},
		{Name: "D", Doc: "[D]", Optional: true}, {Name: "z", Doc: "[B,L,D]", Optional: true},
		{Name: "dt_bias", Doc: "[D]", Optional: true}, {Name: "h0", Doc: "[B,D,N]; zeros when omitted", Optional: true},
	},
	Out:   []ops.Param{{Name: "y", Doc: "[B,L,D]"}, {Name: "hT", Doc: "[B,D,N]", Optional: true}},
	Attrs: []ops.Attr{{Name: "dt_softplus", Doc: "apply softplus to dt + dt_bias", Default: int64(0)}},
	Alias: map[int]int{1: 8},
	Infer: func(c *ops.Infer) error {
		s := newCheck(c)
		s.input(0, "u", "B", "L", "D")
		s.input(1, "dt", "B", "L", "D")
		s.input(2, "A", "D", "N")
		s.input(3, "B", "B", "L", "N")
		s.input(4, "C", "B", "L", "N")
		s.input(5, "D", "D")
		s.input(6, "z", "B", "L", "D")
		s.input(7, "dt_bias", "D")
		s.input(8, "h0", "B", "D", "N")
		if s.err != nil {
			return s.err
		}
		c.Out(0, graph.Type{DType: c.Type(0).DType, Shape: s.dims(0, "B", "L", "D")})
		d := c.Type(0).DType
		if c.Has(8) {
			d = c.Type(8).DType
		}
		c.Out(1, graph.Type{DType: d, Shape: s.dims(1, "B", "D", "N")})
		return nil
	},
	Eval:      evalSelectiveScan,
	Decompose: decomposeSelective,
	Cases:     selectiveCases,
}

func evalSelectiveScan(c *ops.Call) ([]*tensor.Tensor, error) {
	ut := c.In[0]
	B, L, D, N := ut.Shape[0], ut.Shape[1], ut.Shape[2], c.In[2].Shape[1]
	u, dt, a, bm, cm, d, z, bias, h0 := f64(c, 0), f64(c, 1), f64(c, 2), f64(c, 3), f64(c, 4), f64(c, 5), f64(c, 6), f64(c, 7), f64(c, 8)
	plus := c.Node.Attrs.Int("dt_softplus", 0) != 0
	y, hT := make([]float64, B*L*D), make([]float64, B*D*N)
	copy(hT, h0)
	for b := range B {
		for t := range L {
			row := b*L + t
			bv, cv := bm[row*N:][:N], cm[row*N:][:N]
			for ch := range D {
				i := row*D + ch
				step := dt[i]
				if bias != nil {
					step += bias[ch]
				}
				if plus {
					step = softplus(step)
				}
				h := hT[(b*D+ch)*N:][:N]
				sum := 0.0
				for n := range h {
					h[n] = math.Exp(a[ch*N+n]*step)*h[n] + step*bv[n]*u[i]
					sum += h[n] * cv[n]
				}
				if d != nil {
					sum += d[ch] * u[i]
				}
				if z != nil {
					sum *= silu(z[i])
				}
				y[i] = sum
			}
		}
	}
	return []*tensor.Tensor{store(ut.DType, y, B, L, D), store(stateType(c.Arg(8), ut), hT, B, D, N)}, nil
}
