package ml

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// linearRows are linear models on the rows of X [N,F].
func linearRows() []*ops.Op {
	x := tensor.From([]float32{1, 2, -3, 4}, 2, 2)
	return []*ops.Op{
		{
			ID: id("LinearRegressor", 1), Doc: "post_transform(X*coefficients^T + intercepts), coefficients being [targets,F]",
			In: sig.Params("X"), Out: sig.Params("Y"),
			Attrs: []ops.Attr{sig.Attr("coefficients", nil), sig.AttrOpt("intercepts"), sig.Attr("post_transform", "NONE"), sig.Attr("targets", int64(1))},
			Infer: func(c *ops.Infer) error {
				n, ok, err := batchDims(c)
				if err != nil {
					return err
				}
				if _, err := transformOf(c.Node.Attrs); err != nil {
					return err
				}
				k := len(c.Node.Attrs.Floats("coefficients"))
				targets := c.Node.Attrs.Int("targets", 1)
				if targets < 1 || targets > int64(k) {
					return c.Errorf("attribute targets is %d, coefficients has %d values", targets, k)
				}
				matrix(c, 0, tensor.Float32, n, int(targets), ok)
				return nil
			},
			Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
				targets := int(c.Node.Attrs.Int("targets", 1))
				s, n, err := linearScores(c, targets)
				if err != nil {
					return nil, err
				}
				f, err := transformOf(c.Node.Attrs)
				if err != nil {
					return nil, err
				}
				for r := range n {
					f(s[r*targets : (r+1)*targets])
				}
				return one(store(tensor.Float32, s, n, targets)), nil
			},
			Cases: []ops.Case{{Name: "two targets", In: one(x), Attrs: graph.Attrs{"targets": int64(2), "coefficients": []float32{1, 1, 2, -1}, "intercepts": []float32{0, 1}},
				Want: one(tensor.From([]float32{3, 1, 1, -9}, 2, 2))}},
		},
		{
			ID: id("LinearClassifier", 1), Doc: "the class with the largest score X*coefficients^T + intercepts, and all scores after post_transform; one score decides between two classes by its sign",
			In: sig.Params("X"), Out: sig.Params("Y", "Z"),
			Attrs: []ops.Attr{sig.AttrOpt("classlabels_ints"), sig.AttrOpt("classlabels_strings"), sig.Attr("coefficients", nil), sig.AttrOpt("intercepts"),
				sig.Attr("multi_class", int64(0)), sig.Attr("post_transform", "NONE")},
			Infer: inferLinearClassifier, Eval: evalLinearClassifier,
			Cases: []ops.Case{
				{Name: "three classes", In: one(x), NOut: 2, Attrs: graph.Attrs{"classlabels_ints": []int64{10, 20, 30}, "coefficients": []float32{1, 1, 2, -1, 0, 3}, "intercepts": []float32{0, 1, 0}, "post_transform": "SOFTMAX"}},
				{Name: "one score", In: one(x), NOut: 2, Attrs: graph.Attrs{"classlabels_strings": []string{"no", "yes"}, "coefficients": []float32{1, 1}, "intercepts": []float32{-2}, "post_transform": "LOGISTIC"}},
			},
		},
	}
}

// linearScores is X*coefficients^T + intercepts, [N,targets].
func linearScores(c *ops.Call, targets int) (s []float64, n int, err error) {
	x := c.In[0]
	n, f, err := batch(x)
	if err != nil {
		return nil, 0, err
	}
	w, b := c.Node.Attrs.Floats("coefficients"), c.Node.Attrs.Floats("intercepts")
	if len(w) != targets*f || len(b) != 0 && len(b) != targets {
		return nil, 0, fmt.Errorf("%d coefficients and %d intercepts for %d scores of %d features, want %d and %d (or no intercepts)", len(w), len(b), targets, f, targets*f, targets)
	}
	s = make([]float64, n*targets)
	for r := range n {
		for t := range targets {
			if b != nil {
				s[r*targets+t] = float64(b[t])
			}
			for i := range f {
				s[r*targets+t] += x.At(r*f+i) * float64(w[t*f+i])
			}
		}
	}
	return s, n, nil
}

// scoreCount is the number of scores of a linear classifier: one per
// intercept, else one per class.
func scoreCount(a graph.Attrs, l labels) int {
	if n := len(a.Floats("intercepts")); n > 0 {
		return n
	}
	return l.len()
}

func inferLinearClassifier(c *ops.Infer) error {
	n, ok, err := batchDims(c)
	if err != nil {
		return err
	}
	l, err := labelsOf(c.Node.Attrs, "classlabels_ints")
	if err != nil {
		return err
	}
	if _, err := transformOf(c.Node.Attrs); err != nil {
		return err
	}
	scores := scoreCount(c.Node.Attrs, l)
	if scores == 1 && l.len() == 2 {
		scores = 2
	}
	if ok {
		c.Out(0, graph.T(l.dtype(), n))
	} else {
		c.Out(0, sig.Unranked(l.dtype()))
	}
	matrix(c, 1, tensor.Float32, n, scores, ok)
	return nil
}

func evalLinearClassifier(c *ops.Call) ([]*tensor.Tensor, error) {
	l, err := labelsOf(c.Node.Attrs, "classlabels_ints")
	if err != nil {
		return nil, err
	}
	count := scoreCount(c.Node.Attrs, l)
	s, n, err := linearScores(c, count)
	if err != nil {
		return nil, err
	}
	f, err := transformOf(c.Node.Attrs)
	if err != nil {
		return nil, err
	}
	y := tensor.New(l.dtype(), n)
	if count == 1 {
		for r := range n {
			k := 0
			if s[r] > 0 {
				k = 1
			}
			l.set(y, r, k)
		}
		if l.len() == 2 {
			return []*tensor.Tensor{y, store(tensor.Float32, twoScores(s, c.Node.Attrs.Str("post_transform", "NONE"), false), n, 2)}, nil
		}
	} else {
		for r := range n {
			l.set(y, r, argMax(s[r*count:(r+1)*count]))
		}
	}
	for r := range n {
		f(s[r*count : (r+1)*count])
	}
	return []*tensor.Tensor{y, store(tensor.Float32, s, n, count)}, nil
}

// twoScores spreads the one score of each row, which is for the second class,
// over both. The first gets the complement of a probability, the negative of a
// signed score.
func twoScores(s []float64, transform string, signed bool) []float64 {
	out := make([]float64, 2*len(s))
	for r, v := range s {
		switch {
		case transform == "PROBIT":
			transforms[transform](s[r : r+1])
			out[2*r], out[2*r+1] = s[r], s[r]
		case transform == "LOGISTIC":
			out[2*r], out[2*r+1] = logistic(-v), logistic(v)
		case signed:
			out[2*r], out[2*r+1] = -v, v
		default:
			out[2*r], out[2*r+1] = 1-v, v
		}
	}
	return out
}
