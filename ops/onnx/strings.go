package onnx

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// stringRows: StringConcat, StringSplit, RegexFullMatch, StringNormalizer.
func stringRows() []*ops.Op {
	s := func(v ...string) *tensor.Tensor { return tensor.FromStrings(v, len(v)) }
	concat := ops.Op{
		Doc: "X followed by Y, element by element; they broadcast.",
		In:  params("X", "Y"), Out: params("Z"), Attrs: noAttrs,
		Traits: ops.Elementwise,
		Infer: func(c *ops.Infer) error {
			if err := same(c, stringType, 0, 1); err != nil {
				return err
			}
			shape, err := broadcastTypes(c.Type(0), c.Type(1))
			setOut(c, 0, graph.Type{DType: tensor.String, Shape: shape})
			return err
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x, y := c.In[0], c.In[1]
			shape, err := broadcastSizes(x.Shape, y.Shape)
			if err != nil {
				return nil, err
			}
			out := tensor.New(tensor.String, shape...)
			ys := offsets(shape, broadcastStrides(y.Shape, shape))
			for i, o := range offsets(shape, broadcastStrides(x.Shape, shape)) {
				out.Strings[i] = x.Strings[o] + y.Strings[ys[i]]
			}
			return one(out), nil
		},
		Cases: []ops.Case{{Name: "broadcast", In: []*tensor.Tensor{s("a", "b"), s("c")}, Want: []*tensor.Tensor{s("ac", "bc")}}},
	}
	split := ops.Op{
		Doc: "Each string cut at delimiter (at white space, if empty) at most maxsplit times; the parts on a new last axis, filled up with empty strings, and their number.",
		In:  params("X"), Out: params("Y", "Z"), Attrs: []ops.Attr{attr("delimiter", ""), attrOpt("maxsplit")},
		Infer: func(c *ops.Infer) error {
			t := c.Type(0)
			parts := t
			if t.Ranked() {
				parts.Shape = append(cloneDims(t.Shape), freshDim(c, 0, t.Rank()))
			}
			setOut(c, 0, parts)
			setOut(c, 1, withDType(t, tensor.Int64))
			return want(c, 0, stringType)
		},
		Eval:  evalStringSplit,
		Cases: []ops.Case{{Name: "dots", Attrs: graph.Attrs{"delimiter": "."}, In: []*tensor.Tensor{s("a.b", "c")}, NOut: 2, Want: []*tensor.Tensor{tensor.FromStrings([]string{"a", "b", "c", ""}, 2, 2), tensor.Ints(2, 1)}}},
	}
	match := ops.Op{
		Doc: "Whether the whole string matches pattern (RE2 syntax).",
		In:  params("X"), Out: params("Y"), Attrs: []ops.Attr{attr("pattern", nil)},
		Infer: func(c *ops.Infer) error {
			if _, err := fullMatch(c.Node.Attrs); err != nil {
				return err
			}
			setOut(c, 0, withDType(c.Type(0), tensor.Bool))
			return want(c, 0, stringType)
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			re, err := fullMatch(c.Node.Attrs)
			if err != nil {
				return nil, err
			}
			out := tensor.New(tensor.Bool, c.In[0].Shape...)
			for i, v := range c.In[0].Strings {
				if re.MatchString(v) {
					out.SetIntAt(i, 1)
				}
			}
			return one(out), nil
		},
		Cases: []ops.Case{{Name: "digits", Attrs: graph.Attrs{"pattern": "[0-9]+"}, In: []*tensor.Tensor{s("12", "1a")}, Want: []*tensor.Tensor{tensor.From([]bool{true, false}, 2)}}},
	}
	normalize := ops.Op{
		Doc: "[n] or [1,n] strings without the stop words, in upper or lower case; one empty string if none is left.",
		In:  params("X"), Out: params("Y"),
		Attrs: []ops.Attr{attr("case_change_action", "NONE"), attr("is_case_sensitive", int64(0)), attrOpt("locale"), attrOpt("stopwords")},
		Infer: func(c *ops.Infer) error {
			t := c.Type(0)
			if err := rankIs(c, 0, 1, 2); err != nil {
				return err
			}
			if a := c.Node.Attrs.Str("case_change_action", "NONE"); a != "NONE" && a != "LOWER" && a != "UPPER" {
				return c.Errorf("case_change_action %q, want NONE, LOWER or UPPER", a)
			}
			if t.Ranked() && len(c.Node.Attrs.Strings("stopwords")) > 0 {
				t.Shape = cloneDims(t.Shape)
				t.Shape[t.Rank()-1] = freshDim(c, 0, t.Rank()-1)
			}
			setOut(c, 0, t)
			return want(c, 0, stringType)
		},
		Eval:  evalStringNormalizer,
		Cases: []ops.Case{{Name: "upper", Attrs: graph.Attrs{"case_change_action": "UPPER", "stopwords": []string{"the"}}, In: []*tensor.Tensor{s("The", "end")}, Want: []*tensor.Tensor{s("END")}}},
	}
	rows := versions("StringConcat", []int{20}, concat)
	rows = append(rows, versions("StringSplit", []int{20}, split)...)
	rows = append(rows, versions("RegexFullMatch", []int{20}, match)...)
	return append(rows, versions("StringNormalizer", []int{10}, normalize)...)
}

func fullMatch(a graph.Attrs) (*regexp.Regexp, error) {
	return regexp.Compile(`\A(?:` + a.Str("pattern", "") + `)\z`)
}

func evalStringSplit(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	limit := -1 // number of parts
	if m := a.Int("maxsplit", -1); m >= 0 && m < 1<<30 {
		limit = int(m) + 1
	}
	parts, widest := make([][]string, x.Len()), 0
	for i, v := range x.Strings {
		if d := a.Str("delimiter", ""); d != "" {
			parts[i] = strings.SplitN(v, d, limit)
		} else {
			parts[i] = fieldsN(v, limit)
		}
		if v == "" {
			parts[i] = nil
		}
		widest = max(widest, len(parts[i]))
	}
	y := tensor.New(tensor.String, append(slices.Clone(x.Shape), widest)...)
	z := tensor.New(tensor.Int64, x.Shape...)
	for i, p := range parts {
		copy(y.Strings[i*widest:], p)
		z.SetIntAt(i, int64(len(p)))
	}
	return []*tensor.Tensor{y, z}, nil
}

// fieldsN splits around white space into at most n parts (any number if n < 0);
// the last part keeps what is left.
func fieldsN(s string, n int) []string {
	var out []string
	for s = strings.TrimLeft(s, " \t\r\n\v\f"); s != ""; {
		i := strings.IndexAny(s, " \t\r\n\v\f")
		if i < 0 || len(out)+1 == n {
			return append(out, s)
		}
		out = append(out, s[:i])
		s = strings.TrimLeft(s[i:], " \t\r\n\v\f")
	}
	return out
}

func evalStringNormalizer(c *ops.Call) ([]*tensor.Tensor, error) {
	x, a := c.In[0], c.Node.Attrs
	if x.Rank() != 1 && (x.Rank() != 2 || x.Shape[0] != 1) {
		return nil, fmt.Errorf("input is %s, want [n] or [1,n]", x.TypeString())
	}
	fold := strings.ToLower
	if a.Int("is_case_sensitive", 0) != 0 {
		fold = strings.Clone
	}
	stop := map[string]bool{}
	for _, w := range a.Strings("stopwords") {
		stop[fold(w)] = true
	}
	change := map[string]func(string) string{"LOWER": strings.ToLower, "UPPER": strings.ToUpper}[a.Str("case_change_action", "NONE")]
	var kept []string
	for _, v := range x.Strings {
		if stop[fold(v)] {
			continue
		}
		if change != nil {
			v = change(v)
		}
		kept = append(kept, v)
	}
	if len(kept) == 0 {
		kept = []string{""}
	}
	shape := slices.Clone(x.Shape)
	shape[len(shape)-1] = len(kept)
	return one(tensor.FromStrings(kept, shape...)), nil
}
