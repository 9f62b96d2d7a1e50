package lift_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// loopReads are what a Loop of L steps makes of x [B,L,3], with i its iteration
// and n the number of steps.
var loopReads = map[string]string{
	"whole":           "y = Gather-13 <axis: int = 1> (x, i)",
	"backward":        "e = Sub-14 (n, one)\n j = Sub-14 (e, i)\n y = Gather-13 <axis: int = 1> (x, j)",
	"from the end":    "m = Neg-13 (i)\n j = Sub-14 (m, one)\n y = Gather-13 <axis: int = 1> (x, j)",
	"vector index":    "j = Unsqueeze-13 (i, c0)\n y = Gather-13 <axis: int = 1> (x, j)",
	"slice":           "j = Unsqueeze-13 (i, c0)\n k1 = Add-14 (j, c1)\n y = Slice-13 (x, j, k1, c1)",
	"half the steps":  "j = Div-14 (i, two)\n y = Gather-13 <axis: int = 1> (x, j)",
	"same batch":      "y = Gather-13 <axis: int = 0> (x, z)",
	"a sequence":      "y = SequenceAt-11 (list, i)",
	"table":           "j = Mod-13 (i, two)\n y = Gather-13 <axis: int = 0> (tab, j)",
	"number of step":  "f = Cast-13 <to: int = 1> (i)\n y = Mul-14 (f, half)",
	"mask by step":    "p = Less-13 (i, two)\n y = Where-16 (p, half, nil)",
	"counted by hand": "y = Gather-13 <axis: int = 1> (x, c)",
}

const loopText = `graph g (float[B,L,3] x) => (float out)
<
  int64[1] c0 = {0}
  int64[1] c1 = {1}
  int64[0] scalar = {}
  int64[] one = {1}
  int64[] two = {2}
  int64[] z = {0}
  float[] half = {0.5}
  float[] nil = {0}
  float[2,3] tab = {1, 2, 3, 4, 5, 6}
  bool[] true = {1}
> {
  int64[1] len = Shape-15 <end: int = 2, start: int = 1> (x)
  int64[] n = Reshape-14 (len, scalar)
  seq(float) list = SplitToSequence-11 <axis: int = 1, keepdims: int = 0> (x)
  int64[] c_last, float out = Loop-16 <body: graph = graph body (int64[] i, bool[] k, int64[] c) => (bool[] k2, int64[] c2, float y) {
      bool[] k2 = Identity-16 (k)
      int64[] c2 = Add-14 (c, one)
      %s
    }> (n, true, z)
}`

// TestReads: the step's part of a sequence, however it is addressed.
func TestReads(t *testing.T) {
	tab := &ops.Table{}
	for _, err := range []error{onnx.Register(tab), ssm.Register(tab)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, lines := range loopReads {
		t.Run(name, func(t *testing.T) {
			g, err := graph.ParseString(fmt.Sprintf(loopText, typed(lines)))
			if err != nil {
				t.Fatal(err)
			}
			if err := ops.InferGraph(tab, g); err != nil {
				t.Fatal(err)
			}
			check(t, tab, g)
		})
	}
}

// TestOpenRefuses: loops whose number of steps is not known before they run.
func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct{ node, want string }{
		"condition": {`float y = Loop-16 <body: graph = graph body (int64[] i, bool[] k) => (bool[] k2, float[B] x) {
      bool[] k2 = Not-1 (k)
    }> (n, true)`, "may stop early"},
		"trip count": {`float y = Loop-16 <body: graph = graph body (int64[] i, bool[] k) => (bool[] k, float[B] x) {
    }> (m, true)`, "not a length of a sequence"},
		"no trip count": {`float y = Loop-16 <body: graph = graph body (int64[] i, bool[] k) => (bool[] k, float[B] x) {
    }> (_, true)`, "no trip count"},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := graph.ParseString("graph g (float[B] x, int64[] m) => (float y)\n<\n  int64[] n = {3}\n  bool[] true = {1}\n> {\n  " + c.node + "\n}")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := lift.Open(g.Nodes[0]); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// TestOpenBare: a loop that carries nothing and leaves its condition out has one input.
func TestOpenBare(t *testing.T) {
	g, err := graph.ParseString(`graph g (float[B] x) => (float y)
<
  int64[] n = {3}
> {
  float y = Loop-16 <body: graph = graph body (int64[] i, bool[] k) => (bool[] k, float[B] x) {
    }> (n)
}`)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lift.Open(g.Nodes[0])
	if err != nil || len(l.States) != 0 || len(l.Writes) != 1 || l.Writes[0].V != g.Nodes[0].Out[0] {
		t.Errorf("got %+v, %v", l, err)
	}
}
