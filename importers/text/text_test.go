package text

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
)

func table(tb testing.TB) *ops.Table {
	tb.Helper()
	t := &ops.Table{}
	if err := onnx.Register(t); err != nil {
		tb.Fatal(err)
	}
	return t
}

const double = `graph double (float[B,4] x) => (float[B,4] y)
< float[] two = {2} > {
  float[B,4] y = Mul-14 (x, two)
}
`

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "double.ssd")
	if err := os.WriteFile(path, []byte(double), 0o600); err != nil {
		t.Fatal(err)
	}
	g, digest, err := Load(path, table(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Nodes) != 1 || g.Outputs[0].Type.String() != "float[B,4]" || len(digest) != 64 {
		t.Errorf("read %s, digest %q", g, digest)
	}
}

// TestErrors: every error names the file, and the place where there is one.
func TestErrors(t *testing.T) {
	tab := table(t)
	for name, c := range map[string]struct{ text, want string }{
		"not text":  {"\x00\x01", "bad.ssd: line 1"},
		"undefined": {"graph g (float x) => (float y) {\n float y = Add-14 (x, q)\n}", `line 2: "q" is not defined`},
		"unknown":   {"graph g (float x) => (float y) {\n float y = Frob-1 (x)\n}", "unknown operator"},
		"shapes":    {"graph g (float[2] x, float[3] z) => (float[2] y) {\n float[2] y = Add-14 (x, z)\n}", "Add"},
		"digest":    {"graph g () => (float[20] c) < float[20] c = @c 00 > {}", "nowhere to read it from"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bad.ssd")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := Load(path, tab)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "bad.ssd") {
				t.Errorf("error %v, want the file's name and %q", err, c.want)
			}
		})
	}
	if _, _, err := Load("no/such.ssd", tab); err == nil || !strings.Contains(err.Error(), "no/such.ssd") {
		t.Errorf("a missing file: %v", err)
	}
}

// FuzzRead: whatever the text, an error or a graph whose text reads back.
func FuzzRead(f *testing.F) {
	tab := table(f)
	f.Add(double)
	f.Add("graph g (float[2] x, float[3] z) => (float[2] y) {\n float[2] y = Add-14 (x, z)\n}")
	f.Fuzz(func(t *testing.T, text string) {
		watch := time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("10 s and no end: %q", text)) })
		defer watch.Stop()
		g, err := Read(strings.NewReader(text), tab)
		if err != nil {
			return
		}
		again, err := Read(strings.NewReader(g.String()), tab)
		if err != nil {
			if strings.Contains(err.Error(), "nowhere to read it from") {
				return // a large constant prints as its digest
			}
			t.Fatalf("%v in\n%s", err, g)
		}
		if again.String() != g.String() {
			t.Fatalf("first\n%s\nthen\n%s", g, again)
		}
	})
}

func ExampleRead() {
	t := &ops.Table{}
	if err := onnx.Register(t); err != nil {
		panic(err)
	}
	g, err := Read(strings.NewReader(double), t)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(g.Nodes), "node, output", g.Outputs[0].Type)
	// Output: 1 node, output float[B,4]
}
