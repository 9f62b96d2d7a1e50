package onnx

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// optimizerRows are one step of an optimiser, domain ai.onnx.preview.training:
// inputs are the rate R, the count T of earlier steps, and then n tensors each
// of the parameters, their gradients and every accumulator; outputs are the new
// parameters and accumulators in the same order.
func optimizerRows() []*ops.Op {
	vec := func(v ...float32) *tensor.Tensor { return tensor.From(v, len(v)) }
	in := func(lists int) []*tensor.Tensor {
		out := []*tensor.Tensor{tensor.Scalar(float32(0.1)), tensor.Scalar(int64(2)), vec(1, 2.8), vec(-1, -2.5)}
		return append(out, []*tensor.Tensor{vec(1.7, 3.6), vec(0.1, 0.2)}[:lists-2]...)
	}
	norm := attr("norm_coefficient", float32(0))
	rows := versions("Adagrad", []int{1}, ops.Op{
		Doc:   "x - R/(1+T*decay_factor) * g / (sqrt(h) + epsilon), h the sum of the squared gradients so far",
		Attrs: []ops.Attr{attr("decay_factor", float32(0)), attr("epsilon", float32(1e-6)), norm},
		Infer: inferOptimizer(3), Eval: optimizer(3, adagrad), Cases: []ops.Case{{Name: "one tensor", In: in(3), NOut: 2}},
	})
	rows = append(rows, versions("Adam", []int{1}, ops.Op{
		Doc: "Adam with weight decay before (norm_coefficient) or after (norm_coefficient_post) the step; alpha and beta are the moments' decays",
		Attrs: []ops.Attr{attr("alpha", float32(0.9)), attr("beta", float32(0.999)), attr("epsilon", float32(1e-6)), norm,
			attr("norm_coefficient_post", float32(0))},
		Infer: inferOptimizer(4), Eval: optimizer(4, adam), Cases: []ops.Case{{Name: "one tensor", In: in(4), NOut: 3}},
	})...)
	rows = append(rows, versions("Momentum", []int{1}, ops.Op{
		Doc:   "gradient descent with momentum v' = alpha*v + beta*g, standard or Nesterov's",
		Attrs: []ops.Attr{attr("alpha", nil), attr("beta", nil), attr("mode", nil), attr("norm_coefficient", nil)},
		Infer: inferOptimizer(3), Eval: optimizer(3, momentum),
		Cases: []ops.Case{{Name: "nesterov", In: in(3), NOut: 2,
			Attrs: graph.Attrs{"alpha": float32(0.95), "beta": float32(1), "mode": "nesterov", "norm_coefficient": float32(0.01)}}},
	})...)
	for _, r := range rows {
		r.In, r.Out = params("R", "T", "inputs..."), params("outputs...")
	}
	return inDomain("ai.onnx.preview.training", rows)
}

// inferOptimizer: lists is the number of tensors per parameter.
func inferOptimizer(lists int) func(*ops.Infer) error {
	return func(c *ops.Infer) error {
		if err := want(c, 0, floatTypes); err != nil {
			return err
		}
		if err := want(c, 1, indexTypes); err != nil {
			return err
		}
		n := (len(c.Node.In) - 2) / lists
		if n*lists != len(c.Node.In)-2 || n == 0 || len(c.Node.Out) > n*(lists-1) {
			return c.Errorf("%d tensors and %d outputs, want %d tensors per parameter and an output for all but its gradient", len(c.Node.In)-2, len(c.Node.Out), lists)
		}
		for i := range c.Node.Out {
			if err := want(c, 2+i%n, floatTypes); err != nil {
				return err
			}
			c.Out(i, c.Type(2+i%n))
		}
		return nil
	}
}

// optimizer runs step on the elements of every parameter: p holds parameter,
// gradient and accumulators, and is updated in place.
func optimizer(lists int, step func(a graph.Attrs, rate, t float64) func(p []float64)) func(*ops.Call) ([]*tensor.Tensor, error) {
	return func(c *ops.Call) ([]*tensor.Tensor, error) {
		n := (len(c.In) - 2) / lists
		update := step(c.Node.Attrs, c.In[0].At(0), float64(c.In[1].IntAt(0)))
		out := make([]*tensor.Tensor, n*(lists-1))
		p := make([]float64, lists)
		for i := range n {
			for j := range out {
				if j%n == i {
					out[j] = tensor.New(c.In[2+i].DType, c.In[2+i].Shape...)
				}
			}
			for e := range c.In[2+i].Len() {
				for l := range p {
					p[l] = c.In[2+l*n+i].At(e)
				}
				update(p)
				out[i].SetAt(e, p[0])
				for l := 2; l < lists; l++ {
					out[(l-1)*n+i].SetAt(e, p[l])
				}
			}
		}
		return out, nil
	}
}

func adagrad(a graph.Attrs, rate, t float64) func(p []float64) {
	rate /= 1 + t*float64(a.Float("decay_factor", 0))
	norm, eps := float64(a.Float("norm_coefficient", 0)), float64(a.Float("epsilon", 1e-6))
	return func(p []float64) {
		g := norm*p[0] + p[1]
		p[2] += g * g
		p[0] -= rate * g / (math.Sqrt(p[2]) + eps)
	}
}

func adam(a graph.Attrs, rate, t float64) func(p []float64) {
	alpha, beta := float64(a.Float("alpha", 0.9)), float64(a.Float("beta", 0.999))
	norm, post, eps := float64(a.Float("norm_coefficient", 0)), float64(a.Float("norm_coefficient_post", 0)), float64(a.Float("epsilon", 1e-6))
	if t > 0 {
		rate *= math.Sqrt(1-math.Pow(beta, t)) / (1 - math.Pow(alpha, t))
	}
	return func(p []float64) {
		g := norm*p[0] + p[1]
		p[2] = alpha*p[2] + (1-alpha)*g
		p[3] = beta*p[3] + (1-beta)*g*g
		p[0] = (1 - post) * (p[0] - rate*p[2]/(math.Sqrt(p[3])+eps))
	}
}

func momentum(a graph.Attrs, rate, t float64) func(p []float64) {
	alpha, beta, norm := float64(a.Float("alpha", 0)), float64(a.Float("beta", 0)), float64(a.Float("norm_coefficient", 0))
	if t == 0 {
		beta = 1
	}
	nesterov := a.Str("mode", "standard") == "nesterov"
	return func(p []float64) {
		g := norm*p[0] + p[1]
		p[2] = alpha*p[2] + beta*g
		if nesterov {
			p[0] -= rate * (g + alpha*p[2])
		} else {
			p[0] -= rate * p[2]
		}
	}
}
