// Package ml defines the operators of the domain ai.onnx.ml: trees, linear
// models and support vector machines as scikit-learn, XGBoost and LightGBM
// export them, and the small encoders that stand before them.
//
// Where ONNX's text leaves a result open (two classes with one score, a
// probability from a pairwise vote), ONNX Runtime's answer is the definition:
// its results are recorded in testdata/ops: of single operators in ai.onnx.ml,
// of whole models in sklearn.
package ml

import (
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// Domain is the operator domain of this package.
const Domain = "ai.onnx.ml"

// Rows lists the operators of this package.
func Rows() []*ops.Op {
	return slices.Concat(encoderRows(), mapRows(), scaleRows(), linearRows(), svmRows(), treeRows())
}

// Register adds the operators to t.
func Register(t *ops.Table) error { return t.Add("ops/ml", Rows()...) }

func id(name string, since int) graph.OpID {
	return graph.OpID{Domain: Domain, Name: name, Since: since}
}

// numberTypes are the inputs of nearly all of these operators.
var numberTypes = sig.SetOf(tensor.Float32, tensor.Float64, tensor.Int64, tensor.Int32)

// batch reads X as [N,F]: a vector is one row.
func batch(x *tensor.Tensor) (n, f int, err error) {
	switch x.Rank() {
	case 1:
		return 1, x.Shape[0], nil
	case 2:
		return x.Shape[0], x.Shape[1], nil
	}
	return 0, 0, fmt.Errorf("input X is %s, want [N,F] or [F]", x.TypeString())
}

// batchDims is batch for types: the first axis, 1 for a vector; ok is false
// when the rank is not known.
func batchDims(c *ops.Infer) (n graph.Dim, ok bool, err error) {
	if err := sig.Want(c, 0, numberTypes); err != nil {
		return n, false, err
	}
	if err := sig.RankIs(c, 0, 1, 2); err != nil {
		return n, false, err
	}
	t := c.Type(0)
	switch {
	case !t.Ranked():
		return n, false, nil
	case t.Rank() == 1:
		return graph.D(1), true, nil
	}
	return t.Shape[0], true, nil
}

// matrix sets output i to d[n,cols], or to d of unknown shape.
func matrix(c *ops.Infer, i int, d tensor.DType, n graph.Dim, cols int, ok bool) {
	if ok {
		c.Out(i, graph.T(d, n, graph.D(int64(cols))))
	} else {
		c.Out(i, sig.Unranked(d))
	}
}

// labels are the classes of a classifier: numbers or names.
type labels struct {
	ints    []int64
	strings []string
}

// labelsOf reads the classes; ints names the attribute with numbers.
func labelsOf(a graph.Attrs, ints string) (labels, error) {
	l := labels{a.Ints(ints), a.Strings("classlabels_strings")}
	if (len(l.ints) == 0) == (len(l.strings) == 0) {
		return l, fmt.Errorf("attributes %s and classlabels_strings have %d and %d labels, want exactly one of them", ints, len(l.ints), len(l.strings))
	}
	return l, nil
}

func (l labels) len() int { return len(l.ints) + len(l.strings) }

func (l labels) dtype() tensor.DType {
	if len(l.strings) > 0 {
		return tensor.String
	}
	return tensor.Int64
}

// set stores class k as element i of y; yes and no, when there are fewer than
// two names for two answers.
func (l labels) set(y *tensor.Tensor, i, k int) {
	switch {
	case y.DType != tensor.String && k < len(l.ints):
		y.SetIntAt(i, l.ints[k])
	case y.DType != tensor.String:
		y.SetIntAt(i, int64(k))
	case k < len(l.strings):
		y.Strings[i] = l.strings[k]
	}
}

// transforms are the functions that post_transform names.
var transforms = map[string]func(v []float64){
	"NONE":    func([]float64) {},
	"SOFTMAX": softmax,
	"LOGISTIC": func(v []float64) {
		for i, x := range v {
			v[i] = logistic(x)
		}
	},
	"SOFTMAX_ZERO": softmaxZero,
	"PROBIT": func(v []float64) {
		for i, x := range v {
			v[i] = math.Sqrt2 * math.Erfinv(2*x-1)
		}
	},
}

func transformOf(a graph.Attrs) (func([]float64), error) {
	name := a.Str("post_transform", "NONE")
	if f := transforms[name]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("attribute post_transform is %q, want NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT", name)
}

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func softmax(v []float64) {
	top, sum := math.Inf(-1), 0.0
	for _, x := range v {
		top = max(top, x)
	}
	for i, x := range v {
		v[i] = math.Exp(x - top)
		sum += v[i]
	}
	for i := range v {
		v[i] /= sum
	}
}

// softmaxZero is a softmax in which scores of zero stay zero.
func softmaxZero(v []float64) {
	top, sum := math.Inf(-1), 0.0
	for _, x := range v {
		top = max(top, x)
	}
	for i, x := range v {
		if math.Abs(x) > 1e-7 {
			v[i] = math.Exp(x - top)
			sum += v[i]
		} else {
			v[i] = x * math.Exp(-top)
		}
	}
	for i := range v {
		v[i] /= sum
	}
}

// argMax is the first index of the largest value.
func argMax(v []float64) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}

func floats32(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

// store makes a tensor of dtype d.
func store(d tensor.DType, v []float64, shape ...int) *tensor.Tensor {
	t := tensor.New(d, shape...)
	for i, x := range v {
		t.SetAt(i, x)
	}
	return t
}

func one(t *tensor.Tensor) []*tensor.Tensor { return []*tensor.Tensor{t} }
