package graph

import (
	"os"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

const sampleText = `graph mlp (float[B,64] x, int64[2] "odd name", seq(float[?a.0,2]) s, seq(map(int64,float[])) maps) => (float[B,floor((L+63)/64)] y, float z)
<
  float[3] c = {1, -2.5e-10, inf}
  int64[] axis = {-1}
  string[2] names = {"a\"b", "\n"}
  bool[2] mask = {1, 0}
  map(string,float[]) m = {string[2] {"a", "b"}, float[2] {1, 2}}
> {
  ["/fc/Mul:0"] float[B,floor((L+63)/64)] y, _ = com.microsoft.Gelu-1 <alpha: float = 0.5, axes: ints = [], k: int = -3, mode: string = "x y", t: tensor = float16[2] {0.5, nan}, u: type = float[2,N]> (x, _, c)
  float z = Loop-16 <body: graph = graph b (int64[] i, float st) => (float st2) {
      float st2 = Add-14 (st, c)
    }> (axis, mask, names, s, m, maps)
}
`

func TestPrintParse(t *testing.T) {
	g, err := ParseString(sampleText)
	if err != nil {
		t.Fatal(err)
	}
	once := g.String()
	h, err := ParseString(once)
	if err != nil {
		t.Fatalf("%v in\n%s", err, once)
	}
	if twice := h.String(); once != twice {
		t.Errorf("first print:\n%s\nsecond:\n%s", once, twice)
	}
	c, _ := g.Clone()
	if err := c.Verify(); err != nil || c.String() != once {
		t.Errorf("clone: %v\n%s", err, c)
	}
	if os.Getenv("SHOW") != "" {
		t.Log(once)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", `expected "graph"`},
		{"graph g () => (float y) {}", `output "y" is not defined`},
		{"graph g (float x) => () {\n float y = Add-14 (x, q)\n}", `line 2: "q" is not defined`},
		{"graph g (float x, float x) => () {}", `"x" is defined twice`},
		{"graph g (floot x) => () {}", `unknown element type "floot"`},
		{"graph g () => () < float[1000000000] c = {1} > {}", "cannot be written"},
		{"graph g () => () < float[20] c = @c 00 > {}", "nowhere to read it from"},
		{"graph g (map(float,float[]) x) => () {}", `keys of a map are strings or integers, not "float"`},
		{"graph g () => () < map(int64,float[]) c = {int64[1] {1}} > {}", "as its keys and its values"},
		{"graph g () => () < map(int64,float[]) c = {int64[2] {1, 1}, float[2] {1, 2}} > {}", "the key 1 twice"},
		{"graph g () => () < map(int64,float[]) c = {int64[2] {1, 2}, seq(float) {}} > {}", "to single elements"},
	} {
		if _, err := ParseString(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
	}
}

func TestLargeConstants(t *testing.T) {
	g := New("g")
	x := g.AddInput("x", T(tensor.Float32, D(20)))
	w := tensor.New(tensor.Float32, 20)
	n := g.Add(OpID{"", "Add", 14}, nil, []*Value{x, g.AddConst("w", w)}, 1, "y")
	n.Out[0].Type = x.Type
	g.AddOutput(n.Out[0])
	h, err := Parse(strings.NewReader(g.String()), func(name string, ty Type, digest string) (*tensor.Tensor, error) {
		if name != "w" || digest != Digest(w) || !ty.Equal(TypeOf(w)) {
			t.Errorf("asked for %q %s %s", name, ty, digest)
		}
		return w, nil
	})
	if err != nil || h.String() != g.String() {
		t.Errorf("%v\n%s", err, h)
	}
}

// FuzzParse: whatever parses prints to a text that parses to the same print.
func FuzzParse(f *testing.F) {
	f.Add(sampleText)
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 4096 {
			return
		}
		g, err := ParseString(s)
		if err != nil {
			return
		}
		once := g.String()
		h, err := ParseString(once)
		if err != nil {
			t.Fatalf("%v in\n%s", err, once)
		}
		if h.String() != once {
			t.Fatalf("not stable:\n%s\n%s", once, h)
		}
	})
}
