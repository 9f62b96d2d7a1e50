package onnx

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// lossRows: scores or log-probabilities [N,C,d...] against labels [N,d...].
func lossRows() []*ops.Op {
	attrs := []ops.Attr{attrOpt("ignore_index"), attr("reduction", "mean")}
	logp := tensor.From([]float32{-1, -2, -3, -4, -5, -6}, 2, 3)
	labels := tensor.Ints(2, 0)
	rows := versions("NegativeLogLikelihoodLoss", []int{12, 13, 22}, ops.Op{
		Doc: "minus input at the target class, weighted per class; mean (by weight), sum or none; ignore_index counts nowhere",
		In:  params("input", "target", "weight?"), Out: params("loss"), Attrs: attrs,
		Infer: func(c *ops.Infer) error { return inferLoss(c) },
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			out, err := classLoss(c, floatsOf(c.In[0]))
			if err != nil {
				return nil, err
			}
			return one(out), nil
		},
		Cases: []ops.Case{{Name: "mean", In: []*tensor.Tensor{logp, labels}, Want: one(tensor.Scalar(float32(3.5)))},
			{Name: "none", Attrs: graph.Attrs{"reduction": "none"}, In: []*tensor.Tensor{logp, labels}, Want: one(tensor.From([]float32{3, 4}, 2))}},
	})
	return append(rows, versions("SoftmaxCrossEntropyLoss", []int{12, 13}, ops.Op{
		Doc: "NegativeLogLikelihoodLoss of the log-softmax of scores over the class axis, which is the second output",
		In:  params("scores", "labels", "weights?"), Out: params("output", "log_prob?"), Attrs: attrs,
		Infer: func(c *ops.Infer) error {
			c.Out(1, c.Type(0))
			return inferLoss(c)
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x := c.In[0]
			wide := fromFloats(tensor.Float64, floatsOf(x), x.Shape...)
			outer, n, inner := lanes(x.Shape, 1)
			logs := floatsOf(alongLanes(wide, outer, n, inner, logSoftmax))
			out, err := classLoss(c, logs)
			if err != nil {
				return nil, err
			}
			return []*tensor.Tensor{out, fromFloats(x.DType, logs, x.Shape...)}, nil
		},
		Cases: []ops.Case{{Name: "mean", In: []*tensor.Tensor{logp, labels}, NOut: 2}},
	})...)
}

func inferLoss(c *ops.Infer) error {
	if err := same(c, floatTypes, 0, 2); err != nil {
		return err
	}
	if err := want(c, 1, indexTypes); err != nil {
		return err
	}
	if err := rankAtLeast(c, 0, 2); err != nil {
		return err
	}
	x, t := c.Type(0), c.Type(1)
	switch r := c.Node.Attrs.Str("reduction", "mean"); r {
	case "mean", "sum":
		c.Out(0, graph.T(x.DType))
	case "none":
		out := withDType(t, x.DType)
		if !t.Ranked() && x.Ranked() {
			out.Shape = append(append([]graph.Dim{}, x.Shape[0]), x.Shape[2:]...)
		}
		c.Out(0, out)
	default:
		return c.Errorf("attribute reduction is %q, want mean, sum or none", r)
	}
	if x.Ranked() && t.Ranked() && t.Rank() != x.Rank()-1 {
		return c.Errorf("labels %s for scores %s, want rank %d", t, x, x.Rank()-1)
	}
	return nil
}

func classLoss(c *ops.Call, logp []float64) (*tensor.Tensor, error) {
	x, target, weight := c.In[0], c.In[1], c.Arg(2)
	classes, inner := x.Shape[1], product(x.Shape[2:])
	ignore, ignoring := c.Node.Attrs["ignore_index"].(int64)
	loss := make([]float64, target.Len())
	if len(loss) != x.Shape[0]*inner {
		return nil, fmt.Errorf("labels %s do not fit scores %s", target.TypeString(), x.TypeString())
	}
	var sum, total float64
	for i := range loss {
		k := target.IntAt(i)
		if ignoring && k == ignore {
			continue
		}
		if k < 0 || k >= int64(classes) {
			return nil, fmt.Errorf("label %d at position %d is outside the %d classes", k, i, classes)
		}
		w := 1.0
		if weight != nil {
			w = weight.At(int(k))
		}
		loss[i] = -w * logp[(i/inner*classes+int(k))*inner+i%inner]
		sum += loss[i]
		total += w
	}
	switch c.Node.Attrs.Str("reduction", "mean") {
	case "none":
		return fromFloats(x.DType, loss, target.Shape...), nil
	case "sum":
		return fromFloats(x.DType, []float64{sum}), nil
	}
	return fromFloats(x.DType, []float64{sum / total}), nil
}
