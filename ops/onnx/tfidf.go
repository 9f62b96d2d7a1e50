package onnx

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

func tfidfRows() []*ops.Op {
	return versions("TfIdfVectorizer", []int{9}, ops.Op{
		Doc: "Counts (TF), weights (IDF) or weighted counts (TFIDF) of the n-grams of a pool in X, [n] or [B,n]; the members of an n-gram may be up to max_skip_count apart.",
		In:  params("X"), Out: params("Y"),
		Attrs: []ops.Attr{
			attr("max_gram_length", nil), attr("max_skip_count", nil), attr("min_gram_length", nil), attr("mode", nil),
			attr("ngram_counts", nil), attr("ngram_indexes", nil), attrOpt("pool_int64s"), attrOpt("pool_strings"), attrOpt("weights"),
		},
		Infer: inferTfIdf, Eval: evalTfIdf,
		Cases: []ops.Case{{
			Name: "bigrams",
			Attrs: graph.Attrs{
				"max_gram_length": int64(2), "max_skip_count": int64(0), "min_gram_length": int64(1), "mode": "TF",
				"ngram_counts": []int64{0, 1}, "ngram_indexes": []int64{0, 1}, "pool_int64s": []int64{5, 5, 6},
			},
			In:   []*tensor.Tensor{tensor.Ints(5, 6, 5)},
			Want: []*tensor.Tensor{tensor.From([]float32{2, 1}, 2)},
		}},
	})
}

// tfidfWidth is the length of the output's last axis.
func tfidfWidth(a graph.Attrs) (int, error) {
	n := int64(0)
	for _, i := range a.Ints("ngram_indexes") {
		if i < 0 || i > 1<<30 {
			return 0, fmt.Errorf("ngram_indexes holds %d", i)
		}
		n = max(n, i+1)
	}
	return int(n), nil
}

func inferTfIdf(c *ops.Infer) error {
	t := c.Type(0)
	if err := want(c, 0, indexTypes|stringType); err != nil {
		return err
	}
	if err := rankIs(c, 0, 0, 1, 2); err != nil {
		return err
	}
	width, err := tfidfWidth(c.Node.Attrs)
	if err != nil {
		return err
	}
	out := unranked(tensor.Float32)
	if t.Ranked() {
		out.Shape = append(cloneDims(t.Shape[:max(t.Rank()-1, 0)]), graph.D(int64(width)))
	}
	setOut(c, 0, out)
	return nil
}

// tfidfPool maps each n-gram, spelled as a key, to its place in the pool.
func tfidfPool(a graph.Attrs) (map[string]int, error) {
	words := a.Strings("pool_strings")
	for _, v := range a.Ints("pool_int64s") {
		words = append(words, strconv.FormatInt(v, 10))
	}
	starts := append(slices.Clone(a.Ints("ngram_counts")), int64(len(words)))
	pool := map[string]int{}
	for n := 1; n < len(starts); n++ {
		from, to := starts[n-1], starts[n]
		if from < 0 || to < from || to > int64(len(words)) || (to-from)%int64(n) != 0 {
			return nil, fmt.Errorf("ngram_counts %v do not divide a pool of %d", a.Ints("ngram_counts"), len(words))
		}
		for i := from; i < to; i += int64(n) {
			pool[gramKey(words[i:i+int64(n)])] = len(pool)
		}
	}
	if len(pool) > len(a.Ints("ngram_indexes")) {
		return nil, fmt.Errorf("%d n-grams, %d ngram_indexes", len(pool), len(a.Ints("ngram_indexes")))
	}
	return pool, nil
}

func gramKey(words []string) string {
	key := ""
	for _, w := range words {
		key += strconv.Itoa(len(w)) + ":" + w
	}
	return key
}

func evalTfIdf(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	width, err := tfidfWidth(a)
	if err != nil {
		return nil, err
	}
	pool, err := tfidfPool(a)
	if err != nil {
		return nil, err
	}
	words := x.Strings
	if x.DType != tensor.String {
		for _, v := range x.AsInts() {
			words = append(words, strconv.FormatInt(v, 10))
		}
	}
	lead, n := []int{}, x.Len()
	if x.Rank() == 2 {
		lead, n = x.Shape[:1], x.Shape[1]
	}
	out := tensor.New(tensor.Float32, append(slices.Clone(lead), width)...)
	for row := range product(lead) {
		counts := make([]int, len(pool))
		countGrams(words[row*n:(row+1)*n], a, func(key string) {
			if i, ok := pool[key]; ok {
				counts[i]++
			}
		})
		for i, k := range counts {
			v, w := float64(k), 1.0
			if ws := a.Floats("weights"); i < len(ws) {
				w = float64(ws[i])
			}
			switch {
			case k == 0:
				continue
			case a.Str("mode", "TF") == "IDF":
				v = w
			case a.Str("mode", "TF") == "TFIDF":
				v *= w
			}
			out.SetAt(row*width+int(a.Ints("ngram_indexes")[i]), v)
		}
	}
	return one(out), nil
}

// countGrams visits the n-grams of a row: members 1 to max_skip_count+1 apart.
func countGrams(row []string, a graph.Attrs, visit func(key string)) {
	longest := min(a.Int("max_gram_length", 1), int64(len(row)))
	for n := max(a.Int("min_gram_length", 1), 1); n <= longest; n++ {
		steps := min(max(a.Int("max_skip_count", 0), 0), int64(len(row))) + 1
		if n == 1 {
			steps = 1
		}
		for step := int64(1); step <= steps; step++ {
			for at := int64(0); at+(n-1)*step < int64(len(row)); at++ {
				gram := make([]string, n)
				for k := range gram {
					gram[k] = row[at+int64(k)*step]
				}
				visit(gramKey(gram))
			}
		}
	}
}
