package layout_test

import (
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes/layout"
)

const text = `graph l (float[B,L,6] x, float[L] idx) => (float[B,2,3,L] y, float[B,L,2,3] other)
<
  int64[4] heads = {0, 0, 2, 3}
  int64[2] rows = {1, 0}
> {
  float[B,L,6] e = Exp-13 (x)
  float[B,L,2,3] r = Reshape-14 (e, heads)
  float[B,2,3,L] t = Transpose-13 <perm: ints = [0, 2, 3, 1]> (r)
  float[B,2,3,L] y = Neg-13 (t)
  float[B,L,2,3] g = Gather-13 <axis: int = 2> (r, rows)
  float[B,L,2,3] other = Neg-13 (g)
}`

func load(t *testing.T) (map[string]*graph.Value, *graph.Builder) {
	t.Helper()
	tab := &ops.Table{}
	if err := onnx.Register(tab); err != nil {
		t.Fatal(err)
	}
	if err := ssm.Register(tab); err != nil {
		t.Fatal(err)
	}
	g, err := graph.ParseString(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := ops.InferGraph(tab, g); err != nil {
		t.Fatal(err)
	}
	m := map[string]*graph.Value{}
	for _, n := range g.Nodes {
		for _, v := range n.Out {
			m[v.Name] = v
		}
	}
	return m, ops.NewBuilder(tab, g)
}

func names(vs []*graph.Value) string {
	var s []string
	for _, v := range vs {
		s = append(s, v.Name)
	}
	return strings.Join(s, " ")
}

func TestChain(t *testing.T) {
	v, _ := load(t)
	if got := names(layout.Chain(v["t"])); got != "t r e" {
		t.Errorf("chain of t: %s", got)
	}
	if got := layout.Deepest(v["g"]); got != v["e"] {
		t.Errorf("g is a layout of %q", got.Name)
	}
	if layout.Is(v["e"].Def) {
		t.Error("Exp is taken for a layout")
	}
	if n := layout.Numel(v["t"]); n != layout.Numel(v["e"]) {
		t.Errorf("t has %s elements", n)
	}
}

func TestReplayAndUndo(t *testing.T) {
	v, b := load(t)
	nodes, root := layout.Path(v["t"])
	if root != v["e"] || len(nodes) != 2 {
		t.Fatalf("path of %d nodes to %q", len(nodes), root.Name)
	}
	w := layout.Replay(b, nodes, b.Op("Neg", nil, v["e"]))
	if b.Err != nil || !w.Type.Equal(v["t"].Type) {
		t.Fatalf("replayed: %v, %v", w, b.Err)
	}
	u := layout.Undo(b, nodes, w, v["e"].Type.Shape)
	if b.Err != nil || u == nil || !u.Type.Equal(v["e"].Type) {
		t.Fatalf("undone: %v, %v", u, b.Err)
	}
	nodes, _ = layout.Path(v["g"])
	if u := layout.Undo(b, nodes, w, v["e"].Type.Shape); u != nil {
		t.Error("a Gather was undone")
	}
}

func TestAfter(t *testing.T) {
	v, _ := load(t)
	nodes, last, use, ok := layout.After(v["t"])
	if !ok || len(nodes) != 0 || last != v["t"] || use.Node != v["y"].Def {
		t.Errorf("after t: %d nodes, %q, %v", len(nodes), last.Name, ok)
	}
	if _, _, _, ok := layout.After(v["r"]); ok {
		t.Error("r has two consumers, not one")
	}
}

func TestNoNodeForNothing(t *testing.T) {
	v, b := load(t)
	before := len(b.Graph.Nodes)
	if layout.Reshape(b, v["r"], v["r"].Type.Shape) != v["r"] || layout.Transpose(b, v["r"], 0, 1, 2, 3) != v["r"] || len(b.Graph.Nodes) != before {
		t.Error("the identity layout made a node")
	}
}
