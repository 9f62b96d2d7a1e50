package html

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// evil closes whatever it may stand in.
const evil = `</script><script>alert(1)</script>"'><img src=x onerror=alert(2)>]]>--><!--`

// wide is a graph whose last node has n operands, all of them named by evil.
func wide(n int) *graph.Graph {
	g := &graph.Graph{Name: evil}
	typ := graph.Type{DType: tensor.Float32, Shape: []graph.Dim{graph.D(1)}}
	var in []*graph.Value
	for i := range n {
		in = append(in, g.AddInput(fmt.Sprintf("%s%d", evil, i), typ))
	}
	cat := g.Add(graph.OpID{Name: "Concat", Since: 13}, graph.Attrs{"axis": int64(0)}, in, 1, evil)
	cat.From, cat.Out[0].Name = evil, evil
	cat.Out[0].Type = graph.Type{DType: tensor.Float32, Shape: []graph.Dim{graph.D(int64(n))}}
	g.AddOutput(cat.Out[0])
	return g
}

// TestNames: names from a model are text wherever they are shown.
func TestNames(t *testing.T) {
	g := wide(3)
	p := &Page{Title: evil, Summary: []string{evil}, Done: []string{evil}, Cards: []Card{{
		Title: evil, Rows: []Row{{Label: evil, Text: evil, Code: evil}}, Graph: g, At: evil, Marked: []string{evil}}},
		Passes: []Pass{{Name: evil, Took: evil, Text: g.String(), Nodes: 1}}}
	s := p.String()
	if n := strings.Count(s, "<script"); n != 1 {
		t.Errorf("%d scripts, want the page's own", n)
	}
	for _, bad := range []string{"<img", "-->", "]]>", "http"} {
		if strings.Contains(s, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
}

// TestManyOperands: the drawing of a node with thousands of operands stays small.
func TestManyOperands(t *testing.T) {
	g := wide(1000)
	s := (&Page{Cards: []Card{{Title: "x", Graph: g, At: g.Outputs[0].Name}}}).String()
	if n := strings.Count(s, "<rect"); n > maxNodes+maxOpen+1 {
		t.Errorf("%d boxes", n)
	}
	if !strings.Contains(s, "992 more") {
		t.Error("nothing says how many operands are left out")
	}
}
