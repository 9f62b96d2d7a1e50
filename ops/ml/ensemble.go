package ml

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// treeRows are the operators on tree ensembles.
func treeRows() []*ops.Op {
	nodes := []ops.Attr{sig.AttrOpt("base_values"), sig.AttrOpt("nodes_falsenodeids"), sig.AttrOpt("nodes_featureids"), sig.AttrOpt("nodes_hitrates"),
		sig.AttrOpt("nodes_missing_value_tracks_true"), sig.AttrOpt("nodes_modes"), sig.AttrOpt("nodes_nodeids"), sig.AttrOpt("nodes_treeids"),
		sig.AttrOpt("nodes_truenodeids"), sig.AttrOpt("nodes_values"), sig.Attr("post_transform", "NONE")}
	doubles := []ops.Attr{sig.AttrOpt("base_values_as_tensor"), sig.AttrOpt("nodes_hitrates_as_tensor"), sig.AttrOpt("nodes_values_as_tensor")}
	x := tensor.From([]float32{1, 2, -3, 4, 0.5, -1}, 3, 2)
	// One tree: x0 <= 0.75 ? leaf 1 : (x1 < 0 ? leaf 3 : leaf 4).
	tree := func(votes string, more graph.Attrs) graph.Attrs {
		a := graph.Attrs{"nodes_treeids": []int64{0, 0, 0, 0, 0}, "nodes_nodeids": []int64{0, 1, 2, 3, 4}, "nodes_modes": []string{"BRANCH_LEQ", "LEAF", "BRANCH_LT", "LEAF", "LEAF"},
			"nodes_featureids": []int64{0, 0, 1, 0, 0}, "nodes_values": []float32{0.75, 0, 0, 0, 0}, "nodes_truenodeids": []int64{1, 0, 3, 0, 0}, "nodes_falsenodeids": []int64{2, 0, 4, 0, 0},
			votes + "_treeids": []int64{0, 0, 0}, votes + "_nodeids": []int64{1, 3, 4}, votes + "_ids": []int64{0, 1, 2}, votes + "_weights": []float32{1, 2, 3}}
		for k, v := range more {
			a[k] = v
		}
		return a
	}
	var rows []*ops.Op
	for _, since := range []int{1, 3, 5} {
		r := &ops.Op{
			ID: id("TreeEnsembleRegressor", since), Doc: "the leaves' weights of all trees by target, aggregated, plus base_values, transformed",
			In: sig.Params("X"), Out: sig.Params("Y"), Infer: inferTreeRegressor, Eval: evalTreeRegressor,
			Attrs: append(slices.Clone(nodes), sig.Attr("aggregate_function", "SUM"), sig.Attr("n_targets", int64(1)), sig.AttrOpt("target_ids"), sig.AttrOpt("target_nodeids"), sig.AttrOpt("target_treeids"), sig.AttrOpt("target_weights")),
			Cases: []ops.Case{{Name: "three targets", In: one(x), Attrs: tree("target", graph.Attrs{"n_targets": int64(3), "base_values": []float32{0.5, 0, 0}}),
				Want: one(tensor.From([]float32{0.5, 0, 3, 1.5, 0, 0, 1.5, 0, 0}, 3, 3))}},
		}
		k := &ops.Op{
			ID: id("TreeEnsembleClassifier", since), Doc: "the class with the largest sum of its leaves' weights plus base_values, and all sums, transformed",
			In: sig.Params("X"), Out: sig.Params("Y", "Z"), Infer: inferTreeClassifier, Eval: evalTreeClassifier,
			Attrs: append(slices.Clone(nodes), sig.AttrOpt("class_ids"), sig.AttrOpt("class_nodeids"), sig.AttrOpt("class_treeids"), sig.AttrOpt("class_weights"), sig.AttrOpt("classlabels_int64s"), sig.AttrOpt("classlabels_strings")),
			Cases: []ops.Case{{Name: "three classes", In: one(x), NOut: 2, Attrs: tree("class", graph.Attrs{"classlabels_int64s": []int64{7, 8, 9}, "post_transform": "SOFTMAX"})}},
		}
		if since >= 3 {
			r.Attrs = append(append(r.Attrs, doubles...), sig.AttrOpt("target_weights_as_tensor"))
			k.Attrs = append(append(k.Attrs, doubles...), sig.AttrOpt("class_weights_as_tensor"))
		}
		rows = append(rows, r, k)
	}
	return append(rows, &ops.Op{
		ID: id("TreeEnsemble", 5), Doc: "the weights of the leaves that X [N,F] reaches, aggregated by target and transformed: [N,n_targets]",
		In: sig.Params("X"), Out: sig.Params("Y"),
		Attrs: []ops.Attr{sig.Attr("aggregate_function", int64(1)), sig.Attr("leaf_targetids", nil), sig.Attr("leaf_weights", nil), sig.AttrOpt("membership_values"), sig.Attr("n_targets", int64(1)),
			sig.Attr("nodes_falseleafs", nil), sig.Attr("nodes_falsenodeids", nil), sig.Attr("nodes_featureids", nil), sig.AttrOpt("nodes_hitrates"), sig.AttrOpt("nodes_missing_value_tracks_true"),
			sig.Attr("nodes_modes", nil), sig.Attr("nodes_splits", nil), sig.Attr("nodes_trueleafs", nil), sig.Attr("nodes_truenodeids", nil), sig.Attr("post_transform", int64(0)), sig.Attr("tree_roots", nil)},
		Infer: inferTreeEnsemble, Eval: evalTreeEnsemble,
		Cases: []ops.Case{{Name: "one split", In: one(x), Attrs: graph.Attrs{"nodes_modes": tensor.From([]uint8{0}, 1), "nodes_splits": tensor.From([]float32{0.75}, 1), "nodes_featureids": []int64{0},
			"nodes_truenodeids": []int64{0}, "nodes_falsenodeids": []int64{1}, "nodes_trueleafs": []int64{1}, "nodes_falseleafs": []int64{1}, "tree_roots": []int64{0},
			"leaf_targetids": []int64{0, 0}, "leaf_weights": tensor.From([]float32{-1, 1}, 2)}, Want: one(tensor.From([]float32{1, -1, -1}, 3, 1))}},
	})
}

// aggregates and transformNames are the numbers of TreeEnsemble-5.
var (
	aggregates     = []string{"AVERAGE", "SUM", "MIN", "MAX"}
	transformNames = []string{"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"}
)

// regress evaluates a forest on every row of X.
func regress(f *forest, x *tensor.Tensor, how string, post func([]float64), d tensor.DType) (*tensor.Tensor, error) {
	n, features, err := batch(x)
	if err != nil {
		return nil, err
	}
	v := x.AsFloats()
	out := make([]float64, 0, n*f.targets)
	for r := range n {
		s, met, err := f.sums(v[r*features:(r+1)*features], how)
		if err != nil {
			return nil, err
		}
		for i, b := range f.base {
			if met[i] || how == "SUM" || how == "AVERAGE" { // no leaf, no least or largest one
				s[i] += b
			}
		}
		post(s)
		out = append(out, s...)
	}
	return store(d, out, n, f.targets), nil
}

func inferTreeRegressor(c *ops.Infer) error {
	n, ok, err := batchDims(c)
	if err != nil {
		return err
	}
	a := c.Node.Attrs
	if how := a.Str("aggregate_function", "SUM"); !slices.Contains(aggregates, how) {
		return c.Errorf("attribute aggregate_function is %q, want one of %v", how, aggregates)
	}
	if _, err := transformOf(a); err != nil {
		return err
	}
	targets := a.Int("n_targets", 1)
	if targets < 1 || targets > 1<<24 {
		return c.Errorf("attribute n_targets is %d", targets)
	}
	matrix(c, 0, tensor.Float32, n, int(targets), ok)
	return nil
}

func evalTreeRegressor(c *ops.Call) ([]*tensor.Tensor, error) {
	a := c.Node.Attrs
	f, err := listedForest(a, "target", int(a.Int("n_targets", 1)))
	if err != nil {
		return nil, err
	}
	post, err := transformOf(a)
	if err != nil {
		return nil, err
	}
	y, err := regress(f, c.In[0], a.Str("aggregate_function", "SUM"), post, tensor.Float32)
	if err != nil {
		return nil, err
	}
	return one(y), nil
}

func inferTreeEnsemble(c *ops.Infer) error {
	if err := sig.Want(c, 0, sig.Floats); err != nil {
		return err
	}
	if err := sig.RankIs(c, 0, 2); err != nil {
		return err
	}
	a := c.Node.Attrs
	if how, post := a.Int("aggregate_function", 1), a.Int("post_transform", 0); how < 0 || how >= int64(len(aggregates)) || post < 0 || post >= int64(len(transformNames)) {
		return c.Errorf("attributes aggregate_function and post_transform are %d and %d, want 0 to %d and 0 to %d", how, post, len(aggregates)-1, len(transformNames)-1)
	}
	t := c.Type(0)
	if t.Ranked() {
		t.Shape = []graph.Dim{t.Shape[0], graph.D(a.Int("n_targets", 1))}
	}
	c.Out(0, t)
	return nil
}

func evalTreeEnsemble(c *ops.Call) ([]*tensor.Tensor, error) {
	a := c.Node.Attrs
	f, err := packedForest(a)
	if err != nil {
		return nil, err
	}
	y, err := regress(f, c.In[0], aggregates[a.Int("aggregate_function", 1)], transforms[transformNames[a.Int("post_transform", 0)]], c.In[0].DType)
	if err != nil {
		return nil, err
	}
	return one(y), nil
}

func inferTreeClassifier(c *ops.Infer) error {
	n, ok, err := batchDims(c)
	if err != nil {
		return err
	}
	l, err := labelsOf(c.Node.Attrs, "classlabels_int64s")
	if err != nil {
		return err
	}
	if _, err := transformOf(c.Node.Attrs); err != nil {
		return err
	}
	if ok {
		c.Out(0, graph.T(l.dtype(), n))
	} else {
		c.Out(0, sig.Unranked(l.dtype()))
	}
	matrix(c, 1, tensor.Float32, n, l.len(), ok)
	return nil
}

func evalTreeClassifier(c *ops.Call) ([]*tensor.Tensor, error) {
	a := c.Node.Attrs
	l, err := labelsOf(a, "classlabels_int64s")
	if err != nil {
		return nil, err
	}
	post, err := transformOf(a)
	if err != nil {
		return nil, err
	}
	f, err := listedForest(a, "class", l.len())
	if err != nil {
		return nil, err
	}
	x := c.In[0]
	n, features, err := batch(x)
	if err != nil {
		return nil, err
	}
	// Two classes of which the votes name only one: its sum is the score of the
	// second, a probability if no weight is negative.
	ids := a.Ints("class_ids")
	single := l.len() == 2 && len(ids) > 0 && !slices.ContainsFunc(ids, func(k int64) bool { return k != ids[0] })
	signed := slices.ContainsFunc(either(a, "class_weights"), func(w float64) bool { return w < 0 })
	v, y := x.AsFloats(), tensor.New(l.dtype(), n)
	z := make([]float64, 0, n*l.len())
	for r := range n {
		s, met, err := f.sums(v[r*features:(r+1)*features], "SUM")
		if err != nil {
			return nil, err
		}
		if single {
			k, score, limit := 0, s[ids[0]], 0.5
			if len(f.base) > 0 {
				score += f.base[len(f.base)-1]
			}
			if signed {
				limit = 0
			}
			if score > limit {
				k = 1
			}
			l.set(y, r, k)
			z = append(z, twoScores([]float64{score}, a.Str("post_transform", "NONE"), signed)...)
			continue
		}
		for i, b := range f.base {
			s[i] += b
			met[i] = true
		}
		l.set(y, r, topOf(s, met))
		post(s)
		z = append(z, s...)
	}
	return []*tensor.Tensor{y, store(tensor.Float32, z, n, l.len())}, nil
}

// topOf is the first of the largest sums among the classes that got votes; the
// first class when none did.
func topOf(s []float64, met []bool) int {
	best := -1
	for i, x := range s {
		if met[i] && (best < 0 || x > s[best]) {
			best = i
		}
	}
	return max(best, 0)
}
