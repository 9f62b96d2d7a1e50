package ssm

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// SSD is the state space duality operator of Mamba-2 (Dao and Gu, "Transformers
// are SSMs", arXiv 2405.21060, sections 5 and 6), with the neighbours that the
// reference implementation fuses. For each batch b and head h, group g = h div (H/G):
//
//	dt' = clamp(softplus?(dt + dt_bias), dt_min, dt_max)
//	S_t = exp(A_h*dt'_t) * S_{t-1} + dt'_t * x_t (outer) B_t[g]     S in R^{P x N}
//	y_t = S_t C_t[g] + D_h * x_t,  times silu(z_t) when z is given
//
// With A of rank 3 the log decay itself is given per token (a_t = A[b,t,h], any
// sign), and dt, which may then be omitted (1), only scales x. seq_idx resets
// the state where its value changes along L; h0 belongs to the first sequence.
var SSD = &ops.Op{
	ID:  id("SSD"),
	Doc: "Mamba-2 state space scan (arXiv 2405.21060): y_t = S_t C_t + D x_t, S_t = exp(A dt_t) S_{t-1} + dt_t x_t B_t^T.",
	In: []ops.Param{
		{Name: "x", Doc: "[B,L,H,P]"}, {Name: "dt", Doc: "[B,L,H]; 1 when omitted", Optional: true},
		{Name: "A", Doc: "[H], or [B,L,H]: the log decay"}, {Name: "B", Doc: "[B,L,G,N]"}, {Name: "C", Doc: "[B,L,G,N]"},
		{Name: "D", Doc: "[H] or [H,P]", Optional: true}, {Name: "z", Doc: "[B,L,H,P]", Optional: true},
		{Name: "dt_bias", Doc: "[H]", Optional: true}, {Name: "h0", Doc: "[B,H,P,N]; zeros when omitted", Optional: true},
		{Name: "seq_idx", Doc: "[B,L] int32", Optional: true},
	},
	Out: []ops.Param{{Name: "y", Doc: "[B,L,H,P]"}, {Name: "hT", Doc: "[B,H,P,N]", Optional: true}},
	Attrs: []ops.Attr{
		{Name: "dt_softplus", Doc: "apply softplus to dt + dt_bias", Default: int64(0)},
		{Name: "dt_min", Doc: "lower clamp, after softplus", Default: float32(math.Inf(-1))},
		{Name: "dt_max", Doc: "upper clamp, after softplus", Default: float32(math.Inf(1))},
		{Name: "chunk_size", Doc: "hint Q; 0 lets the backend choose", Default: int64(0)},
	},
	Alias:     map[int]int{1: 8},
	Infer:     inferSSD,
	Decompose: decomposeSSD,
	Eval:      evalSSD,
	Cases:     ssdCases,
}

func inferSSD(c *ops.Infer) error {
	s := newCheck(c)
	s.input(0, "x", "B", "L", "H", "P")
	s.input(1, "dt", "B", "L", "H")
	if c.Type(2).Rank() == 3 {
		s.input(2, "A", "B", "L", "H")
	} else {
		s.input(2, "A", "H")
	}
	s.input(3, "B", "B", "L", "G", "N")
	s.input(4, "C", "B", "L", "G", "N")
	if c.Type(5).Rank() == 2 {
		s.input(5, "D", "H", "P")
	} else {
		s.input(5, "D", "H")
	}
	s.input(6, "z", "B", "L", "H", "P")
	s.input(7, "dt_bias", "H")
	s.input(8, "h0", "B", "H", "P", "N")
	s.input(9, "seq_idx", "B", "L")
	if s.err != nil {
		return s.err
	}
	if h, ok := s.axes["H"].Const(); ok {
		if g, ok := s.axes["G"].Const(); ok && (g == 0 || h%g != 0) {
			return fmt.Errorf("cannot divide H = %d heads among G = %d groups", h, g)
		}
	}
	if c.Type(2).Rank() == 1 && !c.Has(1) {
		return fmt.Errorf("dt may be omitted only when A is the log decay [B,L,H]")
	}
	t := c.Type(0)
	t.Shape = s.dims(0, "B", "L", "H", "P")
	c.Out(0, t)
	if c.Has(8) {
		t.DType = c.Type(8).DType
	}
	t.Shape = s.dims(1, "B", "H", "P", "N")
	c.Out(1, t)
	return nil
}

func softplus(x float64) float64 {
	if x > 20 {
		return x
	}
	return math.Log1p(math.Exp(x))
}

func silu(x float64) float64 { return x / (1 + math.Exp(-x)) }

func evalSSD(c *ops.Call) ([]*tensor.Tensor, error) {
	xt, bt := c.In[0], c.In[3]
	B, L, H, P := xt.Shape[0], xt.Shape[1], xt.Shape[2], xt.Shape[3]
	G, N := bt.Shape[2], bt.Shape[3]
	if G == 0 || H%G != 0 {
		return nil, fmt.Errorf("cannot divide H = %d heads among G = %d groups", H, G)
	}
	x, dt, a, bm, cm, d, z, bias, h0 := f64(c, 0), f64(c, 1), f64(c, 2), f64(c, 3), f64(c, 4), f64(c, 5), f64(c, 6), f64(c, 7), f64(c, 8)
	logDecay := c.In[2].Rank() == 3
	plus := c.Node.Attrs.Int("dt_softplus", 0) != 0
	lo, hi := float64(c.Node.Attrs.Float("dt_min", float32(math.Inf(-1)))), float64(c.Node.Attrs.Float("dt_max", float32(math.Inf(1))))
	y, hT := make([]float64, B*L*H*P), make([]float64, B*H*P*N)
	copy(hT, h0)
	for b := range B {
		for h := range H {
			s := hT[(b*H+h)*P*N:][:P*N]
			g := h / (H / G)
			for t := range L {
				row := b*L + t
				if seq := c.Arg(9); seq != nil && t > 0 && seq.IntAt(row) != seq.IntAt(row-1) {
					clear(s)
				}
				step := 1.0
				if dt != nil {
					step = dt[row*H+h]
					if bias != nil {
						step += bias[h]
					}
					if plus {
						step = softplus(step)
					}
					step = math.Min(math.Max(step, lo), hi)
				}
				var decay float64
				if logDecay {
					decay = math.Exp(a[row*H+h])
				} else {
					decay = math.Exp(a[h] * step)
				}
				bv, cv := bm[(row*G+g)*N:][:N], cm[(row*G+g)*N:][:N]
				for p := range P {
					i := (row*H+h)*P + p
					sum, in := 0.0, step*x[i]
					sp := s[p*N:][:N]
					for n := range sp {
						sp[n] = decay*sp[n] + in*bv[n]
						sum += sp[n] * cv[n]
					}
					switch {
					case d == nil:
					case len(d) == H:
						sum += d[h] * x[i]
					default:
						sum += d[h*P+p] * x[i]
					}
					if z != nil {
						sum *= silu(z[i])
					}
					y[i] = sum
				}
			}
		}
	}
	return []*tensor.Tensor{store(xt.DType, y, B, L, H, P), store(stateType(c.Arg(8), xt), hT, B, H, P, N)}, nil
}
