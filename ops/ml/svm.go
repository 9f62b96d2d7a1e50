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

// svmRows are support vector machines in libsvm's form.
func svmRows() []*ops.Op {
	shared := []ops.Attr{sig.AttrOpt("coefficients"), sig.AttrOpt("kernel_params"), sig.Attr("kernel_type", "LINEAR"),
		sig.Attr("post_transform", "NONE"), sig.AttrOpt("rho"), sig.AttrOpt("support_vectors")}
	x := tensor.From([]float32{1, 2, -3, 4}, 2, 2)
	vectors := []float32{0, 1, 1, 0, -1, -1}
	return []*ops.Op{
		{
			ID: id("SVMRegressor", 1), Doc: "sum of coefficients * kernel(x, support vector) + rho; with one_class its sign",
			In: sig.Params("X"), Out: sig.Params("Y"),
			Attrs: append(slices.Clone(shared), sig.Attr("n_supports", int64(0)), sig.Attr("one_class", int64(0))),
			Infer: func(c *ops.Infer) error {
				n, ok, err := batchDims(c)
				matrix(c, 0, tensor.Float32, n, 1, ok)
				return err
			},
			Eval: evalSVMRegressor,
			Cases: []ops.Case{{Name: "RBF", In: one(x), Attrs: graph.Attrs{"kernel_type": "RBF", "kernel_params": []float32{0.5, 0, 3}, "n_supports": int64(3),
				"support_vectors": vectors, "coefficients": []float32{1, -2, 0.5}, "rho": []float32{0.25}}}},
		},
		{
			ID: id("SVMClassifier", 1), Doc: "votes between every pair of classes, each by the sign of a kernel sum; with prob_a and prob_b the scores are probabilities by pairwise coupling",
			In: sig.Params("X"), Out: sig.Params("Y", "Z"),
			Attrs: append(slices.Clone(shared), sig.AttrOpt("classlabels_ints"), sig.AttrOpt("classlabels_strings"), sig.AttrOpt("prob_a"), sig.AttrOpt("prob_b"), sig.AttrOpt("vectors_per_class")),
			Infer: inferSVMClassifier, Eval: evalSVMClassifier,
			Cases: []ops.Case{{Name: "three classes", In: one(x), NOut: 2, Attrs: graph.Attrs{"kernel_type": "POLY", "kernel_params": []float32{0.5, 1, 2}, "vectors_per_class": []int64{1, 1, 1},
				"support_vectors": vectors, "coefficients": []float32{1, -1, 0.5, 0.25, -0.5, -1}, "rho": []float32{0.25, 0.5, -0.1}, "classlabels_ints": []int64{0, 1, 2}}}},
		},
	}
}

// kernelOf is the kernel function that the attributes name.
func kernelOf(a graph.Attrs) (func(x, y []float64) float64, error) {
	p := append(floats32(a.Floats("kernel_params")), 0, 0, 0)
	gamma, coef0, degree := p[0], p[1], p[2]
	dot := func(x, y []float64) (s float64) {
		for i, v := range x {
			s += v * y[i]
		}
		return s
	}
	switch k := a.Str("kernel_type", "LINEAR"); k {
	case "LINEAR":
		return dot, nil
	case "POLY":
		return func(x, y []float64) float64 { return math.Pow(gamma*dot(x, y)+coef0, degree) }, nil
	case "SIGMOID":
		return func(x, y []float64) float64 { return math.Tanh(gamma*dot(x, y) + coef0) }, nil
	case "RBF":
		return func(x, y []float64) (s float64) {
			for i, v := range x {
				s += (v - y[i]) * (v - y[i])
			}
			return math.Exp(-gamma * s)
		}, nil
	default:
		return nil, fmt.Errorf("attribute kernel_type is %q, want LINEAR, POLY, RBF or SIGMOID", k)
	}
}

func evalSVMRegressor(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	n, f, err := batch(x)
	if err != nil {
		return nil, err
	}
	kernel, err := kernelOf(a)
	if err != nil {
		return nil, err
	}
	post, err := transformOf(a)
	if err != nil {
		return nil, err
	}
	supports := int(min(max(a.Int("n_supports", 0), 0), 1<<30))
	coef, vectors, rho := floats32(a.Floats("coefficients")), floats32(a.Floats("support_vectors")), floats32(a.Floats("rho"))
	if supports == 0 { // a linear model: the coefficients are its only vector
		vectors, coef, supports = coef, []float64{1}, 1
		if kernel, err = kernelOf(graph.Attrs{}); err != nil {
			return nil, err
		}
	}
	if len(coef) != supports || len(vectors) != supports*f || len(rho) == 0 {
		return nil, fmt.Errorf("%d support vectors of %d features with %d coefficients, %d coordinates and %d rho", supports, f, len(coef), len(vectors), len(rho))
	}
	v := x.AsFloats()
	s := make([]float64, n)
	for r := range s {
		s[r] = rho[0]
		for j, w := range coef {
			s[r] += w * kernel(v[r*f:(r+1)*f], vectors[j*f:(j+1)*f])
		}
		if a.Int("one_class", 0) != 0 {
			s[r] = math.Copysign(1, s[r])
		} else {
			post(s[r : r+1])
		}
	}
	return one(store(tensor.Float32, s, n, 1)), nil
}

// svmScores is the number of scores of an SVM classifier.
func svmScores(a graph.Attrs, l labels) int {
	switch k := l.len(); {
	case len(a.Floats("prob_a")) > 0, len(a.Ints("vectors_per_class")) == 0, k == 2:
		return k
	default:
		return k * (k - 1) / 2
	}
}

func inferSVMClassifier(c *ops.Infer) error {
	n, ok, err := batchDims(c)
	if err != nil {
		return err
	}
	l, err := labelsOf(c.Node.Attrs, "classlabels_ints")
	if err != nil {
		return err
	}
	if ok {
		c.Out(0, graph.T(l.dtype(), n))
	} else {
		c.Out(0, sig.Unranked(l.dtype()))
	}
	matrix(c, 1, tensor.Float32, n, svmScores(c.Node.Attrs, l), ok)
	return nil
}

func evalSVMClassifier(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	n, f, err := batch(x)
	if err != nil {
		return nil, err
	}
	l, err := labelsOf(a, "classlabels_ints")
	if err != nil {
		return nil, err
	}
	m, err := newMachine(a, l.len(), f)
	if err != nil {
		return nil, err
	}
	post, err := transformOf(a)
	if err != nil {
		return nil, err
	}
	v, y, cols := x.AsFloats(), tensor.New(l.dtype(), n), svmScores(a, l)
	z := make([]float64, 0, n*cols)
	for r := range n {
		k, scores := m.classify(v[r*f : (r+1)*f])
		if len(scores) == 1 && cols == 2 {
			scores = twoScores(scores, a.Str("post_transform", "NONE"), a.Str("post_transform", "NONE") == "NONE")
		} else {
			post(scores)
		}
		l.set(y, r, k)
		z = append(z, scores...)
	}
	return []*tensor.Tensor{y, store(tensor.Float32, z, n, cols)}, nil
}

// machine is a support vector classifier.
type machine struct {
	classes, f         int
	kernel             func(x, y []float64) float64
	coef, vectors, rho []float64
	probA, probB       []float64
	start              []int // first vector of each class; nil: a linear model per class
}

func newMachine(a graph.Attrs, classes, f int) (*machine, error) {
	kernel, err := kernelOf(a)
	if err != nil {
		return nil, err
	}
	m := &machine{classes: classes, f: f, kernel: kernel, coef: floats32(a.Floats("coefficients")), vectors: floats32(a.Floats("support_vectors")),
		rho: floats32(a.Floats("rho")), probA: floats32(a.Floats("prob_a")), probB: floats32(a.Floats("prob_b"))}
	pairs := classes * (classes - 1) / 2
	per := a.Ints("vectors_per_class")
	if len(per) == 0 {
		if len(m.coef) != classes*f || len(m.rho) == 0 {
			return nil, fmt.Errorf("%d coefficients and %d rho for a linear model of %d classes and %d features", len(m.coef), len(m.rho), classes, f)
		}
		return m, nil
	}
	total := 0
	for _, k := range per {
		if k < 0 || k > 1<<30 {
			return nil, fmt.Errorf("attribute vectors_per_class lists %d", k)
		}
		m.start = append(m.start, total)
		total += int(k)
	}
	m.start = append(m.start, total)
	if len(per) != classes || len(m.vectors) != total*f || len(m.coef) != total*(classes-1) || len(m.rho) != pairs {
		return nil, fmt.Errorf("%d classes with vectors_per_class %v of %d features: %d coordinates, %d coefficients and %d rho, want %d, %d and %d",
			classes, per, f, len(m.vectors), len(m.coef), len(m.rho), total*f, total*(classes-1), pairs)
	}
	if len(m.probA) > 0 && (len(m.probA) != pairs || len(m.probB) != pairs) {
		return nil, fmt.Errorf("prob_a and prob_b have %d and %d values, want one for each of %d pairs", len(m.probA), len(m.probB), pairs)
	}
	return m, nil
}

// classify returns the class and the scores of one row.
func (m *machine) classify(x []float64) (int, []float64) {
	if m.start == nil {
		s := make([]float64, m.classes)
		for k := range s {
			s[k] = m.kernel(x, m.coef[k*m.f:(k+1)*m.f]) + m.rho[0]
		}
		return argMax(s), s
	}
	total := m.start[m.classes]
	near := make([]float64, total)
	for j := range near {
		near[j] = m.kernel(x, m.vectors[j*m.f:(j+1)*m.f])
	}
	var scores []float64
	votes := make([]float64, m.classes)
	for i := range m.classes {
		for j := i + 1; j < m.classes; j++ {
			s := m.rho[len(scores)]
			for v := m.start[i]; v < m.start[i+1]; v++ {
				s += m.coef[(j-1)*total+v] * near[v]
			}
			for v := m.start[j]; v < m.start[j+1]; v++ {
				s += m.coef[i*total+v] * near[v]
			}
			scores = append(scores, s)
			if s > 0 {
				votes[i]++
			} else {
				votes[j]++
			}
		}
	}
	if len(m.probA) == 0 {
		return argMax(votes), scores
	}
	r := make([][]float64, m.classes)
	for i := range r {
		r[i] = make([]float64, m.classes)
	}
	k := 0
	for i := range r {
		for j := i + 1; j < m.classes; j++ {
			p := 1 / (1 + math.Exp(scores[k]*m.probA[k]+m.probB[k]))
			r[i][j] = min(max(p, 1e-7), 1-1e-7)
			r[j][i] = 1 - r[i][j]
			k++
		}
	}
	return argMax(votes), couple(r)
}

// couple turns pairwise probabilities r[i][j] = P(i | i or j) into class
// probabilities: Wu, Lin and Weng, JMLR 5 (2004), algorithm 2.
func couple(r [][]float64) []float64 {
	k := len(r)
	q := make([][]float64, k)
	for t := range q {
		q[t] = make([]float64, k)
		for j := range k {
			if j != t {
				q[t][t] += r[j][t] * r[j][t]
				q[t][j] = -r[j][t] * r[t][j]
			}
		}
	}
	p, qp := make([]float64, k), make([]float64, k)
	for t := range p {
		p[t] = 1 / float64(k)
	}
	for range max(100, k) {
		pqp, worst := 0.0, 0.0
		for t := range k {
			qp[t] = 0
			for j := range k {
				qp[t] += q[t][j] * p[j]
			}
			pqp += p[t] * qp[t]
		}
		for t := range k {
			worst = max(worst, math.Abs(qp[t]-pqp))
		}
		if worst < 0.005/float64(k) {
			break
		}
		for t := range k {
			d := (pqp - qp[t]) / q[t][t]
			p[t] += d
			pqp = (pqp + d*(d*q[t][t]+2*qp[t])) / (1 + d) / (1 + d)
			for j := range k {
				qp[j] = (qp[j] + d*q[t][j]) / (1 + d)
				p[j] /= 1 + d
			}
		}
	}
	return p
}
