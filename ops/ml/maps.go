package ml

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/sig"
)

// mapRows make and take maps: what stands first and last in exports of
// scikit-learn, and the cast between them.
func mapRows() []*ops.Op {
	scores := tensor.From([]float32{0.25, 0.75, 1, 0}, 2, 2)
	words := entries(tensor.FromStrings([]string{"a", "b"}, 2), tensor.From([]float32{4, 8}, 2))
	numbers := entries(tensor.Ints(1, 3), tensor.From([]float32{4, 8}, 2))
	return []*ops.Op{
		{
			ID: id("ZipMap", 1), Doc: "each row of X [N,C] (or [C], one row) as a map from class to score",
			In: sig.Params("X"), Out: sig.Params("Z"), Attrs: []ops.Attr{sig.AttrOpt("classlabels_int64s"), sig.AttrOpt("classlabels_strings")},
			Infer: inferZipMap, Eval: evalZipMap,
			Cases: []ops.Case{{Name: "words", In: one(scores), Attrs: graph.Attrs{"classlabels_strings": []string{"yes", "no"}},
				Want: one(tensor.Seq(entries(tensor.FromStrings([]string{"no", "yes"}, 2), tensor.From([]float32{0.75, 0.25}, 2)),
					entries(tensor.FromStrings([]string{"no", "yes"}, 2), tensor.From([]float32{0, 1}, 2))))}},
		},
		{
			ID: id("DictVectorizer", 1), Doc: "the values of X in the order of the vocabulary, [1,V]; zero for what X lacks, and keys that the vocabulary lacks are left out",
			Traits: ops.Containers, In: sig.Params("X"), Out: sig.Params("Y"), Attrs: []ops.Attr{sig.AttrOpt("int64_vocabulary"), sig.AttrOpt("string_vocabulary")},
			Infer: inferDict, Eval: evalDict,
			Cases: []ops.Case{{Name: "words", In: one(words), Attrs: graph.Attrs{"string_vocabulary": []string{"c", "b", "a"}}, Want: one(tensor.From([]float32{0, 8, 4}, 1, 3))}},
		},
		{
			ID: id("CastMap", 1), Doc: "the values of X in the order of their keys (DENSE), or at the places that their keys are (SPARSE): [1,n]",
			Traits: ops.Containers, In: sig.Params("X"), Out: sig.Params("Y"),
			Attrs: []ops.Attr{sig.Attr("cast_to", "TO_FLOAT"), sig.Attr("map_form", "DENSE"), sig.Attr("max_map", int64(1))},
			Infer: inferCastMap, Eval: evalCastMap,
			Cases: []ops.Case{
				{Name: "dense", In: one(numbers), Want: one(tensor.From([]float32{4, 8}, 1, 2))},
				{Name: "sparse", In: one(numbers), Attrs: graph.Attrs{"map_form": "SPARSE", "max_map": int64(5), "cast_to": "TO_INT64"}, Want: one(tensor.From([]int64{0, 4, 0, 8, 0}, 1, 5))},
			},
		},
	}
}

// entries is NewMap of keys that are known to be different.
func entries(keys, values *tensor.Tensor) *tensor.Tensor {
	m, err := tensor.NewMap(keys, values)
	if err != nil {
		panic(err)
	}
	return m
}

// keysOf reads the one of two lists of keys that is given.
func keysOf(a graph.Attrs, ints, strs string) (*tensor.Tensor, error) {
	n, w := a.Ints(ints), a.Strings(strs)
	switch {
	case (len(n) == 0) == (len(w) == 0):
		return nil, fmt.Errorf("attributes %s and %s have %d and %d keys, want exactly one of them", ints, strs, len(n), len(w))
	case len(w) > 0:
		return tensor.FromStrings(w, len(w)), nil
	}
	return tensor.From(n, len(n)), nil
}

func inferZipMap(c *ops.Infer) error {
	if err := sig.Want(c, 0, sig.SetOf(tensor.Float32, tensor.Float64)); err != nil {
		return err
	}
	if err := sig.RankIs(c, 0, 1, 2); err != nil {
		return err
	}
	keys, err := keysOf(c.Node.Attrs, "classlabels_int64s", "classlabels_strings")
	if err != nil {
		return err
	}
	if _, err := tensor.NewMap(keys, keys); err != nil {
		return err
	}
	t := c.Type(0)
	if t.Ranked() {
		if n, ok := t.Shape[t.Rank()-1].Const(); ok && n != int64(keys.Len()) {
			return c.Errorf("X is %s, but there are %d classes", t, keys.Len())
		}
	}
	elem := graph.MapOf(keys.DType, tensor.Float32)
	c.Out(0, graph.Type{DType: tensor.Sequence, Elem: &elem})
	return nil
}

func evalZipMap(c *ops.Call) ([]*tensor.Tensor, error) {
	keys, err := keysOf(c.Node.Attrs, "classlabels_int64s", "classlabels_strings")
	if err != nil {
		return nil, err
	}
	x := c.In[0]
	n, f, err := batch(x)
	if err != nil {
		return nil, err
	}
	if f != keys.Len() {
		return nil, fmt.Errorf("input X is %s, but there are %d classes", x.TypeString(), keys.Len())
	}
	out := tensor.Seq()
	for i := range n {
		v := tensor.New(tensor.Float32, f)
		for j := range f {
			v.SetAt(j, x.At(i*f+j))
		}
		m, err := tensor.NewMap(keys, v)
		if err != nil {
			return nil, err
		}
		out.Elems = append(out.Elems, m)
	}
	return one(out), nil
}

// wantMap checks that input 0 is a map, if its type is known.
func wantMap(c *ops.Infer, keys, values sig.Types) error {
	t := c.Type(0)
	switch {
	case t.DType == tensor.Undefined || t.DType == tensor.Map && (t.Elem == nil || keys.Has(t.Key) && values.Has(t.Elem.DType)):
		return nil
	case t.DType == tensor.Map:
		return c.Errorf("input X is %s, want keys of type %v and values of type %v", t, keys, values)
	}
	return c.Errorf("input X is %s, want a map", t)
}

var dictTypes = sig.SetOf(tensor.Float32, tensor.Float64, tensor.Int64, tensor.String)

func inferDict(c *ops.Infer) error {
	keys, err := keysOf(c.Node.Attrs, "int64_vocabulary", "string_vocabulary")
	if err != nil {
		return err
	}
	if err := wantMap(c, sig.SetOf(keys.DType), dictTypes); err != nil {
		return err
	}
	d := tensor.Undefined
	if t := c.Type(0); t.Elem != nil {
		d = t.Elem.DType
	}
	c.Out(0, graph.T(d, graph.D(1), graph.D(int64(keys.Len()))))
	return nil
}

func evalDict(c *ops.Call) ([]*tensor.Tensor, error) {
	vocabulary, err := keysOf(c.Node.Attrs, "int64_vocabulary", "string_vocabulary")
	if err != nil {
		return nil, err
	}
	keys, values := c.In[0].Entries()
	if keys.DType != vocabulary.DType {
		return nil, fmt.Errorf("input X is %s, but the vocabulary is of type %s", c.In[0].TypeString(), vocabulary.DType)
	}
	at := map[any]int{}
	for i := range keys.Len() {
		at[keyAt(keys, i)] = i
	}
	y := tensor.New(values.DType, 1, vocabulary.Len())
	for i := range vocabulary.Len() {
		if j, ok := at[keyAt(vocabulary, i)]; ok {
			copyElement(y, i, values, j)
		}
	}
	return one(y), nil
}

// castTargets are the values of CastMap's attribute cast_to.
var castTargets = map[string]tensor.DType{"TO_FLOAT": tensor.Float32, "TO_INT64": tensor.Int64, "TO_STRING": tensor.String}

// maxSparseMap bounds the tensor that a file may ask a map to become.
const maxSparseMap = 1 << 28

func inferCastMap(c *ops.Infer) error {
	if err := wantMap(c, sig.SetOf(tensor.Int64), sig.SetOf(tensor.Float32, tensor.String)); err != nil {
		return err
	}
	a := c.Node.Attrs
	d, ok := castTargets[a.Str("cast_to", "TO_FLOAT")]
	if !ok {
		return c.Errorf("attribute cast_to is %q, want TO_FLOAT, TO_INT64 or TO_STRING", a.Str("cast_to", ""))
	}
	switch form, n := a.Str("map_form", "DENSE"), a.Int("max_map", 1); {
	case form == "DENSE":
		c.Out(0, graph.T(d, graph.D(1), c.Fresh(0, 1)))
	case form != "SPARSE":
		return c.Errorf("attribute map_form is %q, want DENSE or SPARSE", form)
	case n < 1 || n > maxSparseMap:
		return c.Errorf("attribute max_map is %d, want 1 to %d", n, maxSparseMap)
	default:
		c.Out(0, graph.T(d, graph.D(1), graph.D(n)))
	}
	return nil
}

func evalCastMap(c *ops.Call) ([]*tensor.Tensor, error) {
	a := c.Node.Attrs
	keys, values := c.In[0].Entries()
	d, n := castTargets[a.Str("cast_to", "TO_FLOAT")], keys.Len()
	sparse := a.Str("map_form", "DENSE") == "SPARSE"
	if sparse {
		n = int(a.Int("max_map", 1))
	}
	y := tensor.New(d, 1, n)
	if d == tensor.String && sparse { // places that no key names
		for i := range y.Strings {
			y.Strings[i] = "0.f"
		}
	}
	for i := range keys.Len() {
		at := int64(i)
		if sparse {
			if at = keys.IntAt(i); at < 0 || at >= int64(n) {
				return nil, fmt.Errorf("input X has the key %d, want 0 to max_map-1, %d", at, n-1)
			}
		}
		if err := castElement(y, int(at), values, i); err != nil {
			return nil, err
		}
	}
	return one(y), nil
}

func castElement(y *tensor.Tensor, i int, x *tensor.Tensor, j int) error {
	switch {
	case y.DType == x.DType:
		copyElement(y, i, x, j)
	case y.DType == tensor.String:
		y.Strings[i] = strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(x.At(j), 'f', 6, 64), "+")) // as C++ prints it: nan, inf
	case x.DType != tensor.String:
		y.SetAt(i, x.At(j))
	case y.DType == tensor.Int64:
		v, err := strconv.ParseInt(strings.TrimSpace(x.Strings[j]), 10, 64)
		if err != nil {
			return fmt.Errorf("input X holds %q, which is no integer", x.Strings[j])
		}
		y.SetIntAt(i, v)
	default:
		v, err := strconv.ParseFloat(strings.TrimSpace(x.Strings[j]), 32)
		if err != nil {
			return fmt.Errorf("input X holds %q, which is no number", x.Strings[j])
		}
		y.SetAt(i, v)
	}
	return nil
}
