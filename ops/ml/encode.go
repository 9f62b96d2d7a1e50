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

// encoderRows map values to others and gather features.
func encoderRows() []*ops.Op {
	mapped := []ops.Attr{sig.Attr("default_float", float32(math.Copysign(0, -1))), sig.Attr("default_int64", int64(-1)), sig.Attr("default_string", "_Unused"),
		sig.AttrOpt("keys_floats"), sig.AttrOpt("keys_int64s"), sig.AttrOpt("keys_strings"),
		sig.AttrOpt("values_floats"), sig.AttrOpt("values_int64s"), sig.AttrOpt("values_strings")}
	word := tensor.FromStrings([]string{"b", "a", "x"}, 3)
	ids := tensor.Ints(1, 0, 5)
	encoder := ops.Op{
		Doc: "every element replaced by the value that stands beside its key, or by the default; NaN equals NaN, the last of equal keys counts",
		In:  sig.Params("X"), Out: sig.Params("Y"),
		Infer: func(c *ops.Infer) error { return inferLookup(c, labelEncoder) },
		Eval:  func(c *ops.Call) ([]*tensor.Tensor, error) { return evalLookup(c, labelEncoder) },
		Cases: []ops.Case{{Name: "words", In: one(word), Attrs: graph.Attrs{"keys_strings": []string{"a", "b"}, "values_int64s": []int64{5, 6}},
			Want: one(tensor.Ints(6, 5, -1))}},
	}
	v2, v4 := encoder, encoder
	v2.ID, v2.Attrs = id("LabelEncoder", 2), mapped
	v4.ID, v4.Attrs = id("LabelEncoder", 4), append(slices.Clone(mapped), sig.AttrOpt("default_tensor"), sig.AttrOpt("keys_tensor"), sig.AttrOpt("values_tensor"))
	return []*ops.Op{
		{
			ID: id("LabelEncoder", 1), Doc: "a word becomes its index in classes_strings, an index the word there",
			In: sig.Params("X"), Out: sig.Params("Y"),
			Attrs: []ops.Attr{sig.AttrOpt("classes_strings"), sig.Attr("default_int64", int64(-1)), sig.Attr("default_string", "_Unused")},
			Infer: func(c *ops.Infer) error { return inferLookup(c, byIndex) },
			Eval:  func(c *ops.Call) ([]*tensor.Tensor, error) { return evalLookup(c, byIndex) },
			Cases: []ops.Case{{Name: "words", In: one(word), Attrs: graph.Attrs{"classes_strings": []string{"a", "b"}}, Want: one(tensor.Ints(1, 0, -1))}},
		},
		&v2, &v4,
		{
			ID: id("CategoryMapper", 1), Doc: "words become the numbers at their places in two parallel lists, or numbers the words",
			In: sig.Params("X"), Out: sig.Params("Y"),
			Attrs: []ops.Attr{sig.AttrOpt("cats_int64s"), sig.AttrOpt("cats_strings"), sig.Attr("default_int64", int64(-1)), sig.Attr("default_string", "_Unused")},
			Infer: func(c *ops.Infer) error { return inferLookup(c, categories) },
			Eval:  func(c *ops.Call) ([]*tensor.Tensor, error) { return evalLookup(c, categories) },
			Cases: []ops.Case{{Name: "numbers", In: one(ids), Attrs: graph.Attrs{"cats_int64s": []int64{0, 1}, "cats_strings": []string{"no", "yes"}},
				Want: one(tensor.FromStrings([]string{"yes", "no", "_Unused"}, 3))}},
		},
		{
			ID: id("OneHotEncoder", 1), Doc: "a new last axis with a 1 at the place of the element's category; unknown ones give zeros, or an error with zeros=0",
			In: sig.Params("X"), Out: sig.Params("Y"),
			Attrs: []ops.Attr{sig.AttrOpt("cats_int64s"), sig.AttrOpt("cats_strings"), sig.Attr("zeros", int64(1))},
			Infer: func(c *ops.Infer) error {
				if err := sig.Want(c, 0, numberTypes|sig.Strings); err != nil {
					return err
				}
				n := int64(len(c.Node.Attrs.Ints("cats_int64s")) + len(c.Node.Attrs.Strings("cats_strings")))
				t := sig.WithDType(c.Type(0), tensor.Float32)
				if t.Ranked() {
					t.Shape = append(slices.Clone(t.Shape), graph.D(n))
				}
				c.Out(0, t)
				return nil
			},
			Eval:  evalOneHot,
			Cases: []ops.Case{{Name: "numbers", In: one(ids), Attrs: graph.Attrs{"cats_int64s": []int64{0, 1}}, Want: one(tensor.From([]float32{0, 1, 1, 0, 0, 0}, 3, 2))}},
		},
		{
			ID: id("ArrayFeatureExtractor", 1), Doc: "the columns Y of X's last axis",
			In: sig.Params("X", "Y"), Out: sig.Params("Z"), Attrs: sig.NoAttrs,
			Infer: inferExtract, Eval: evalExtract,
			Cases: []ops.Case{{Name: "two columns", In: []*tensor.Tensor{tensor.From([]float32{0, 1, 2, 3, 4, 5}, 2, 3), tensor.Ints(2, 0)},
				Want: one(tensor.From([]float32{2, 0, 5, 3}, 2, 2))}},
		},
		{
			ID: id("FeatureVectorizer", 1), Doc: "the inputs [N,C] (or [C], one row) side by side, as float, each cut or padded to its length in inputdimensions",
			In: sig.Params("X..."), Out: sig.Params("Y"), Attrs: []ops.Attr{sig.AttrOpt("inputdimensions")},
			Infer: inferVectorizer, Eval: evalVectorizer,
			Cases: []ops.Case{{Name: "two", In: []*tensor.Tensor{tensor.From([]float32{1, 2}, 2, 1), tensor.From([]float32{3, 4, 5, 6}, 2, 2)},
				Attrs: graph.Attrs{"inputdimensions": []int64{1, 2}}, Want: one(tensor.From([]float32{1, 3, 4, 2, 5, 6}, 2, 3))}},
		},
	}
}

// lookup is a mapping between two lists; otherwise holds the default.
type lookup struct{ keys, values, otherwise *tensor.Tensor }

// listOf reads the one attribute of three or four spellings that is given.
func listOf(a graph.Attrs, what string) (*tensor.Tensor, error) {
	var found []*tensor.Tensor
	if v := a.Ints(what + "_int64s"); v != nil {
		found = append(found, tensor.From(v, len(v)))
	}
	if v := a.Floats(what + "_floats"); v != nil {
		found = append(found, tensor.From(v, len(v)))
	}
	if v := a.Strings(what + "_strings"); v != nil {
		found = append(found, tensor.FromStrings(v, len(v)))
	}
	if t := a.Tensor(what + "_tensor"); t != nil {
		found = append(found, t)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%d of the attributes %s_* are given, want one", len(found), what)
	}
	return found[0], nil
}

// defaultFor is the default value of an element type.
func defaultFor(a graph.Attrs, d tensor.DType) (*tensor.Tensor, error) {
	if t := a.Tensor("default_tensor"); t != nil {
		if t.DType != d || t.Len() != 1 {
			return nil, fmt.Errorf("default_tensor is %s, want one element of type %s", t.TypeString(), d)
		}
		return t, nil
	}
	t := tensor.New(d, 1)
	switch {
	case d == tensor.String:
		t.Strings[0] = a.Str("default_string", "_Unused")
	case d.IsFloat():
		t.SetAt(0, float64(a.Float("default_float", float32(math.Copysign(0, -1)))))
	default:
		t.SetIntAt(0, a.Int("default_int64", -1))
	}
	return t, nil
}

func labelEncoder(n *graph.Node, _ tensor.DType) (l lookup, err error) {
	if l.keys, err = listOf(n.Attrs, "keys"); err != nil {
		return l, err
	}
	if l.values, err = listOf(n.Attrs, "values"); err != nil {
		return l, err
	}
	l.otherwise, err = defaultFor(n.Attrs, l.values.DType)
	return l, err
}

// between makes the lookup that the input's type asks for.
func between(a graph.Attrs, in tensor.DType, numbers []int64, words []string) (lookup, error) {
	n, w := tensor.From(numbers, len(numbers)), tensor.FromStrings(words, len(words))
	if in == tensor.String {
		d, err := defaultFor(a, tensor.Int64)
		return lookup{w, n, d}, err
	}
	d, err := defaultFor(a, tensor.String)
	return lookup{n, w, d}, err
}

func byIndex(n *graph.Node, in tensor.DType) (lookup, error) {
	words := n.Attrs.Strings("classes_strings")
	at := make([]int64, len(words))
	for i := range at {
		at[i] = int64(i)
	}
	return between(n.Attrs, in, at, words)
}

func categories(n *graph.Node, in tensor.DType) (lookup, error) {
	return between(n.Attrs, in, n.Attrs.Ints("cats_int64s"), n.Attrs.Strings("cats_strings"))
}

type lookupOf func(n *graph.Node, in tensor.DType) (lookup, error)

func inferLookup(c *ops.Infer, f lookupOf) error {
	t := c.Type(0)
	l, err := f(c.Node, t.DType)
	if err != nil {
		return err
	}
	if l.keys.Len() != l.values.Len() {
		return c.Errorf("%d keys and %d values, want as many", l.keys.Len(), l.values.Len())
	}
	if t.DType != tensor.Undefined && t.DType != l.keys.DType {
		return c.Errorf("X is %s, but keys are %s", t, l.keys.DType)
	}
	c.Out(0, sig.WithDType(t, l.values.DType))
	return nil
}

func evalLookup(c *ops.Call, f lookupOf) ([]*tensor.Tensor, error) {
	x := c.In[0]
	l, err := f(c.Node, x.DType)
	if err != nil {
		return nil, err
	}
	at := map[any]int{}
	for i := range l.keys.Len() {
		at[keyAt(l.keys, i)] = i
	}
	y := tensor.New(l.values.DType, x.Shape...)
	for i := range x.Len() {
		if k, ok := at[keyAt(x, i)]; ok {
			copyElement(y, i, l.values, k)
		} else {
			copyElement(y, i, l.otherwise, 0)
		}
	}
	return one(y), nil
}

// keyAt is an element as a map key; every NaN is one key.
func keyAt(t *tensor.Tensor, i int) any {
	switch {
	case t.DType == tensor.String:
		return t.Strings[i]
	case t.DType.IsFloat():
		if v := t.At(i); v == v {
			return v
		}
		return "NaN"
	}
	return t.IntAt(i)
}

func copyElement(y *tensor.Tensor, i int, x *tensor.Tensor, j int) {
	if y.DType == tensor.String {
		y.Strings[i] = x.Strings[j]
		return
	}
	n := y.DType.Size()
	copy(y.Data[i*n:(i+1)*n], x.Data[j*n:])
}

func evalOneHot(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	numbers, words := a.Ints("cats_int64s"), a.Strings("cats_strings")
	n := len(numbers) + len(words)
	if (numbers == nil) == (words == nil) || (words != nil) != (x.DType == tensor.String) {
		return nil, fmt.Errorf("input X is %s, want one of cats_int64s and cats_strings, and the one for this type", x.TypeString())
	}
	y := tensor.New(tensor.Float32, append(slices.Clone(x.Shape), n)...)
	for i := range x.Len() {
		k, shown := -1, any(nil)
		if words != nil {
			k, shown = slices.Index(words, x.Strings[i]), x.Strings[i]
		} else {
			k, shown = slices.Index(numbers, x.IntAt(i)), x.IntAt(i)
		}
		switch {
		case k >= 0:
			y.SetAt(i*n+k, 1)
		case a.Int("zeros", 1) == 0:
			return nil, fmt.Errorf("element %d is %v, which is no category, and zeros=0 forbids that", i, shown)
		}
	}
	return one(y), nil
}

func inferExtract(c *ops.Infer) error {
	if err := sig.Want(c, 0, numberTypes|sig.Strings); err != nil {
		return err
	}
	if err := sig.Want(c, 1, sig.SetOf(tensor.Int64)); err != nil {
		return err
	}
	x, y := c.Type(0), c.Type(1)
	n, ok := y.Len()
	if !x.Ranked() || !ok || x.Rank() == 0 {
		c.Out(0, sig.Unranked(x.DType))
		return nil
	}
	t := x
	if x.Rank() == 1 { // one row
		t.Shape = []graph.Dim{graph.D(1), n}
	} else {
		t.Shape = append(slices.Clone(x.Shape[:x.Rank()-1]), n)
	}
	c.Out(0, t)
	return nil
}

func evalExtract(c *ops.Call) ([]*tensor.Tensor, error) {
	x, cols := c.In[0], c.In[1].AsInts()
	if x.Rank() == 0 {
		return nil, fmt.Errorf("input X is a scalar")
	}
	f := x.Shape[x.Rank()-1]
	shape := append(slices.Clone(x.Shape[:x.Rank()-1]), len(cols))
	if x.Rank() == 1 {
		shape = []int{1, len(cols)}
	}
	z := tensor.New(x.DType, shape...)
	for i := range z.Len() {
		k := cols[i%len(cols)]
		if k < 0 || k >= int64(f) {
			return nil, fmt.Errorf("column %d of X %s", k, x.TypeString())
		}
		copyElement(z, i, x, i/len(cols)*f+int(k))
	}
	return one(z), nil
}

// widths are the columns that each input takes: its length in inputdimensions.
func widths(a graph.Attrs, i, own int) int {
	if d := a.Ints("inputdimensions"); i < len(d) {
		return int(min(max(d[i], 0), 1<<24))
	}
	return own
}

func inferVectorizer(c *ops.Infer) error {
	rows, total := graph.D(1), 0
	for i := range c.Node.In {
		if err := sig.Want(c, i, numberTypes); err != nil {
			return err
		}
		if err := sig.RankIs(c, i, 1, 2); err != nil {
			return err
		}
		t := c.Type(i)
		if !t.Ranked() {
			c.Out(0, sig.Unranked(tensor.Float32))
			return nil
		}
		if t.Rank() == 2 {
			rows = t.Shape[0]
		}
		own, ok := t.Shape[t.Rank()-1].Const()
		if !ok && i >= len(c.Node.Attrs.Ints("inputdimensions")) {
			c.Out(0, graph.T(tensor.Float32, rows, c.Fresh(0, 1)))
			return nil
		}
		total += widths(c.Node.Attrs, i, int(own))
	}
	c.Out(0, graph.T(tensor.Float32, rows, graph.D(int64(total))))
	return nil
}

func evalVectorizer(c *ops.Call) ([]*tensor.Tensor, error) {
	rows, total := 0, 0
	for i, x := range c.In {
		n, f, err := batch(x)
		if err != nil {
			return nil, err
		}
		if i > 0 && n != rows {
			return nil, fmt.Errorf("input %d is %s, others have %d rows", i, x.TypeString(), rows)
		}
		rows, total = n, total+widths(c.Node.Attrs, i, f)
	}
	y, at := tensor.New(tensor.Float32, rows, total), 0
	for i, x := range c.In {
		_, f, _ := batch(x)
		w := widths(c.Node.Attrs, i, f)
		for r := range rows {
			for k := range min(w, f) {
				y.SetAt(r*total+at+k, x.At(r*f+k))
			}
		}
		at += w
	}
	return one(y), nil
}
