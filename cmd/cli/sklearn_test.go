package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

const sklearn = "../../testdata/ops/sklearn"

// TestClassifiers: models of scikit-learn as exporters write them, with words
// and maps at their ends, compile with all passes, run and are written again.
func TestClassifiers(t *testing.T) {
	for _, target := range []string{"cpu", "ref"} {
		if out := must(t, "conformance", sklearn, "--target", target); !strings.Contains(out, "0 failed, 0 unsupported") {
			t.Error(out)
		}
	}
	// What skl2onnx declares of this output's shape is wrong.
	wrong := filepath.Join(sklearn, "extra_trees_two_numbers/model.onnx")
	for _, args := range [][]string{{"run", wrong, "--random"}, {"compile", wrong, "-o", filepath.Join(t.TempDir(), "x.ssda")}, {"opt", wrong}, {"explain", wrong}} {
		if r := call(t, args...); r.code != 0 || !strings.Contains(r.err, "warning: "+wrong+`: value "variable" is declared float[`) || strings.Count(r.err, "warning:") != 1 {
			t.Errorf("%v: code %d, stderr\n%s", args, r.code, r.err)
		}
	}
	dir := t.TempDir()
	art, back := filepath.Join(dir, "m.ssda"), filepath.Join(dir, "m.onnx")
	in := write(t, filepath.Join(dir, "x.json"), []byte(`{"X": {"length": 0.5, "colour=red": 1}}`))
	must(t, "compile", filepath.Join(sklearn, "dict_logistic/model.onnx"), "-o", art)
	must(t, "export", filepath.Join(sklearn, "dict_logistic/model.onnx"), "-o", back)
	for _, m := range []string{art, back} {
		if out := must(t, "run", m, "--input", in); !strings.Contains(out, `{"Virginica": 0.62449`) {
			t.Errorf("run %s prints\n%s", m, out)
		}
	}
	if r := call(t, "run", art, "--input", in, "-o", filepath.Join(dir, "o.npz")); r.code == 0 || !strings.Contains(r.err, "write it as .json") {
		t.Errorf("maps in a .npz file: %s", r.err)
	}
	if r := call(t, "run", art, "--input", "X="+in); r.code == 0 || !strings.Contains(r.err, `key "X": want an element of type float, got an object`) {
		t.Errorf("a map of maps: %s", r.err)
	}
}
