package microsoft

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// directRows are operators that no standard ones spell.
func directRows() []*ops.Op {
	same := func(c *ops.Infer) error {
		c.Out(0, c.Type(0))
		return nil
	}
	inf := float32(math.Inf(-1))
	words := tensor.FromStrings([]string{"one two", "three"}, 2)
	return []*ops.Op{
		{
			ID: id("Inverse"), Doc: "the inverse of every matrix of the last two axes", In: params("X"), Out: params("Y"), Attrs: sig.NoAttrs,
			Infer: func(c *ops.Infer) error {
				if err := sig.Want(c, 0, sig.Floats); err != nil {
					return err
				}
				if err := sig.RankAtLeast(c, 0, 2); err != nil {
					return err
				}
				return same(c)
			},
			Eval:  evalInverse,
			Cases: []ops.Case{{Name: "two", In: []*tensor.Tensor{tensor.From([]float32{0, 2, 4, 0}, 2, 2)}, Want: []*tensor.Tensor{tensor.From([]float32{0, 0.25, 0.5, 0}, 2, 2)}}},
		},
		{
			ID: id("NGramRepeatBlock"), Doc: "scores [B,V], minus infinity for tokens that would repeat n tokens of input_ids [B,S]", In: params("input_ids", "scores"), Out: params("scores_out"),
			Attrs: []ops.Attr{attr("ngram_size", nil)},
			Infer: func(c *ops.Infer) error {
				if err := sig.Want(c, 0, sig.Index); err != nil {
					return err
				}
				if n := c.Node.Attrs.Int("ngram_size", 0); n < 1 {
					return c.Errorf("attribute ngram_size is %d, want 1 or more", n)
				}
				c.Out(0, c.Type(1))
				return nil
			},
			Eval: evalNGrams,
			Cases: []ops.Case{{Name: "pairs", Attrs: graph.Attrs{"ngram_size": int64(2)}, In: []*tensor.Tensor{tensor.Ints(1, 2, 1).Reshaped(1, 3), tensor.From([]float32{5, 6, 7}, 1, 3)},
				Want: []*tensor.Tensor{tensor.From([]float32{5, 6, inf}, 1, 3)}}},
		},
		{
			ID: id("DynamicTimeWarping"), Doc: "the cheapest path through the costs [M,N] from corner to corner: rows and columns, [2,x]", In: params("input"), Out: params("output"), Attrs: sig.NoAttrs,
			Infer: func(c *ops.Infer) error {
				if err := sig.Want(c, 0, sig.Floats); err != nil {
					return err
				}
				c.Out(0, graph.T(tensor.Int32, graph.D(2), c.Fresh(0, 1)))
				return sig.RankIs(c, 0, 2, 3)
			},
			Eval:  evalWarp,
			Cases: []ops.Case{{Name: "diagonal", In: []*tensor.Tensor{tensor.From([]float32{0, 9, 9, 0}, 2, 2)}, Want: []*tensor.Tensor{tensor.From([]int32{0, 1, 0, 1}, 2, 2)}}},
		},
		{
			ID: id("Tokenizer"), Doc: "the tokens of every string along a new last axis, padded: what lies between matches of separators, or what matches tokenexp (RE2, leftmost and longest), or every character",
			In: params("X"), Out: params("Y"),
			Attrs: []ops.Attr{attr("mark", nil), attr("mincharnum", nil), attr("pad_value", nil), attrOpt("separators"), attrOpt("tokenexp")},
			Infer: func(c *ops.Infer) error {
				if err := sig.Want(c, 0, sig.Strings); err != nil {
					return err
				}
				if err := sig.RankIs(c, 0, 1, 2); err != nil {
					return err
				}
				if _, err := tokenizer(c.Node.Attrs); err != nil {
					return err
				}
				t := c.Type(0)
				if t.Ranked() {
					if last := t.Shape[t.Rank()-1]; last.Is(0) {
						c.Out(0, t)
						return nil
					} else if _, known := last.Const(); !known { // an empty axis keeps its rank
						c.Out(0, sig.Unranked(tensor.String))
						return nil
					}
					t.Shape = append(slices.Clone(t.Shape), c.Fresh(0, t.Rank()))
				}
				c.Out(0, t)
				return nil
			},
			Eval: evalTokenizer,
			Cases: []ops.Case{{Name: "words", In: []*tensor.Tensor{words}, Attrs: graph.Attrs{"mark": int64(0), "mincharnum": int64(1), "pad_value": "#", "tokenexp": "[a-z]+"},
				Want: []*tensor.Tensor{tensor.FromStrings([]string{"one", "two", "three", "#"}, 2, 2)}}},
		},
	}
}

// evalInverse is Gauss and Jordan's elimination with the largest pivot of a column.
func evalInverse(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	n := x.Shape[x.Rank()-1]
	if x.Shape[x.Rank()-2] != n {
		return nil, fmt.Errorf("input X is %s, want square matrices", x.TypeString())
	}
	y := tensor.New(x.DType, x.Shape...)
	for m := range x.Len() / max(n*n, 1) {
		a := make([][]float64, n) // [A | I]
		for i := range a {
			a[i] = make([]float64, 2*n)
			for j := range n {
				a[i][j] = x.At((m*n+i)*n + j)
			}
			a[i][n+i] = 1
		}
		for i := range n {
			p := i
			for r := i; r < n; r++ {
				if math.Abs(a[r][i]) > math.Abs(a[p][i]) {
					p = r
				}
			}
			if a[p][i] == 0 {
				return nil, fmt.Errorf("input X: matrix %d has no inverse", m)
			}
			a[i], a[p] = a[p], a[i]
			for r := range n {
				if f := a[r][i] / a[i][i]; r != i && f != 0 {
					for j := i; j < 2*n; j++ {
						a[r][j] -= f * a[i][j]
					}
				}
			}
		}
		for i := range n {
			for j := range n {
				y.SetAt((m*n+i)*n+j, a[i][n+j]/a[i][i])
			}
		}
	}
	return []*tensor.Tensor{y}, nil
}

func evalNGrams(c *ops.Call) ([]*tensor.Tensor, error) {
	ids, scores, n := c.In[0], c.In[1], int(min(c.Node.Attrs.Int("ngram_size", 1), math.MaxInt32))
	if ids.Rank() != 2 || scores.Rank() != 2 || ids.Shape[0] != scores.Shape[0] {
		return nil, fmt.Errorf("input_ids %s and scores %s, want [B,S] and [B,V]", ids.TypeString(), scores.TypeString())
	}
	out, s, all := scores.Clone(), ids.Shape[1], ids.AsInts()
	for b := range ids.Shape[0] {
		row := all[b*s : (b+1)*s]
		for i := 0; i+n <= s; i++ {
			if !slices.Equal(row[i:i+n-1], row[s-n+1:]) {
				continue
			}
			token := row[i+n-1]
			if token < 0 || token >= int64(scores.Shape[1]) {
				return nil, fmt.Errorf("input_ids has the token %d, scores are %s", token, scores.TypeString())
			}
			out.SetAt(b*scores.Shape[1]+int(token), math.Inf(-1))
		}
	}
	return []*tensor.Tensor{out}, nil
}

func evalWarp(c *ops.Call) ([]*tensor.Tensor, error) {
	x := c.In[0]
	if x.Rank() == 3 && x.Shape[0] == 1 {
		x = x.Reshaped(x.Shape[1:]...)
	}
	if x.Rank() != 2 || x.Len() == 0 {
		return nil, fmt.Errorf("input is %s, want costs [M,N] or [1,M,N]", c.In[0].TypeString())
	}
	m, n := x.Shape[0], x.Shape[1]
	total := make([]float64, m*n) // of the cheapest path that ends here
	at := func(i, j int) float64 {
		if i < 0 || j < 0 {
			return math.Inf(1)
		}
		return total[i*n+j]
	}
	from := func(i, j int) (best float64, di, dj int) { // ties go left, as in the model that this op comes from
		d, up, left := at(i-1, j-1), at(i-1, j), at(i, j-1)
		switch {
		case i == 0 && j == 0:
			return 0, 1, 1
		case d < up && d < left:
			return d, 1, 1
		case up < d && up < left:
			return up, 1, 0
		case j == 0:
			return up, 1, 0
		}
		return left, 0, 1
	}
	for i := range m {
		for j := range n {
			best, _, _ := from(i, j)
			total[i*n+j] = x.At(i*n+j) + best
		}
	}
	var rows, cols []int32
	for i, j := m-1, n-1; i >= 0 && j >= 0; {
		rows, cols = append(rows, int32(i)), append(cols, int32(j))
		_, di, dj := from(i, j)
		i, j = i-di, j-dj
	}
	slices.Reverse(rows)
	slices.Reverse(cols)
	return []*tensor.Tensor{tensor.From(append(rows, cols...), 2, len(rows))}, nil
}

// tokenizer makes the function that cuts a string, as the attributes say.
func tokenizer(a graph.Attrs) (func(s string) []string, error) {
	seps, expr := a.Strings("separators"), a.Str("tokenexp", "")
	least := int(a.Int("mincharnum", 1))
	long := func(s string) bool { return s != "" && utf8.RuneCountInString(s) >= least }
	compile := func(s string) (*regexp.Regexp, error) {
		re, err := regexp.Compile(s)
		if err != nil {
			return nil, fmt.Errorf("the expression %q: %w", s, err)
		}
		re.Longest()
		return re, nil
	}
	switch {
	case (len(seps) > 0) == (expr != ""):
		return nil, fmt.Errorf("attributes separators and tokenexp: want exactly one of them")
	case least < 1:
		return nil, fmt.Errorf("attribute mincharnum is %d, want 1 or more", least)
	case expr == "." || len(seps) == 1 && seps[0] == "":
		return func(s string) (out []string) {
			for _, r := range s {
				out = append(out, string(r))
			}
			return out
		}, nil
	case expr != "":
		re, err := compile(expr)
		return func(s string) (out []string) {
			for _, t := range re.FindAllString(s, -1) {
				if long(t) {
					out = append(out, t)
				}
			}
			return out
		}, err
	}
	var res []*regexp.Regexp
	for _, s := range seps {
		re, err := compile(s)
		if err != nil {
			return nil, err
		}
		res = append(res, re)
	}
	return func(s string) []string {
		out := []string{s}
		for _, re := range res {
			var cut []string
			for _, t := range out {
				for _, u := range re.Split(t, -1) {
					if long(u) {
						cut = append(cut, u)
					}
				}
			}
			out = cut
		}
		return out
	}, nil
}

func evalTokenizer(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	cut, err := tokenizer(a)
	if err != nil {
		return nil, err
	}
	if x.Rank() < 1 || x.Rank() > 2 {
		return nil, fmt.Errorf("input X is %s, want [C] or [N,C]", x.TypeString())
	}
	if x.Len() == 0 {
		return []*tensor.Tensor{x}, nil
	}
	all, most := make([][]string, x.Len()), 0
	for i, s := range x.Strings {
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("input X: string %d is not UTF-8", i)
		}
		all[i] = cut(s)
		most = max(most, len(all[i]))
	}
	if a.Int("mark", 0) != 0 {
		for i, t := range all {
			all[i] = append(append([]string{"\x02"}, t...), "\x03")
		}
		most += 2
	}
	y := tensor.New(tensor.String, append(slices.Clone(x.Shape), most)...)
	for i, t := range all {
		for j := range most {
			y.Strings[i*most+j] = a.Str("pad_value", "")
			if j < len(t) {
				y.Strings[i*most+j] = t[j]
			}
		}
	}
	return []*tensor.Tensor{y}, nil
}
