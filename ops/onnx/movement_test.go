package onnx

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// arg is an input of a test node, written "float[B,T,4]", "int64[2]={B,3}"
// (with contents, symbolic or not), or "-" (omitted).
func arg(t *testing.T, g *graph.Graph, s string) *graph.Value {
	t.Helper()
	if s == "-" {
		return nil
	}
	ty, contents, known := strings.Cut(s, "=")
	v := g.AddInput("in", parseType(t, ty))
	if known {
		v.Known = []graph.Dim{}
		for _, d := range splitDims(strings.Trim(contents, "{}")) {
			v.Known = append(v.Known, parseDim(t, d))
		}
	}
	return v
}

func splitDims(s string) []string {
	if s == "" {
		return nil
	}
	var out []string
	depth, start := 0, 0
	for i, c := range s {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, s[start:i])
				start = i + 1
			}
		}
	}
	return append(out, s[start:])
}

func parseDim(t *testing.T, s string) graph.Dim {
	t.Helper()
	d, err := graph.ParseDim(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func parseType(t *testing.T, s string) graph.Type {
	t.Helper()
	if inner, ok := strings.CutPrefix(s, "seq("); ok {
		return sequenceOf(parseType(t, strings.TrimSuffix(inner, ")")))
	}
	name, rest, ranked := strings.Cut(s, "[")
	d, ok := tensor.ParseDType(name)
	if !ok {
		t.Fatalf("type %q", s)
	}
	if !ranked {
		return unranked(d)
	}
	shape := []graph.Dim{}
	for _, f := range splitDims(strings.TrimSuffix(rest, "]")) {
		shape = append(shape, parseDim(t, f))
	}
	return graph.T(d, shape...)
}

func describeValue(v *graph.Value) string {
	s := v.Type.String()
	if v.Known != nil {
		list := make([]string, len(v.Known))
		for i, d := range v.Known {
			list[i] = d.String()
		}
		s += "={" + strings.Join(list, ",") + "}"
	}
	return s
}

func table(t *testing.T) *ops.Table {
	t.Helper()
	tab := &ops.Table{}
	if err := Register(tab); err != nil {
		t.Fatal(err)
	}
	return tab
}

// TestMovementInference is a table of symbolic inference: operator (newest
// version, or Name-Since), attributes, inputs, outputs.
func TestMovementInference(t *testing.T) {
	type ints = []int64
	type A = graph.Attrs
	const end = "9223372036854775807"
	cases := []struct {
		op    string
		attrs A
		in    string // separated by spaces
		want  string // outputs, separated by spaces; "error: ..." for a refusal
	}{
		{"Shape", nil, "float[B,T,64]", "int64[3]={B,T,64}"},
		{"Shape", A{"start": int64(-2)}, "float[B,T,64]", "int64[2]={T,64}"},
		{"Shape", nil, "float", "int64[?out0.0]"},
		{"Size", nil, "float[B,4,T]", "int64[]={4*B*T}"},
		{"Identity", nil, "int64[2]={B,-1}", "int64[2]={B,-1}"},

		{"Reshape", nil, "float[B,T,64] int64[3]={0,0,-1}", "float[B,T,64]"},
		{"Reshape", nil, "float[B,T,64] int64[4]={B,-1,8,8}", "float[B,T,8,8]"},
		{"Reshape", nil, "float[B,64*floor((T+63)/64),24,64] int64[5]={B,-1,64,24,64}", "float[B,floor((T+63)/64),64,24,64]"},
		{"Reshape", nil, "float[B,T+3,4] int64[2]={-1,T+3}", "float[4*B,T+3]"},
		{"Reshape", nil, "float[B,T] int64[2]={-1,3}", "float[floor((B*T)/3),3]"},
		{"Reshape", nil, "float[B,T] int64[3]", "float[?out0.0,?out0.1,?out0.2]"},
		{"Reshape", nil, "float int64[2]={0,-1}", "float[?out0.0,?out0.1]"},
		{"Reshape", nil, "float[B,T] int64[n]", "float"},
		{"Reshape", A{"allowzero": int64(1)}, "float[0,3] int64[2]={3,0}", "float[3,0]"},
		{"Reshape", nil, "int64[]={B} int64[1]={-1}", "int64[1]={B}"},
		{"Reshape", nil, "float[2,3] int64[2]={-1,4}", "error: float[2,3] does not divide into shape [-1 4]"},
		{"Reshape", nil, "float[2,3] int64[2]={-1,-1}", "error: shape [-1 -1] has two -1"},
		{"Reshape", nil, "float[2,3] int64[1]={5}", "error: float[2,3] has 6 elements"},
		{"Reshape", nil, "float[2] int64[2]={2,0}", "error: copies axis 1"},
		{"Flatten", A{"axis": int64(2)}, "float[B,T,4,8]", "float[B*T,32]"},
		{"Flatten", A{"axis": int64(-9)}, "float[B]", "error: axis -9"},
		{"Squeeze", nil, "float[1,B,1] int64[1]={-1}", "float[1,B]"},
		{"Squeeze", nil, "float[1,4,1]", "float[4]"},
		{"Squeeze", nil, "float[1,B]", "float"},
		{"Squeeze", nil, "int64[1]={T} int64[1]={0}", "int64[]={T}"},
		{"Squeeze", nil, "float[2] int64[1]={0}", "error: axis 0 of float[2] has length 2"},
		{"Squeeze-11", A{"axes": ints{0}}, "float[1,B]", "float[B]"},
		{"Unsqueeze", nil, "int64[]={T} int64[1]={0}", "int64[1]={T}"},
		{"Unsqueeze", nil, "float[B,T] int64[2]={3,1}", "float[B,1,T,1]"},
		{"Unsqueeze-11", A{"axes": ints{-1}}, "float[B]", "float[B,1]"},
		{"Unsqueeze", nil, "float[B] int64[2]={0,0}", "error: axis 0 is given twice"},
		{"Transpose", A{"perm": ints{0, 2, 1}}, "float[B,T,4]", "float[B,4,T]"},
		{"Transpose", nil, "int64[2,2]={B,T,1,2}", "int64[2,2]={B,1,T,2}"},
		{"Transpose", A{"perm": ints{0, 0}}, "float[B,T]", "error: perm [0 0] is not a permutation"},

		// Slice: full, open, clamped, negative, stepped.
		{"Slice", nil, "float[B,T] int64[1]={0} int64[1]={" + end + "} int64[1]={1}", "float[B,T]"},
		{"Slice", nil, "float[B,T] int64[1]={0} int64[1]={-1} int64[1]={1}", "float[B,T-1]"},
		{"Slice", nil, "float[B,T+1] int64[1]={1} int64[1]={" + end + "} int64[1]={1}", "float[B,T]"},
		{"Slice", nil, "float[B,T] int64[1]={-3} int64[1]={" + end + "} int64[1]={1}", "float[B,min(3,T)]"},
		{"Slice", nil, "float[B,T+3] int64[1]={-3} int64[1]={" + end + "} int64[1]={-1}", "float[B,3]"},
		{"Slice", nil, "float[B,T+3] int64[1]={3} int64[1]={T+3} int64[1]={-1}", "float[B,T]"},
		{"Slice", nil, "float[B,64*floor((T+63)/64),8] int64[1]={0} int64[1]={T} int64[1]={1}", "float[B,T,8]"},
		{"Slice", nil, "float[B,T+3] int64[1]={T} int64[1]={" + end + "} int64[1]={1}", "float[B,3]"},
		{"Slice", nil, "float[B,T+3] int64[1]={-T-3} int64[1]={-3} int64[1]={1}", "float[B,T]"},
		{"Slice", nil, "float[B,T] int64[1]={-1} int64[1]={-" + end + "} int64[1]={1} int64[1]={-1}", "float[B,T]"},
		{"Slice", nil, "float[T] int64[1]={0} int64[1]={" + end + "} int64[1]={0} int64[1]={2}", "float[floor((T+1)/2)]"},
		{"Slice", nil, "float[10] int64[1]={8} int64[1]={2} int64[1]={0} int64[1]={-3}", "float[2]"},
		{"Slice", nil, "float[4] int64[1]={5} int64[1]={9}", "float[0]"},
		{"Slice", nil, "float[T] int64[1] int64[1]={9}", "float[?out0.0]"},
		{"Slice", nil, "float[B,T] int64[1]={0} int64[1]={1} int64[1]", "float[?out0.0,?out0.1]"},
		{"Slice", nil, "int64[3]={B,T,64} int64[1]={1} int64[1]={" + end + "}", "int64[2]={T,64}"},
		{"Slice", nil, "float[T] int64[1]={0} int64[1]={1} int64[1]={0} int64[1]={0}", "error: step on axis 0 is 0"},
		{"Slice-1", A{"starts": ints{0}, "ends": ints{2}, "axes": ints{1}}, "float[B,8]", "float[B,2]"},

		{"Split", A{"axis": int64(-1), "num_outputs": int64(2)}, "float[B,T,64]", "float[B,T,32] float[B,T,32]"},
		{"Split", A{"axis": int64(1)}, "float[B,T+5] int64[2]={T,5}", "float[B,T] float[B,5]"},
		{"Split", A{"num_outputs": int64(2)}, "float[7]", "float[4] float[3]"},
		{"Split-13", nil, "int64[2]={B,T}", "int64[1]={B} int64[1]={T}"},
		{"Split-13", nil, "float[5]", "error: axis 0 of float[5] does not split into 2 equal parts"},
		{"Split", nil, "float[9] int64[2]={4,4}", "error: add up to 8"},
		{"Concat", A{"axis": int64(1)}, "float[B,T,4] float[B,3,4]", "float[B,T+3,4]"},
		{"Concat", A{"axis": int64(0)}, "int64[1]={B} int64[2]={-1,64}", "int64[3]={B,-1,64}"},
		{"Concat", A{"axis": int64(0)}, "float[B,4] float[C,5]", "error: input 1 is float[C,5]"},
		{"Gather", nil, "int64[3]={B,T,64} int64[]={-2}", "int64[]={T}"},
		{"Gather", nil, "int64[3]={B,T,64} int64[2]={0,2}", "int64[2]={B,64}"},
		{"Gather", A{"axis": int64(1)}, "float[B,T,4] int64[n,2]", "float[B,n,2,4]"},
		{"Gather", nil, "float[3] int64[]={3}", "error: index 3 is outside axis 0"},
		{"GatherElements", nil, "float[B,T] int64[B,5]", "float[B,5]"},
		{"GatherND", A{"batch_dims": int64(1)}, "float[B,T,4] int64[B,n,1]", "float[B,n,4]"},
		{"ScatterND", nil, "int64[3]={B,T,64} int64[1,1]={1} int64[1]={7}", "int64[3]={B,7,64}"},
		{"ScatterElements", A{"axis": int64(1)}, "float[B,T] int64[B,2] float[B,2]", "float[B,T]"},

		// Pad: Hugging Face crops or pads the convolution state by K-L.
		{"Pad", nil, "float[B,64,L] int64[6]={0,0,4-L,0,0,0}", "float[B,64,4]"},
		{"Pad", nil, "float[B,T,64] int64[2]={0,64*floor((T+63)/64)-T} - int64[1]={1}", "float[B,64*floor((T+63)/64),64]"},
		{"Pad", nil, "float[B,T] int64[4]", "float[?out0.0,?out0.1]"},
		{"Pad", nil, "int64[2]={B,T} int64[2]={1,0}", "int64[3]={0,B,T}"},
		{"Pad-2", A{"pads": ints{0, 1, 0, 1}}, "float[B,T]", "float[B,T+2]"},
		{"Pad", nil, "float[2] int64[2]={-2,-1}", "error: remove more than axis 0"},

		{"Expand", nil, "float[B,1,64] int64[3]={B,T,64}", "float[B,T,64]"},
		{"Expand", nil, "float[B,1,64] int64[4]={2,1,T,1}", "float[2,B,T,64]"},
		{"Expand", nil, "float[1,64] int64[2]", "float[?out0.0,64]"},
		{"Tile", nil, "float[B,4] int64[2]={1,T}", "float[B,4*T]"},
		{"Tile", nil, "int64[1]={T} int64[1]={2}", "int64[2]={T,T}"},
		{"Where", nil, "bool[3]={0,1,0} int64[3]={1,1,1} int64[3]={B,-1,64}", "int64[3]={B,1,64}"},
		{"Where", nil, "bool[] float[B,1] float[T]", "float[B,T]"},
		{"Range", nil, "int64[]={0} int64[]={T} int64[]={1}", "int64[T]"},
		{"Range", nil, "int64[]={2} int64[]={T} int64[]={3}", "int64[floor((T)/3)]"},
		{"Range", nil, "int64[]={T} int64[]={T+3} int64[]={1}", "int64[3]={T,T+1,T+2}"},
		{"Range", nil, "float[] float[] float[]", "float[?out0.0]"},
		{"ConstantOfShape", A{"value": tensor.Ints(1)}, "int64[1]={3}", "int64[3]={1,1,1}"},
		{"ConstantOfShape", nil, "int64[2]={B,T}", "float[B,T]"},
		{"Constant", A{"value_ints": ints{1, 2}}, "", "int64[2]={1,2}"},
		{"CumSum", nil, "int64[3]={B,1,T} int64[]={0}", "int64[3]={B,B+1,B+T+1}"},
		{"Trilu", nil, "float[T,T] int64[]={1}", "float[T,T]"},

		{"OneHot", nil, "int64[1]={1} int64[]={3} int64[2]={1,T}", "int64[1,3]={1,T,1}"},
		{"OneHot", A{"axis": int64(0)}, "int64[B] int64[]={T} float[2]", "float[T,B]"},
		{"TopK", nil, "float[B,T] int64[1]={3}", "float[B,3] int64[B,3]"},
		{"NonZero", nil, "float[B,T]", "int64[2,?out0.1]"},
		{"NonZero", nil, "int64[3]={0,T,2}", "int64[1,2]={1,2}"},
		{"Compress", A{"axis": int64(1)}, "float[B,T] bool[n]", "float[B,?out0.1]"},
		{"Unique", nil, "float[T]", "float[?out0.0] int64[?out0.0] int64[T]"},
		{"DepthToSpace", A{"blocksize": int64(2)}, "float[B,8,H,W]", "float[B,2,2*H,2*W]"},
		{"Optional", nil, "float[B]", "optional(float[B])"},
		{"OptionalHasElement", nil, "float[B]", "bool[]={1}"},

		{"SequenceConstruct", nil, "float[B,3] float[B,4]", "seq(float[B,?any])={2}"},
		{"SequenceAt", nil, "seq(float[B,?any]) int64[]", "float[B,?out0.1]"},
		{"SequenceInsert", nil, "seq(float)={0} float[B]", "seq(float[B])={1}"},
		{"SequenceLength", nil, "seq(float)={T}", "int64[]={T}"},
		{"ConcatFromSequence", A{"axis": int64(1), "new_axis": int64(1)}, "seq(float[B,4])={T}", "float[B,T,4]"},
		{"ConcatFromSequence", A{"axis": int64(0)}, "seq(float[?any,4])={T}", "float[?out0.0,4]"},
		{"SplitToSequence", A{"keepdims": int64(0), "axis": int64(1)}, "float[B,T,4]", "seq(float[B,4])={T}"},
	}
	tab := table(t)
	for _, c := range cases {
		t.Run(c.op+"/"+c.in, func(t *testing.T) {
			g := graph.New("g")
			var in []*graph.Value
			for _, s := range strings.Fields(c.in) {
				in = append(in, arg(t, g, s))
			}
			name, since, versioned := strings.Cut(c.op, "-")
			id := graph.OpID{Name: name}
			if versioned {
				_, _ = fmt.Sscan(since, &id.Since)
			} else {
				id = tab.Resolve("", name, 27).ID
			}
			nOut := len(strings.Fields(c.want))
			if strings.HasPrefix(c.want, "error:") {
				nOut = 1
				if name == "Split" {
					nOut = 2
				}
			}
			n := g.Add(id, c.attrs, in, nOut, "n")
			for i, v := range n.Out {
				v.Name = fmt.Sprint("out", i)
			}
			err := ops.InferNode(tab, n)
			if msg, ok := strings.CutPrefix(c.want, "error: "); ok {
				if err == nil || !strings.Contains(err.Error(), msg) {
					t.Fatalf("got error %v, want %q", err, msg)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range n.Out {
				got = append(got, describeValue(v))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

// TestMovementCases runs the rows' own cases.
func TestMovementCases(t *testing.T) {
	tab := table(t)
	for _, r := range tab.All() {
		for _, c := range r.Cases {
			t.Run(r.ID.String()+"/"+c.Name, func(t *testing.T) {
				n, err := caseNode(tab, r, c)
				if err != nil {
					t.Fatal(err)
				}
				out, err := ops.Eval(context.Background(), tab, n, c.In)
				if err != nil {
					t.Fatal(err)
				}
				for i, w := range c.Want {
					if out[i].TypeString() != w.TypeString() {
						t.Errorf("output %d is %s, want %s", i, out[i].TypeString(), w.TypeString())
					}
					if got := graph.TypeOf(out[i]); !n.Out[i].Type.DType.IsContainer() && !fits(n.Out[i].Type, got) {
						t.Errorf("output %d is %s, inferred %s", i, got, n.Out[i].Type)
					}
				}
			})
		}
	}
}

func caseNode(tab *ops.Table, r *ops.Op, c ops.Case) (*graph.Node, error) {
	g := graph.New("g")
	in := make([]*graph.Value, len(c.In))
	for i, x := range c.In {
		if x != nil {
			in[i] = g.AddConst("c", x)
		}
	}
	n := g.Add(r.ID, c.Attrs, in, max(c.NOut, 1), "n")
	return n, ops.InferNode(tab, n)
}

// fits reports whether a value of type got may stand where want is inferred.
func fits(want, got graph.Type) bool {
	if want.DType != got.DType || want.Ranked() && want.Rank() != got.Rank() {
		return false
	}
	for i, d := range want.Shape {
		if d.IsConst() && d != got.Shape[i] {
			return false
		}
	}
	return true
}
