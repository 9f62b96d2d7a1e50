package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// channelNormRows are normalisations of X[N,C,...] with one scale and bias per
// channel, or (Lp, mean-variance) with none.
func channelNormRows() []*ops.Op {
	eps := attr("epsilon", float32(1e-5))
	x := tensor.From([]float32{1, 2, 3, 4, 5, 6, -1, 0, 1, 2, 0, -2}, 2, 2, 3)
	scale, bias := tensor.From([]float32{1, 0.5}, 2), tensor.From([]float32{0, 1}, 2)
	mean, variance := tensor.From([]float32{1, 2}, 2), tensor.From([]float32{4, 0.25}, 2)
	params5 := []*tensor.Tensor{x, scale, bias, mean, variance}

	bn := ops.Op{
		Doc: "(X - mean) / sqrt(var + epsilon) * scale + B per channel; in training the batch's own statistics are used and the running ones updated",
		In:  params("X", "scale", "B", "input_mean", "input_var"), Out: params("Y", "running_mean?", "running_var?"),
		Attrs: []ops.Attr{eps, attr("momentum", float32(0.9)), attr("training_mode", int64(0))},
		Infer: inferBatchNorm, Eval: evalBatchNorm,
		Cases: []ops.Case{{Name: "inference", In: params5}},
	}
	rows := versions("BatchNormalization", []int{14, 15}, bn)
	for _, r := range rows {
		r.Cases = append(r.Cases, ops.Case{Name: "training", Attrs: graph.Attrs{"training_mode": int64(1)}, In: params5, NOut: 3})
	}
	// Before 14, asking for the statistics outputs meant training.
	bn.Out = params("Y", "mean?", "var?", "saved_mean?", "saved_var?")
	bn.Attrs = []ops.Attr{eps, attr("momentum", float32(0.9))}
	rows = append(rows, versions("BatchNormalization", []int{9}, bn)...)
	bn.Attrs = append(bn.Attrs, attr("spatial", int64(1)))
	rows = append(rows, versions("BatchNormalization", []int{7}, bn)...)

	rows = append(rows, versions("InstanceNormalization", []int{6, 22}, ops.Op{
		Doc: "every channel of every instance standardised over its spatial axes, then scaled and shifted",
		In:  params("input", "scale", "B"), Out: params("output"), Attrs: []ops.Attr{eps},
		Infer: inferChannelwise(3),
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x := c.In[0]
			v, n := append([]float64{}, floatsOf(x)...), product(x.Shape[2:])
			for o := 0; o < len(v); o += n {
				standardize(v[o:o+n], float64(c.Node.Attrs.Float("epsilon", 1e-5)))
			}
			perChannel(v, x.Shape, floatsOf(c.In[1]), floatsOf(c.In[2]))
			return one(fromFloats(x.DType, v, x.Shape...)), nil
		},
		Cases: []ops.Case{{Name: "2x2x3", In: []*tensor.Tensor{x, scale, bias}}},
	})...)
	group := ops.Op{
		In: params("X", "scale", "bias"), Out: params("Y"), Attrs: []ops.Attr{eps, attr("num_groups", nil)},
		Infer: inferChannelwise(2),
		Cases: []ops.Case{{Name: "one group", Attrs: graph.Attrs{"num_groups": int64(1)}, In: []*tensor.Tensor{x, tensor.From([]float32{2}, 1), tensor.From([]float32{1}, 1)}}},
	}
	group.Doc, group.Eval = "groups of channels standardised together; scale and bias per group", evalGroupNorm(true)
	rows = append(rows, versions("GroupNormalization", []int{18}, group)...)
	group.Doc, group.Eval = "groups of channels standardised together; scale and bias per channel", evalGroupNorm(false)
	group.Attrs = append(group.Attrs, attr("stash_type", int64(1)))
	group.Cases = []ops.Case{{Name: "one group", Attrs: graph.Attrs{"num_groups": int64(1)}, In: []*tensor.Tensor{x, scale, bias}}}
	rows = append(rows, versions("GroupNormalization", []int{21}, group)...)

	rows = append(rows, versions("LRN", []int{1, 13}, ops.Op{
		Doc: "X / (bias + alpha/size * sum of squares over size neighbouring channels)^beta",
		In:  params("X"), Out: params("Y"),
		Attrs: []ops.Attr{attr("alpha", float32(1e-4)), attr("beta", float32(0.75)), attr("bias", float32(1)), attr("size", nil)},
		Infer: inferChannelwise(3), Eval: evalLRN,
		Cases: []ops.Case{{Name: "size 3", Attrs: graph.Attrs{"size": int64(3), "alpha": float32(0.5)}, In: one(x)}},
	})...)
	rows = append(rows, versions("LpNormalization", []int{1, 22}, ops.Op{
		Doc: "X divided by its p-norm (p = 1 or 2) along axis; a zero norm gives zeros",
		In:  params("input"), Out: params("output"), Attrs: []ops.Attr{attr("axis", int64(-1)), attr("p", int64(2))},
		Infer: inferChannelwise(0),
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x, p := c.In[0], float64(c.Node.Attrs.Int("p", 2))
			axis, ok := axisOf(c.Node.Attrs.Int("axis", -1), x.Rank(), x.Rank())
			if !ok {
				return nil, errAxis(c.Node.Attrs.Int("axis", -1), x)
			}
			outer, n, inner := lanes(x.Shape, axis)
			return one(alongLanes(x, outer, n, inner, func(v []float64) {
				norm := pNorm(v, p)
				for i := range v {
					if norm == 0 {
						v[i] = 0
					} else {
						v[i] /= norm
					}
				}
			})), nil
		},
		Cases: []ops.Case{{Name: "3-4-5", In: one(tensor.From([]float32{3, 4}, 1, 2)), Want: one(tensor.From([]float32{0.6, 0.8}, 1, 2))}},
	})...)
	return append(rows, versions("MeanVarianceNormalization", []int{9, 13}, ops.Op{
		Doc: "(X - mean) / (standard deviation + 1e-9) over the given axes",
		In:  params("X"), Out: params("Y"), Attrs: []ops.Attr{attr("axes", []int64{0, 2, 3})},
		Infer: inferChannelwise(0),
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x := c.In[0]
			axes := c.Node.Attrs.Ints("axes")
			if axes == nil {
				axes = []int64{0, 2, 3}
			}
			mask, ok := reducedMask(axes, x.Rank())
			if !ok {
				return nil, errAxes(axes, x)
			}
			g := groupAxes(x.Shape, mask, true)
			v := floatsOf(x)
			y := make([]float64, len(v))
			reduceGroups(g, v, func(i int, lane []float64) {
				mean, sd := meanDeviation(lane)
				for j, o := range g.inner {
					y[g.kept[i]+o] = (lane[j] - mean) / (sd + 1e-9)
				}
			})
			return one(fromFloats(x.DType, y, x.Shape...)), nil
		},
		Cases: []ops.Case{{Name: "last axis", Attrs: graph.Attrs{"axes": []int64{-1}}, In: one(x)}},
	})...)
}

func meanDeviation(v []float64) (mean, sd float64) {
	for _, y := range v {
		mean += y
	}
	mean /= float64(len(v))
	for _, y := range v {
		sd += (y - mean) * (y - mean)
	}
	return mean, math.Sqrt(sd / float64(len(v)))
}

// inferChannelwise types output 0 like input 0, which has at least the given rank.
func inferChannelwise(rank int) func(*ops.Infer) error {
	return func(c *ops.Infer) error {
		for i := range c.Node.In {
			if err := want(c, i, floatTypes); err != nil {
				return err
			}
		}
		if err := rankAtLeast(c, 0, rank); err != nil {
			return err
		}
		c.Out(0, c.Type(0))
		return nil
	}
}

// perChannel computes v*scale + bias with one pair per channel of [N,C,...].
func perChannel(v []float64, shape []int, scale, bias []float64) {
	n := product(shape[2:])
	for i := range v {
		ch := i / n % shape[1]
		v[i] = v[i]*scale[ch] + bias[ch]
	}
}

func inferBatchNorm(c *ops.Infer) error {
	for i := range 5 {
		if err := want(c, i, floatTypes); err != nil {
			return err
		}
		if i > 0 && c.Node.Attrs.Int("spatial", 1) != 0 {
			if err := rankIs(c, i, 1); err != nil {
				return err
			}
		}
	}
	if err := rankAtLeast(c, 0, 1); err != nil {
		return err
	}
	x := c.Type(0)
	if s := c.Type(1); x.Rank() > 1 && s.Rank() == 1 && x.Shape[1] != s.Shape[0] && x.Shape[1].IsConst() && s.Shape[0].IsConst() {
		return c.Errorf("X %s has %v channels, scale %s", x, x.Shape[1], s)
	}
	c.Out(0, x)
	for i := 1; i < len(c.Node.Out); i++ {
		c.Out(i, c.Type(3))
	}
	return nil
}

func evalBatchNorm(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	scale, bias, mean, variance := floatsOf(c.In[1]), floatsOf(c.In[2]), floatsOf(c.In[3]), floatsOf(c.In[4])
	eps, momentum := float64(a.Float("epsilon", 1e-5)), float64(a.Float("momentum", 0.9))
	v := append([]float64{}, floatsOf(x)...)
	shape := x.Shape
	if len(shape) == 1 { // a vector is a batch of one channel
		shape = []int{shape[0], 1}
	}
	if a.Int("spatial", 1) == 0 { // every position is a channel of its own
		shape = []int{shape[0], product(shape[1:])}
	}
	ch, n := shape[1], product(shape[2:])
	if len(scale) != ch {
		return nil, fmt.Errorf("input %s has %d channels, scale %d", x.TypeString(), ch, len(scale))
	}
	runMean, runVar := mean, variance
	if c.Node.Op.Since >= 14 && a.Int("training_mode", 0) != 0 || c.Node.Op.Since < 14 && (c.Wants(1) || c.Wants(2)) {
		batchMean, batchVar := make([]float64, ch), make([]float64, ch)
		count := float64(len(v) / max(ch, 1))
		for i, y := range v {
			batchMean[i/n%ch] += y / count
		}
		for i, y := range v {
			d := y - batchMean[i/n%ch]
			batchVar[i/n%ch] += d * d / count
		}
		runMean, runVar = make([]float64, ch), make([]float64, ch)
		for i := range ch {
			runMean[i] = mean[i]*momentum + batchMean[i]*(1-momentum)
			runVar[i] = variance[i]*momentum + batchVar[i]*(1-momentum)
		}
		mean, variance = batchMean, batchVar
	}
	for i := range v {
		k := i / n % ch
		v[i] = (v[i]-mean[k])/math.Sqrt(variance[k]+eps)*scale[k] + bias[k]
	}
	stat := func(s []float64) *tensor.Tensor { return fromFloats(c.In[3].DType, s, c.In[3].Shape...) }
	return []*tensor.Tensor{fromFloats(x.DType, v, x.Shape...), stat(runMean), stat(runVar), stat(mean), stat(variance)}, nil
}

func evalGroupNorm(scalePerGroup bool) func(c *ops.Call) ([]*tensor.Tensor, error) {
	return func(c *ops.Call) ([]*tensor.Tensor, error) {
		x := c.In[0]
		groups := int(c.Node.Attrs.Int("num_groups", 1))
		if groups < 1 || x.Shape[1]%groups != 0 {
			return nil, fmt.Errorf("num_groups=%d does not divide the channels of %s", groups, x.TypeString())
		}
		v := append([]float64{}, floatsOf(x)...)
		n := product(x.Shape[1:]) / groups
		for o := 0; o < len(v); o += n {
			standardize(v[o:o+n], float64(c.Node.Attrs.Float("epsilon", 1e-5)))
		}
		shape := x.Shape
		if scalePerGroup {
			shape = []int{x.Shape[0], groups, n}
		}
		perChannel(v, shape, floatsOf(c.In[1]), floatsOf(c.In[2]))
		return one(fromFloats(x.DType, v, x.Shape...)), nil
	}
}

func evalLRN(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	size := int(a.Int("size", 1))
	alpha, beta, bias := float64(a.Float("alpha", 1e-4)), float64(a.Float("beta", 0.75)), float64(a.Float("bias", 1))
	v := floatsOf(x)
	ch, n := x.Shape[1], product(x.Shape[2:])
	y := make([]float64, len(v))
	for i, val := range v {
		k := i / n % ch
		s := 0.0
		for j := max(0, k-(size-1)/2); j <= min(ch-1, k+size/2); j++ {
			w := v[i+(j-k)*n]
			s += w * w
		}
		y[i] = val / math.Pow(bias+alpha/float64(size)*s, beta)
	}
	return one(fromFloats(x.DType, y, x.Shape...)), nil
}
