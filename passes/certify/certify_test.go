package certify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes/certify"
)

func table(t *testing.T) *ops.Table {
	tab := &ops.Table{}
	if err := onnx.Register(tab); err != nil {
		t.Fatal(err)
	}
	if err := ssm.Register(tab); err != nil {
		t.Fatal(err)
	}
	return tab
}

// claim reads a graph whose first half of outputs is old, the second new.
func claim(t *testing.T, tab *ops.Table, text string) *certify.Claim {
	t.Helper()
	g, err := graph.ParseString(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := ops.InferGraph(tab, g); err != nil {
		t.Fatal(err)
	}
	c := &certify.Claim{}
	for _, v := range g.Inputs {
		c.In = append(c.In, certify.Input{Value: v})
	}
	half := len(g.Outputs) / 2
	c.Old, c.New = g.Outputs[:half], g.Outputs[half:]
	return c
}

const distributive = `graph d (float[B,L] x, float[B,L] y, float[B,L] z) => (float[B,L] old, float[B,L] new) {
  float[B,L] s = Add-14 (y, z)
  float[B,L] old = Mul-14 (x, s)
  float[B,L] xy = Mul-14 (x, y)
  float[B,L] xz = Mul-14 (x, z)
  float[B,L] new = Add-14 (xy, xz)
}`

func TestTrueClaim(t *testing.T) {
	tab := table(t)
	if err := certify.Check(context.Background(), tab, nil, claim(t, tab, distributive)); err != nil {
		t.Error(err)
	}
}

func TestFalseClaim(t *testing.T) {
	tab := table(t)
	c := claim(t, tab, strings.Replace(distributive, "Mul-14 (x, z)", "Mul-14 (y, z)", 1))
	err := certify.Check(context.Background(), tab, nil, c)
	var m *certify.Mismatch
	if !errors.As(err, &m) || m.Value != "old" || !(m.Rel > 0.1) || certify.CannotEvaluate(err) {
		t.Errorf("error %v", err)
	}
}

// TestRounding: a difference of 1e-6 is not rounding in float64.
func TestRounding(t *testing.T) {
	tab := table(t)
	c := claim(t, tab, `graph r (float[4] x) => (float[4] x2, float[4] new)
< float[] one = {1.000001} > {
  float[4] x2 = Identity-13 (x)
  float[4] new = Mul-14 (x, one)
}`)
	if err := certify.Check(context.Background(), tab, nil, c); err == nil {
		t.Error("a factor of 1.000001 was certified")
	}
	c.Tol = 1e-5
	if err := certify.Check(context.Background(), tab, nil, c); err != nil {
		t.Errorf("with a tolerance of 1e-5: %v", err)
	}
}

const chunks = `graph c (float[L] x) => (float[L] old, float[L] new)
<
  int64[2] four = {-1, 4}
  int64[1] flat = {-1}
> {
  float[N,4] r = Reshape-14 (x, four)
  float[N,4] e = Exp-13 (r)
  float[L] old = Reshape-14 (e, flat)
  float[L] new = Exp-13 (x)
}`

func TestCannotEvaluate(t *testing.T) {
	tab := table(t)
	c := claim(t, tab, chunks)
	c.Along(graph.Sym("L"), 3)
	if err := certify.Check(context.Background(), tab, nil, c); !certify.CannotEvaluate(err) {
		t.Errorf("3 tokens in chunks of 4: error %v", err)
	}
	c.Along(graph.Sym("L"), 4, 12)
	if err := certify.Check(context.Background(), tab, nil, c); err != nil {
		t.Errorf("whole chunks: %v", err)
	}
}

// TestNoMemory: lengths of a broken model that no memory holds are no reason to panic.
func TestNoMemory(t *testing.T) {
	tab := table(t)
	c := claim(t, tab, strings.ReplaceAll(distributive, "[B,L]", "[2147483647,2147483647]"))
	if err := certify.Check(context.Background(), tab, nil, c); !certify.CannotEvaluate(err) {
		t.Errorf("error %v", err)
	}
}

func TestUnnamedInput(t *testing.T) {
	tab := table(t)
	c := claim(t, tab, distributive)
	c.In = c.In[:2]
	if err := certify.Check(context.Background(), tab, nil, c); err == nil || !strings.Contains(err.Error(), `depends on input "z"`) {
		t.Errorf("error %v", err)
	}
}

// TestCache: equal regions cost one evaluation whatever they are called, and
// contents that only a shape knows tell regions apart.
func TestCache(t *testing.T) {
	tab := table(t)
	cache := map[string]any{}
	check := func(text string, want int) {
		t.Helper()
		_ = certify.Check(context.Background(), tab, cache, claim(t, tab, text))
		if len(cache) != want {
			t.Errorf("%d certificates, want %d", len(cache), want)
		}
	}
	check(distributive, 1)
	check(strings.NewReplacer("xy", "left", "xz", "right", " d ", " other ").Replace(distributive), 1)
	check(strings.Replace(distributive, "Mul-14 (x, z)", "Mul-14 (y, z)", 1), 2)
	known := `graph k (float[A,B] x) => (float[?,?] old, float[?,?] new) {
  int64[1] a = Shape-15 <start: int = 0, end: int = 1> (x)
  int64[1] b = Shape-15 <start: int = 1, end: int = 2> (x)
  int64[2] s = Concat-13 <axis: int = 0> (a, b)
  float[?,?] old = Reshape-14 (x, s)
  float[?,?] new = Reshape-14 (x, s)
}`
	known = strings.ReplaceAll(known, "float[?,?]", "float")
	check(known, 3)
	check(strings.Replace(known, "(a, b)", "(b, a)", 1), 4)
}

func TestShrink(t *testing.T) {
	tab := table(t)
	wide := `graph w (float[2,1000] x) => (float[2,1000] old, float[2,1000] new) {
  float[2,1000] old = Exp-13 (x)
  float[2,1000] new = Neg-13 (x)
}`
	c := claim(t, tab, wide)
	c.Shrink = map[int64]int64{1000: 3}
	if err := certify.Check(context.Background(), tab, nil, c); err == nil || !strings.Contains(err.Error(), "double[2,3]") {
		t.Errorf("not checked on 3 channels: %v", err)
	}
	// 1000 = 10*100 holds for the full size only.
	c = claim(t, tab, `graph w (float[2,1000] x) => (float[2,1000] old, float[2,1000] new)
<
  int64[3] split = {2, 10, 100}
  int64[2] flat = {2, 1000}
> {
  float[2,10,100] r = Reshape-14 (x, split)
  float[2,10,100] e = Exp-13 (r)
  float[2,1000] old = Reshape-14 (e, flat)
  float[2,1000] new = Exp-13 (x)
}`)
	c.Shrink = map[int64]int64{1000: 3}
	if err := certify.Check(context.Background(), tab, nil, c); err != nil {
		t.Errorf("the full size was not tried: %v", err)
	}
}

func TestShrinker(t *testing.T) {
	s := certify.NewShrinker(graph.D(256))
	s.To(graph.D(256), 3) // kept
	s.To(graph.D(8), 3)   // small
	s.To(graph.Sym("L"), 3)
	s.To(graph.D(24), 2)
	s.To(graph.D(24), 5) // has an image
	if len(s.Map) != 1 || s.Of(graph.D(24)) != 2 || s.Of(graph.D(256)) != 256 {
		t.Errorf("map %v", s.Map)
	}
}

// TestReach: limits beyond ordinary numbers are gone beyond.
func TestReach(t *testing.T) {
	tab := table(t)
	clip := `graph c (float[L] x) => (float[L] old, float[L] new)
<
  float[] lo = {-100}
  float[] hi = {100}
> {
  float[L] old = Clip-13 (x, lo, hi)
  float[L] new = Identity-13 (x)
}`
	if err := certify.Check(context.Background(), tab, nil, claim(t, tab, clip)); err == nil {
		t.Error("a Clip at 100 was taken for nothing")
	}
	late := `graph l (int64[L] i, float[L] x) => (float[L] old, float[L] new)
<
  int64[] start = {0}
  int64[] step = {1}
  int64[] limit = {40}
  int64[0] scalar = {}
> {
  int64[1] n = Shape-15 (x)
  int64[] m = Reshape-14 (n, scalar)
  int64[L] pos = Range-11 (start, m, step)
  bool[L] early = Less-13 (pos, limit)
  float[L] neg = Neg-13 (x)
  float[L] old = Where-16 (early, x, neg)
  float[L] new = Identity-13 (x)
}`
	c := claim(t, tab, late)
	c.Along(graph.Sym("L"), 1, 6)
	var m *certify.Mismatch
	if err := certify.Check(context.Background(), tab, nil, c); !errors.As(err, &m) || m.Trial != 2 {
		t.Errorf("a change at token 40: error %v", err)
	}
	c = claim(t, tab, strings.Replace(late, "{40}", "{5000}", 1))
	c.Along(graph.Sym("L"), 1, 6)
	if err := certify.Check(context.Background(), tab, nil, c); !errors.As(err, &m) || m.Trial != 2 {
		t.Errorf("a change at token 5000, brought near: error %v", err)
	}
}

// TestTable: a constant mask that is cut to the length is looked at as a whole.
func TestTable(t *testing.T) {
	tab := table(t)
	text := func(n int, keep func(i, j int) bool) string {
		var rows strings.Builder
		for i := range n {
			for j := range n {
				fmt.Fprintf(&rows, "%d, ", map[bool]int{true: 1}[keep(i, j)])
			}
		}
		return fmt.Sprintf(`graph m (float[L,L] x) => (float old, float new)
<
  float[%[1]d,%[1]d] table = {%[2]s}
  int64[2] from = {0, 0}
  int64[2] axes = {0, 1}
  int64[] k = {0}
> {
  int64[2] len = Shape-15 (x)
  float mask = Slice-13 (table, from, len, axes)
  float old = Mul-14 (x, mask)
  float new = Trilu-14 <upper: int = 0> (x, k)
}`, n, strings.TrimSuffix(rows.String(), ", "))
	}
	for name, c := range map[string]struct {
		n    int
		keep func(i, j int) bool
		want string
	}{
		"triangle":      {40, func(i, j int) bool { return j <= i }, ""},
		"long triangle": {1100, func(i, j int) bool { return j <= i }, ""},
		"band":          {40, func(i, j int) bool { return j <= i && i-j < 30 }, "double[40,40]"},
		"long band":     {1100, func(i, j int) bool { return j <= i && i-j < 1050 }, "1100 rows"},
	} {
		cl := claim(t, tab, text(c.n, c.keep))
		cl.Along(graph.Sym("L"), 3, 7)
		err := certify.Check(context.Background(), tab, nil, cl)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestCloser(t *testing.T) {
	far, near := &certify.Mismatch{Trial: 1, Rel: 0.5}, &certify.Mismatch{Trial: 1, Rel: 0.1}
	early := &certify.Mismatch{Trial: 0, Rel: 0.01}
	other := errors.New("shapes")
	for _, c := range []struct{ a, b, want error }{
		{far, near, near}, {near, far, near}, {early, far, far}, {far, early, far},
		{nil, far, far}, {far, nil, far}, {other, far, far}, {far, other, far}, {other, nil, other},
	} {
		if got := certify.Closer(c.a, c.b); got != c.want {
			t.Errorf("Closer(%v, %v) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// TestAlong: a length that is an expression becomes the next that it can be.
func TestAlong(t *testing.T) {
	var c certify.Claim
	c.Along(graph.D(256).Mul(graph.Sym("blocks")), 3, 640)
	if len(c.Sizes) != 2 || c.Sizes[0]["blocks"] != 1 || c.Sizes[1]["blocks"] != 3 {
		t.Errorf("sizes %v", c.Sizes)
	}
	if c.Along(graph.D(8), 3); len(c.Sizes) != 0 {
		t.Errorf("sizes %v of a length that is fixed", c.Sizes)
	}
}

// TestNegativeLength: a region whose lengths have no meaning at the sizes that
// are tried is refused.
func TestNegativeLength(t *testing.T) {
	tab := table(t)
	err := certify.Check(context.Background(), tab, nil, claim(t, tab, `graph d (float[B,L-9] x) => (float[B,L-9] old, float[B,L-9] new) {
  float[B,L-9] old = Neg-13 (x)
  float[B,L-9] new = Neg-13 (x)
}`))
	if err == nil || !certify.CannotEvaluate(err) {
		t.Errorf("got %v, want an error that says so", err)
	}
}
