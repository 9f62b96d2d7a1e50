package ssm

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// CausalConv is the depthwise causal convolution of a Mamba block, channels last:
//
//	y_t[c] = act(bias[c] + sum_{j<K} weight[c,j] * x_{t-(K-1)+j}[c])
//
// where tokens before the first come from the state: its last K-1 columns. The
// state has W columns, the last W inputs seen; W = K-1 in ONNX's
// CausalConvWithState-27, W = K in Hugging Face caches.
var CausalConv = &ops.Op{
	ID:  id("CausalConv"),
	Doc: "Depthwise causal 1-D convolution with bias, activation and carried state, channels last.",
	In: []ops.Param{
		{Name: "x", Doc: "[B,L,C]"}, {Name: "weight", Doc: "[C,K]"}, {Name: "bias", Doc: "[C]", Optional: true},
		{Name: "state", Doc: "[B,C,W], W >= K-1; zeros when omitted", Optional: true},
	},
	Out: []ops.Param{{Name: "y", Doc: "[B,L,C]"}, {Name: "state_out", Doc: "[B,C,state_width]", Optional: true}},
	Attrs: []ops.Attr{
		{Name: "activation", Doc: `"none" or "silu"`, Default: "none"},
		{Name: "state_width", Doc: "W; 0 means K-1, or that of state", Default: int64(0)},
	},
	Alias: map[int]int{1: 3},
	Infer: func(c *ops.Infer) error {
		s := newCheck(c)
		s.input(0, "x", "B", "L", "C")
		s.input(1, "weight", "C", "K")
		s.input(2, "bias", "C")
		s.input(3, "state", "B", "C", "W")
		if act := c.Node.Attrs.Str("activation", "none"); s.err == nil && act != "none" && act != "silu" {
			s.err = fmt.Errorf("activation %q: want none or silu", act)
		}
		if s.err != nil {
			return s.err
		}
		c.Out(0, graph.Type{DType: c.Type(0).DType, Shape: s.dims(0, "B", "L", "C")})
		w := c.Node.Attrs.Int("state_width", 0)
		out := s.dims(1, "B", "C", "W")
		switch {
		case w > 0:
			out[2] = graph.D(w)
		case !c.Has(3):
			out[2] = s.axes["K"].Sub(graph.D(1))
		}
		d := c.Type(0).DType
		if c.Has(3) {
			d = c.Type(3).DType
		}
		c.Out(1, graph.Type{DType: d, Shape: out})
		return nil
	},
	Eval:      evalCausalConv,
	Decompose: decomposeConv,
	Cases:     convCases,
}

func evalCausalConv(c *ops.Call) ([]*tensor.Tensor, error) {
	xt := c.In[0]
	B, L, C, K := xt.Shape[0], xt.Shape[1], xt.Shape[2], c.In[1].Shape[1]
	x, w, bias, st := f64(c, 0), f64(c, 1), f64(c, 2), f64(c, 3)
	wIn, wOut := 0, int(c.Node.Attrs.Int("state_width", 0))
	if st != nil {
		wIn = c.In[3].Shape[2]
		if wIn < K-1 {
			return nil, fmt.Errorf("state holds %d columns, a kernel of %d needs %d", wIn, K, K-1)
		}
	}
	if wOut == 0 {
		if wOut = wIn; st == nil {
			wOut = K - 1
		}
	}
	// at is the input at time t, which is negative for tokens before this call.
	at := func(b, t, ch int) float64 {
		switch {
		case t >= 0:
			return x[(b*L+t)*C+ch]
		case -t <= wIn:
			return st[(b*C+ch)*wIn+wIn+t]
		}
		return 0
	}
	act := c.Node.Attrs.Str("activation", "none")
	y, so := make([]float64, B*L*C), make([]float64, B*C*wOut)
	for b := range B {
		for ch := range C {
			for t := range L {
				sum := 0.0
				if bias != nil {
					sum = bias[ch]
				}
				for j := range K {
					sum += w[ch*K+j] * at(b, t-(K-1)+j, ch)
				}
				if act == "silu" {
					sum = silu(sum)
				}
				y[(b*L+t)*C+ch] = sum
			}
			for j := range wOut {
				so[(b*C+ch)*wOut+j] = at(b, L-wOut+j, ch)
			}
		}
	}
	return []*tensor.Tensor{store(xt.DType, y, B, L, C), store(stateType(c.Arg(3), xt), so, B, C, wOut)}, nil
}
