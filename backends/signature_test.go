package backends

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

func TestBindShapes(t *testing.T) {
	g := graph.New("g")
	B, L := graph.Sym("B"), graph.Sym("L")
	g.AddInput("x", graph.T(tensor.Float32, B, L, graph.D(3)))
	g.AddInput("mask", graph.T(tensor.Bool, B, L.Add(graph.D(1))))
	f := func(s ...int) *tensor.Tensor { return tensor.New(tensor.Float32, s...) }
	m := func(s ...int) *tensor.Tensor { return tensor.New(tensor.Bool, s...) }
	b, err := BindShapes(g, []*tensor.Tensor{f(2, 5, 3), m(2, 6)}, nil)
	if err != nil || b["B"] != 2 || b["L"] != 5 {
		t.Fatalf("bound %v, %v", b, err)
	}
	short := f(2, 5, 3)
	short.Data = short.Data[:8]
	for _, c := range []struct {
		x, mask *tensor.Tensor
		want    string
	}{
		{nil, m(2, 6), `input "x" (float[B,L,3]) is missing`},
		{f(2, 5), m(2, 6), `input "x": expected float[B,L,3], got float[2,5]`},
		{f(2, 5, 4), m(2, 6), `axis 2 must be 3`},
		{f(2, 5, 3), m(3, 6), `B is 3 here but 2 at axis 0 of input "x"`},
		{f(2, 5, 3), m(2, 7), `input "mask": expected bool[B,L+1], got bool[2,7]`},
		{short, m(2, 6), `says float[2,5,3] but holds 8 bytes`},
	} {
		if _, err := BindShapes(g, []*tensor.Tensor{c.x, c.mask}, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestUnknownName(t *testing.T) {
	for got, want := range map[string]string{
		"input_id": `(did you mean "input_ids"?)`,
		"Mask":     `(did you mean "mask"?)`,
		"zzzz":     `"zzzz"; it has input_ids, mask`,
	} {
		if err := UnknownName("input", got, []string{"input_ids", "mask"}); !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

func TestCheckStates(t *testing.T) {
	g := graph.New("g")
	x := g.AddInput("past", graph.T(tensor.Float32, graph.Sym("B"), graph.D(3)))
	g.AddInput("ids", graph.T(tensor.Int64, graph.Sym("B"), graph.D(3)))
	n := g.Add(graph.OpID{Name: "Neg", Since: 13}, nil, []*graph.Value{x}, 1, "present")
	n.Out[0].Type = x.Type
	g.AddOutput(n.Out[0])
	if err := CheckStates(g, []StatePair{{"past", "present"}}); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		pairs []StatePair
		want  string
	}{
		{[]StatePair{{"pst", "present"}}, `no input "pst" (did you mean "past"?)`},
		{[]StatePair{{"past", "presents"}}, `no output "presents" (did you mean "present"?)`},
		{[]StatePair{{"past", "present"}, {"past", "present"}}, "one pair only"},
		{[]StatePair{{"ids", "present"}}, "the input is int64[B,3] but the output is float[B,3]"},
	} {
		if err := CheckStates(g, c.pairs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %q", c.pairs, err, c.want)
		}
	}
}

func FuzzRestoreStates(f *testing.F) {
	var buf bytes.Buffer
	if err := SaveStates(&buf, []StateEntry{{"a", tensor.From([]float32{1, 2, 3}, 3)}, {"b", nil}}); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Add([]byte(stateMagic + "\x02\x00\x00\x00[]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = RestoreStates(bytes.NewReader(data), []string{"a", "b"}, []graph.Type{graph.T(tensor.Float32, graph.Sym("B")), {DType: tensor.Float32}})
	})
}

// TestRestoreOther: a state of another type is refused, one that fits its symbols is not.
func TestRestoreOther(t *testing.T) {
	var file bytes.Buffer
	if err := SaveStates(&file, []StateEntry{{"a", tensor.New(tensor.Float32, 2, 3)}}); err != nil {
		t.Fatal(err)
	}
	b := graph.Sym("B")
	for _, c := range []struct {
		want graph.Type
		ok   bool
	}{
		{graph.T(tensor.Float32, b, graph.D(3)), true},
		{graph.T(tensor.Float32, b, b), true}, // the run compares them
		{graph.T(tensor.Float32, b, graph.D(4)), false},
		{graph.T(tensor.Float32, b), false},
		{graph.T(tensor.Float64, b, graph.D(3)), false},
	} {
		_, err := RestoreStates(bytes.NewReader(file.Bytes()), []string{"a"}, []graph.Type{c.want})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}
