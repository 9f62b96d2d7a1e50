package runner

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// TestJSON: what ToJSON writes, fromJSON reads again.
func TestJSON(t *testing.T) {
	m := open(t, `graph g (float[2,2] f, string[n] s, seq(map(int64,float[])) z, optional(int8[]) o, bool[1] b, map(string,double[]) d, uint64[] u, float16[1] h) => (float[2,2] y) {
  float[2,2] y = Neg-13 (f)
}`)
	path := filepath.Join(t.TempDir(), "in.json")
	text := `{
 "f": [[1.5, "NaN"], ["-Infinity", 1e-7]],
 "s": ["a\"b", "é"],
 "z": [{"-3": 1, "20": 0.5}, {}],
 "o": null,
 "b": [true],
 "d": {"x": 0.1},
 "u": 18446744073709551615,
 "h": [0.5]
}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := ReadInputs(m, []string{path})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	sep := "{\n "
	for _, v := range m.Inputs() {
		if err := v.Type.Conforms(in[v.Name]); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		b.WriteString(sep + `"` + v.Name + `": ` + string(ToJSON(in[v.Name])))
		sep = ",\n "
	}
	b.WriteString("\n}\n")
	want := strings.Replace(text, "1e-7", "1e-07", 1)
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestBrokenJSON(t *testing.T) {
	m := open(t, lookup3)
	path := filepath.Join(t.TempDir(), "in.json")
	for text, want := range map[string]string{
		`{"ids": [[1, 2], [3]]}`:           "want 2 members, got a list of 1",
		`{"ids": [1, 2]}`:                  "want lists nested 2 deep, got 1",
		`{"ids": [[1.5]]}`:                 "want an element of type int64, got 1.5",
		`{"ids": [["x"]]}`:                 `got "x"`,
		`{"idz": [[1]]}`:                   `did you mean "ids"`,
		`[[1]]`:                            "an object whose members are named after inputs",
		`{"ids": [[1]]} 2`:                 "something follows",
		`{"ids": [[1]`:                     "the file ends before",
		``:                                 "the file ends before",
		`{"past_h": [["Nan"]]}`:            `want an element of type float, got "Nan"`,
		`{"ids": [[9223372036854775808]]}`: "want an element of type int64",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadInputs(m, []string{path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	unranked := graph.Type{DType: tensor.Float32}
	long := make([]any, 1<<20) // lists that promise 1<<60 elements and hold 1<<21
	for i := range long {
		long[i] = "NaN"
	}
	if _, err := fromJSON(unranked, append([]any{append([]any{long}, long...)}, long...)); err == nil || !strings.Contains(err.Error(), "different lengths") {
		t.Errorf("got %v", err)
	}
	num := graph.MapOf(tensor.Int64, tensor.Float32)
	for text, want := range map[any]string{1: "want an object", "a": "want an object"} {
		if _, err := fromJSON(num, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", text, err, want)
		}
	}
	if _, err := fromJSON(num, map[string]any{"1.5": 2}); err == nil || !strings.Contains(err.Error(), `key "1.5"`) {
		t.Errorf("got %v", err)
	}
}
